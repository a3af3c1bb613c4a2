//! `weft bench`: measures speed and memory in the same way as `peer_bench.py` measures the peer.
//!
//! - `prompt_tok_s`: the prompt's tokens divided by the time from appending them to the first sampled token. The prompt
//!   is computed in waves of the engine's rows (512 by default). The output head and one greedy choice are included.
//! - `generate_tok_s`: tokens decoded one by one, without the first. The output head and the greedy choice are timed.
//!   The engine decodes its own choices instead of given ids, which is the same work. End-of-generation tokens do not
//!   end it.
//! - `batch_tok_s`: tokens of N sessions that decode together for 32 steps, without the first token of each.
//! - `load_s`: time from opening the file to the last weight.
//! - `first_token_process_s`: time from the start of a process to its first token after a prompt of 32. `peak_rss_mb`
//!   is that process's peak memory; `weights_mb` and `kv_mb` are the parts of it that hold weights, and keys and values
//!   of tokens. See [`start`].
//! - `gpu`, with `--backend gpu`: see [`gpu`].
//!
//! Each speed is the median of the timed runs, after one run to warm up. The load is timed once. Token ids are those of
//! the script.

mod figures;
mod gpu;
mod gpu_profile;
mod profile;
mod start;
mod table;
mod workload;

use crate::args::BenchArgs;
use crate::error::CliError;
use crate::output;
use figures::{Figures, rounded};
use serde_json::Map;
use workload::{Bench, threads};

/// Runs the command.
pub(super) fn run(args: &BenchArgs, isa: Option<&str>) -> Result<(), CliError> {
    if args.first_token {
        return start::first_token(args, isa);
    }
    if args.sessions().contains(&0) {
        return Err(CliError::usage("--sessions contains 0; give counts of at least 1"));
    }
    if args.profile {
        return profile::run(args, isa);
    }
    let peer = args.peer_json.as_deref().map(table::read_peer).transpose()?;
    // Measured before this process takes memory and threads of its own.
    let start = start::measure()?;
    let mut bench = Bench::open(args, isa)?;
    let load_s = bench.host.load_time().map_or(0.0, |time| time.as_secs_f64());
    let prompt_tok_s = median(args.repeat, || bench.time_prompt(args.prompt))?;
    let generate_tok_s = median(args.repeat, || bench.time_generate(args.generate))?;
    let mut batch_tok_s = Map::new();
    for sessions in args.sessions() {
        let rate = median(args.repeat, || bench.time_batch(*sessions as usize))?;
        batch_tok_s.insert(sessions.to_string(), rounded(rate, 2).into());
    }
    bench.check_place()?;
    let gpu = gpu::measure(&mut bench, (args.prompt, prompt_tok_s), (args.generate, generate_tok_s))?;
    let figures = Figures {
        engine: "weft",
        model: bench.host.file_name.clone(),
        threads: threads(args.model.threads),
        prompt_tok_s: rounded(prompt_tok_s, 2),
        generate_tok_s: rounded(generate_tok_s, 2),
        batch_tok_s,
        load_s: rounded(load_s, 4),
        first_token_process_s: rounded(start.first_token_process_s, 4),
        peak_rss_mb: start.peak_rss_mb,
        weights_mb: start.weights_mb,
        kv_mb: start.kv_mb,
        gpu,
    };
    if args.json { output::json(&figures) } else { output::text(&table::render(&figures, peer.as_ref())) }
}

/// Returns the median of `repeat` runs, after one run to warm up.
fn median(repeat: usize, mut run: impl FnMut() -> Result<f64, CliError>) -> Result<f64, CliError> {
    run()?;
    let mut runs = (0..repeat).map(|_| run()).collect::<Result<Vec<_>, _>>()?;
    runs.sort_by(f64::total_cmp);
    let middle = |at: usize| runs.get(at).copied().unwrap_or(0.0);
    Ok((middle((repeat - 1) / 2) + middle(repeat / 2)) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_leave_out_the_first_run() {
        let mut runs = [100.0, 3.0, 1.0, 2.0].into_iter();
        assert_eq!(median(3, || Ok(runs.next().unwrap_or(0.0))).ok(), Some(2.0));
        let mut runs = [100.0, 3.0, 1.0].into_iter();
        assert_eq!(median(2, || Ok(runs.next().unwrap_or(0.0))).ok(), Some(2.0));
    }
}
