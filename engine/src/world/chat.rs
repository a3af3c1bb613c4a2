//! Conversations: the model's chat template renders messages into a session's context.

use super::models::{ModelId, tokenizer};
use super::sessions::{SessionId, model_of, set_context};
use super::turns::turn_starts;
use crate::error::Error;
use crate::vocabulary::wall_clock;
use bevy_ecs::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};
use weft_components::TurnStarts;
use weft_systems::text::ModelTemplate;
use weft_text::{ChatTemplate, Rendered, Rules, TemplateVars};

/// Variables of a chat template other than the messages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChatOptions {
    /// Tool definitions, as in OpenAI's `tools`. If the model has a template called `tool_use`, it is rendered.
    pub tools: Option<Value>,
    /// Documents that an answer may refer to, for templates that read them.
    pub documents: Option<Value>,
    /// Further variables, such as `enable_thinking`. The host program is trusted with them: control tokens in their
    /// text become control tokens.
    pub extra: Map<String, Value>,
    /// True to end the text after the last message, without the beginning of an answer.
    pub no_generation_prompt: bool,
}

/// Replaces the session's context with messages, rendered with the model's chat template. Call
/// [`generate`](super::generate) next. The longest prefix that equals the cached context is not recomputed. Messages
/// are a slice of [`Message`](weft_text::Message), or JSON in the shape of OpenAI's `messages`, with content in parts
/// and tool calls. Their text never becomes control tokens. A turn of the conversation starts with each message of the user, as
/// far as the template shows where that is.
///
/// # Errors
/// As [`append`](super::append); also if the model has no template or the template rejects the messages.
pub fn set_messages<M: Serialize + ?Sized>(
    world: &mut World,
    session: SessionId,
    messages: &M,
) -> Result<(), Error> {
    set_chat(world, session, messages, &ChatOptions::default())
}

/// As [`set_messages`], with tools and other variables of the template.
///
/// # Errors
/// As [`set_messages`].
pub fn set_chat<M: Serialize + ?Sized>(
    world: &mut World,
    session: SessionId,
    messages: &M,
    options: &ChatOptions,
) -> Result<(), Error> {
    let model = model_of(world, session)?;
    let rendered = render(world, model, messages, options)?;
    let tokens = tokens_of(world, model, &rendered)?;
    // What has been rendered can be written as JSON.
    let messages = serde_json::to_value(messages).unwrap_or_default();
    let messages = messages.as_array().map_or(&[][..], Vec::as_slice);
    let starts = turn_starts(world, model, messages, options, &rendered, &tokens);
    set_context(world, session, tokens)?;
    if let Some(mut turns) = world.get_mut::<TurnStarts>(session.0).filter(|_| !starts.is_empty()) {
        turns.0 = starts;
    }
    Ok(())
}

/// Returns the tokens of messages, rendered with the model's chat template: the context that [`set_chat`] would set.
/// Use it to count them first, or to append the beginning of an answer.
///
/// # Errors
/// As [`render`]; also if the text cannot be tokenized.
pub fn chat_tokens<M: Serialize + ?Sized>(
    world: &World,
    model: ModelId,
    messages: &M,
    options: &ChatOptions,
) -> Result<Vec<u32>, Error> {
    tokens_of(world, model, &render(world, model, messages, options)?)
}

fn tokens_of(world: &World, model: ModelId, rendered: &Rendered) -> Result<Vec<u32>, Error> {
    let tokenizer = tokenizer(world, model)?;
    // Hugging Face's library adds no token to a rendered template. llama.cpp adds the BOS token if the file says so.
    // Templates of GGUF files and built-in ones rely on that.
    let builtin = world.get::<ModelTemplate>(model.0).is_some_and(|template| template.0.is_builtin());
    let complete = tokenizer.rules() == Rules::HuggingFace && !builtin;
    let bos = !complete && tokenizer.bos().is_none_or(|bos| !starts_with_token(world, model, rendered, bos));
    Ok(tokenizer.encode_rendered(rendered, bos)?)
}

/// Returns true if the rendered text starts with a token that the template wrote. The same characters in a message's
/// text do not count.
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
/// The model has been unloaded, has no vocabulary or no template, or the template rejects the messages.
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
