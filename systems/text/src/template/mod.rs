//! Chat templates: the Jinja source that a model ships, rendered as Hugging Face renders it.
//!
//! `jinja` does the work: Jinja2 with what Hugging Face's environment has beyond it (`tojson` as Python writes JSON,
//! `raise_exception`, `strftime_now`, loop controls, and the `generation` tag, which marks text for training).
//!
//! A template comes with a file from anywhere, so it is held to a budget: see [`FUEL`].

mod builtin;
mod clock;
mod jinja;
mod literal;
mod parts;

use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

pub use builtin::{BUILTIN_TEMPLATES, BuiltinTemplate};
pub use clock::CivilTime;
pub use literal::Rendered;

use super::Tokenizer;
use jinja::{Fault, Jinja, Variable};
use literal::StandIns;
use parts::Reads;
use std::sync::OnceLock;

/// Work that one rendering may do: steps, and 64 bytes of data made or read. A real template takes some hundred for each message
/// and a few for each kilobyte of text.
const FUEL: u64 = 10_000_000;
/// Longest template accepted, which bounds the memory that a compiled one takes. The longest in use are about 30 KB.
const MAX_SOURCE_BYTES: usize = 1 << 22;

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

/// One message of a conversation, as most templates expect it. Where more is needed (tool calls,
/// parts), give [`ChatTemplate::render`] JSON values instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool` or another role that the template knows.
    pub role: String,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message of a role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// What a template gets beside the messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TemplateVars {
    /// Whether the text ends where the assistant's answer begins.
    pub add_generation_prompt: bool,
    /// Text of the beginning-of-text token; undefined in the template if `None`, as in Hugging Face's library.
    pub bos_token: Option<String>,
    /// Text of the end-of-text token; undefined in the template if `None`.
    pub eos_token: Option<String>,
    /// Texts of further tokens by their roles, such as `pad_token`.
    pub special_tokens: Vec<(String, String)>,
    /// Tool definitions; `none` in the template if `None`.
    pub tools: Option<serde_json::Value>,
    /// Documents for an answer to draw on; `none` in the template if `None`.
    pub documents: Option<serde_json::Value>,
    /// Further variables, such as `enable_thinking`. They win over the ones above.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// The local time for `strftime_now`, which is undefined in the template if `None`.
    pub now: Option<CivilTime>,
}

impl TemplateVars {
    /// The variables that a vocabulary gives.
    pub fn for_tokenizer(tokenizer: &Tokenizer, add_generation_prompt: bool) -> Self {
        let text = |token: Option<u32>| {
            let bytes = token.and_then(|token| tokenizer.token_bytes(token, true))?;
            Some(String::from_utf8_lossy(bytes).into_owned())
        };
        let role = |name, id| match tokenizer.special_text(name) {
            Some(named) => named.map(str::to_owned),
            None => text(id),
        };
        let further = ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
        let special_tokens = further
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), tokenizer.special_text(name)??.to_owned())))
            .collect();
        Self {
            add_generation_prompt,
            bos_token: role("bos_token", tokenizer.bos()),
            eos_token: role("eos_token", tokenizer.eos()),
            special_tokens,
            ..Self::default()
        }
    }
}

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
        chosen.reads.get_or_init(|| Reads::probe(chosen)).shape(&mut messages)?;
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
