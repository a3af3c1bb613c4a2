//! A rendered conversation.

use std::ops::Range;

/// The text of a conversation that [`ChatTemplate::render_chat`] has rendered. [`Tokenizer::encode_rendered`] encodes
/// it.
///
/// [`ChatTemplate::render_chat`]: crate::ChatTemplate::render_chat
/// [`Tokenizer::encode_rendered`]: crate::Tokenizer::encode_rendered
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// Byte ranges of `text`, ascending, in which no control token is recognised.
    pub literal: Vec<Range<usize>>,
}
