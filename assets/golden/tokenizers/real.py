"""Encodes many strings with five real `tokenizer.json` files: `python real.py FOLDER`; `.ci/tokenizers` prints the folder.

Writes `real.json.gz`: the strings, and for each tokenizer their ids (special tokens parsed, none added), the ids of "Hi" with
the tokens that the post-processor adds, and the text of the ids if it is not the string. Made with the Hugging Face library,
tokenizers 0.23.3.
"""

import gzip
import json
import random
import sys
import unicodedata
from pathlib import Path

from tokenizers import Tokenizer

NAMES = ["qwen3", "gemma3", "llama3_1", "gptoss", "deepseek_v3"]

FIXED = [
    "", " ", "  ", "\n", "\n\n", "\t", "\r\n", " \n ", "a", " a", "a ", "Hello, world!", "  leading and trailing  ", "don't I'LL we've it's 'tis",
    "The quick brown fox jumps over the lazy dog.", "1 12 123 1234 12345 3.14159 1,000,000 1e-10 0xFF 10%", "snake_case camelCase PascalCase kebab-case SCREAMING_CASE",
    "def f(x):\n    return {'a': [x ** 2 for _ in range(10)]}\n\n\tif x != 0:\n\t\tpass\n", "fn main() {\n    println!(\"{:?}\", vec![1, 2, 3]);\n}\n",
    "<html><body class=\"x\">&amp; &lt;tag&gt;</body></html>", "SELECT * FROM t WHERE a >= 1 AND b LIKE '%x%';", "https://example.com/a/b?c=d&e=f#g me@example.org",
    "{\"k\": [1, 2.5, null, true], \"s\": \"\\u00e9\\n\"}", "#include <stdio.h>\nint main(void) { return 0; } // comment /* x */", "| a | b |\n|---|---|\n| 1 | 2 |\n\n- [x] done\n* item\n> quote\n```py\nx\n```",
    "Über Straße naïve façade Çà œuvre ÆØÅ", "Привет, как дела? Ёлка", "Γειά σου Κόσμε", "שלום עולם", "مرحبا بالعالم ١٢٣", "हिन्दी में लिखा हुआ पाठ", "ภาษาไทยไม่มีช่องว่าง", "你好，世界！这是一个测试。", "日本語のテキストとカタカナ、ひらがな。", "한국어 텍스트입니다.",
    "Tiếng Việt có dấu", "ქართული", "Հայերեն", "አማርኛ", "தமிழ் தெலுగు ಕನ್ನಡ", "မြန်မာ ខ្មែរ ລາວ", "中文english混合123テスト한글", "😀😃🎉 👨‍👩‍👧‍👦 🇩🇪🇯🇵 👍🏽 ❤️ ☺", "math: ∀x∈ℝ, ∑ᵢ xᵢ² ≤ ∞ ⇒ √2 ≈ 1.414", "e\u0301 é n\u0303 ñ a\u0308\u0323 ﬁ ﬂ Å Å ½ ² ①",
    "\u200b\u200d\ufeff zero\u00a0width\u3000space\u2028line\u0085", "\x00\x01\x1b\x7f\x80", "\ufffd\uffff\ue000", "a" * 300, "ab" * 200, " " * 100, "\n" * 50, "!" * 80, "=" * 65 + "-" * 33, "\t" * 20, "  \n  \n\n\t\n   x", "....... ??? !!! --- ___ *** ###",
    "word\nword\n\nword\r\nword\r\rword", "x  y   z    w     v", "12 345\n678 9", "A.B.C. U.S.A. e.g. i.e. Mr. Dr.", "(((nested [brackets {here}])))", "$5 €10 £3 ¥100 ₹7", "C++ C# F# .NET node.js", "'single' \"double\" `back` “curly” ‘q’ «g»", "foo/bar\\baz //x /* y */ ///", "ÀÉÎÕÜ ÀÉÎÕÜ's DON'T ſ's",
    "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>", "<bos><start_of_turn>user\nHi<end_of_turn>\n", "<|start|>user<|message|>Hi<|end|><|return|>", "<｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜>", "<think>\nhm\n</think>\n\nyes", "<tool_call>{\"name\": \"f\"}</tool_call>",
    " <|im_end|> ", "<|im_end", "<|endoftext|><|endoftext|>", "<unused0> <mask> <pad> [multimodal]", "▁under▁score ▁", "<0x0A> <0xFF>", "\n\n\n<end_of_turn>\n\n", "<h1>x</h1><br>", "<|reserved_special_token_5|>", "<|fim_prefix|>a<|fim_suffix|>b<|fim_middle|>",
]


def strings():
    rng = random.Random(6)
    assigned = [chr(code) for code in range(0x20, 0x20000) if unicodedata.category(chr(code))[0] not in "C"]
    ascii_ = [chr(code) for code in range(32, 127)]
    words = " ".join(FIXED).split(" ")
    scripts = [(0x41, 0x7F), (0xC0, 0x250), (0x370, 0x400), (0x400, 0x500), (0x590, 0x700), (0x900, 0xE00), (0xE00, 0x1000), (0x1E00, 0x2000), (0x2000, 0x2C00), (0x3040, 0x3100), (0x4E00, 0xA000), (0xAC00, 0xD7A0), (0x1F300, 0x1FA00)]
    space = [" ", "  ", "\n", "\t", "\r\n", "\u00a0", "\u3000", "", "", " ", " "]
    yield from FIXED
    for n in range(420):
        kind = n % 6
        if kind == 0:
            yield "".join(rng.choice(assigned) for _ in range(rng.randint(1, 24)))
        elif kind == 1:
            yield "".join(rng.choice(ascii_) for _ in range(rng.randint(1, 40)))
        elif kind == 2:
            yield "".join(rng.choice(words) + rng.choice(space) for _ in range(rng.randint(1, 12)))
        elif kind == 3:
            low, high = rng.choice(scripts)
            letters = [c for c in map(chr, range(low, high)) if unicodedata.category(c)[0] not in "C"]
            yield "".join(rng.choice(letters) if rng.random() < 0.85 else rng.choice(space) for _ in range(rng.randint(2, 40)))
        elif kind == 4:
            yield "".join(rng.choice([" ", "\n", "\t", "\r", "a", "1", ".", "\u0301", "'s", "é", "水", "/", "_"]) for _ in range(rng.randint(1, 30)))
        else:
            yield "".join(rng.choice(["A", "b", "'", "S", "ll", "9", "12", "٣", "Ⅷ", "½", "-", "ǅ", "ʰ", "ª", "̈", "़", "。", "ー", "々", "〇", "𝒳", "ß"]) for _ in range(rng.randint(1, 20)))


def main():
    folder = Path(sys.argv[1])
    texts = list(dict.fromkeys(strings()))
    out = {"strings": texts, "tokenizers": {}}
    for name in NAMES:
        tokenizer = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
        ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
        back = {index: shown for index, (text, row) in enumerate(zip(texts, ids)) if (shown := tokenizer.decode(row, skip_special_tokens=False)) != text}
        out["tokenizers"][name] = {"ids": ids, "framed": tokenizer.encode("Hi").ids, "back": back}
        print(name, sum(map(len, ids)), "ids,", len(back), "texts differ")
    target = Path(__file__).parent / "real.json.gz"
    with open(target, "wb") as file, gzip.GzipFile("", "wb", 9, fileobj=file, mtime=0) as packed:
        packed.write(json.dumps(out, ensure_ascii=False, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
