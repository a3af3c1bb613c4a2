//! A compiled chat template, and how it renders a conversation.

use super::error::TemplateError;
use super::jinja::{Fault, Jinja, Variable};
use super::literal::StandIns;
use super::parts::Reads;
use super::variables::TemplateVars;
use crate::rendered::Rendered;
use crate::tokenizer::Tokenizer;
use serde::Serialize;
use std::sync::OnceLock;

/// Work that one rendering may do: steps, and 64 bytes of data made or read. A real template takes some hundred for each message
/// and a few for each kilobyte of text.
const FUEL: u64 = 10_000_000;
/// Longest template accepted, which bounds the memory that a compiled one takes. The longest in use are about 30 KB.
const MAX_SOURCE_BYTES: usize = 1 << 22;

/// A compiled chat template. Cheap to share by reference between threads.
#[derive(Debug)]
pub struct ChatTemplate {
    program: Jinja,
    /// What form of content it reads; found out when it is first asked for.
    reads: OnceLock<Reads>,
    /// Further templates of the model by their names.
    named: Vec<(String, ChatTemplate)>,
    builtin: bool,
}

/// The name of the template that is used where there are tools, as in Hugging Face's library.
const TOOL_USE: &str = "tool_use";

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// A template that is too long or is not valid Jinja.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(TemplateError::TooLong { bytes: source.len(), limit: MAX_SOURCE_BYTES });
        }
        let program = Jinja::compile(source).map_err(|fault| TemplateError::Syntax {
            reason: format!("{} (line {})", fault.message, fault.line),
        })?;
        Ok(Self { program, reads: OnceLock::new(), named: Vec::new(), builtin: false })
    }

    /// Adds the model's further templates. The one called `tool_use` is used where there are tools.
    pub fn with_named(mut self, named: Vec<(String, Self)>) -> Self {
        self.named = named;
        self
    }

    /// The model's further template of a name.
    pub fn named(&self, name: &str) -> Option<&Self> {
        self.named.iter().find(|(known, _)| known == name).map(|(_, template)| template)
    }

    /// Takes the model's further template of a name.
    pub fn into_named(self, name: &str) -> Option<Self> {
        self.named.into_iter().find(|(known, _)| known == name).map(|(_, template)| template)
    }

    /// Names of the model's further templates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|(name, _)| name.as_str())
    }

    /// Marks a template that comes with the engine.
    pub(super) fn into_builtin(self) -> Self {
        Self { builtin: true, ..self }
    }

    /// Whether it comes with the engine.
    pub fn is_builtin(&self) -> bool {
        self.builtin
    }

    /// The template that these variables ask for.
    fn chosen(&self, vars: &TemplateVars) -> &Self {
        let tools = vars.extra.get("tools").or(vars.tools.as_ref()).is_some_and(|tools| !tools.is_null());
        self.named(TOOL_USE).filter(|_| tools).unwrap_or(self)
    }

    /// Renders messages whose text comes from users: what they wrote can neither forge a control token of `tokenizer` nor, in
    /// parts, be printed as a list. Encode the result with [`Tokenizer::encode_rendered`].
    ///
    /// # Errors
    /// As [`ChatTemplate::render`]; also a part of content that is no text, where the template reads text alone.
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

    /// Renders messages: a slice of [`Message`], or JSON of the shape of OpenAI's `messages`. Exactly what the template says of
    /// them, so for text from users see [`ChatTemplate::render_chat`].
    ///
    /// # Errors
    /// [`TemplateError::Raised`] where the template refuses the messages; otherwise what went wrong.
    pub fn render<M: Serialize + ?Sized>(
        &self,
        messages: &M,
        vars: &TemplateVars,
    ) -> Result<String, TemplateError> {
        self.chosen(vars).render_json(&to_json(messages)?, vars)
    }

    /// Finds out which form of content the template reads.
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

/// Messages as JSON, no deeper than a template may be given.
fn to_json<M: Serialize + ?Sized>(messages: &M) -> Result<serde_json::Value, TemplateError> {
    serde_json::to_value(messages).map_err(|error| TemplateError::Input { reason: error.to_string() })
}

/// A JSON value as the template sees it.
fn input(value: &serde_json::Value) -> Result<Variable, TemplateError> {
    Variable::json(value).map_err(|reason| TemplateError::Input { reason })
}
