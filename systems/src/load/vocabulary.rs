//! From GGUF metadata to a vocabulary.

use super::error::LoadError;
use super::gguf::Gguf;
use crate::tokenize::Vocabulary;

/// Reads the `tokenizer.*` keys; `None` where the file has no vocabulary.
pub(super) fn vocabulary(gguf: &Gguf) -> Result<Option<Vocabulary>, LoadError> {
    let metadata = &gguf.metadata;
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let Some(model) = metadata.opt_str(&key("model"))?.filter(|model| *model != "no_vocab") else {
        return Ok(None);
    };
    // Text that is not UTF-8 was read with replacement characters: harmless in a title, wrong tokens in a vocabulary.
    if let Some(lossy) =
        metadata.lossy_keys().find(|lossy| [key("tokens"), key("merges")].iter().any(|k| k == lossy))
    {
        return Err(LoadError::BadMetadata {
            file: metadata.file().to_owned(),
            key: lossy.to_owned(),
            value: "text that is not UTF-8".to_owned(),
            wanted: "UTF-8",
        });
    }
    Ok(Some(Vocabulary {
        model: model.to_owned(),
        pre: metadata.opt_str(&key("pre"))?.unwrap_or_default().to_owned(),
        tokens: metadata.strings(&key("tokens"))?.to_vec(),
        token_types: metadata.opt_i32s(&key("token_type"))?.unwrap_or_default().to_vec(),
        merges: metadata.opt_strings(&key("merges"))?.unwrap_or_default().to_vec(),
        bos: metadata.opt_u32(&key("bos_token_id"))?,
        eos: metadata.opt_u32(&key("eos_token_id"))?,
        eot: metadata.opt_u32(&key("eot_token_id"))?,
        eom: metadata.opt_u32(&key("eom_token_id"))?,
        unk: metadata.opt_u32(&key("unknown_token_id"))?,
        pad: metadata.opt_u32(&key("padding_token_id"))?,
        fim_pre: metadata.opt_u32(&key("fim_pre_token_id"))?,
        fim_suf: metadata.opt_u32(&key("fim_suf_token_id"))?,
        fim_mid: metadata.opt_u32(&key("fim_mid_token_id"))?,
        fim_pad: metadata.opt_u32(&key("fim_pad_token_id"))?,
        fim_rep: metadata.opt_u32(&key("fim_rep_token_id"))?,
        fim_sep: metadata.opt_u32(&key("fim_sep_token_id"))?,
        add_bos: metadata.opt_bool(&key("add_bos_token"))?,
        add_eos: metadata.opt_bool(&key("add_eos_token"))?,
        add_space_prefix: metadata.opt_bool(&key("add_space_prefix"))?,
        chat_template: metadata.opt_str("tokenizer.chat_template")?.map(str::to_owned),
    }))
}
