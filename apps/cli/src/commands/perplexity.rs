//! `weft perplexity`: measures how well a model predicts a text.
//!
//! Counts as llama.cpp's `perplexity` tool does. The text is cut into non-overlapping chunks of the context's length.
//! The first token of each chunk is replaced by BOS if the model uses one. The second half of each chunk is scored with
//! the first half as its context. The error is the standard error of the mean loss, propagated through the exponential.

use super::logits::ended_early;
use crate::args::PerplexityArgs;
use crate::error::CliError;
use crate::host::{Host, HostOptions};
use crate::style::Style;
use crate::{input, output};
use serde::Serialize;
use weft::{KeepLogits, SpecialTokens};

#[derive(Serialize)]
struct Report {
    perplexity: f64,
    error: f64,
    /// Number of scored tokens.
    tokens: usize,
}

/// Running sums of losses in nats.
#[derive(Default)]
struct Score {
    sum: f64,
    squares: f64,
    count: usize,
}

impl Score {
    fn add(&mut self, loss: f64) {
        self.sum += loss;
        self.squares += loss * loss;
        self.count += 1;
    }

    fn report(&self) -> Report {
        let count = self.count as f64;
        let mean = self.sum / count;
        let perplexity = mean.exp();
        let variance = (self.squares / count - mean * mean).max(0.0);
        let error = if self.count > 1 { (variance / (count - 1.0)).sqrt() * perplexity } else { 0.0 };
        Report { perplexity, error, tokens: self.count }
    }
}

/// Runs the command.
pub(super) fn run(args: &PerplexityArgs, isa: Option<&str>) -> Result<(), CliError> {
    let text = input::file(&args.file)?;
    let length = args.context;
    let mut host =
        Host::open(&args.model, isa, HostOptions { kv_tokens: Some(length), ..HostOptions::default() })?;
    let session = host.session(Some(length))?;
    let tokenizer = host.engine.tokenizer(host.model)?;
    let tokens = tokenizer.encode(&text, SpecialTokens::AsText, true)?;
    // Encoding an empty text returns only the tokens that the model wants first.
    let bos = tokenizer.encode("", SpecialTokens::AsText, true)?.first().copied();
    let chunks = tokens.len() / length;
    if chunks == 0 {
        let file = args.file.display().to_string();
        return Err(CliError::TextTooShort { file, tokens: tokens.len(), context: length });
    }
    host.wait_loaded()?;
    let mut score = Score::default();
    for (index, chunk) in tokens.chunks_exact(length).enumerate() {
        let mut chunk = chunk.to_vec();
        if let (Some(bos), Some(first)) = (bos, chunk.first_mut()) {
            *first = bos;
        }
        host.engine.set_context(session, chunk)?;
        // The last token of a chunk has no successor to predict.
        let scored = length / 2..length - 1;
        host.engine.ask_logits(session, scored.clone().collect(), KeepLogits::NextTokenLoss, 0)?;
        let reason = host.finish(session)?;
        let kept = host.engine.take_logits(session)?;
        if kept.losses.len() != scored.len() {
            return Err(ended_early(reason, kept.losses.len()));
        }
        kept.losses.iter().for_each(|loss| score.add(*loss));
        let so_far = score.report();
        let line = format!("[{}/{chunks}] {:.4} ± {:.4}", index + 1, so_far.perplexity, so_far.error);
        output::note(&Style::stderr().dim(&line));
    }
    let report = score.report();
    if !report.perplexity.is_finite() {
        return Err(CliError::InvalidLogits { tokens: report.tokens });
    }
    if args.json {
        return output::json(&report);
    }
    output::line(&format!(
        "perplexity {:.4} ± {:.5} over {} tokens",
        report.perplexity, report.error, report.tokens
    ))
}

#[cfg(test)]
mod tests {
    use super::Score;

    #[test]
    fn the_error_is_that_of_the_mean() {
        let mut score = Score::default();
        [1.0, 2.0, 3.0].into_iter().for_each(|loss| score.add(loss));
        let report = score.report();
        assert!((report.perplexity - 2f64.exp()).abs() < 1e-12);
        // The mean squared deviation of 1, 2, 3 is 2/3. Divided by n - 1 = 2 it is 1/3.
        assert!((report.error - (1f64 / 3.0).sqrt() * 2f64.exp()).abs() < 1e-12);
        assert_eq!(report.tokens, 3);
    }
}
