//! The table of pre-tokenizers: how each named vocabulary family splits a text into words before merging, whether words
//! that are tokens skip merging, and whether texts start with BOS.
//!
//! The expressions are those of the models' `tokenizer.json` as llama.cpp reads them, since GGUF files are made for
//! llama.cpp. Two constructs are written differently, with the same result, so that every expression runs in linear
//! time on an automaton:
//! - The tail `\s+(?!\S)|\s+` needs a look-ahead; it is [`Split::spaces`] instead.
//! - `((?=[\p{L}])([^a-z]))` is `[\p{L}--[a-z]]`. (llama.cpp distinguishes upper and lower case in ASCII only.)
//!
//! Not supported: names whose expressions need more than that (`kimi-k2`, `superbpe`, `jais-2`, `tiny_aya`,
//! `cohere2moe`, `afmoe`, `youtu`) and those that are not byte-level (`gemma4`, `granite-embed-multi-311m`,
//! `sarvam-moe`, `whitespace`).

/// One split. Every match of `pattern` is a word, and so is the text between two matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    /// The expression, in the syntax of the `regex` crate.
    pub pattern: &'static str,
    /// Whether `|\s+(?!\S)|\s+` follows. A run of white space is then a word, except that its last character belongs to
    /// the next word if there is one and the run is longer than one character.
    pub spaces: bool,
}

/// One family of vocabularies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PreTokenizer {
    /// Values of `tokenizer.ggml.pre`.
    pub names: &'static [&'static str],
    /// The splits. Each is applied to the words of the one before.
    pub splits: &'static [Split],
    /// Whether a word that is a token becomes that token without merging.
    pub ignore_merges: bool,
    /// Whether texts start with BOS if the file does not specify it.
    pub add_bos: bool,
}

const fn plain(pattern: &'static str) -> Split {
    Split { pattern, spaces: false }
}

const fn spaced(pattern: &'static str) -> Split {
    Split { pattern, spaces: true }
}

const fn family(names: &'static [&'static str], splits: &'static [Split]) -> PreTokenizer {
    PreTokenizer { names, splits, ignore_merges: false, add_bos: false }
}

const GPT2: Split = spaced(r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+");
const LLAMA3: Split = spaced(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
);
const QWEN2: Split = spaced(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
);
const QWEN35: Split = spaced(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+",
);
const MINICPM5: Split = spaced(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
);
const SEED_CODER: Split = spaced(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+",
);
const UFAKZEKA: Split = spaced(r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+");
const BAILING: Split = spaced(
    r"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]",
);
const EXAONE_MOE: Split = spaced(
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]",
);
const TEKKEN: Split = spaced(
    r"[^\r\n\p{L}\p{N}]?[\p{L}--[a-z]]*[\p{L}--[A-Z]]+|[^\r\n\p{L}\p{N}]?[\p{L}--[a-z]]+[\p{L}--[A-Z]]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
);
const GPT4O: Split = spaced(
    r"[^\r\n\p{L}\p{N}]?[\p{L}--[a-z]]*[\p{L}--[A-Z]]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{L}--[a-z]]+[\p{L}--[A-Z]]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
);
const GRANITE_EMBEDDING: Split = spaced(
    r"[^\r\n\p{L}\p{N}]?[[\p{L}\p{M}]--[a-z]]*[[\p{L}\p{M}]--[A-Z]]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[[\p{L}\p{M}]--[a-z]]+[[\p{L}\p{M}]--[A-Z]]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
);
const DEEPSEEK3: Split = spaced(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+"##,
);
const SPARK: Split = spaced(
    r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+|[\r\n]"##,
);
const UP_TO_THREE_DIGITS: Split = plain(r"\p{N}{1,3}");
const ONE_DIGIT: Split = plain(r"\p{N}");
const THREE_ASCII_DIGITS: Split = plain(r"[0-9][0-9][0-9]");
const CJK_AND_KANA: Split = plain(r"[一-龥\x{3040}-ゟ゠-ヿ]+");
const CJK_AND_HANGUL: Split = plain(r"[一-龥ࠀ-一가-\x{d7ff}]+");
const NEW_LINE: Split = plain(r"[\r\n]");
const LINES: Split = plain(r"[^\n]+|[\n]+");
const NOT_PUNCTUATION: Split = plain(r" ?[^(\s|.,!?…。，、।۔،)]+");
/// The letters of DeepSeek LLM's expression: those of scripts with case.
const CASED_LETTERS: Split = plain(
    r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1f7d}ᾀ-ᾴᾶ-ᾼ\x{1fbe}ῂ-ῄῆ-ῌῐ-\x{1fd3}ῖ-\x{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
);

/// Every family.
pub(super) const TABLE: &[PreTokenizer] = &[
    family(&["default"], &[plain(r"[\p{P}\$\+<=>\^~\|]+"), GPT2, plain(r"\p{N}+"), THREE_ASCII_DIGITS]),
    family(
        &[
            "gpt-2",
            "phi-2",
            "gigachat",
            "a.x-4.0",
            "mellum",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "exaone4",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
            "modern-bert",
        ],
        &[GPT2],
    ),
    family(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[ONE_DIGIT, GPT2],
    ),
    PreTokenizer {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        splits: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    family(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3]),
    PreTokenizer { names: &["glm4", "glm5"], splits: &[LLAMA3], ignore_merges: true, add_bos: false },
    family(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "megrez",
            "stablelm2",
            "hunyuan",
            "solar-open",
            "grok-2",
        ],
        &[QWEN2],
    ),
    family(&["qwen35"], &[QWEN35]),
    family(&["laguna"], &[LINES, QWEN2]),
    family(&["seed-coder"], &[SEED_CODER]),
    family(&["ufakzeka"], &[UFAKZEKA]),
    family(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILING]),
    family(&["exaone-moe"], &[EXAONE_MOE]),
    PreTokenizer { names: &["tekken"], splits: &[TEKKEN], ignore_merges: true, add_bos: true },
    family(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[GPT4O]),
    PreTokenizer {
        names: &["granite-embed-multi-97m"],
        splits: &[GRANITE_EMBEDDING],
        ignore_merges: true,
        add_bos: false,
    },
    PreTokenizer {
        names: &["minicpm5"],
        splits: &[UP_TO_THREE_DIGITS, MINICPM5],
        ignore_merges: true,
        add_bos: false,
    },
    family(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[UP_TO_THREE_DIGITS, CJK_AND_KANA, DEEPSEEK3],
    ),
    family(&["spark2_5"], &[UP_TO_THREE_DIGITS, CJK_AND_KANA, SPARK, ONE_DIGIT]),
    family(
        &["deepseek-coder"],
        &[NEW_LINE, plain(r"\s?\p{L}+"), plain(r"\s?\p{P}+"), CJK_AND_HANGUL, ONE_DIGIT],
    ),
    family(
        &["deepseek-llm"],
        &[
            NEW_LINE,
            CASED_LETTERS,
            plain(r"\s?[!-/:-~！-／：-～‘-‟\x{3000}-。]+"),
            plain(r"\s+$"),
            CJK_AND_HANGUL,
            plain(r"\p{N}+"),
        ],
    ),
    family(&["falcon"], &[plain(r"[\p{P}\$\+<=>\^~\|`]+"), GPT2, THREE_ASCII_DIGITS]),
    family(&["bloom", "poro-chat", "gpt3-finnish"], &[NOT_PUNCTUATION]),
    family(&["viking"], &[NOT_PUNCTUATION, ONE_DIGIT]),
    PreTokenizer {
        names: &["chameleon"],
        splits: &[
            plain(r"<sentinel:[0-9]+>"),
            plain(r"IMGIMG[A-I]{1,4}Z"),
            plain(r"[\t\n]|    |  "),
            ONE_DIGIT,
            plain(r"[\p{P}!-/:-@\[-`{-~]"),
            GPT2,
        ],
        ignore_merges: false,
        add_bos: true,
    },
];

/// The name used for a file that names none.
pub(super) const UNNAMED: &str = "default";

/// Returns the family of a name.
pub(super) fn find(name: &str) -> Option<&'static PreTokenizer> {
    TABLE.iter().find(|family| family.names.contains(&name))
}

const TEKKEN_CASED: Split = spaced(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
);
const GPT4O_CASED: Split = spaced(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+",
);

impl PreTokenizer {
    /// Returns the splits of the models' own files, which differ from llama.cpp's: llama.cpp distinguishes upper and
    /// lower case in ASCII only.
    pub(super) fn original_splits(&self) -> &'static [Split] {
        match self.splits {
            [TEKKEN] => &[TEKKEN_CASED],
            [GPT4O] => &[GPT4O_CASED],
            splits => splits,
        }
    }
}

/// Returns every name of the table, in its order.
pub(super) fn names() -> Vec<&'static str> {
    TABLE.iter().flat_map(|family| family.names.iter().copied()).collect()
}
