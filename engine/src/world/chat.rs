//! Conversations: messages become a session's context through the model's chat template.

use super::models::{ModelId, tokenizer};
use super::sessions::{SessionId, model_of, set_context};
use crate::error::Error;
use crate::vocabulary::wall_clock;
use bevy_ecs::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};
use weft_systems::text::ModelTemplate;
use weft_text::{ChatTemplate, Rendered, Rules, TemplateVars};

/// What a chat template reads besides messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatOptions {
    /// Definitions of tools, as in OpenAI's `tools`. A model that has a template called `tool_use` renders with it.
    pub tools: Option<Value>,
    /// Documents for an answer to draw on, for templates that read them.
    pub documents: Option<Value>,
    /// Further variables, such as `enable_thinking`. The host sets them: control tokens in them are control tokens.
    pub extra: Map<String, Value>,
    /// True to end the text after the last message instead of where an answer begins.
    pub no_generation_prompt: bool,
}

/// Makes messages the session's context, rendered with the model's chat template. Call [`generate`](super::generate) next.
/// Earlier turns that agree with the cached context are not computed again. Messages are a slice of
/// [`Message`](weft_text::Message), or JSON in the shape of OpenAI's `messages`, with content in parts and tool calls. Their
/// text is never read as control tokens.
///
/// # Errors
/// As [`append`](super::append); also if the model has no template or the template refuses the messages.
pub fn set_messages<M: Serialize + ?Sized>(
    world: &mut World,
    session: SessionId,
    messages: &M,
) -> Result<(), Error> {
    set_chat(world, session, messages, &ChatOptions::default())
}

/// As [`set_messages`], with tools and what else a template reads.
///
/// # Errors
/// As [`set_messages`].
pub fn set_chat<M: Serialize + ?Sized>(
    world: &mut World,
    session: SessionId,
    messages: &M,
    options: &ChatOptions,
) -> Result<(), Error> {
    let tokens = chat_tokens(world, model_of(world, session)?, messages, options)?;
    set_context(world, session, tokens)
}

/// Returns the tokens of messages, rendered with the model's chat template: those that [`set_chat`] makes a session's
/// context. For counting them first, and for adding the beginning of an answer to them.
///
/// # Errors
/// As [`render`]; also if the text cannot be tokenized.
pub fn chat_tokens<M: Serialize + ?Sized>(
    world: &World,
    model: ModelId,
    messages: &M,
    options: &ChatOptions,
) -> Result<Vec<u32>, Error> {
    let rendered = render(world, model, messages, options)?;
    let tokenizer = tokenizer(world, model)?;
    // Hugging Face's library adds nothing to what a template writes. llama.cpp adds the BOS token if the file asks for it, and
    // templates of GGUF files, and built-in ones, rely on that.
    let builtin = world.get::<ModelTemplate>(model.0).is_some_and(|template| template.0.is_builtin());
    let complete = tokenizer.rules() == Rules::HuggingFace && !builtin;
    let bos = !complete && tokenizer.bos().is_none_or(|bos| !starts_with_token(world, model, &rendered, bos));
    Ok(tokenizer.encode_rendered(&rendered, bos)?)
}

/// Returns true if the template wrote a token at the start. A user's text with the same characters does not count.
fn starts_with_token(world: &World, model: ModelId, rendered: &Rendered, token: u32) -> bool {
    let bytes = tokenizer(world, model).ok().and_then(|tokenizer| tokenizer.token_bytes(token, true));
    let literal = rendered.literal.first().map_or(usize::MAX, |literal| literal.start);
    bytes.is_some_and(|bytes| {
        !bytes.is_empty() && literal >= bytes.len() && rendered.text.as_bytes().starts_with(bytes)
    })
}

/// Renders messages with the model's chat template.
///
/// # Errors
/// The model has been unloaded, has no vocabulary or no template, or the template refuses the messages.
pub fn render<M: Serialize + ?Sized>(
    world: &World,
    model: ModelId,
    messages: &M,
    options: &ChatOptions,
) -> Result<Rendered, Error> {
    let tokenizer = tokenizer(world, model)?;
    let template: &ChatTemplate = &world.get::<ModelTemplate>(model.0).ok_or(Error::NoTemplate)?.0;
    let vars = TemplateVars {
        now: wall_clock(),
        tools: options.tools.clone(),
        documents: options.documents.clone(),
        extra: options.extra.clone(),
        ..TemplateVars::for_tokenizer(tokenizer, !options.no_generation_prompt)
    };
    Ok(template.render_chat(messages, &vars, tokenizer)?)
}
