//! The figures that `weft bench` prints.

use super::gpu::GpuFigures;
use serde::Serialize;
use serde_json::{Map, Value};

/// The figures, under the key names of `peer_bench.py`.
#[derive(Serialize)]
pub(super) struct Figures {
    pub(super) engine: &'static str,
    pub(super) model: String,
    pub(super) threads: usize,
    pub(super) prompt_tok_s: f64,
    pub(super) generate_tok_s: f64,
    pub(super) batch_tok_s: Map<String, Value>,
    pub(super) load_s: f64,
    pub(super) first_token_process_s: f64,
    pub(super) peak_rss_mb: Option<f64>,
    pub(super) weights_mb: f64,
    pub(super) kv_mb: f64,
    /// Figures of the GPUs; only with `--backend gpu`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gpu: Option<GpuFigures>,
}

/// Rounds the value to this many decimal places.
pub(super) fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
