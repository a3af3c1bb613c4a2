"""Makes the golden data of this folder for tokenizer.json: small tokenizers of each kind, trained here, and the ids from
the Hugging Face library (tokenizers 0.23).

    python hugging_face.py

hf-NAME.json.gz: `tokenizer`, the text of tokenizer.json; `tokenizer_config` and similar files if present; `cases`,
strings with their `ids`, and the `text` of the ids without special tokens if that is not the string; `framed`, the ids of
"Hi" with special tokens. The library's training of unigram and WordPiece models is not seeded, so those differ a little
on each run.
"""
import json, random
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from kinds import HERE, LINES
from generate import strings, write

GPT2, LLAMA3, QWEN2 = None, \
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", \
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
WORDS = r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+{0}|" + r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*{0}|"
TEKKEN = WORDS.replace("{0}", "") + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = WORDS.replace("{0}", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?") + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"

def save(name, text, special, **files):
    tokenizer, cases = Tokenizer.from_str(text), []
    for string in strings(name, special, 400):
        ids = tokenizer.encode(string, add_special_tokens=False).ids
        case, back = {"text": string, "ids": ids}, tokenizer.decode(ids, skip_special_tokens=True)
        if back != string: case["back"] = back
        cases.append(case)
    framed = tokenizer.encode("Hi").ids
    files = {key: json.dumps(value) for key, value in files.items()}
    write(f"hf-{name}.json.gz", {"tokenizer": text, **files, "framed": framed, "cases": cases})

def frame(tokenizer, before=None, after=None):
    parts = [part for part in (before, "$A", after) if part]
    tokens = [(part, tokenizer.token_to_id(part)) for part in (before, after) if part]
    tokenizer.post_processor = processors.TemplateProcessing(single=" ".join(parts), pair=" ".join(parts) + " $B", special_tokens=tokens)

def byte_level(name, expression, specials, ignore_merges=False, normalizer=None, before=None, **files):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=expression is None)
    tokenizer.pre_tokenizer = level if expression is None else pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(expression), "isolated"), level])
    if normalizer: tokenizer.normalizer = normalizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False, special_tokens=specials)
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    if before: frame(tokenizer, before)
    save(name, tokenizer.to_str(), specials + ["<tool>"], **files)

def spm(name, prepare, specials, before="<s>", after=None):
    """BPE with byte fallback; `prepare` sets how spaces are handled."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=900, show_progress=False, special_tokens=["<unk>", "<s>", "</s>"] + [f"<0x{b:02X}>" for b in range(256)] + specials)
    tokenizer.train_from_iterator(LINES, trainer)
    raw = json.loads(tokenizer.to_str())
    # The byte tokens are in the model only, not among the added tokens.
    raw["added_tokens"] = [t for t in raw["added_tokens"] if not t["content"].startswith("<0x")]
    raw["pre_tokenizer"] = None
    tokenizer = Tokenizer.from_str(json.dumps(raw))
    prepare(tokenizer)
    frame(tokenizer, before, after)
    save(name, tokenizer.to_str(), ["<s>", "</s>"] + specials, tokenizer_config={"bos_token": {"content": "<s>"}, "eos_token": "</s>"})

def prepend(tokenizer):
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])

def metaspace(tokenizer):
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])

def gemma(tokenizer):
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])

def unigram(name, charsmap, whitespace):
    tokenizer = Tokenizer(models.Unigram())
    meta = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), meta]) if whitespace else meta
    if charsmap: tokenizer.normalizer = normalizers.Precompiled(charsmap)
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=600, show_progress=False, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>")
    tokenizer.train_from_iterator(LINES, trainer)
    frame(tokenizer, after="</s>")
    save(name, tokenizer.to_str(), ["<pad>", "</s>", "<unk>"], tokenizer_config={"eos_token": "</s>", "pad_token": "<pad>"})

def wordpiece(name, lowercase):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(LINES, trainers.WordPieceTrainer(vocab_size=800, show_progress=False, special_tokens=specials))
    frame(tokenizer, "[CLS]", "[SEP]")
    save(name, tokenizer.to_str(), specials, tokenizer_config={"cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"})

def charsmap():
    import gguf, gzip, tempfile
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(gzip.open(HERE / "t5.gguf.gz").read()); file.flush()
        return bytes(gguf.GGUFReader(file.name).fields["tokenizer.ggml.precompiled_charsmap"].contents())

byte_level("gpt-2", GPT2, ["<|endoftext|>"], tokenizer_config={"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})
byte_level("llama-3", LLAMA3, ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"], ignore_merges=True, before="<|begin_of_text|>",
           tokenizer_config={"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "chat_template": [{"name": "tool_use", "template": "no"}, {"name": "default", "template": TEMPLATE}]},
           generation_config={"eos_token_id": [1, 2]})
byte_level("qwen-2", QWEN2, ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], normalizer=normalizers.NFC(),
           tokenizer_config={"add_bos_token": False, "eos_token": "<|im_end|>", "bos_token": None, "chat_template": TEMPLATE}, config={"bos_token_id": 0, "eos_token_id": 2})
byte_level("tekken", TEKKEN, ["<unk>", "<s>", "</s>", "[INST]"], ignore_merges=True, before="<s>", tokenizer_config={"bos_token": "<s>", "eos_token": "</s>"})
byte_level("gpt-4o", GPT4O, ["<|endoftext|>", "<|return|>"], tokenizer_config={"eos_token": "<|return|>"})
spm("llama-2", prepend, [])
spm("mistral", metaspace, ["[INST]", "[/INST]"])
spm("gemma", gemma, ["<start_of_turn>", "<end_of_turn>"], before="<s>", after=None)
unigram("t5", charsmap(), True)
unigram("xlm", None, False)
wordpiece("bert", True)
wordpiece("bert-cased", False)
