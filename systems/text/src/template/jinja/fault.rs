//! Errors of compiling and rendering a template.

/// A syntax error.
#[derive(Debug)]
pub(in crate::template) struct SyntaxFault {
    pub(in crate::template) line: u32,
    pub(in crate::template) message: String,
}

/// Why a rendering failed.
#[derive(Debug)]
pub(in crate::template) enum Fault {
    /// The template called `raise_exception`.
    Raised(String),
    /// The fuel is used up.
    OutOfFuel,
    /// Any other error, with the line of the statement, or 0 if it is not known.
    Failed { line: u32, message: String },
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Box<Self> {
        Box::new(Self::Failed { line: 0, message: message.into() })
    }
}

/// The result of a step of a rendering.
pub(in crate::template) type Outcome<T> = Result<T, Box<Fault>>;

/// Fails with this message.
pub(super) fn fault<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Fault::new(message))
}
