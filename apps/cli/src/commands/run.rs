//! `weft run`: answers one prompt.
//!
//! The prompt's way through the model begins before the model has arrived: each layer is passed as soon as it is
//! there. Timings therefore overlap: `load_s` is until the last weight arrived, `first_token_s` until the first token
//! was chosen, both since the load began; `prompt_tok_s` counts from when the prompt was given, the wait for layers
//! included; `generate_tok_s` is the tokens after the first by the time they took.

use crate::args::RunArgs;
use crate::host::{Host, HostOptions, finish_name, generate_options};
use crate::interrupt::{self, Answering};
use crate::report::CliError;
use crate::{input, output};
use serde::Serialize;
use std::io::IsTerminal;
use std::time::Instant;
use weft::{FinishReason, Message, Prompt, SpecialTokens};

#[derive(Serialize)]
struct Report<'a> {
    /// The answer, without a stop string.
    text: &'a str,
    /// Its ids, without the end-of-generation token; a stop string's are among them.
    tokens: &'a [u32],
    prompt_tokens: usize,
    finish: &'static str,
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
    let options = HostOptions { kv_tokens: args.generate.context, throttle: args.throttle, template };
    let mut host = Host::open(&args.model, isa, options)?;
    let session = host.session(args.generate.context)?;
    if args.raw {
        host.engine.append(session, Prompt::Text { text: prompt, special: SpecialTokens::Parse })?;
    } else {
        let system = args.system.as_deref().map(|text| message("system", text));
        let messages: Vec<Message> = system.into_iter().chain([message("user", &prompt)]).collect();
        host.engine.set_messages(session, &messages)?;
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

    let output = host.engine.output(session)?;
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
        let finish = finish_name(reason);
        output::json(&Report { text: &output.text, tokens, prompt_tokens, finish, timings })?;
    } else if !output.text.ends_with('\n') {
        output::text("\n")?;
    }
    if args.stats {
        print_stats(prompt_tokens, output.tokens.len(), finish_name(reason), timings);
    }
    if reason == FinishReason::Cancelled { Err(CliError::Interrupted) } else { Ok(()) }
}

/// One message of a conversation.
pub(super) fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

/// The prompt: the argument, or stdin.
fn prompt(args: &RunArgs) -> Result<String, CliError> {
    match args.prompt.as_deref() {
        Some("-") => input::stdin(),
        Some(prompt) => Ok(prompt.to_owned()),
        None if !std::io::stdin().is_terminal() => input::stdin(),
        None => Err(CliError::usage(
            "a prompt is needed: `weft run \"PROMPT\"`, or text on stdin; `weft chat` talks",
        )),
    }
}

/// Things a second; `None` where nothing or no time passed.
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
