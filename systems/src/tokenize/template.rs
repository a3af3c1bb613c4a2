//! stub
#![allow(missing_docs)]
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct TemplateError;
pub struct ChatTemplate;
pub struct TemplateVars;
#[derive(Clone)]
pub struct Message {
    pub role: String,
    pub content: String,
}
impl Message {
    pub fn user(c: &str) -> Self {
        Self {
            role: "user".into(),
            content: c.into(),
        }
    }
}
impl TemplateVars {
    pub fn for_tokenizer(_: &super::Tokenizer, _: bool) -> Self {
        Self
    }
}
impl ChatTemplate {
    pub fn new(_: &str) -> Result<Self, TemplateError> {
        Err(TemplateError)
    }
    pub fn render(&self, _: &[Message], _: &TemplateVars) -> Result<String, TemplateError> {
        Err(TemplateError)
    }
}
