//! Measures the time and memory from the start of a process to its first token.
//!
//! `weft bench` starts itself with the hidden option `--first-token`. That process prefills a prompt of [`PROMPT`]
//! tokens while the model loads. It prints a line with its memory when it has sampled the first token. The parent
//! measures the time from before it starts the process until it reads that line.

use super::figures::rounded;
use super::workload::token_ids;
use crate::args::BenchArgs;
use crate::commands::logits::ended_early;
use crate::error::CliError;
use crate::host::{Host, HostOptions};
use crate::{memory, output};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead, BufReader, Read};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;
use weft::{GenerateOptions, Prompt};

/// Tokens of the prompt, as in `peer_bench.py`.
const PROMPT: usize = 32;
/// Tokens of KV cache, as in `peer_bench.py`.
const ROOM: usize = 2048;

/// The line that the process prints after its first token.
#[derive(Deserialize, Serialize)]
struct Started {
    /// Peak resident memory in bytes, if the operating system reports it.
    peak_rss: Option<u64>,
    /// Bytes of the weights that the host computes with.
    weights: u64,
    /// Bytes of the KV cache that hold tokens.
    kv: u64,
}

/// Time and memory of a start.
pub(super) struct Start {
    pub(super) first_token_process_s: f64,
    /// Peak resident memory in MiB, as in [`Started`].
    pub(super) peak_rss_mb: Option<f64>,
    pub(super) weights_mb: f64,
    pub(super) kv_mb: f64,
}

/// Starts this command again as a child process and waits for its first token.
pub(super) fn measure() -> Result<Start, CliError> {
    let failed = |reason: String| CliError::Read { file: "the first token's process".into(), reason };
    let program = std::env::current_exe().map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new(program);
    command.args(std::env::args_os().skip(1)).arg("--first-token");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Said { line, seconds, log, status } =
        first_line(&mut command).map_err(|error| failed(error.to_string()))?;
    match serde_json::from_str::<Started>(&line) {
        Ok(started) if status.success() => Ok(Start {
            first_token_process_s: seconds,
            peak_rss_mb: started.peak_rss.map(mebibytes),
            weights_mb: mebibytes(started.weights),
            kv_mb: mebibytes(started.kv),
        }),
        _ => Err(failed(format!("it ended with {status}: {}", log.trim()))),
    }
}

/// Output of a process that has ended.
struct Said {
    /// The first line of its stdout.
    line: String,
    /// Seconds from before the process was started until that line was read.
    seconds: f64,
    /// All of its stderr.
    log: String,
    status: ExitStatus,
}

/// Starts a process whose stdout and stderr are pipes. Waits for its first line and its end.
fn first_line(command: &mut Command) -> io::Result<Said> {
    let began = Instant::now();
    let mut child = command.spawn()?;
    // Read on a separate thread: if a process logs more than the pipe holds, it would block before it prints the line.
    let log = child.stderr.take().map(|mut stderr| {
        thread::spawn(move || {
            let mut log = Vec::new();
            let _ = stderr.read_to_end(&mut log);
            log
        })
    });
    let mut line = String::new();
    let read = child.stdout.take().map(|stdout| BufReader::new(stdout).read_line(&mut line));
    let seconds = began.elapsed().as_secs_f64();
    let status = child.wait()?;
    read.transpose()?;
    let log = log.and_then(|log| log.join().ok()).unwrap_or_default();
    Ok(Said { line, seconds, log: String::from_utf8_lossy(&log).into_owned(), status })
}

/// Runs in the process that [`measure`] starts.
pub(super) fn first_token(args: &BenchArgs, isa: Option<&str>) -> Result<(), CliError> {
    let options = HostOptions { kv_tokens: Some(ROOM), ..HostOptions::default() };
    let mut host = Host::open(&args.model, isa, options)?;
    let vocabulary = host.engine.config(host.model)?.vocabulary;
    let session = host.session(None)?;
    host.engine.append(session, Prompt::Tokens(token_ids(PROMPT, vocabulary)))?;
    let options = GenerateOptions { max_tokens: Some(1), ignore_end: true, ..GenerateOptions::default() };
    host.engine.generate(session, &options)?;
    let reason = host.finish(session)?;
    let said = host.engine.output(session)?.tokens.len();
    if said != 1 {
        return Err(ended_early(reason, said));
    }
    let held = host.engine.host_memory(host.model)?;
    output::json(&Started { peak_rss: memory::peak_rss(), weights: held.weights, kv: held.kv_in_use })
}

fn mebibytes(bytes: u64) -> f64 {
    rounded(bytes as f64 / f64::from(1 << 20), 1)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_logs_much_before_its_line_is_heard() {
        const LOG: &str = "i=0; while [ $i -lt 4000 ]; do echo 'a line of the log, of a hundred bytes or so' >&2; \
            i=$((i + 1)); done; echo first; echo second; exit 3";
        let mut command = Command::new("sh");
        command.args(["-c", LOG]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (send, receive) = std::sync::mpsc::channel();
        thread::spawn(move || send.send(first_line(&mut command).unwrap()));
        let said = receive.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        assert_eq!((said.line.as_str(), said.log.lines().count()), ("first\n", 4000));
        assert!(said.seconds > 0.0);
    }
}
