#!/usr/bin/env python3
"""Makes tiny models of many architectures with random weights, and their logits with Hugging Face transformers.

pip install torch==2.15.0 transformers==5.24.0
pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xf llama_cpp_python-0.3.36.tar.gz
python make.py llama_cpp_python-0.3.36/vendor/llama.cpp [NAME...]

Each NAME.gguf is written by llama.cpp's own converter (convert_hf_to_gguf.py's classes, in that folder) from the folder
that transformers saves; only the vocabulary is replaced, by 128 synthetic tokens. Matrices are exact in F16, so the file
and the model that gave the logits have the same weights, and the logits are computed in F32 with eager attention.
NAME.json has
tokens              the prompt, random ids
logits              rows after the tokens at logit_positions, seven digits
largest             the largest absolute value of those logits
greedy              16 tokens, each the argmax after the prompt and the tokens before it
greedy_top2_logits  the two best logits at each of these steps; gaps has their differences
without             how much the logits change, relative to `largest`, if one feature is left out; tests must notice each
made_with           versions

folders/NAME.zip is the folder of one of these models as transformers saves it in F32. A VARIANT has all weights rounded to
another type, is saved in that type, and has its own logits in folders/NAME.json. A variant with a vocabulary has a tokenizer
trained on smollm2/apache-2.0.txt, and its JSON has `texts` with their ids.
"""
import copy, json, re, sys, tempfile, zipfile, zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
LLAMA = Path(sys.argv[1]).resolve()
sys.path[:0] = [str(LLAMA / "gguf-py"), str(LLAMA)]

import torch, transformers
import gguf
from conversion import get_model_class
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
VOCABULARY, GREEDY = 128, 16
SMALL = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1)
BASE = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
TOKENS = dict(vocab_size=VOCABULARY, bos_token_id=1, eos_token_id=2, pad_token_id=0, max_position_embeddings=512)
UNTIED, TIED = dict(tie_word_embeddings=False), dict(tie_word_embeddings=True)


def rope(kind="default", theta=10000.0, **more):
    return dict(rope_type=kind, rope_theta=theta, **more)


LONG, SHORT = [1.0, 1.3, 1.9, 2.8, 3.9, 5.5, 7.0, 8.5], [1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 1.7, 2.0]
LONGROPE = rope("longrope", original_max_position_embeddings=256, long_factor=LONG, short_factor=SHORT)
YARN = rope("yarn", factor=4.0, original_max_position_embeddings=128)
PLAIN = {"rope scaling": dict(rope_parameters=rope())}
GEMMA3 = lambda full, theta=1e4: dict(full_attention=full, sliding_attention=rope(theta=theta))
FULL = rope("linear", 1e6, factor=8.0)
LOCAL = ["sliding_attention"] * 5 + ["full_attention"]

# name: (transformers' name of the architecture, its settings, what to leave out: settings, or a pattern of weights that are
# set to one (norms) or zero (others), and the lengths of prompts)
MODELS = {
    "llama": ("Llama", BASE | UNTIED, {"rope": dict(rope_parameters=rope(theta=1e6))}, {}),
    "llama-bias": ("Llama", SMALL | UNTIED | dict(attention_bias=True, mlp_bias=True), {f"{part} bias": f"{part}_proj.bias"
        for part in ("q", "v", "o", "gate", "up", "down")}, {}),
    "llama-linear": ("Llama", SMALL | UNTIED | dict(rope_parameters=rope("linear", factor=4.0)), PLAIN, {}),
    "llama3": ("Llama", SMALL | TIED | dict(rope_parameters=rope("llama3", 500.0, factor=8.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=64)),
        {"rope scaling": dict(rope_parameters=rope(theta=500.0))}, {}),
    "llama-yarn": ("Llama", SMALL | UNTIED | dict(rope_parameters=YARN),
        PLAIN | {"linear instead": dict(rope_parameters=rope("linear", factor=4.0))}, {}),
    "mistral": ("Mistral", SMALL | UNTIED | dict(num_attention_heads=4, head_dim=16, sliding_window=4096),
        {"rope": dict(rope_parameters=rope(theta=1e6))}, {}),
    "qwen2": ("Qwen2", BASE | UNTIED, {"q bias": "q_proj.bias", "k bias": "k_proj.bias", "v bias": "v_proj.bias"}, {}),
    "qwen2-yarn": ("Qwen2", SMALL | UNTIED | dict(rope_parameters=YARN), PLAIN, {}),
    "qwen2-yarn-betas": ("Qwen2", SMALL | UNTIED | dict(rope_parameters=YARN | dict(beta_fast=4.0, beta_slow=0.5)),
        PLAIN | {"betas": dict(rope_parameters=YARN)}, {}),
    "qwen3": ("Qwen3", BASE | TIED | dict(head_dim=32, intermediate_size=64, rope_parameters=rope(theta=1e6)),
        {"q norm": "q_norm", "k norm": "k_norm", "rope": dict(rope_parameters=rope())}, {}),
    "phi3": ("Phi3", BASE | UNTIED,
        {"rope": dict(rope_parameters=rope(theta=1e6, original_max_position_embeddings=4096))}, {}),
    "phi3-longrope": ("Phi3", SMALL | UNTIED | dict(max_position_embeddings=1024, original_max_position_embeddings=256,
        rope_parameters=LONGROPE),
        {"factors": dict(rope_parameters=LONGROPE | dict(long_factor=[1.0] * 8, short_factor=[1.0] * 8)),
         "attention factor": dict(rope_parameters=LONGROPE | dict(attention_factor=1.0)),
         "the other factors": dict(rope_parameters=LONGROPE | dict(long_factor=SHORT, short_factor=LONG))},
        {"phi3-longrope": 280, "phi3-longrope-short": 40}),
    "gemma": ("Gemma", BASE | TIED | dict(head_dim=32, intermediate_size=64, num_key_value_heads=1),
        {"norms": "norm", "GELU, not SiLU": dict(hidden_act="silu")}, {}),
    "gemma2": ("Gemma2", BASE | TIED | dict(head_dim=16, query_pre_attn_scalar=16, sliding_window=8,
        attn_logit_softcapping=3.0, final_logit_softcapping=15.0),
        {"window": dict(sliding_window=4096), "attention cap": dict(attn_logit_softcapping=None),
         "final cap": dict(final_logit_softcapping=None), "post norms": "post_.*norm"}, {}),
    "gemma3": ("Gemma3", SMALL | TIED | dict(num_hidden_layers=6, num_attention_heads=4, head_dim=16,
        query_pre_attn_scalar=16, sliding_window=8, layer_types=LOCAL, rope_parameters=GEMMA3(FULL)),
        {"window": dict(sliding_window=4096), "q norm": "q_norm", "k norm": "k_norm", "post norms": "post_.*norm",
         "rope scaling": dict(rope_parameters=GEMMA3(rope(theta=1e6))),
         "local rope base": dict(rope_parameters=GEMMA3(FULL, 1e6)),
         "global layers": dict(layer_types=LOCAL[:1] * 6)}, {}),
    "smollm3": ("SmolLM3", SMALL | TIED | dict(num_hidden_layers=4, no_rope_layers=[1, 1, 1, 0],
        rope_parameters=rope(theta=1e5)),
        {"layers without rope": dict(no_rope_layers=[1, 1, 1, 1]), "rope": dict(no_rope_layers=[0, 0, 0, 0])}, {}),
    "granite": ("Granite", BASE | TIED | dict(embedding_multiplier=6.0, residual_multiplier=0.6,
        attention_multiplier=0.4, logits_scaling=2.0), {f"{name} multiplier": {key: neutral} for name, key, neutral in (
            ("embedding", "embedding_multiplier", 1.0), ("residual", "residual_multiplier", 1.0),
            ("attention", "attention_multiplier", 0.25), ("logits", "logits_scaling", 1.0))}, {}),
    "granitemoe": ("GraniteMoe", SMALL | TIED | dict(intermediate_size=32, num_local_experts=4, num_experts_per_tok=2, embedding_multiplier=6.0,
        residual_multiplier=0.6, attention_multiplier=0.4, logits_scaling=2.0),
        {"second expert": dict(num_experts_per_tok=1), "router": "router", "experts": "down_proj",
         "attention multiplier": dict(attention_multiplier=0.25)}, {}),
    "olmo2": ("Olmo2", BASE | UNTIED | dict(rope_parameters=rope(theta=5e5)),
        {"q norm": "q_norm", "k norm": "k_norm", "post norms": "post_.*norm"}, {}),
    "mixtral": ("Mixtral", SMALL | UNTIED | dict(num_local_experts=4, num_experts_per_tok=2),
        {"second expert": dict(num_experts_per_tok=1), "router": r"mlp\.gate\.|block_sparse_moe\.gate\."}, {}),
    "qwen2moe": ("Qwen2Moe", SMALL | UNTIED | dict(moe_intermediate_size=32, shared_expert_intermediate_size=64,
        num_experts=4, num_experts_per_tok=2, norm_topk_prob=False),
        {"shared expert": r"shared_expert\.down", "its gate": "shared_expert_gate", "biases": r"\.bias",
         "weights as they are": dict(norm_topk_prob=True), "second expert": dict(num_experts_per_tok=1)}, {}),
    "qwen3moe": ("Qwen3Moe", SMALL | TIED | dict(num_attention_heads=4, head_dim=16, moe_intermediate_size=32,
        num_experts=4, num_experts_per_tok=2, norm_topk_prob=True),
        {"q norm": "q_norm", "k norm": "k_norm", "normalized weights": dict(norm_topk_prob=False),
         "second expert": dict(num_experts_per_tok=1)}, {}),
    "bitnet": ("BitNet", BASE | TIED | dict(hidden_act="silu"), {"attention sub-norm": "attn_sub_norm",
        "feed-forward sub-norm": "ffn_sub_norm", "SiLU, not ReLU squared": dict(hidden_act="relu2")}, {}),
    "bitnet-b1.58": ("BitNet", BASE | TIED | dict(hidden_act="relu2"), {"attention sub-norm": "attn_sub_norm",
        "feed-forward sub-norm": "ffn_sub_norm", "ReLU squared, not SiLU": dict(hidden_act="silu")}, {}),
}
# Models whose folders are saved, and variants: the model, the type, the shard size, and changed settings.
FOLDERS = ["llama-bias", "llama-linear", "llama3", "mistral", "mixtral", "qwen2-yarn", "qwen2moe", "qwen3", "qwen3moe", "phi3-longrope",
    "gemma", "gemma2", "gemma3", "smollm3", "granite", "granitemoe", "olmo2", "bitnet", "bitnet-b1.58"]
VARIANTS = {"llama3-f16": ("llama3", torch.float16, "1GB", {}), "qwen2-bf16": ("qwen2-yarn", torch.bfloat16, "20KB", {}),
    "gemma3-bf16": ("gemma3", torch.bfloat16, "1GB", {}), "llama3-text": ("llama3", torch.bfloat16, "1GB",
        dict(vocab_size=320, bos_token_id=None, eos_token_id=319, pad_token_id=317)),
    "llama3-bare": ("llama3", torch.float16, "1GB", {}),
    "llama-dynamic": ("llama-linear", torch.float16, "1GB", dict(rope_parameters=rope("dynamic", factor=2.0)))}
# Saved without the output head, which changes the tensors' names.
BARE = ["llama3-bare"]
TEXTS = ["Hello, world", "The Licensor  grants\n\nYou 2,000 rights.", "na\u00efve caf\u00e9 \u4f60\u597d \U0001f600",
    "<|im_start|>user\nMay I?<|im_end|>\n", " leading and trailing ", "\t\r\n"]
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


def build(kind, settings):
    config = getattr(transformers, kind + ("TextConfig" if kind == "Gemma3" else "Config"))(**copy.deepcopy(settings))
    config._attn_implementation, config._experts_implementation = "eager", "eager"
    return getattr(transformers, kind + "ForCausalLM")(config).float().eval()


def is_norm(name):
    return re.search(r"norm[^.]*\.weight$", name) is not None


def weights(model, kind, name):
    """Draws all weights, each seeded by its name and the model's; rounded to half floats where the file has half floats."""
    values, zero = {}, 1.0 if kind.startswith("Gemma") else 0.0  # Gemma's norms multiply by 1 + weight
    # Tied embeddings that the model multiplies would make it repeat its last token.
    sizes = {"Gemma": (0.1, 3), "Gemma2": (0.05, 6), "Gemma3": (0.05, 8), "Granite": (0.1, 8), "bitnet-b1.58": (0.05, 8),
        "GraniteMoe": (0.1, 8)}
    embedding, final = sizes.get(name, sizes.get(kind, (0.4, 1)))
    for key, old in model.named_parameters():
        noise = torch.randn(old.shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{name} {key}".encode())))
        if is_norm(key):
            new = (1 + 0.3 * noise).clamp(min=0.2) * (final if key == "model.norm.weight" else 1) - zero
        elif old.ndim == 1:
            new = 0.5 * noise
        elif "embed_tokens" in key:
            new = (embedding * noise).half().float()
        else:
            new = (noise * (3.0 if "lm_head" in key else 1.4) / old.shape[-1] ** 0.5).half().float()
        values[key] = new
    return values


def ternary(weight):
    """Changes BitNet's matrices as the converter does."""
    scale = weight.abs().mean().clamp(min=1e-5)
    return ((weight * (1 / scale)).round().clamp(-1, 1) / (1 / scale)).half().float()


def put(model, values):
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            tensor.copy_(values[key])
    return model


def run(model, tokens):
    with torch.inference_mode():
        return model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float()


def greedy(model, tokens):
    tokens, best = list(tokens), []
    for _ in range(GREEDY):
        top = run(model, tokens)[-1].topk(2)
        best.append(top.values.tolist())
        tokens.append(int(top.indices[0]))
    return tokens[-GREEDY:], best


def prompt(model, case, length):
    """Returns the first of some random prompts whose greedy tokens are varied and have no near tie."""
    for seed in range(300):
        generator = torch.Generator().manual_seed(zlib.crc32(f"{case} {seed}".encode()))
        tokens = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
        chosen, best = greedy(model, tokens)
        if len(set(chosen)) >= 6 and min(a - b for a, b in best) >= 0.02 * max(a for a, _ in best):
            return tokens, chosen, best
    raise ValueError(f"{case} is too monotonous")


def digits(x):
    return float(f"{x:.7g}")


def write_vocabulary(self):
    characters = [chr(c) for c in range(0x21, 0x7F)]
    tokens = ["<unk>", "<s>", "</s>", "<0x0A>", "\u2581"] + characters
    tokens += [a + b for a in "etaoin" for b in "etaoin"][:VOCABULARY - len(tokens)]
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL, gguf.TokenType.BYTE]
    types += [gguf.TokenType.NORMAL] * (VOCABULARY - len(types))
    writer = self.gguf_writer
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 4 + [-float(i) for i in range(VOCABULARY - 4)])
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def vocabulary(folder, size):
    """Trains a byte-level tokenizer with this many tokens, saves it to the folder and returns the ids of TEXTS."""
    import tokenizers as T
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = T.Tokenizer(T.models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = T.pre_tokenizers.ByteLevel(add_prefix_space=False), T.decoders.ByteLevel()
    trainer = T.trainers.BpeTrainer(vocab_size=size - 3, initial_alphabet=T.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train([str(HERE.parent / "smollm2" / "apache-2.0.txt")], trainer)
    tokenizer.add_special_tokens(special)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=special[2], pad_token=special[0],
        chat_template=TEMPLATE, clean_up_tokenization_spaces=False)
    fast.save_pretrained(folder)
    return [[text, fast(text, add_special_tokens=False).input_ids] for text in TEXTS]


def zipped(folder, path):
    """Zips the folder's files, with the same bytes each time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for file in sorted(folder.iterdir()):
            if file.name != "generation_config.json":
                out.writestr(zipfile.ZipInfo(file.name), file.read_bytes(), zipfile.ZIP_DEFLATED)


def convert(model, name, folder, path):
    model.save_pretrained(folder)
    if name in FOLDERS:
        zipped(folder, HERE / "folders" / f"{name}.zip")
    if name.startswith("bitnet"):  # the converter knows the sub-norms under the names of older files
        saved = load_file(folder / "model.safetensors")
        new = lambda key: key.replace("attn_sub_norm", "inner_attn_ln").replace("ffn_sub_norm", "ffn_layernorm")
        save_file({new(key): tensor for key, tensor in saved.items()}, folder / "model.safetensors")
    counted = dict(model=dict(vocab=dict.fromkeys(map(str, range(VOCABULARY)), 0)), added_tokens=[])
    (folder / "tokenizer.json").write_text(json.dumps(counted))  # for Gemma 3's converter
    converter = get_model_class(json.loads((folder / "config.json").read_text())["architectures"][0])
    converter.set_vocab = write_vocabulary
    if name == "bitnet-b1.58":  # the fork of BitNet's authors uses another name for it, and for the keys
        gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.BITNET] = name
    with torch.inference_mode():
        converter(folder, gguf.LlamaFileType.MOSTLY_F16, path, eager=True, model_name="random weights").write()


def without(kind, settings, values, change, tokens):
    if isinstance(change, dict):
        return run(put(build(kind, settings | change), values), tokens)
    found = [key for key in values if re.search(change, key)]
    assert found, change
    neutral = lambda key: torch.full_like(values[key], 1.0 if is_norm(key) and not kind.startswith("Gemma") else 0.0)
    return run(put(build(kind, settings), values | {key: neutral(key) for key in found}), tokens)


def make(name):
    kind, settings, parts, lengths = MODELS[name]
    settings = TOKENS | settings
    model = build(kind, settings)
    values = weights(model, kind, name)
    with tempfile.TemporaryDirectory() as folder:
        convert(put(model, values), name, Path(folder) / name, HERE / f"{name}.gguf")
    if kind == "BitNet":
        values = {k: ternary(v) if v.ndim == 2 and "embed" not in k else v for k, v in values.items()}
        put(model, values)
    record(name, kind, settings, model, values, parts, lengths, f"{name}.gguf", HERE)


def make_variant(variant):
    name, dtype, shard, more = VARIANTS[variant]
    kind, settings, _, _ = MODELS[name]
    settings = TOKENS | settings | more
    model = build(kind, settings)
    values = {key: value.to(dtype).float() for key, value in weights(model, kind, name).items()}
    with tempfile.TemporaryDirectory() as folder:
        put(model, values).to(dtype)
        (model.model if variant in BARE else model).save_pretrained(folder, max_shard_size=shard)
        texts = vocabulary(Path(folder), settings["vocab_size"]) if "vocab_size" in more else []
        zipped(Path(folder), HERE / "folders" / f"{variant}.zip")
    model = put(build(kind, settings), values)
    record(variant, kind, settings, model, values, {}, {}, f"{variant}.zip", HERE / "folders", texts=texts)


def record(name, kind, settings, model, values, parts, lengths, file, folder, **more):
    for case, length in (lengths or {name: 40}).items():
        tokens, chosen, best = prompt(model, case, length)
        rows = run(model, tokens)
        positions = sorted({round(i * (length - 1) / 7) for i in range(8)})
        rows = rows[positions]
        largest = float(rows.abs().max())
        moved = {part: float((without(kind, settings, values, change, tokens)[positions] - rows).abs().max()) / largest
            for part, change in parts.items()}
        result = dict(model=file, tokens=tokens, greedy=chosen,
            greedy_top2_logits=[[digits(x) for x in pair] for pair in best], gaps=[digits(a - b) for a, b in best],
            logit_positions=positions, logits=[[digits(x) for x in row.tolist()] for row in rows],
            largest=digits(largest), without={part: float(f"{x:.2g}") for part, x in moved.items()},
            made_with=dict(transformers=transformers.__version__, torch=torch.__version__.partition("+")[0],
                converter="llama.cpp, in llama-cpp-python 0.3.36"), **{key: value for key, value in more.items() if value})
        (folder / f"{case}.json").write_text(json.dumps(result) + "\n")
        print(f"{case}: {len(set(chosen))} tokens, largest {largest:.3g}, least gap {min(result['gaps']):.3g}, "
            f"{(folder / file).stat().st_size} bytes, without {result['without']}", flush=True)
        assert all(x > 0.01 for x in moved.values()), f"{case} would not notice"


(HERE / "folders").mkdir(exist_ok=True)
for name in sys.argv[2:] or [*MODELS, *VARIANTS]:
    make_variant(name) if name in VARIANTS else make(name)
