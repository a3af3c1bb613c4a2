//! Which chat template a model uses.

use weft_text::{BuiltinTemplate, ChatTemplate, TemplateError};

/// Which chat template a model uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TemplateChoice {
    /// The template in the model's file. If it has none, the built-in one whose control tokens are in the vocabulary,
    /// or `raw`.
    #[default]
    Shipped,
    /// A template that the engine ships.
    Builtin(BuiltinTemplate),
    /// The additional template of this name in the model's file, such as `tool_use`.
    Named(String),
    /// This Jinja source.
    Source(String),
}

impl TemplateChoice {
    /// Returns the template to use for a model whose file has `shipped`.
    ///
    /// # Errors
    /// The template does not compile, or the file has no template of that name.
    pub fn choose(&self, shipped: Option<ChatTemplate>) -> Result<Option<ChatTemplate>, TemplateError> {
        match self {
            Self::Shipped => Ok(shipped),
            Self::Builtin(template) => template.compile().map(Some),
            Self::Source(source) => ChatTemplate::new(source).map(Some),
            Self::Named(name) => {
                let known: Vec<&str> = shipped.iter().flat_map(ChatTemplate::names).collect();
                let unknown = TemplateError::UnknownName { name: name.clone(), known: known.join(", ") };
                shipped.and_then(|shipped| shipped.into_named(name)).map(Some).ok_or(unknown)
            }
        }
    }
}
