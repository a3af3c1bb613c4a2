//! Chat templates: the Jinja source that a model ships, rendered as Hugging Face renders it.
//!
//! minijinja does the work. What Hugging Face's environment has beyond it is added here: `tojson` as
//! Python writes JSON, `raise_exception`, `strftime_now`, the methods of Python's strings, and the
//! `generation` tag, which marks text for training and is otherwise without effect.
//!
//! A template comes with a file from anywhere, so it is held to a budget: see [`FUEL`] and `source`.

mod builtin;
mod clock;
mod filters;
mod json;
mod literal;
mod parts;
mod source;
mod values;

use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value};
use serde::{Deserialize, Serialize};
use thiserror::Error as ThisError;

pub use builtin::{BUILTIN_TEMPLATES, BuiltinTemplate};
pub use clock::CivilTime;
pub use literal::Rendered;

use super::Tokenizer;
use literal::StandIns;
use parts::Reads;
use std::sync::OnceLock;

/// Work that one rendering may do: instructions, and 64 bytes of data made or read. A real
/// template takes some hundred for each message and a few for each kilobyte of text.
const FUEL: u64 = 10_000_000;
/// Nested calls of macros and the like.
const RECURSION_LIMIT: usize = 64;
/// Longest template accepted. The longest in use are about 30 KB.
const MAX_SOURCE_BYTES: usize = 1 << 18;
/// How deep the input's lists and maps may be nested, as in `serde_json`'s parser.
const MAX_INPUT_DEPTH: usize = 128;
const NAME: &str = "chat_template";

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
    /// Text of the beginning-of-text token; empty if there is none.
    pub bos_token: String,
    /// Text of the end-of-text token; empty if there is none.
    pub eos_token: String,
    /// Tool definitions; undefined in the template if `None`.
    pub tools: Option<serde_json::Value>,
    /// Further variables, such as `enable_thinking`. They win over the ones above.
    pub extra: serde_json::Map<String, serde_json::Value>,
    /// The local time for `strftime_now`, which is undefined in the template if `None`.
    pub now: Option<CivilTime>,
}

impl TemplateVars {
    /// The variables that a vocabulary gives.
    pub fn for_tokenizer(tokenizer: &Tokenizer, add_generation_prompt: bool) -> Self {
        let text = |token: Option<u32>| {
            let bytes = token.and_then(|token| tokenizer.token_bytes(token, true)).unwrap_or_default();
            String::from_utf8_lossy(bytes).into_owned()
        };
        let (bos_token, eos_token) = (text(tokenizer.bos()), text(tokenizer.eos()));
        Self { add_generation_prompt, bos_token, eos_token, ..Self::default() }
    }
}

/// A compiled chat template. Cheap to share by reference between threads.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// What form of content it reads; found out when it is first asked for.
    reads: OnceLock<Reads>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// A template that is too long or is not valid Jinja.
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_SOURCE_BYTES {
            return Err(TemplateError::TooLong { bytes: source.len(), limit: MAX_SOURCE_BYTES });
        }
        let syntax = |error: Error| TemplateError::Syntax { reason: describe(&error) };
        let mut environment = Environment::new();
        environment.set_syntax(
            SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(syntax)?,
        );
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION_LIMIT);
        filters::install(&mut environment);
        values::install(&mut environment);
        environment.add_function("raise_exception", raise_exception);
        environment.add_template_owned(NAME, source::prepare(source)?).map_err(syntax)?;
        Ok(Self { environment, reads: OnceLock::new() })
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
        self.reads.get_or_init(|| Reads::probe(self)).shape(&mut messages)?;
        let render = |all_beginnings| {
            let mut stand_ins = StandIns::new(tokenizer, all_beginnings);
            let (mut messages, mut vars) = (messages.clone(), vars.clone());
            stand_ins.replace_all(&mut messages);
            vars.tools.iter_mut().for_each(|tools| stand_ins.replace_all(tools));
            let rendered = stand_ins.restore(&self.render(&messages, &vars)?);
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
        let messages = to_json(messages)?;
        let mut context = vec![
            ("messages", input(&messages, 0)?),
            ("add_generation_prompt", Value::from(vars.add_generation_prompt)),
            ("bos_token", Value::from(vars.bos_token.as_str())),
            ("eos_token", Value::from(vars.eos_token.as_str())),
        ];
        if let Some(tools) = &vars.tools {
            context.push(("tools", input(tools, 0)?));
        }
        if let Some(now) = vars.now {
            let strftime_now = move |format: &str| now.format(format);
            context.push(("strftime_now", Value::from_function(strftime_now)));
        }
        for (name, value) in &vars.extra {
            context.push((name, input(value, 0)?));
        }
        let context = Value::from_pairs(context);
        let rendered = self.environment.get_template(NAME).and_then(|template| template.render(context));
        rendered.map_err(|error| failure(&error))
    }
}

/// Messages as JSON, no deeper than a template may be given.
fn to_json<M: Serialize + ?Sized>(messages: &M) -> Result<serde_json::Value, TemplateError> {
    serde_json::to_value(messages).map_err(|error| TemplateError::Input { reason: error.to_string() })
}

/// A JSON value as the template sees it.
fn input(value: &serde_json::Value, depth: usize) -> Result<Value, TemplateError> {
    if depth > MAX_INPUT_DEPTH {
        let reason = format!("lists and maps are nested deeper than {MAX_INPUT_DEPTH}");
        return Err(TemplateError::Input { reason });
    }
    Ok(match value {
        serde_json::Value::Null => Value::from(()),
        serde_json::Value::Bool(value) => Value::from(*value),
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::from(number),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::from(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::Array(items) => {
            let items = items.iter().map(|item| input(item, depth + 1));
            Value::from(items.collect::<Result<Vec<_>, _>>()?)
        }
        serde_json::Value::Object(entries) => {
            let entries = entries.iter().map(|(name, item)| Ok((name.as_str(), input(item, depth + 1)?)));
            Value::from_pairs(entries.collect::<Result<Vec<_>, TemplateError>>()?)
        }
    })
}

/// What `raise_exception` raises, to be told from other failures.
#[derive(Debug, ThisError)]
#[error("{0}")]
struct Raised(String);

fn raise_exception(message: String) -> Result<Value, Error> {
    let raised = Error::new(ErrorKind::InvalidOperation, message.clone());
    Err(raised.with_source(Raised(message)))
}

fn failure(error: &Error) -> TemplateError {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(Raised(message)) = current.downcast_ref::<Raised>() {
            return TemplateError::Raised { message: message.clone() };
        }
        if current.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::OutOfFuel) {
            return TemplateError::OutOfFuel { fuel: FUEL };
        }
        cause = current.source();
    }
    TemplateError::Render { reason: describe(error) }
}

/// An error with its causes, in one line.
fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(current) = cause {
        text.push_str(": ");
        text.push_str(&current.to_string());
        cause = current.source();
    }
    text
}
