//! What can go wrong with a chat template.

use thiserror::Error as ThisError;

/// Why a template could not be read or rendered.
#[derive(Debug, Clone, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum TemplateError {
    /// The template is longer than any in use.
    #[error("the chat template is {bytes} bytes long; at most {limit} are accepted")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The greatest length accepted.
        limit: usize,
    },
    /// The model has no template of this name.
    #[error("the model has no chat template called `{name}`, nor is there a built-in one or a file of that name; the model has: {}", if known.is_empty() { "none with a name" } else { known })]
    UnknownName {
        /// The name.
        name: String,
        /// Those that there are; may be empty.
        known: String,
    },
    /// The template is not valid Jinja.
    #[error("the chat template does not compile: {reason}")]
    Syntax {
        /// What the compiler says, with the line.
        reason: String,
    },
    /// The template refuses these messages, for example because roles do not alternate. The message
    /// is the template author's and meant for whoever wrote the messages.
    #[error("the chat template refuses the messages: {message}")]
    Raised {
        /// What the template says.
        message: String,
    },
    /// The template did more work than a rendering may.
    #[error(
        "the chat template needs more than {fuel} steps; it loops, or the conversation is too long for it"
    )]
    OutOfFuel {
        /// The budget.
        fuel: u64,
    },
    /// The messages or variables cannot be given to a template.
    #[error("the input of the chat template cannot be converted: {reason}")]
    Input {
        /// What is wrong with it.
        reason: String,
    },
    /// The template failed, usually because it expects something that the messages do not have.
    #[error("the chat template failed: {reason}")]
    Render {
        /// What went wrong, with the line.
        reason: String,
    },
}
