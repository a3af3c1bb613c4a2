//! Errors of chat templates.

use thiserror::Error as ThisError;

/// Why a template could not be compiled or rendered.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is longer than the limit, which is far above the longest in use.
    #[error("the chat template is {bytes} bytes long; at most {limit} are accepted")]
    TooLong {
        /// Its length in bytes.
        bytes: usize,
        /// The greatest length accepted.
        limit: usize,
    },
    /// The model has no template of this name.
    #[error("the model has no chat template called `{name}`, and there is no built-in template or file of that name; the model has: {}", if known.is_empty() { "no named templates" } else { known })]
    UnknownName {
        /// The name.
        name: String,
        /// The names that the model has; may be empty.
        known: String,
    },
    /// The template is not valid Jinja.
    #[error("the chat template does not compile: {reason}")]
    Syntax {
        /// The compiler's message, with the line.
        reason: String,
    },
    /// The template refuses these messages, for example because roles do not alternate. The message comes from the
    /// template's author and addresses the author of the messages.
    #[error("the chat template refuses the messages: {message}")]
    Raised {
        /// The template's message.
        message: String,
    },
    /// Rendering needed more steps than the budget.
    #[error(
        "the chat template needs more than {fuel} steps; it loops without end, or the conversation is too long"
    )]
    OutOfFuel {
        /// The budget.
        fuel: u64,
    },
    /// The messages or variables cannot be converted for the template.
    #[error("the input of the chat template cannot be converted: {reason}")]
    Input {
        /// What is wrong with them.
        reason: String,
    },
    /// Rendering failed, usually because the template expects something that the messages lack.
    #[error("the chat template failed: {reason}")]
    Render {
        /// What went wrong, with the line.
        reason: String,
    },
}
