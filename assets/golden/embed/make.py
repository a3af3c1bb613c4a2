#!/usr/bin/env python3
"""Makes embeddings with Hugging Face transformers: of tiny encoders with random weights, and of SmolLM2.

pip install torch==2.15.0 transformers==5.24.0 gguf==0.19.0
python make.py [SmolLM2-135M-Instruct.Q4_1.gguf]

NAME.gguf is written with the gguf package, under the names that llama.cpp's converter gives tensors and keys. Matrices are
exact in F16, so the file and the model that gave the embeddings have the same weights; everything is computed in F32 with
eager attention. Given SmolLM2's file, also makes its embeddings, from the weights that transformers reads from it.
NAME.json has
texts      token ids, texts of several lengths
made_with  versions
without    of encoders: how much the states change, relative to the largest, if one feature is left out; tests must notice each
NAME.f32.gz has little-endian floats: for each text the final hidden state of each token; for SmolLM2 instead the vectors of
mean, first and last pooling, each normalized to length 1.
llama-whole is ../hf/llama.gguf as an encoder: the same weights, with every token attending to the whole text.
"""
import gzip, json, sys, zlib
from pathlib import Path

import gguf, numpy, torch, transformers

HERE = Path(__file__).resolve().parent
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
VOCABULARY, CONTEXT, LENGTHS = 128, 96, (1, 2, 7, 33, 40, 90)
SHAPE = dict(vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=3, num_attention_heads=4, intermediate_size=96,
    max_position_embeddings=CONTEXT, type_vocab_size=2, layer_norm_eps=1e-6)
EAGER = dict(attn_implementation="eager")

BERT = {"attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
NOMIC = {"self_attn.o_proj": "attn_output", "post_attention_layernorm": "attn_output_norm", "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "post_mlp_layernorm": "layer_output_norm"}
ENDS = {"embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm"}


def nomic_model(**more):
    rope = dict(rope_type="default", rope_theta=1000.0)
    config = transformers.NomicBertConfig(**SHAPE | dict(rope_parameters=rope) | more)
    return transformers.NomicBertModel._from_config(config, add_pooling_layer=False, **EAGER).eval()


def bert_model(**more):
    config = transformers.BertConfig(**SHAPE | more)
    return transformers.BertModel._from_config(config, add_pooling_layer=False, **EAGER).eval()


# architecture: (model, prefix of its layers, names in a layer, what to leave out: settings, or weights by a part of the name)
MODELS = {
    "bert": (bert_model, "encoder.layer.", BERT, {"GELU with erf": dict(hidden_act="gelu_new"), "positions": "position_emb",
        "types": "token_type", "biases": "dense.bias", "q bias": "query.bias", "v bias": "value.bias"}),  # K's biases add the same to all scores
    "nomic-bert": (nomic_model, "layers.", NOMIC, {"rope base": dict(rope_parameters=dict(rope_type="default",
        rope_theta=10000.0)), "types": "token_type", "gate": dict(hidden_act="gelu"), "norm biases": "layernorm.bias"}),
}


def weights(model, name):
    """Draws all weights, each seeded by its name and the model's; rounded to half floats where the file has half floats."""
    values = {}
    for key, old in model.named_parameters():
        noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{name} {key}".encode())))
        if old.ndim == 1:
            new = 1 + 0.3 * noise if key.lower().endswith("norm.weight") else 0.5 * noise
        elif "embeddings" in key:
            new = (0.5 * noise).half().float()
        else:
            new = (noise * 1.6 / old.shape[-1] ** 0.5).half().float()
        values[key] = new
    return values


def put(model, values):
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            tensor.copy_(values[key])
    return model


def states(model, texts):
    with torch.inference_mode():
        return [model(input_ids=torch.tensor([tokens])).last_hidden_state[0].float() for tokens in texts]


def file_name(key, prefix, names):
    stem, part = key.rsplit(".", 1)
    if not stem.startswith(prefix):
        return f"{ENDS[stem]}.{part}"
    layer, stem = stem.removeprefix(prefix).split(".", 1)
    return f"blk.{layer}.{names[stem]}.{part}"


def write(name, model, prefix, names, values):
    writer = gguf.GGUFWriter(HERE / f"{name}.gguf", name)
    writer.add_name("random weights")
    writer.add_block_count(SHAPE["num_hidden_layers"])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(SHAPE["hidden_size"])
    writer.add_feed_forward_length(SHAPE["intermediate_size"])
    writer.add_head_count(SHAPE["num_attention_heads"])
    writer.add_layer_norm_eps(SHAPE["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.MEAN)
    if name == "nomic-bert":
        writer.add_rope_freq_base(1000.0)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(ord("a") + i) for i in range(26)]
    tokens = special + ["\u2581" + c for c in letters] + letters
    tokens += ["\u2581" + a + b for a in "etaoin" for b in letters][:VOCABULARY - len(tokens)]
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (VOCABULARY - 5))
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_sep_token_id(3)
    writer.add_mask_token_id(4)
    values = {file_name(k, prefix, names) if "self_attn" not in k or "o_proj" in k else k: v for k, v in values.items()}
    for layer in range(SHAPE["num_hidden_layers"] if name == "nomic-bert" else 0):  # the converter fuses them
        parts = [values.pop(f"{prefix}{layer}.self_attn.{part}_proj.weight") for part in "qkv"]
        values[f"blk.{layer}.attn_qkv.weight"] = torch.cat(parts)
    for key, value in values.items():
        whole = value.ndim == 1 or key.startswith(("position", "token_types"))
        writer.add_tensor(key, value.numpy().astype(numpy.float32 if whole else numpy.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save(name, texts, floats, **more):
    made = dict(transformers=transformers.__version__, torch=torch.__version__.partition("+")[0])
    (HERE / f"{name}.json").write_text(json.dumps(dict(texts=texts, **more, made_with=made)) + "\n")
    raw = b"".join(row.numpy().astype("<f4").tobytes() for row in floats)
    (HERE / f"{name}.f32.gz").write_bytes(gzip.compress(raw, mtime=0))


def encoder(name):
    build, prefix, names, parts = MODELS[name]
    model = build()
    values = weights(model, name)
    write(name, put(model, values), prefix, names, values)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    texts = [torch.randint(5, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS]
    rows = states(model, texts)
    largest = max(float(row.abs().max()) for row in rows)
    without = {}
    for part, change in parts.items():
        if isinstance(change, dict):
            other = put(build(**change), values)
        else:
            assert any(change in key for key in values), change
            other = put(build(), {k: torch.zeros_like(v) if change in k else v for k, v in values.items()})
        moved = max(float((a - b).abs().max()) for a, b in zip(rows, states(other, texts)))
        without[part] = float(f"{moved / largest:.2g}")
    assert all(x > 1e-4 for x in without.values()), without
    save(name, texts, rows, without=without)
    print(name, (HERE / f"{name}.gguf").stat().st_size, f"largest {largest:.3g}", without)


def smollm2(path):
    model = transformers.AutoModel.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32, **EAGER).eval()
    generator = torch.Generator().manual_seed(2)
    texts = [torch.randint(17, 49000, (length,), generator=generator).tolist() for length in (1, 9, 40)]
    pooled = [pool(row) for row in states(model, texts) for pool in (lambda x: x.mean(0), lambda x: x[0], lambda x: x[-1])]
    save("smollm2", texts, [torch.nn.functional.normalize(row, dim=0) for row in pooled])


def whole():
    """Runs a Llama of ../hf with full attention, as its file means with attention.causal = false."""
    model = transformers.AutoModel.from_pretrained(HERE.parent / "hf", gguf_file="llama.gguf", dtype=torch.float32, **EAGER).eval()
    generator = torch.Generator().manual_seed(3)
    texts = [torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() for length in (1, 5, 40)]
    with torch.inference_mode():
        run = lambda tokens: model(input_ids=torch.tensor([tokens]), use_cache=False,
            attention_mask=torch.zeros(1, 1, len(tokens), len(tokens))).last_hidden_state[0]
        rows = [run(tokens) for tokens in texts]
    causal = states(model, texts)
    assert all(float((a - b)[0].abs().max()) > 0.1 for a, b in zip(rows[1:], causal[1:])), "the mask is ignored"
    assert float((rows[0] - causal[0]).abs().max()) < 1e-5
    save("llama-whole", texts, rows)


for name in MODELS:
    encoder(name)
whole()
if len(sys.argv) > 1:
    smollm2(Path(sys.argv[1]).resolve())
