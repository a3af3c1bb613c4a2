//! Templates for models that ship none: each the format that a family of models was trained with.
//!
//! They render the text of messages and nothing else: tools are refused, since an answer that ignores them would look like one
//! that did not need them.

use super::chat::ChatTemplate;
use super::error::TemplateError;
use crate::tokenizer::Tokenizer;

/// A template that comes with the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuiltinTemplate {
    /// What it goes by.
    pub name: &'static str,
    source: &'static str,
    /// Control tokens by which a vocabulary says that its model was trained with it.
    tokens: &'static [&'static str],
}

/// What each of them begins with.
const NO_TOOLS: &str =
    "{%- if tools %}{{ raise_exception('a built-in chat template knows no tools') }}{% endif %}";

/// Every built-in template; the first whose tokens a vocabulary has is its.
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

/// The messages' text and nothing between: what a base model goes on from.
const RAW: BuiltinTemplate =
    BuiltinTemplate { name: "raw", source: include_str!("builtin/raw.jinja"), tokens: &[] };

impl BuiltinTemplate {
    /// The template of a name.
    pub fn find(name: &str) -> Option<Self> {
        BUILTIN_TEMPLATES.iter().find(|template| template.name == name).copied()
    }

    /// What a model with this vocabulary was most likely trained with; `raw` where its tokens do not say.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        let has = |text: &&str| tokenizer.token_to_id(text).is_some_and(|id| tokenizer.is_control(id));
        let trained = |template: &&Self| !template.tokens.is_empty() && template.tokens.iter().all(has);
        BUILTIN_TEMPLATES.iter().find(trained).copied().unwrap_or(RAW)
    }

    /// Compiles it.
    ///
    /// # Errors
    /// None: the templates are tested. The type is the one that any template has.
    pub fn compile(self) -> Result<ChatTemplate, TemplateError> {
        ChatTemplate::new(&format!("{NO_TOOLS}{}", self.source)).map(ChatTemplate::into_builtin)
    }
}
