//! Prints the figures of `weft bench` as a table, next to another engine's figures if given.

use super::figures::Figures;
use super::gpu;
use crate::error::CliError;
use crate::input;
use crate::style::Style;
use serde_json::Value;
use std::path::Path;

/// Reads the JSON that the peer's script printed.
pub(super) fn read_peer(file: &Path) -> Result<Value, CliError> {
    const WANTED: &str = "give the JSON line that the peer's benchmark printed";
    let bad =
        |reason: String| CliError::BadJson { input: file.display().to_string(), reason, wanted: WANTED };
    let value: Value = serde_json::from_str(&input::file(file)?).map_err(|error| bad(error.to_string()))?;
    if value.get("prompt_tok_s").is_some() { Ok(value) } else { Err(bad("it has no `prompt_tok_s`".into())) }
}

/// One row of the table: a name, this engine's figure and the peer's.
struct Row {
    name: String,
    ours: Option<f64>,
    peer: Option<f64>,
    more_is_better: bool,
}

/// Renders the table.
pub(super) fn render(figures: &Figures, peer: Option<&Value>) -> String {
    let style = Style::stdout();
    let of_peer = |key: &str| peer.and_then(|peer| peer.get(key)).and_then(Value::as_f64);
    let row = |name: &str, ours: Option<f64>, key: &str, more_is_better: bool| Row {
        name: name.to_owned(),
        ours,
        peer: of_peer(key),
        more_is_better,
    };
    let mut rows = vec![
        row("prompt, tok/s", Some(figures.prompt_tok_s), "prompt_tok_s", true),
        row("generate, tok/s", Some(figures.generate_tok_s), "generate_tok_s", true),
    ];
    for (sessions, ours) in &figures.batch_tok_s {
        let batch = peer.and_then(|peer| peer.get("batch_tok_s")).and_then(|batch| batch.get(sessions));
        rows.push(Row {
            name: format!("{sessions} together, tok/s"),
            ours: ours.as_f64(),
            peer: batch.and_then(Value::as_f64),
            more_is_better: true,
        });
    }
    rows.push(row("load, s", Some(figures.load_s), "load_s", false));
    rows.push(row("start to token, s", Some(figures.first_token_process_s), "first_token_process_s", false));
    rows.push(row("peak memory, MiB", figures.peak_rss_mb, "peak_rss_mb", false));
    rows.push(row("weights, MiB", Some(figures.weights_mb), "weights_mb", false));
    rows.push(row("KV cache in use, MiB", Some(figures.kv_mb), "kv_mb", false));

    let mut text = style.bold(&format!("{}, {} thread(s)", figures.model, figures.threads));
    text.push('\n');
    if let Some(peer) = peer {
        let name = peer.get("engine").and_then(Value::as_str).unwrap_or("peer");
        let threads = peer.get("threads").and_then(Value::as_u64);
        text += &format!("{:<20} {:>12} {:>12} {:>9}\n", "", "weft", name, "better");
        if threads.is_some_and(|threads| threads != figures.threads as u64) {
            text += &style.dim(&format!("{name} ran on {} thread(s)\n", threads.unwrap_or(0)));
        }
    }
    for row in rows {
        text += &format!("{:<20} {:>12}", row.name, number(row.ours));
        if peer.is_some() {
            text += &format!(" {:>12} {:>9}", number(row.peer), advantage(&row));
        }
        text.push('\n');
    }
    if let Some(gpu) = &figures.gpu {
        text += &gpu::render(gpu, style);
    }
    text
}

fn number(value: Option<f64>) -> String {
    value.map_or(
        "-".to_owned(),
        |value| {
            if value < 10.0 { format!("{value:.4}") } else { format!("{value:.2}") }
        },
    )
}

/// How many times better this engine is. Above 1 is better, for rates as well as for times.
fn advantage(row: &Row) -> String {
    let ratio = match (row.ours, row.peer) {
        (Some(ours), Some(peer)) if row.more_is_better && peer > 0.0 => Some(ours / peer),
        (Some(ours), Some(peer)) if !row.more_is_better && ours > 0.0 => Some(peer / ours),
        _ => None,
    };
    ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}×"))
}
