//! Chat templates for models that ship none. Each renders the format that a family of models was trained with.
//!
//! They render only the text of messages. They refuse tools, since an answer given without them would look as if the
//! model had not needed them.

use super::chat::ChatTemplate;
use super::error::TemplateError;
use crate::tokenizer::Tokenizer;

/// A template that comes with the engine. A value is a static description; [`BuiltinTemplate::compile`] makes a
/// [`ChatTemplate`] of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltinTemplate {
    /// Its name, for [`BuiltinTemplate::find`].
    pub name: &'static str,
    source: &'static str,
    /// Control tokens that identify vocabularies of models trained with this format.
    tokens: &'static [&'static str],
}

/// The beginning of every built-in template.
const NO_TOOLS: &str =
    "{%- if tools %}{{ raise_exception('built-in chat templates do not support tools') }}{% endif %}";

/// Every built-in template. A vocabulary gets the first one whose tokens it has.
pub const BUILTIN_TEMPLATES: &[BuiltinTemplate] = &[
    BuiltinTemplate {
        name: "llama3",
        source: include_str!("builtin/llama3.jinja"),
        tokens: &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    },
    BuiltinTemplate {
        name: "chatml",
        source: include_str!("builtin/chatml.jinja"),
        tokens: &["<|im_start|>", "<|im_end|>"],
    },
    BuiltinTemplate {
        name: "phi3",
        source: include_str!("builtin/phi3.jinja"),
        tokens: &["<|user|>", "<|assistant|>", "<|end|>"],
    },
    BuiltinTemplate {
        name: "gemma",
        source: include_str!("builtin/gemma.jinja"),
        tokens: &["<start_of_turn>", "<end_of_turn>"],
    },
    BuiltinTemplate {
        name: "mistral",
        source: include_str!("builtin/mistral.jinja"),
        tokens: &["[INST]", "[/INST]"],
    },
    BuiltinTemplate { name: "alpaca", source: include_str!("builtin/alpaca.jinja"), tokens: &[] },
    RAW,
];

/// The text of the messages with nothing between them, for base models.
const RAW: BuiltinTemplate =
    BuiltinTemplate { name: "raw", source: include_str!("builtin/raw.jinja"), tokens: &[] };

impl BuiltinTemplate {
    /// Returns the template of a name.
    pub fn find(name: &str) -> Option<Self> {
        BUILTIN_TEMPLATES.iter().find(|template| template.name == name).copied()
    }

    /// Returns the template that a model with this vocabulary was most likely trained with, or `raw` if no template's
    /// tokens match.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let has = |text: &&str| tokenizer.token_to_id(text).is_some_and(|id| tokenizer.is_control(id));
        let trained = |template: &&Self| !template.tokens.is_empty() && template.tokens.iter().all(has);
        BUILTIN_TEMPLATES.iter().find(trained).copied().unwrap_or(RAW)
    }

    /// Compiles the template.
    ///
    /// # Errors
    /// None, since tests compile every built-in template. The type is that of [`ChatTemplate::new`].
    pub fn compile(self) -> Result<ChatTemplate, TemplateError> {
        ChatTemplate::new(&format!("{NO_TOOLS}{}", self.source)).map(ChatTemplate::into_builtin)
    }
}
