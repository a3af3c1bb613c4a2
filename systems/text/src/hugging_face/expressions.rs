//! How `tokenizer.json` files write the pre-tokenizers of the table.

/// One split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// At the matches of GPT-2's expression, which `ByteLevel` implies.
    Gpt2,
    /// At every digit.
    EachDigit,
    /// At runs of digits.
    Digits,
    /// At runs of punctuation.
    Punctuation,
    /// At the matches of an expression.
    Isolated(&'a str),
}

use Step::{Digits, EachDigit, Gpt2, Isolated, Punctuation};

const GPT2: Step<'_> =
    Isolated(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+");
const LLAMA3: Step<'_> = Isolated(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const CL100K: Step<'_> = Isolated(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
);
const QWEN2: Step<'_> = Isolated(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN35: Step<'_> = Isolated(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const MINICPM5: Step<'_> = Isolated(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const SEED_CODER: Step<'_> = Isolated(
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
);
const BAILING: Step<'_> = Isolated(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+",
);
const EXAONE_MOE: Step<'_> = Isolated(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
);
const TEKKEN: Step<'_> = Isolated(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const GPT4O: Step<'_> = Isolated(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const DEEPSEEK3: Step<'_> = Isolated(
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
);
const NEW_LINES: Step<'_> = Isolated("[\r\n]");
const BLOOM: Step<'_> = Isolated(r" ?[^(\s|[.,!?…。，、।۔،])]+");

/// Names of the pre-tokenizer table, each with the splits that the `tokenizer.json` of its models makes. If several
/// names have the same splits, the first whose `ignore_merges` is the file's is chosen, or else the first.
pub(super) const SPLITS: &[(&str, &[Step<'static>])] = &[
    ("gpt-2", &[Gpt2]),
    ("gpt-2", &[GPT2]),
    ("smollm", &[EachDigit, Gpt2]),
    ("smollm", &[EachDigit, GPT2]),
    ("llama-bpe", &[LLAMA3]),
    ("dbrx", &[LLAMA3]),
    ("dbrx", &[CL100K]),
    ("qwen2", &[QWEN2]),
    ("qwen35", &[QWEN35]),
    ("minicpm5", &[Isolated(r"\p{N}{1,3}"), MINICPM5]),
    ("seed-coder", &[SEED_CODER]),
    ("bailingmoe", &[BAILING]),
    ("exaone-moe", &[EXAONE_MOE]),
    ("tekken", &[TEKKEN]),
    ("gpt-4o", &[GPT4O]),
    ("deepseek-v3", &[Isolated(r"\p{N}{1,3}"), Isolated("[一-龥\u{3040}-ゟ゠-ヿ]+"), DEEPSEEK3]),
    (
        "deepseek-coder",
        &[
            NEW_LINES,
            Isolated(r"\s?\p{L}+"),
            Isolated(r"\s?\p{P}+"),
            Isolated("[一-龥ࠀ-一가-\u{d7ff}]+"),
            EachDigit,
        ],
    ),
    ("falcon", &[Punctuation, Gpt2, Digits, Isolated("[0-9][0-9][0-9]")]),
    ("bloom", &[BLOOM]),
];
