//! What can go wrong with a template.

/// What is no Jinja.
#[derive(Debug)]
pub(in crate::template) struct SyntaxFault {
    pub(in crate::template) line: u32,
    pub(in crate::template) message: String,
}

/// Why a rendering ended.
#[derive(Debug)]
pub(in crate::template) enum Fault {
    /// `raise_exception` was called.
    Raised(String),
    /// The budget of steps is used up.
    OutOfFuel,
    /// Anything else, with the line of the statement where it is known.
    Failed { line: u32, message: String },
}

impl Fault {
    pub(super) fn new(message: impl Into<String>) -> Box<Self> {
        Box::new(Self::Failed { line: 0, message: message.into() })
    }
}

/// What a step of a rendering gives.
pub(in crate::template) type Outcome<T> = Result<T, Box<Fault>>;

/// An error with this message.
pub(super) fn fault<T>(message: impl Into<String>) -> Outcome<T> {
    Err(Fault::new(message))
}
