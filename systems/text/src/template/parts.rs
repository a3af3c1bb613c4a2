//! Content in parts, as clients send it: `[{"type": "text", "text": "…"}, …]`.
//!
//! Some templates go through the parts, most expect a string and would print a list as Python does. Which one a template is
//! shows when it renders a text both ways.

use super::error::TemplateError;
use serde_json::{Value, json};

/// What a template makes of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Strings, and perhaps parts.
    Strings {
        /// Whether parts as well.
        parts: bool,
    },
    /// Parts alone.
    Parts,
}

/// A text that no template has of its own.
const NEEDLE: &str = "wxyzneedlezyxw";

impl Reads {
    /// Finds out by rendering one message in both forms. `render` gives `None` where the template fails.
    pub(super) fn probe(render: impl Fn(&Value) -> Option<String>) -> Self {
        let shows = |content: Value| {
            let rendered = render(&json!([{"role": "user", "content": content}]));
            // A list printed as it is shows its field names.
            rendered.is_some_and(|text| {
                text.contains(NEEDLE) && !text.contains("'type'") && !text.contains("\"type\"")
            })
        };
        let strings = shows(json!(NEEDLE));
        let parts = shows(json!([{"type": "text", "text": NEEDLE}]));
        if parts && !strings { Self::Parts } else { Self::Strings { parts } }
    }

    /// Gives the content of messages the form that the template reads.
    ///
    /// # Errors
    /// A part that is no text, for a template that reads strings alone.
    pub(super) fn shape(self, messages: &mut Value) -> Result<(), TemplateError> {
        let Value::Array(messages) = messages else { return Ok(()) };
        for message in messages {
            let Some(content) = message.get_mut("content") else { continue };
            match (self, &mut *content) {
                (Self::Strings { parts: false }, Value::Array(items)) => {
                    *content = Value::String(joined(items)?)
                }
                (Self::Parts, Value::String(text)) => {
                    *content = json!([{"type": "text", "text": std::mem::take(text)}]);
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// The texts of parts, a line break between them.
fn joined(items: &[Value]) -> Result<String, TemplateError> {
    let texts = items.iter().map(|item| match item {
        Value::String(text) => Ok(text.as_str()),
        _ => match (item["type"].as_str(), item["text"].as_str()) {
            (Some("text" | "input_text" | "output_text") | None, Some(text)) => Ok(text),
            (kind, _) => Err(TemplateError::Input {
                reason: format!(
                    "content has a part of type {:?}, and this model's template reads text alone: leave it out",
                    kind.unwrap_or("unknown")
                ),
            }),
        },
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}
