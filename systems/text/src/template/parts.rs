//! Content in parts, as clients send it: `[{"type": "text", "text": "…"}, …]`.
//!
//! Some templates iterate over the parts. Most expect a string and would print a list as Python does. Rendering a
//! message in both forms shows which kind a template is.

use super::error::TemplateError;
use serde_json::{Value, json};

/// The forms of content that a template reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Strings, and possibly parts.
    Strings {
        /// Whether it reads parts as well.
        parts: bool,
    },
    /// Parts only.
    Parts,
}

/// A text that does not occur in any template.
const NEEDLE: &str = "wxyzneedlezyxw";

impl Reads {
    /// Determines the form by rendering one message in both forms. `render` must return `None` if the template fails.
    pub(super) fn probe(render: impl Fn(&Value) -> Option<String>) -> Self {
        let shows = |content: Value| {
            let rendered = render(&json!([{"role": "user", "content": content}]));
            // If the template prints the list itself, the names of fields are in the text.
            rendered.is_some_and(|text| {
                text.contains(NEEDLE) && !text.contains("'type'") && !text.contains("\"type\"")
            })
        };
        let strings = shows(json!(NEEDLE));
        let parts = shows(json!([{"type": "text", "text": NEEDLE}]));
        if parts && !strings { Self::Parts } else { Self::Strings { parts } }
    }

    /// Converts the content of messages to the form that the template reads.
    ///
    /// # Errors
    /// The template reads strings only and a part is not text.
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

/// Joins the texts of parts with line breaks.
fn joined(items: &[Value]) -> Result<String, TemplateError> {
    let texts = items.iter().map(|item| match item {
        Value::String(text) => Ok(text.as_str()),
        _ => match (item["type"].as_str(), item["text"].as_str()) {
            (Some("text" | "input_text" | "output_text") | None, Some(text)) => Ok(text),
            (kind, _) => Err(TemplateError::Input {
                reason: format!(
                    "content has a part of type {:?}, but this model's template reads only text: leave the part out",
                    kind.unwrap_or("unknown")
                ),
            }),
        },
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}
