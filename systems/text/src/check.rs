//! Checks a vocabulary, refuses an invalid one, and fills in the defaults that the tokenizer expects.

use crate::error::TokenizeError;
use crate::vocabulary::{ModelKind, Rules, Vocabulary};

/// The values of [`Vocabulary::model`] that are implemented.
const SUPPORTED_MODELS: &str =
    "gpt2 (byte-level BPE), llama (SentencePiece BPE), t5 (unigram), bert (WordPiece)";
/// Ids are `i32` in the files and in llama.cpp. A quarter of that range leaves room for phantom ids.
const MAX_ENTRIES: usize = i32::MAX as usize / 4;
/// The value -1, which files write for "no such token", read as an unsigned id.
const NO_TOKEN: u32 = u32::MAX;

/// Checks sizes and ids, fills in fields that a file may omit, and returns the vocabulary's algorithm.
pub(super) fn check(vocabulary: &mut Vocabulary) -> Result<ModelKind, TokenizeError> {
    let kind = vocabulary.kind().ok_or_else(|| TokenizeError::UnsupportedModel {
        model: vocabulary.model.clone(),
        supported: SUPPORTED_MODELS,
    })?;
    let vocab_size = vocabulary.tokens.len();
    if vocab_size == 0 {
        return Err(TokenizeError::EmptyVocabulary);
    }
    for (field, count) in
        [("tokenizer.ggml.tokens", vocab_size), ("tokenizer.ggml.merges", vocabulary.merges.len())]
    {
        if count > MAX_ENTRIES {
            return Err(TokenizeError::TooLarge { field, count, limit: MAX_ENTRIES });
        }
    }
    match kind {
        ModelKind::ByteLevel if vocabulary.merges.is_empty() => return Err(TokenizeError::NoMerges),
        // Without scores, unigram would split every text into characters and SentencePiece would merge from the left.
        ModelKind::Unigram if vocabulary.scores.is_empty() => return Err(TokenizeError::NoScores),
        ModelKind::SentencePiece if vocabulary.scores.is_empty() && vocabulary.merges.is_empty() => {
            return Err(TokenizeError::NoScores);
        }
        _ => {}
    }
    let types = vocabulary.token_types.len();
    if types != 0 && types < vocab_size {
        return Err(TokenizeError::TokenTypes { types, tokens: vocab_size });
    }
    let scores = vocabulary.scores.len();
    if scores != 0 && scores < vocab_size {
        return Err(TokenizeError::Scores { scores, tokens: vocab_size });
    }
    for (id, text) in vocabulary.tokens.iter_mut().enumerate() {
        if text.is_empty() {
            *text = format!("[EMPTY_{id}]");
        }
    }
    check_ids(vocabulary, vocab_size)?;
    fill_in(vocabulary, kind, vocab_size);
    Ok(kind)
}

fn check_ids(vocabulary: &mut Vocabulary, vocab_size: usize) -> Result<(), TokenizeError> {
    // A wrong id here would leave the model without a start of text or an end of generation, so it is an error.
    for (field, id) in [
        ("tokenizer.ggml.bos_token_id", &mut vocabulary.bos),
        ("tokenizer.ggml.eos_token_id", &mut vocabulary.eos),
        ("tokenizer.ggml.eot_token_id", &mut vocabulary.eot),
        ("tokenizer.ggml.eom_token_id", &mut vocabulary.eom),
    ] {
        match *id {
            Some(NO_TOKEN) => *id = None,
            Some(id) if id as usize >= vocab_size => {
                return Err(TokenizeError::SpecialTokenOutOfRange { field, id, vocab_size });
            }
            _ => {}
        }
    }
    vocabulary.keep_ids_below(vocab_size);
    for ids in [&mut vocabulary.ends, &mut vocabulary.lstrip, &mut vocabulary.rstrip] {
        ids.sort_unstable();
    }
    Ok(())
}

/// Fills in the defaults that llama.cpp uses for fields that the file omits.
fn fill_in(vocabulary: &mut Vocabulary, kind: ModelKind, vocab_size: usize) {
    if vocabulary.rules != Rules::LlamaCpp {
        return;
    }
    let default = |given: &mut Option<u32>, id: u32| {
        *given = given.or(Some(id).filter(|&id| (id as usize) < vocab_size));
    };
    match kind {
        ModelKind::ByteLevel => {}
        ModelKind::SentencePiece => {
            default(&mut vocabulary.bos, 1);
            default(&mut vocabulary.eos, 2);
            default(&mut vocabulary.unk, 0);
        }
        ModelKind::Unigram => {
            default(&mut vocabulary.eos, 1);
            default(&mut vocabulary.unk, 2);
        }
        ModelKind::WordPiece => {
            vocabulary.bos = vocabulary.bos.or(vocabulary.cls);
            default(&mut vocabulary.bos, 101);
            default(&mut vocabulary.unk, 100);
            default(&mut vocabulary.sep, 102);
        }
    }
}
