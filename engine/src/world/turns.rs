//! Where the turns of a conversation start in the tokens that a chat template makes of it: bytes of the rendered text first,
//! then positions of the tokens that they fall on.

use super::chat::{ChatOptions, render};
use super::models::{ModelId, tokenizer};
use bevy_ecs::prelude::*;
use serde_json::Value;
use weft_text::Rendered;

/// Most turns that are looked for. The template is rendered once for each, which costs little beside tokenizing the whole.
const MOST: usize = 16;

/// Positions in `tokens` at which turns start, ascending: the user's messages, except for one that comes first. `tokens` were
/// made of `whole`, and that of `messages`. Of many messages some are left out, evenly. Returns none if it is not known, since
/// the template renders the beginning of a conversation otherwise, or the tokens have other bytes than the text.
pub(super) fn turn_starts(
    world: &World,
    model: ModelId,
    messages: &[Value],
    options: &ChatOptions,
    whole: &Rendered,
    tokens: &[u32],
) -> Vec<usize> {
    let is_user = |at: &usize| messages[*at].get("role").is_some_and(|role| role == "user");
    let users: Vec<usize> = (1..messages.len()).filter(is_user).collect();
    let options = ChatOptions { no_generation_prompt: true, ..options.clone() };
    let start = |at: &usize| {
        let before = render(world, model, &messages[..*at], &options).ok()?.text;
        whole.text.starts_with(&before).then_some(before.len())
    };
    let step = users.len().div_ceil(MOST).max(1);
    let starts: Vec<usize> = users.iter().step_by(step).filter_map(start).collect();
    let found = tokenizer(world, model).ok().and_then(|tokenizer| {
        let bytes = |token: u32| tokenizer.token_bytes(token, true).map_or(0, <[u8]>::len);
        positions(whole.text.len(), &starts, tokens, bytes)
    });
    found.unwrap_or_default()
}

/// For each of the ascending byte offsets `starts` of a text of `length` bytes, the first of its tokens that starts there or
/// later. `None` if the tokens have other bytes than the text, apart from what may be put before it: a beginning-of-text
/// token, a space.
fn positions(
    length: usize,
    starts: &[usize],
    tokens: &[u32],
    bytes: impl Fn(u32) -> usize,
) -> Option<Vec<usize>> {
    let mut found = Vec::with_capacity(starts.len());
    let mut starts = starts.iter().rev().copied().peekable();
    // From the end, where nothing is added.
    let mut left = length;
    for (position, token) in tokens.iter().copied().enumerate().rev() {
        left = match left.checked_sub(bytes(token)) {
            Some(left) => left,
            None if position <= 1 => 0,
            None => return None,
        };
        while starts.next_if(|start| *start > left).is_some() {
            found.push(position + 1);
        }
    }
    if left > 0 {
        return None;
    }
    found.retain(|position| *position < tokens.len());
    found.reverse();
    found.dedup();
    Some(found)
}
