//! `weft logits`: prints the logits at positions of a prompt, which is computed alone or in waves with other sessions.

use crate::args::LogitsArgs;
use crate::error::CliError;
use crate::host::{Host, HostOptions};
use crate::output;
use serde::Serialize;
use std::collections::BTreeMap;
use weft::{FinishReason, GenerateOptions, KeepLogits, Prompt, SessionId};

/// How many tokens longer than the prompt another session may be.
const BESIDE_TOKENS: usize = 64;

#[derive(Serialize)]
struct Report<'a> {
    logits: Vec<&'a [f32]>,
}

/// Runs the command.
pub(super) fn run(args: &LogitsArgs, isa: Option<&str>) -> Result<(), CliError> {
    let tokens = &args.tokens.0;
    let last =
        tokens.len().checked_sub(1).ok_or_else(|| CliError::usage("--tokens needs at least one id"))?;
    let asked: Vec<usize> = match &args.positions {
        Some(positions) => positions.0.iter().map(|position| *position as usize).collect(),
        None => vec![last],
    };
    let room = tokens.len().saturating_add(BESIDE_TOKENS);
    let kv_tokens = args.context.unwrap_or_else(|| room.saturating_mul(args.beside + 1));
    let options = HostOptions { kv_tokens: Some(kv_tokens), ..HostOptions::default() };
    let mut host = Host::open(&args.model, isa, options)?;
    let session = host.session(None)?;
    host.engine.append(session, Prompt::Tokens(tokens.clone())).map_err(|error| host.explain(error))?;

    let others = beside(&mut host, args)?;
    // The engine takes each position once, in ascending order; the answer keeps the order of the option.
    let mut rows: BTreeMap<usize, usize> = asked.iter().map(|position| (*position, 0)).collect();
    for (row, slot) in rows.values_mut().enumerate() {
        *slot = row;
    }
    host.engine.ask_logits(session, rows.keys().copied().collect(), KeepLogits::Row, args.chunk)?;
    let reason = host.finish(session)?;
    for other in others {
        host.engine.close(other);
    }
    let kept = host.engine.take_logits(session)?;
    let row = |position: &usize| rows.get(position).and_then(|row| kept.rows.get(*row)).map(Vec::as_slice);
    let Some(logits) = asked.iter().map(row).collect::<Option<Vec<_>>>() else {
        return Err(ended_early(reason, kept.rows.len()));
    };
    if args.json {
        return output::json(&Report { logits });
    }
    for row in logits {
        let values: Vec<String> = row.iter().map(f32::to_string).collect();
        output::line(&values.join(" "))?;
    }
    Ok(())
}

/// Creates the error of a request that ended before it had all of its results.
pub(super) fn ended_early(reason: FinishReason, tokens: usize) -> CliError {
    let remedy = "give fewer tokens or sessions, so that they fit into the KV cache";
    CliError::EndedEarly { finish: crate::host::finish_name(reason), tokens, remedy }
}

/// Starts the other sessions. Half of them already decode when the prompt is computed; the other half is prefilled
/// together with it.
fn beside(host: &mut Host, args: &LogitsArgs) -> Result<Vec<SessionId>, CliError> {
    let options =
        GenerateOptions { max_tokens: Some(BESIDE_TOKENS), ignore_end: true, ..GenerateOptions::default() };
    let vocabulary = host.engine.config(host.model)?.vocabulary;
    let mut sessions = Vec::with_capacity(args.beside);
    for other in 1..=args.beside {
        let session = host.session(None)?;
        let prompt = other_prompt(&args.tokens.0, other, vocabulary);
        host.engine.append(session, Prompt::Tokens(prompt))?;
        sessions.push(session);
    }
    let (decoding, coming) = sessions.split_at(sessions.len() / 2);
    for session in decoding {
        host.engine.generate(*session, &options)?;
    }
    while decoding.iter().any(|session| said_nothing(host, *session)) {
        host.step()?;
    }
    for session in coming {
        host.engine.generate(*session, &options)?;
    }
    Ok(sessions)
}

fn said_nothing(host: &Host, session: SessionId) -> bool {
    let active = host.engine.phase(session).is_ok_and(weft::Phase::is_active);
    active && host.engine.output(session).is_ok_and(|output| output.tokens.is_empty())
}

/// Makes a prompt of another length with other tokens: `tokens` rotated, with ids shifted within the vocabulary.
fn other_prompt(tokens: &[u32], other: usize, vocabulary: usize) -> Vec<u32> {
    let length = (tokens.len() * (other % 3 + 1)).div_ceil(3);
    let vocabulary = u32::try_from(vocabulary).unwrap_or(u32::MAX).max(1);
    let shift = u32::try_from(other).unwrap_or(1);
    let turned = tokens.iter().cycle().skip(other % tokens.len().max(1));
    turned.take(length).map(|token| token.wrapping_add(shift) % vocabulary).collect()
}
