//! The files of a folder.

/// The name of the main file, for errors.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// The contents of the files of a folder that say how a model reads and writes text. All but the first may be missing.
#[derive(Debug, Clone, Copy, Default)]
pub struct HuggingFaceFiles<'a> {
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`: which tokens have which role, and the chat template.
    pub tokenizer_config: Option<&'a [u8]>,
    /// `special_tokens_map.json`: the roles in older folders.
    pub special_tokens_map: Option<&'a [u8]>,
    /// `generation_config.json`: which tokens end an answer.
    pub generation_config: Option<&'a [u8]>,
    /// `config.json`: the same, in older folders.
    pub config: Option<&'a [u8]>,
    /// `chat_template.jinja`.
    pub chat_template: Option<&'a [u8]>,
    /// Files of the folder `additional_chat_templates`, by their names without `.jinja`.
    pub named_templates: &'a [(String, Vec<u8>)],
}
