//! Conversations: messages, a model's chat template, and the context that becomes of them.

use crate::engine::{Engine, ModelId};
use crate::error::Error;
use crate::session::SessionId;
use crate::vocabulary::wall_clock;
use serde::Serialize;
use serde_json::{Map, Value};
use weft_systems::text::ModelTemplate;
use weft_text::{BuiltinTemplate, ChatTemplate, Rendered, Rules, TemplateError, TemplateVars};

/// Which chat template a model takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TemplateChoice {
    /// The one that its file has; where it has none, the built-in one that its vocabulary's control tokens belong to, or `raw`.
    #[default]
    Shipped,
    /// One that comes with the engine.
    Builtin(BuiltinTemplate),
    /// The further one of this name that its file has, such as `tool_use`.
    Named(String),
    /// This one, in Jinja.
    Source(String),
}

impl TemplateChoice {
    /// The template to take where a file has this one, or none.
    ///
    /// # Errors
    /// One that does not compile, or a name that the file does not have.
    pub fn choose(&self, shipped: Option<ChatTemplate>) -> Result<Option<ChatTemplate>, TemplateError> {
        match self {
            Self::Shipped => Ok(shipped),
            Self::Builtin(template) => template.compile().map(Some),
            Self::Source(source) => ChatTemplate::new(source).map(Some),
            Self::Named(name) => {
                let known: Vec<&str> = shipped.iter().flat_map(ChatTemplate::names).collect();
                let unknown = TemplateError::UnknownName { name: name.clone(), known: known.join(", ") };
                shipped.and_then(|shipped| shipped.into_named(name)).map(Some).ok_or(unknown)
            }
        }
    }
}

/// What a chat template is told besides messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatOptions {
    /// Definitions of tools, as in OpenAI's `tools`. A model with a template called `tool_use` renders with that.
    pub tools: Option<Value>,
    /// Documents for an answer to draw on, for templates that read them.
    pub documents: Option<Value>,
    /// Further variables, such as `enable_thinking`. They are the host's word: control tokens in them count.
    pub extra: Map<String, Value>,
    /// Whether the text ends after the last message, not where an answer begins.
    pub no_generation_prompt: bool,
}

impl Engine {
    /// Makes messages the session's context, rendered with the model's chat template; then call [`Engine::generate`]. Earlier
    /// turns that agree with the cached context are not computed again. Messages are a slice of
    /// [`Message`](weft_text::Message), or JSON of the shape of OpenAI's `messages`, content in parts and calls of tools
    /// included. Whatever their text says, it is no control token.
    ///
    /// # Errors
    /// As [`Engine::append`], and the model has no template or it refuses the messages.
    pub fn set_messages<M: Serialize + ?Sized>(
        &mut self,
        session: SessionId,
        messages: &M,
    ) -> Result<(), Error> {
        self.set_chat(session, messages, &ChatOptions::default())
    }

    /// [`Engine::set_messages`] with tools and what else a template reads.
    ///
    /// # Errors
    /// As there.
    pub fn set_chat<M: Serialize + ?Sized>(
        &mut self,
        session: SessionId,
        messages: &M,
        options: &ChatOptions,
    ) -> Result<(), Error> {
        let tokens = self.chat_tokens(self.model_of(session)?, messages, options)?;
        self.set_context(session, tokens)
    }

    /// The tokens of messages, rendered with the model's chat template: what [`Engine::set_chat`] makes a session's context. To
    /// know how many there are before they are, and to put the beginning of an answer behind them.
    ///
    /// # Errors
    /// As [`Engine::render`], and the text cannot be tokenized.
    pub fn chat_tokens<M: Serialize + ?Sized>(
        &self,
        model: ModelId,
        messages: &M,
        options: &ChatOptions,
    ) -> Result<Vec<u32>, Error> {
        let rendered = self.render(model, messages, options)?;
        let tokenizer = self.tokenizer(model)?;
        // Hugging Face's library adds nothing to what a template writes. llama.cpp begins it with the token that the file asks for,
        // which templates of GGUF files, and built-in ones, rely on.
        let builtin =
            self.world.get::<ModelTemplate>(model.0).is_some_and(|template| template.0.is_builtin());
        let complete = tokenizer.rules() == Rules::HuggingFace && !builtin;
        let bos =
            !complete && tokenizer.bos().is_none_or(|bos| !self.starts_with_token(model, &rendered, bos));
        Ok(tokenizer.encode_rendered(&rendered, bos)?)
    }

    /// Whether a template has begun with a token, not a user's text that says the same.
    fn starts_with_token(&self, model: ModelId, rendered: &Rendered, token: u32) -> bool {
        let bytes = self.tokenizer(model).ok().and_then(|tokenizer| tokenizer.token_bytes(token, true));
        let literal = rendered.literal.first().map_or(usize::MAX, |literal| literal.start);
        bytes.is_some_and(|bytes| {
            !bytes.is_empty() && literal >= bytes.len() && rendered.text.as_bytes().starts_with(bytes)
        })
    }

    /// Renders messages with the model's chat template.
    ///
    /// # Errors
    /// The model is gone, has no vocabulary or no template, or the template refuses the messages.
    pub fn render<M: Serialize + ?Sized>(
        &self,
        model: ModelId,
        messages: &M,
        options: &ChatOptions,
    ) -> Result<Rendered, Error> {
        let tokenizer = self.tokenizer(model)?;
        let template: &ChatTemplate = &self.world.get::<ModelTemplate>(model.0).ok_or(Error::NoTemplate)?.0;
        let vars = TemplateVars {
            now: wall_clock(),
            tools: options.tools.clone(),
            documents: options.documents.clone(),
            extra: options.extra.clone(),
            ..TemplateVars::for_tokenizer(tokenizer, !options.no_generation_prompt)
        };
        Ok(template.render_chat(messages, &vars, tokenizer)?)
    }
}
