//! Every vocabulary and every text ends in an answer or a typed error, in time about linear in their size.

#![expect(clippy::unwrap_used, reason = "a test fails where its data is not as expected")]

use crate::tokenize_golden::byte_level::{tokenizer, vocabulary};
use proptest::prelude::*;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use weft_text::{Detokenizer, SpecialTokens, TokenizeError, Tokenizer, Vocabulary};

/// A byte-level vocabulary of the characters of `alphabet`, then `tokens`.
fn small(alphabet: &str, tokens: &[&str], merges: &[&str]) -> Vocabulary {
    let mut all: Vec<String> = alphabet.chars().map(String::from).collect();
    all.extend(tokens.iter().map(|&token| token.to_owned()));
    Vocabulary {
        model: "gpt2".to_owned(),
        pre: "gpt-2".to_owned(),
        tokens: all,
        merges: merges.iter().map(|&merge| merge.to_owned()).collect(),
        ..Vocabulary::default()
    }
}

fn encode(vocabulary: Vocabulary, text: &str) -> Vec<u32> {
    Tokenizer::new(vocabulary).unwrap().encode(text, SpecialTokens::Parse, true).unwrap()
}

/// llama.cpp applies merges whose parts or result are not tokens, and emits the single bytes of a result that is not a
/// token.
#[test]
fn merges_without_tokens() {
    // ab is not a token, so it becomes a and b. abc is a token that is merged by way of ab.
    assert_eq!(encode(small("abc", &["abc"], &["a b", "ab c"]), "abc ab"), [3, 0, 1]);
    // Of two equal merges the first one counts, however often it is repeated.
    assert_eq!(encode(small("abc", &["ab", "bc"], &["a b", "b c", "a b"]), "abc"), [3, 2]);
    // x has no token. a and b do not become neighbours when it is left out.
    assert_eq!(encode(small("ab", &["ab"], &["a b"]), "axbab"), [0, 1, 2]);
    // Strings that are not merges.
    assert_eq!(encode(small("ab", &["ab"], &["", " ", "a", "a  b", "  a", "é", "a b"]), "ab"), [2]);
}

#[test]
fn wrong_vocabularies() {
    let good = || small("abc", &["ab", "<|x|>"], &["a b"]);
    let error = |change: &dyn Fn(&mut Vocabulary)| {
        let mut vocabulary = good();
        change(&mut vocabulary);
        Tokenizer::new(vocabulary).err()
    };
    assert_eq!(error(&|_| {}), None);
    assert!(matches!(error(&|v| v.model = "rwkv".into()), Some(TokenizeError::UnsupportedModel { .. })));
    assert!(matches!(error(&|v| v.model = String::new()), Some(TokenizeError::UnsupportedModel { .. })));
    assert!(matches!(error(&|v| v.pre = "x".into()), Some(TokenizeError::UnknownPreTokenizer { .. })));
    assert_eq!(error(&|v| v.pre = String::new()), None);
    assert_eq!(error(&|v| v.tokens.clear()), Some(TokenizeError::EmptyVocabulary));
    assert_eq!(error(&|v| v.merges.clear()), Some(TokenizeError::NoMerges));
    assert_eq!(error(&|v| v.token_types = vec![1]), Some(TokenizeError::TokenTypes { types: 1, tokens: 5 }));
    assert_eq!(error(&|v| v.token_types = vec![i32::MIN; 9]), None);
    assert_eq!(
        error(&|v| v.tokens.push("ab".into())),
        Some(TokenizeError::DuplicateToken { text: "ab".into(), first: 3, second: 5 })
    );
    assert_eq!(error(&|v| v.tokens.extend(["".into(), "".into()])), None);
    assert!(matches!(error(&|v| v.bos = Some(5)), Some(TokenizeError::SpecialTokenOutOfRange { id: 5, .. })));
    assert!(matches!(error(&|v| v.eom = Some(99)), Some(TokenizeError::SpecialTokenOutOfRange { .. })));
    // -1 means that there is no such token. Other ids out of range are removed.
    assert_eq!(error(&|v| v.eos = Some(u32::MAX)), None);
    assert_eq!(error(&|v| v.pad = Some(5)), None);
}

#[test]
fn special_tokens_of_odd_kinds() {
    let mut vocabulary = small("abc<|>", &["ab", "<ab>", "<|im_end|>", "abc"], &["a b"]);
    vocabulary.token_types = vec![1; 10];
    vocabulary.token_types[7] = 4;
    vocabulary.token_types[9] = 3;
    let tokenizer = Tokenizer::new(vocabulary).unwrap();
    let encode = |special| tokenizer.encode("<ab><|im_end|>abcab", special, false).unwrap();
    // <|im_end|> is a control token whatever the file says, as in llama.cpp.
    assert_eq!(encode(SpecialTokens::Parse), [7, 8, 9, 6]);
    assert_eq!(encode(SpecialTokens::AsText), [7, 3, 4, 4, 5, 6, 2, 6]);
    assert_eq!(tokenizer.end_of_generation(), [8]);
    assert_eq!(tokenizer.decode(&[7, 8, 9, 6], false).unwrap(), "<ab>ab");
    assert_eq!(tokenizer.decode(&[7, 8, 9, 6], true).unwrap(), "<ab><|im_end|>abcab");
    assert_eq!(tokenizer.token_bytes(10, true), None);
    assert_eq!(tokenizer.decode(&[10], true), Err(TokenizeError::UnknownToken { id: 10, vocab_size: 10 }));
}

#[test]
fn beginning_and_end_of_text() {
    let mut vocabulary = small("ab", &["<s>", "</s>"], &["a b"]);
    (vocabulary.bos, vocabulary.eos) = (Some(2), Some(3));
    assert_eq!(encode(vocabulary.clone(), "a"), [0]);
    (vocabulary.add_bos, vocabulary.add_eos) = (Some(true), Some(true));
    assert_eq!(encode(vocabulary.clone(), "a"), [2, 0, 3]);
    assert_eq!(encode(vocabulary.clone(), ""), [2, 3]);
    vocabulary.pre = "llama-bpe".to_owned();
    vocabulary.add_bos = None;
    assert_eq!(encode(vocabulary.clone(), "a"), [2, 0, 3]);
    vocabulary.bos = None;
    assert_eq!(encode(vocabulary, "a"), [0, 3]);
}

/// A vocabulary of a model kind with the characters of `alphabet`, then `tokens`. Later tokens have higher scores.
fn kind(model: &str, alphabet: &str, tokens: &[&str]) -> Vocabulary {
    let mut vocabulary = Vocabulary { model: model.to_owned(), ..small(alphabet, tokens, &[]) };
    vocabulary.scores = (0..vocabulary.tokens.len()).map(|id| id as f32 - 1000.0).collect();
    vocabulary.unk = Some(0);
    vocabulary.add_bos = Some(false);
    vocabulary.add_eos = Some(false);
    vocabulary.add_space_prefix = Some(false);
    vocabulary
}

#[test]
fn wrong_vocabularies_of_other_kinds() {
    for model in ["llama", "t5"] {
        let mut vocabulary = kind(model, "?abc", &["ab"]);
        vocabulary.scores.pop();
        let error = TokenizeError::Scores { scores: 4, tokens: 5 };
        assert_eq!(Tokenizer::new(vocabulary.clone()).err(), Some(error));
        vocabulary.scores.clear();
        assert_eq!(Tokenizer::new(vocabulary).err(), Some(TokenizeError::NoScores));
    }
    for model in ["bert", "t5"] {
        let vocabulary = kind(model, "?", &[&"a".repeat(5000)]);
        let error = TokenizeError::LongToken { id: 1, bytes: 5000, limit: 1024 };
        assert_eq!(Tokenizer::new(vocabulary).err(), Some(error));
    }
    for table in [&[1][..], &[0xff; 4], &[9, 0, 0, 0, 1], &[0, 0, 0, 0, 0xff]] {
        let vocabulary = Vocabulary { charsmap: table.to_vec(), ..kind("t5", "?", &[]) };
        assert!(
            matches!(Tokenizer::new(vocabulary).err(), Some(TokenizeError::Charsmap { .. })),
            "{table:?}"
        );
    }
    // Arrays whose entries point outside of them.
    for entry in [u32::MAX, 0x8000_0000, 0x7fff_ff61, 0x161, 0x561] {
        let mut table = 16u32.to_le_bytes().to_vec();
        table.extend([entry; 4].iter().flat_map(|entry| entry.to_le_bytes()));
        table.extend(b"x\0y");
        let vocabulary = Vocabulary { charsmap: table, ..kind("t5", "?a", &[]) };
        assert!(!encode(vocabulary, "aaaa").is_empty());
    }
}

#[test]
fn bytes_and_scores_of_odd_kinds() {
    let odd = ["<0x-1>", "<0x1>", "<0xC3>", "<0xA9>", "<s>", "s>", "<s"];
    let mut vocabulary = kind("llama", "?abc<s>", &odd);
    vocabulary.token_types = vec![1; 14];
    vocabulary.token_types[7..11].fill(6);
    vocabulary.token_types[11] = 3;
    let encode = |vocabulary: &Vocabulary, text: &str| {
        Tokenizer::new(vocabulary.clone()).unwrap().encode(text, SpecialTokens::AsText, false).unwrap()
    };
    // An unknown character becomes its bytes if all of them have tokens, and otherwise the unknown token.
    assert_eq!(encode(&vocabulary, "aéx"), [1, 9, 10, 0]);
    // Text that spells a control token or a byte token does not become it, although its halves are tokens.
    assert_eq!(encode(&vocabulary, "<s>"), [13, 6]);
    assert_eq!(encode(&vocabulary, "<0x1>").last(), Some(&6));
    let tokenizer = Tokenizer::new(vocabulary.clone()).unwrap();
    assert_eq!(tokenizer.decode(&[7, 8, 9, 10], true).unwrap(), "é");
    vocabulary.scores.fill(f32::NAN);
    assert_eq!(encode(&vocabulary, "<s>"), [13, 6]);
    vocabulary.scores = [f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0].repeat(4);
    assert_eq!(encode(&vocabulary, "abc"), [1, 2, 3]);
    for score in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN] {
        let mut vocabulary = kind("t5", "?abc", &["ab"]);
        vocabulary.scores.fill(score);
        assert!(!encode(&vocabulary, "abcx").is_empty());
    }
}

/// Text without spaces, and text of overlapping tokens, takes about linear time.
#[test]
fn a_mebibyte_for_other_kinds() {
    const SIZE: usize = 1 << 20;
    let runs: Vec<String> = (2..=256).map(|length| "a".repeat(length)).collect();
    let mut tokens: Vec<&str> = runs.iter().map(String::as_str).collect();
    tokens.extend(["▁", "▁▁", "▁▁▁▁", "▁a", "▁b", "<0x0A>"]);
    for model in ["llama", "t5", "bert"] {
        let tokenizer = Tokenizer::new(kind(model, "?ab", &tokens)).unwrap();
        for part in ["a", "b", " ", "a ", "ab", "é", "\u{301}", "\0", "▁", "语", "."] {
            let text = part.repeat(SIZE / part.len());
            let start = Instant::now();
            tokenizer.encode(&text, SpecialTokens::Parse, true).unwrap();
            // About a second at worst on an idle machine. Quadratic time would take hours.
            assert!(start.elapsed() < Duration::from_secs(30), "{model} {part:?}");
        }
    }
}

static TOKENIZERS: LazyLock<Vec<Tokenizer>> = LazyLock::new(|| {
    let with_pre = |pre: &str| {
        let mut vocabulary = vocabulary("gpt-2");
        vocabulary.pre = pre.to_owned();
        Tokenizer::new(vocabulary).unwrap()
    };
    let mut all: Vec<_> =
        ["deepseek-v3", "deepseek-llm", "exaone-moe", "gpt-4o", "default"].map(with_pre).into();
    all.extend(["llama-bpe", "smollm2"].map(tokenizer));
    all
});

/// Returns true if SmolLM2's vocabulary, the last of [`TOKENIZERS`], has a token for every byte of a text. It lacks
/// some control characters and the bytes that begin characters from U+40000 to U+BFFFF.
fn smollm2_has(text: &str) -> bool {
    !text.bytes().any(|byte| matches!(byte, 0x04 | 0x06 | 0x13 | 0x14 | 0x16 | 0x1d | 0xf1 | 0xf2))
}

#[test]
fn bytes_without_a_token_are_left_out_as_in_llama_cpp() {
    let ids = TOKENIZERS[6].encode("a\u{40000}b", SpecialTokens::AsText, false).unwrap();
    assert_eq!(ids, [81, 218, 218, 218, 82]);
}

#[test]
fn a_mebibyte_of_anything() {
    const SIZE: usize = 1 << 20;
    let mut seed = 1u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32
    };
    let mut texts: Vec<String> = [
        "a",
        " ",
        "\n",
        "\t",
        "1",
        "!",
        "'",
        "é",
        "语",
        "\u{301}",
        "\0",
        "<|im_end|>",
        "a b",
        " \n",
        "aA",
        "<",
        "a ",
        "\r\n x",
    ]
    .iter()
    .map(|part| part.repeat(SIZE / part.len()))
    .collect();
    texts.push(" ".repeat(SIZE) + "a");
    texts.push((0..SIZE / 3).filter_map(|_| char::from_u32(random() % 0x11_0000)).collect());
    texts.push((0..SIZE).map(|_| char::from(random() as u8 & 0x7f)).collect());
    texts.push((0..SIZE).map(|_| char::from(b'a' + (random() % 3) as u8)).collect());
    for (which, tokenizer) in TOKENIZERS.iter().enumerate() {
        for text in &texts {
            let start = Instant::now();
            let ids = tokenizer.encode(text, SpecialTokens::Parse, true).unwrap();
            // Linear time takes a second at worst. Quadratic time would take hours.
            assert!(start.elapsed() < Duration::from_secs(30), "{:?}", text.chars().next());
            let ids = &ids[usize::from(tokenizer.adds_bos())..];
            assert!(
                tokenizer.decode(ids, true).unwrap() == *text || (which == 6 && !smollm2_has(text)),
                "{:?}",
                text.chars().next()
            );
        }
    }
}

proptest! {
    #[test]
    fn any_text_comes_back(text in "\\PC{0,40}|(?s).{0,40}", which in 0usize..7) {
        let tokenizer = &TOKENIZERS[which];
        prop_assume!(which != 6 || smollm2_has(&text));
        let ids = tokenizer.encode(&text, SpecialTokens::AsText, false).unwrap();
        prop_assert_eq!(tokenizer.decode(&ids, true).unwrap(), text);
    }

    #[test]
    fn any_tokens_stream_as_they_decode(ids in proptest::collection::vec(0u32..49_152, 0..40)) {
        let tokenizer = &TOKENIZERS[6];
        let mut detokenizer = Detokenizer::new(true);
        let mut text = String::new();
        for &id in &ids {
            text.push_str(detokenizer.push(tokenizer, id).unwrap());
        }
        text.push_str(detokenizer.finish());
        prop_assert_eq!(text, tokenizer.decode(&ids, true).unwrap());
    }

    #[test]
    fn any_vocabulary_of_another_kind_is_answered(
        model in "llama|t5|bert",
        tokens in proptest::collection::hash_set("[a-d▁<>é]{0,4}|<0x[0-9A-F]{2}>", 1..40),
        types in proptest::collection::vec(-1i32..8, 40),
        scores in proptest::collection::vec(any::<f32>(), 40),
        charsmap in proptest::collection::vec(any::<u8>(), 0..40),
        text in "[a-d <>é▁\n]{0,60}",
    ) {
        let vocabulary = Vocabulary {
            model,
            tokens: tokens.into_iter().collect(),
            token_types: types,
            scores,
            charsmap: if charsmap.len() < 20 { Vec::new() } else { charsmap },
            ..Vocabulary::default()
        };
        if let Ok(tokenizer) = Tokenizer::new(vocabulary) {
            let ids = tokenizer.encode(&text, SpecialTokens::AsText, true).unwrap();
            tokenizer.decode(&ids, true).unwrap();
        }
    }

    #[test]
    fn any_vocabulary_is_answered(
        tokens in proptest::collection::vec("[a-dĠ<>é ]{0,4}", 0..40),
        merges in proptest::collection::vec("[a-dĠ]{0,2} ?[a-dĠ ]{0,2}", 0..40),
        types in proptest::collection::vec(-1i32..8, 0..60),
        text in "[a-d <>é]{0,60}",
    ) {
        let vocabulary = Vocabulary {
            model: "gpt2".to_owned(),
            pre: "llama-bpe".to_owned(),
            tokens,
            token_types: types,
            merges,
            ..Vocabulary::default()
        };
        if let Ok(tokenizer) = Tokenizer::new(vocabulary) {
            let ids = tokenizer.encode(&text, SpecialTokens::Parse, true).unwrap();
            tokenizer.decode(&ids, true).unwrap();
        }
    }
}
