//! The byte-level vocabularies, which are stored in a packed form.

use crate::tokenize_golden::golden;
use weft_text::{Tokenizer, Vocabulary};

/// Reads a vocabulary from its file.
pub(crate) fn vocabulary(name: &str) -> Vocabulary {
    let file = golden(&format!("{name}.vocab.json.gz"));
    let text = |key: &str| file[key].as_str().map(str::to_owned);
    let id = |key: &str| file[key].as_u64().map(|id| u32::try_from(id).unwrap());
    let list = |key: &str| file[key].as_array().unwrap().iter();
    let tokens: Vec<String> = list("tokens").map(|token| token.as_str().unwrap().to_owned()).collect();
    let mut last = 0;
    let merges = list("merges")
        .map(|merge| match merge.as_str() {
            Some(merge) => merge.to_owned(),
            None => {
                last += merge[0].as_i64().unwrap();
                let whole = &tokens[usize::try_from(last).unwrap()];
                let left = usize::try_from(merge[1].as_u64().unwrap()).unwrap();
                let at = whole.char_indices().nth(left).unwrap().0;
                format!("{} {}", &whole[..at], &whole[at..])
            }
        })
        .collect();
    Vocabulary {
        model: text("model").unwrap(),
        pre: text("pre").unwrap_or_default(),
        token_types: list("token_types").map(|t| i32::try_from(t.as_i64().unwrap()).unwrap()).collect(),
        merges,
        tokens,
        bos: id("bos"),
        eos: id("eos"),
        eot: id("eot"),
        eom: id("eom"),
        unk: id("unk"),
        pad: id("pad"),
        add_bos: file["add_bos"].as_bool(),
        add_eos: file["add_eos"].as_bool(),
        add_space_prefix: file["add_space_prefix"].as_bool(),
        chat_template: text("chat_template"),
        ..Vocabulary::default()
    }
}

/// Builds the tokenizer of a vocabulary.
pub(crate) fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::new(vocabulary(name)).unwrap()
}
