//! `weft run`: answers one prompt.
//!
//! The prompt is computed while the model still loads: each layer as soon as it is there. Timings therefore overlap.
//! `load_s` is the time until the last weight, and `first_token_s` the time until the first token was sampled, both
//! since the load began. `prompt_tok_s` counts from when the prompt was appended, including waits for layers.
//! `generate_tok_s` is the number of tokens after the first, divided by their time.

use crate::args::RunArgs;
use crate::error::CliError;
use crate::host::{DEFAULT_CONTEXT, Host, HostOptions, finish_name, generate_options};
use crate::interrupt::{self, Answering};
use crate::style::Style;
use crate::{input, output};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;
use weft::{FinishReason, Message, Prompt, SpecialTokens};

#[derive(Serialize)]
struct Report<'a> {
    /// The answer without the stop string that ended it.
    text: &'a str,
    /// The answer's token ids, without the end-of-generation token, but with those of a stop string.
    tokens: &'a [u32],
    prompt_tokens: usize,
    finish: &'static str,
    /// The seed that sampling began with.
    seed: u64,
    /// The backend: `cpu` or `gpu`.
    backend: &'static str,
    timings: Timings,
}

#[derive(Clone, Copy, Serialize)]
struct Timings {
    load_s: Option<f64>,
    first_token_s: Option<f64>,
    prompt_tok_s: Option<f64>,
    generate_tok_s: Option<f64>,
}

/// Runs the command.
pub(super) fn run(args: &RunArgs, isa: Option<&str>) -> Result<(), CliError> {
    interrupt::install();
    let prompt = prompt(args)?;
    let template = input::template(args.generate.chat_template.as_deref())?;
    let context = args.generate.context;
    let options = HostOptions { kv_tokens: context, context, throttle: args.throttle, template };
    let mut host = Host::open(&args.model, isa, options)?;
    host.load_prefixes(&args.prefix)?;
    let session = host.session(context)?;
    if args.raw {
        let prompt = Prompt::Text { text: prompt, special: SpecialTokens::Parse };
        host.engine.append(session, prompt).map_err(|error| host.explain(error))?;
    } else {
        let system = args.system.as_deref().map(|text| message("system", text));
        let messages: Vec<Message> = system.into_iter().chain([message("user", &prompt)]).collect();
        host.engine.set_messages(session, &messages).map_err(|error| host.explain(error))?;
    }
    let prompt_tokens = host.engine.history(session)?.len();

    let answering = Answering::start();
    let asked = Instant::now();
    host.engine.generate(session, &generate_options(&args.generate))?;
    let (mut first, mut last) = (None, asked);
    let reason = host.answer(session, Some(&answering), |piece, tokens| {
        last = Instant::now();
        if tokens > 0 && first.is_none() {
            first = Some(last);
        }
        if args.json { Ok(()) } else { output::text(piece) }
    })?;

    let output = host.engine.output(session)?.clone();
    let tokens = match output.tokens.split_last() {
        Some((_, rest)) if reason == FinishReason::EndOfGeneration => rest,
        _ => &output.tokens,
    };
    let after_first = output.tokens.len().saturating_sub(1);
    let timings = Timings {
        load_s: host.load_time().map(|time| time.as_secs_f64()),
        first_token_s: first.map(|at| at.duration_since(host.started()).as_secs_f64()),
        prompt_tok_s: first.and_then(|at| rate(prompt_tokens, at.duration_since(asked).as_secs_f64())),
        generate_tok_s: first.and_then(|at| rate(after_first, last.duration_since(at).as_secs_f64())),
    };
    if args.json {
        let (finish, seed, backend) = (finish_name(reason), args.generate.seed, host.backend());
        output::json(&Report { text: &output.text, tokens, prompt_tokens, finish, seed, backend, timings })?;
    } else {
        if !output.text.ends_with('\n') {
            output::text("\n")?;
        }
        if let Some(why) = cut(reason, args, host.engine.config(host.model)?.context) {
            output::note(&Style::stderr().dim(&why));
        }
    }
    host.save_prefixes(&args.prefix)?;
    if args.stats {
        output::note(&format!("backend      {}", host.backend_line()));
        if args.prefix.prefix_cache.is_some() {
            let reused = host.engine.prefix_stats(host.model)?.reused_tokens;
            output::note(&format!("prefix cache {reused} tokens of the prompt"));
        }
        print_stats(prompt_tokens, output.tokens.len(), finish_name(reason), timings);
        output::note(&format!("seed         {}", args.generate.seed));
    }
    match reason {
        // The JSON value has been printed already; it shows the reason and the partial answer.
        FinishReason::Cancelled if args.json => {
            CliError::Interrupted.tell();
            Err(CliError::Told { source: Box::new(CliError::Interrupted) })
        }
        FinishReason::Cancelled => Err(CliError::Interrupted),
        _ => Ok(()),
    }
}

/// Creates a message of a conversation.
pub(super) fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

/// Explains why an answer was cut, and which option would let it continue. `most` is the model's context.
fn cut(reason: FinishReason, args: &RunArgs, most: usize) -> Option<String> {
    let (generate, limit) = (&args.generate, args.generate.context.unwrap_or(DEFAULT_CONTEXT));
    match reason {
        FinishReason::MaxTokens => {
            Some(format!("[cut at --max-tokens {}; -1 sets no limit]", generate.max_tokens))
        }
        FinishReason::ContextFull if limit < most => {
            Some(format!("[cut: the context is full; --context N makes it larger, up to {most}]"))
        }
        FinishReason::ContextFull => {
            Some(format!("[cut: the context is full, and the model allows no more than {most} tokens]"))
        }
        _ => None,
    }
}

/// Joins the prompt from the argument, a file and piped text, as far as each is given, with blank lines between.
fn prompt(args: &RunArgs) -> Result<String, CliError> {
    let text = |text: String| if args.raw { text } else { input::message(&text).to_owned() };
    let dash = Path::new("-");
    let own = args.prompt.as_deref().or(args.prompt_option.as_deref());
    let asked = own == Some("-") || args.file.as_deref() == Some(dash);
    let mut parts: Vec<String> = own.filter(|own| *own != "-").map(str::to_owned).into_iter().collect();
    if let Some(file) = args.file.as_deref().filter(|file| *file != dash) {
        parts.push(text(input::file(file)?));
    }
    let piped = if asked { Some(input::stdin()?) } else { input::piped()? };
    parts.extend(piped.map(text).filter(|piped| asked || !piped.is_empty()));
    if parts.is_empty() {
        return Err(CliError::usage(
            "give a prompt: `weft run \"PROMPT\"`, or text on stdin; `weft chat` starts a conversation",
        ));
    }
    if parts.len() > 1 {
        parts.retain(|part| !part.is_empty());
    }
    Ok(parts.join("\n\n"))
}

/// Things per second; `None` if there were none or no time passed.
pub(super) fn rate(count: usize, seconds: f64) -> Option<f64> {
    (count > 0 && seconds > 0.0).then(|| count as f64 / seconds)
}

fn print_stats(prompt_tokens: usize, tokens: usize, finish: &str, timings: Timings) {
    let show =
        |value: Option<f64>, unit: &str| value.map_or("-".to_owned(), |value| format!("{value:.2} {unit}"));
    output::note(&format!("load         {}", show(timings.load_s, "s")));
    output::note(&format!("first token  {}", show(timings.first_token_s, "s after the load began")));
    output::note(&format!("prompt       {prompt_tokens} tokens, {}", show(timings.prompt_tok_s, "tok/s")));
    output::note(&format!("answer       {tokens} tokens, {}", show(timings.generate_tok_s, "tok/s")));
    output::note(&format!("finish       {finish}"));
}
