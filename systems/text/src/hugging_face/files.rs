//! The files of a Hugging Face folder.

/// The name of the main file, for errors.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// The contents of the files of a Hugging Face folder that define how a model reads and writes text. The caller reads
/// the files and owns the bytes. Every file but `tokenizer.json` may be missing.
#[derive(Debug, Clone, Copy, Default)]
pub struct HuggingFaceFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`: the roles of tokens, and the chat template.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `special_tokens_map.json`: the roles of tokens in older folders.
    pub special_tokens_map: Option<&'a [u8]>,
    /// `generation_config.json`: the tokens that end an answer.
    pub generation_config: Option<&'a [u8]>,
    /// `config.json`: the tokens that end an answer in older folders.
    pub config: Option<&'a [u8]>,
    /// `chat_template.jinja`.
    pub chat_template: Option<&'a [u8]>,
    /// Files of the folder `additional_chat_templates`, by their names without `.jinja`.
    pub named_templates: &'a [(String, Vec<u8>)],
}
