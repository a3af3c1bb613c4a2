//! `/stats`: shows speed, context and memory.

use super::Chat;
use crate::error::CliError;
use crate::memory;
use weft::components::{BlockTable, KvPools};

/// Renders the statistics, one line per item.
pub(super) fn stats(chat: &Chat) -> Result<String, CliError> {
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String| lines.push(format!("{name:<10} {value}\n"));
    let engine = &chat.host.engine;
    if let Some(last) = chat.last {
        let speed = last.tok_s.map_or("-".to_owned(), |rate| format!("{rate:.1} tok/s"));
        row("answer", format!("{} tokens, {speed}", last.tokens));
        row(
            "prompt",
            format!("{} tokens, first token after {:.3} s", last.prompt_tokens, last.first_token_s),
        );
    }
    if let Some(last) = chat.last {
        row("seed", last.seed.to_string());
    }
    row("sampling", chat.settings.summary());
    row("backend", chat.host.backend_line().to_owned());
    let world = engine.world();
    let limit = chat.limit();
    // The token that was generated when the context was full did not enter it.
    let held = engine.history(chat.session)?.len().min(limit);
    let unseen = match chat.conversation.unseen() {
        0 => String::new(),
        unseen => format!(", the oldest {unseen} not seen"),
    };
    row("context", format!("{held} of {limit} tokens, {} messages{unseen}", chat.conversation.len()));
    let pages = world.get::<BlockTable>(chat.session.0).map_or(0, BlockTable::pages);
    if let Some(pool) = world.get::<KvPools>(chat.host.model.0).and_then(|pools| pools.0.first()) {
        row("KV pages", format!("{pages} of {}, {} free", pool.capacity(), pool.free()));
    }
    let loaded = engine.progress(chat.host.model)?;
    row("weights", format!("{} of {}", memory::human(loaded.bytes), memory::human(loaded.total_bytes)));
    if let Some(peak) = memory::peak_rss() {
        row("memory", format!("{} at most", memory::human(peak)));
    }
    Ok(lines.concat())
}
