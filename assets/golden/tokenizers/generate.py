"""Makes the golden data of this folder from llama.cpp (llama-cpp-python) and GGUF vocabularies.

    python generate.py NAME=FILE.gguf ...

For each NAME, writes NAME.vocab.json.gz with the vocabulary as in the file, and NAME.cases.json.gz with strings and
llama.cpp's ids and texts for them. For the NAME gpt-2, also writes pretokenizers.json.gz: the ids under every
pre-tokenizer name in Weft's table, from copies of the vocabulary that differ only in that name.

Merges are stored as [id of the result minus that of the previous merge, characters of its left part], or as text if
the result is not a token. This takes a third of the size.
"""
import ctypes, gzip, json, pathlib, random, re, sys, tempfile
import gguf, llama_cpp

HERE = pathlib.Path(__file__).parent
KEYS = {"model": "model", "pre": "pre", "bos": "bos_token_id", "eos": "eos_token_id", "eot": "eot_token_id",
        "eom": "eom_token_id", "unk": "unknown_token_id", "pad": "padding_token_id", "add_bos": "add_bos_token",
        "add_eos": "add_eos_token", "add_space_prefix": "add_space_prefix"}

def write(name, data):
    with open(HERE / name, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(json.dumps(data, ensure_ascii=False, separators=(",", ":")).encode())

def read_vocabulary(path):
    fields = gguf.GGUFReader(path).fields
    get = lambda key: fields["tokenizer." + key].contents() if "tokenizer." + key in fields else None
    vocabulary = {name: get("ggml." + key) for name, key in KEYS.items()}
    vocabulary |= {"chat_template": get("chat_template"), "tokens": get("ggml.tokens"),
                   "token_types": get("ggml.token_type") or []}
    vocabulary["raw_merges"] = get("ggml.merges")
    return vocabulary

def pack(vocabulary):
    packed = {k: v for k, v in vocabulary.items() if k != "raw_merges" and v is not None}
    ids, last, merges = {t: i for i, t in enumerate(vocabulary["tokens"])}, 0, []
    for merge in vocabulary["raw_merges"]:
        left, right = merge.split(" ")
        id = ids.get(left + right)
        merges.append(merge if id is None else [id - last, len(left)])
        last = last if id is None else id
    packed["merges"] = merges
    return packed

def load(path):
    return llama_cpp.Llama(str(path), vocab_only=True, verbose=False)

def ids(model, text, special, add=False):
    return model.tokenize(text.encode(), add_bos=add, special=special)

def pieces(model, tokens, special):
    vocab, out, buffer = llama_cpp.llama_model_get_vocab(model._model.model), b"", ctypes.create_string_buffer(4096)
    for token in tokens:
        n = llama_cpp.llama_token_to_piece(vocab, token, buffer, 4096, 0, special)
        assert n >= 0
        out += buffer.raw[:n]
    return out.hex()

WORDS = ["Hello", "world", "I'll", "we'VE", "don't", "it's", "'s", "naïve", "Straße", "ſtrange'ſ", "привет", "Ελληνικά",
         "你好世界", "こんにちは", "カタカナ", "안녕하세요", "नमस्ते", "ไทย", "שלום", "مرحبا", "a\u0301\u0323", "e\u0301e", "👩‍👩‍👧‍👦", "🦙", "🇵🇱",
         "fn main() {", "x+=1;", "!=", "</div>", "#include <stdio.h>", "camelCaseWord", "SCREAMING_CASE", "HTTPServer's", "3.14159",
         "1234567", "٣٤٥", "½", "Ⅻ", "²³", "…", "—", "«»", "¿?", "$€£", "\\n", "``", "~^|", "==>", "https://x.org/a?b=c&d", "the",
         "Ġ", "▁", "\ufffd", "\ufeff", "ǅ", "ｆｕｌｌ", "𝒳𝓎", "𐍈", "\u200b", "\u00ad", "\U000e0041", "IMGIMGABZ", "<sentinel:12>",
         "'Tis", "'re", "'RE", "O'Neil", "/usr/bin", "C++/C#", "。", "、", "！", "〜", "\u0600", "\U0001f9ff", "\U00011f02", "\U0001e030"]
SPACES = [" ", " ", " ", "  ", "   ", "        ", "\t", "\n", "\n\n", "\r\n", " \n ", "\n  \t", "\u00a0", "\u3000", "\u2003", "\u0085", "\u2028", "\x0b", "\x0c", ""]
CONTROLS = ["\0", "\x01", "\x1b[0m", "\x7f", "\x80", "\x1c"]

def strings(seed, special_texts, count):
    rng = random.Random(seed)
    def char():
        kind = rng.random()
        if kind < 0.4: return chr(rng.randrange(0x20, 0x7f))
        if kind < 0.55: return chr(rng.randrange(0x20, 0x250))
        if kind < 0.7: return chr(rng.randrange(0x300, 0x3000))
        if kind < 0.8: return chr(rng.randrange(0x3000, 0xd800))
        if kind < 0.9: return chr(rng.randrange(0xe000, 0x10000))
        return chr(rng.randrange(0x10000, 0x20000))
    for index in range(count):
        kind = index % 4
        parts = []
        for _ in range(rng.randrange(1, 14)):
            if kind == 0: parts.append(rng.choice(WORDS) + rng.choice(SPACES))
            elif kind == 1: parts.append(rng.choice([rng.choice(SPACES), str(rng.randrange(10 ** rng.randrange(1, 9))), rng.choice(WORDS), rng.choice(CONTROLS)]))
            elif kind == 2: parts.append("".join(char() for _ in range(rng.randrange(1, 6))) + rng.choice(SPACES))
            else: parts.append(rng.choice([rng.choice(special_texts), rng.choice(special_texts)[:-1], rng.choice(SPACES), rng.choice(WORDS)]))
        yield "".join(parts)

def cases(name, path, vocabulary):
    model = load(path)
    special = [t for t, k in zip(vocabulary["tokens"], vocabulary["token_types"]) if k in (2, 3, 4) and t][:40]
    out = []
    for text in list(strings(name, special, 480)):
        plain, parsed = ids(model, text, False), ids(model, text, True)
        case = {"text": text, "plain": plain}
        if parsed != plain: case["parsed"] = parsed
        if pieces(model, parsed, True) != text.encode().hex(): case["shown"] = pieces(model, parsed, True)
        if pieces(model, parsed, False) != text.encode().hex(): case["hidden"] = pieces(model, parsed, False)
        out.append(case)
    eog = [i for i in range(len(vocabulary["tokens"])) if llama_cpp.llama_vocab_is_eog(llama_cpp.llama_model_get_vocab(model._model.model), i)]
    write(name + ".cases.json.gz", {"end_of_generation": eog, "with_special": ids(model, "Hi", True, True), "cases": out})

def pretokenizers(vocabulary):
    source = (HERE / "../../../systems/text/src/pretokenizers.rs").read_text()
    names = re.findall(r'"([^"]+)"', " ".join(re.findall(r"(?:family\(\s*|names: )&\[([^\]]*)\]", source)))
    texts = list(strings("pre-tokenizers", ["<|endoftext|>"], 240))
    out = {}
    for name in names:
        with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
            writer = gguf.GGUFWriter(file.name, "gpt2")
            writer.add_tokenizer_model("gpt2"); writer.add_tokenizer_pre(name)
            writer.add_token_list(vocabulary["tokens"]); writer.add_token_types(vocabulary["token_types"])
            writer.add_token_merges(vocabulary["raw_merges"])
            writer.add_bos_token_id(vocabulary["bos"]); writer.add_eos_token_id(vocabulary["eos"])
            writer.write_header_to_file(); writer.write_kv_data_to_file(); writer.write_tensors_to_file(); writer.close()
            model = load(file.name)
            out[name] = {"adds_bos": ids(model, "a", False, True)[0] == vocabulary["bos"], "ids": [ids(model, text, False) for text in texts]}
    # Most families differ in few strings, so the first one's ids are stored, and only the differences for the others.
    base = out["gpt-2"]["ids"]
    for name, data in out.items():
        if name != "gpt-2":
            data["ids"] = [None if a == b else a for a, b in zip(data["ids"], base)]
    write("pretokenizers.json.gz", {"texts": texts, "names": out})

if __name__ == "__main__":
    for argument in sys.argv[1:]:
        name, path = argument.split("=")
        vocabulary = read_vocabulary(path)
        write(name + ".vocab.json.gz", pack(vocabulary))
        cases(name, path, vocabulary)
        if name == "gpt-2": pretokenizers(vocabulary)
