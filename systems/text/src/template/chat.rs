//! Compiled chat templates, and rendering conversations with them.

use super::error::TemplateError;
use super::jinja::{Fault, Jinja, Variable};
use super::literal::StandIns;
use super::parts::Reads;
use super::variables::TemplateVars;
use crate::rendered::Rendered;
use crate::tokenizer::Tokenizer;
use serde::Serialize;
use std::sync::OnceLock;

/// Fuel of one rendering: one unit for each step and for each 64 bytes read or written. A real template takes some
/// hundred for each message and a few for each kilobyte of text.
const FUEL: u64 = 10_000_000;
/// Longest template accepted. It bounds the memory of a compiled template. The longest in use are about 30 KB.
const MAX_SOURCE_BYTES: usize = 1 << 22;

/// A compiled chat template, with the model's further templates by name. It does not depend on a tokenizer, and threads
/// can share it by reference.
#[derive(Debug)]
pub struct ChatTemplate {
    program: Jinja,
    /// The form of content that the template reads, determined when it is first needed.
    reads: OnceLock<Reads>,
    /// The model's further templates by name.
    named: Vec<(String, ChatTemplate)>,
    builtin: bool,
}

/// The name of the template used if there are tools, as in the Hugging Face library.
const TOOL_USE: &str = "tool_use";

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// The template is too long or is not valid Jinja.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(TemplateError::TooLong { bytes: source.len(), limit: MAX_SOURCE_BYTES });
        }
        let program = Jinja::compile(source).map_err(|fault| TemplateError::Syntax {
            reason: format!("{} (line {})", fault.message, fault.line),
        })?;
        Ok(Self { program, reads: OnceLock::new(), named: Vec::new(), builtin: false })
    }

    /// Adds the model's further templates. The one called `tool_use` is used if there are tools.
    pub fn with_named(mut self, named: Vec<(String, Self)>) -> Self {
        self.named = named;
        self
    }

    /// Returns the model's further template of this name.
    pub fn named(&self, name: &str) -> Option<&Self> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, template)| template)
    }

    /// Takes the model's further template of this name out.
    pub fn into_named(self, name: &str) -> Option<Self> {
        self.named.into_iter().find(|(known, _)| known == name).map(|(_, template)| template)
    }

    /// Returns the names of the model's further templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|(name, _)| name.as_str())
    }

    /// Marks the template as one that comes with the engine.
    pub(super) fn into_builtin(self) -> Self {
        Self { builtin: true, ..self }
    }

    /// Returns true if the template comes with the engine.
    pub fn is_builtin(&self) -> bool {
        self.builtin
    }

    /// Returns the template to use with these variables.
    fn chosen(&self, vars: &TemplateVars) -> &Self {
        let tools = vars.extra.get("tools").or(vars.tools.as_ref()).is_some_and(|tools| !tools.is_null());
        self.named(TOOL_USE).filter(|_| tools).unwrap_or(self)
    }

    /// Renders messages whose text comes from users. Their text cannot forge a control token of `tokenizer`, and
    /// content in parts is not printed as a list. Encode the result with [`Tokenizer::encode_rendered`].
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]. Also if the template reads only text and a part of the content is not text.
    pub fn render_chat<M: Serialize + ?Sized>(
        &self,
        messages: &M,
        vars: &TemplateVars,
        tokenizer: &Tokenizer,
    ) -> Result<Rendered, TemplateError> {
        let mut messages = to_json(messages)?;
        let chosen = self.chosen(vars);
        chosen.reads.get_or_init(|| chosen.probe()).shape(&mut messages)?;
        let render = |all_beginnings| {
            let mut stand_ins = StandIns::new(tokenizer, all_beginnings);
            let (mut messages, mut vars) = (messages.clone(), vars.clone());
            stand_ins.replace_all(&mut messages);
            vars.tools.iter_mut().for_each(|tools| stand_ins.replace_all(tools));
            vars.documents.iter_mut().for_each(|documents| stand_ins.replace_all(documents));
            let rendered = stand_ins.restore(&chosen.render_json(&messages, &vars)?);
            Ok((rendered, stand_ins.is_empty()))
        };
        let (strict, unchanged) = match render(true) {
            Ok(found) => found,
            Err(_) => return render(false).map(|(rendered, _)| rendered),
        };
        if unchanged {
            return Ok(strict);
        }
        let (usual, _) = render(false)?;
        Ok(if strict.text == usual.text { strict } else { usual })
    }

    /// Renders messages: a slice of [`Message`], or JSON of the shape of OpenAI's `messages`. The result is exactly
    /// what the template prints, so use [`ChatTemplate::render_chat`] for text from users.
    ///
    /// # Errors
    /// [`TemplateError::Raised`] if the template refuses the messages; another variant if rendering fails.
    ///
    /// [`Message`]: crate::Message
    pub fn render<M: Serialize + ?Sized>(
        &self,
        messages: &M,
        vars: &TemplateVars,
    ) -> Result<String, TemplateError> {
        self.chosen(vars).render_json(&to_json(messages)?, vars)
    }

    /// Determines which form of content the template reads.
    fn probe(&self) -> Reads {
        let vars = TemplateVars { add_generation_prompt: true, ..TemplateVars::default() };
        Reads::probe(|messages| self.render_json(messages, &vars).ok())
    }

    fn render_json(
        &self,
        messages: &serde_json::Value,
        vars: &TemplateVars,
    ) -> Result<String, TemplateError> {
        let given = |value: &Option<serde_json::Value>| value.as_ref().map_or(Ok(Variable::NONE), input);
        let mut context = vec![
            ("messages", input(messages)?),
            ("tools", given(&vars.tools)?),
            ("documents", given(&vars.documents)?),
            ("add_generation_prompt", Variable::from(vars.add_generation_prompt)),
        ];
        for (name, token) in [("bos_token", &vars.bos_token), ("eos_token", &vars.eos_token)] {
            context.extend(token.as_ref().map(|token| (name, Variable::text(token))));
        }
        for (name, token) in &vars.special_tokens {
            context.push((name, Variable::text(token)));
        }
        for (name, value) in &vars.extra {
            context.push((name, input(value)?));
        }
        self.program.render(context, vars.now, FUEL).map_err(|fault| match *fault {
            Fault::Raised(message) => TemplateError::Raised { message },
            Fault::OutOfFuel => TemplateError::OutOfFuel { fuel: FUEL },
            Fault::Failed { line, message } => {
                TemplateError::Render { reason: format!("{message} (line {line})") }
            }
        })
    }
}

/// Converts messages to JSON.
fn to_json<M: Serialize + ?Sized>(messages: &M) -> Result<serde_json::Value, TemplateError> {
    serde_json::to_value(messages).map_err(|error| TemplateError::Input { reason: error.to_string() })
}

/// Converts a JSON value to a variable. Values nested too deep are an error.
fn input(value: &serde_json::Value) -> Result<Variable, TemplateError> {
    Variable::json(value).map_err(|reason| TemplateError::Input { reason })
}
