"""Makes small tokenizers with each way to mark spaces: `python hugging_face_kinds.py` writes `hf-kinds.json.gz`.

It has rows of `{"name", "tokenizer", "cases": [[text, ids], …]}`; special tokens are parsed and none added. Made with
tokenizers 0.23.3.
"""

import gzip
import itertools
import json
import random
from pathlib import Path

from tokenizers import Tokenizer

PIECES = [("▁", -2.0), ("▁▁", -2.2), ("▁▁▁", -2.9), ("▁a", -2.5), ("▁the", -3.0), ("▁water", -4.0), ("a", -3.0), ("b", -3.0), ("ab", -3.5), ("▁ab", -3.4), ("a▁", -2.1), ("a▁b", -2.3), ("t", -5), ("h", -5), ("e", -5), ("w", -5), ("r", -5), (".", -4), (".▁", -3), ("水", -6)]
TEXTS = ["", "a", " a", "a ", "a b", "a   b", "   a  b  ", "the water", "the water\n水", "a▁b", "▁a", "▁▁", "xyz a", "a xyz xyz é", "é", "<|x|>a", "a<|x|> b", "a <|x|>b <|x|>", " <|x|> <|x|>a", "a. b. the.", "日本 水", "\n", "a\tb", "ab ab abab", "<|x|>", "a b<|x|>the water 水é"]


def texts():
    rng = random.Random(3)
    yield from TEXTS
    for _ in range(60):
        yield "".join(rng.choice(["a", "b", " ", "  ", "the", "water", ".", "é", "水", "▁", "<|x|>", "\n", "x"]) for _ in range(rng.randint(1, 12)))


def added(contents, first):
    return [{"id": first + n, "content": text, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for n, text in enumerate(contents)]


def unigram(bytes_, missing):
    vocab = [["<unk>", 0.0]] + [[text, float(score)] for text, score in PIECES]
    if bytes_:
        vocab += [[f"<0x{byte:02X}>", -9.0] for byte in range(256) if byte not in missing]
    tokens = added(["<unk>"], 0) + added(["<|x|>"], len(vocab))
    return {"type": "Unigram", "unk_id": 0, "vocab": vocab, "byte_fallback": bytes_}, tokens


def bpe(bytes_, fuse):
    singles = ["<unk>", "▁", "a", "b", "t", "h", "e", "w", "r", ".", "水", "<0x0A>", "<0xC3>", "<0xA9>"]
    merges = ["▁ ▁", "a b", "▁ a", "t h", "th e", "▁ the", "a ▁", "a▁ b", ". ▁", "▁a b", "▁▁ ▁"]
    vocab = {text: id_ for id_, text in enumerate(singles)}
    for merge in merges:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    tokens = added(["<unk>"], 0) + added(["<|x|>"], len(vocab))
    return {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": fuse, "byte_fallback": bytes_, "vocab": vocab, "merges": merges}, tokens


def main():
    models = {"unigram": unigram(False, ()), "unigram-bytes": unigram(True, ()), "unigram-some-bytes": unigram(True, (0xC3,)), "bpe": bpe(False, True), "bpe-bytes": bpe(True, True)}
    ways = [{"prepend_scheme": scheme, "split": split} for scheme, split in itertools.product(["always", "first", "never"], [True, False])]
    ways += [{"add_prefix_space": True}, {"add_prefix_space": False, "prepend_scheme": "never"}, {"str_rep": "▁", "add_prefix_space": True}, {"prepend_scheme": "always"}]
    rows = []
    for (name, (model, tokens)), way in itertools.product(models.items(), ways):
        file = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens, "normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", **way}, "post_processor": None, "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}, "model": model}
        text = json.dumps(file, ensure_ascii=False)
        tokenizer = Tokenizer.from_str(text)
        cases = [[case, tokenizer.encode(case, add_special_tokens=False).ids] for case in texts()]
        rows.append({"name": f"{name} {way}", "tokenizer": text, "cases": cases})
    with open(Path(__file__).parent / "hf-kinds.json.gz", "wb") as out, gzip.GzipFile("", "wb", 9, fileobj=out, mtime=0) as packed:
        packed.write(json.dumps(rows, ensure_ascii=False).encode())
    print(len(rows), "tokenizers")


if __name__ == "__main__":
    main()
