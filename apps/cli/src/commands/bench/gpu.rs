//! `weft bench --backend gpu`: the device with its features and kernels, and how close decoding comes to the device's
//! limits.
//!
//! Dispatches, submits and bytes are counted while one session decodes after a prompt of one token. The bytes are the
//! minimum of weights and KV cache that a step has to read. The device's limits are measured afterwards. A figure that
//! is not available is absent rather than 0.

use super::workload::Bench;
use crate::error::CliError;
use crate::style::Style;
use serde::Serialize;
use weft::{Counters, GpuProbe, GpuShard, Work};

/// What the GPUs are, and what was counted on them.
#[derive(Serialize)]
pub(super) struct GpuFigures {
    devices: Vec<Device>,
    /// Layers on the GPUs; `layers_of` is the total of the model.
    layers: usize,
    layers_of: usize,
    dispatches_per_token: f64,
    submits_per_token: f64,
    bytes_per_token: f64,
    weight_bytes_per_token: f64,
    kv_bytes_per_token: f64,
    /// Buffers allocated during decoding.
    buffers_per_token: f64,
    /// Rate at which decoding reads memory; `None` if some layers are on the CPU, because the time then includes the
    /// CPU's.
    decode_gb_s: Option<f64>,
    /// `decode_gb_s` divided by the measured read rate of the device; `None` with several devices, because they take
    /// turns.
    decode_share_of_peak: Option<f64>,
    prompt_tflop_s: Option<f64>,
}

#[derive(Serialize)]
struct Device {
    number: usize,
    adapter: String,
    backend: String,
    driver: String,
    /// Subgroup size, if kernels use subgroups.
    subgroup: Option<u32>,
    f16: bool,
    packed_dot: bool,
    cooperative: bool,
    /// What timestamps can time: dispatches within a pass, or whole passes.
    timestamps: Option<&'static str>,
    layers: usize,
    weight_bytes: u64,
    buffers: u64,
    buffer_bytes: u64,
    /// Memory of the device in bytes, if the backend reports it.
    memory_bytes: Option<u64>,
    peak: Option<Peak>,
    kernels: Vec<Path>,
}

/// Limits measured on a device.
#[derive(Serialize)]
struct Peak {
    gb_s: f64,
    /// Bytes read for the measurement.
    bytes: u64,
    /// Time from a dispatch to the next one that depends on it, in microseconds.
    dispatch_us: f64,
    by: &'static str,
}

/// A kernel, and the variants of its parts that were chosen for this device.
#[derive(Serialize)]
struct Path {
    name: &'static str,
    parts: Vec<&'static str>,
}

/// What was counted during a request.
#[derive(Clone, Copy, Default)]
struct Counted {
    counters: Counters,
    buffers: u64,
}

/// Counts and measures. `None` if no layer is on a GPU. The speeds are those of the same run, in tokens per second.
pub(super) fn measure(
    bench: &mut Bench,
    (prompt, prompt_tok_s): (usize, f64),
    (generate, generate_tok_s): (usize, f64),
) -> Result<Option<GpuFigures>, CliError> {
    let model = bench.host.model;
    if bench.host.engine.gpu_shards(model).is_empty() {
        return Ok(None);
    }
    let decode = count(bench, 1, generate)?;
    let prefill = count(bench, prompt, 1)?;
    let tokens = generate as f64;
    let Work { weight_bytes, kv_bytes, .. } = decode.counters.work;
    let bytes_per_token = decode.counters.work.bytes() as f64 / tokens;
    let layers_of = bench.host.engine.config(model)?.layers;
    let parts = bench.host.engine.gpu_shards(model);
    let layers = parts.iter().map(GpuShard::layers).sum();
    let alone = layers == layers_of;
    let devices: Vec<_> = parts.iter().map(device).collect();
    let decode_gb_s = alone.then_some(bytes_per_token * generate_tok_s / 1e9);
    let peak = match &devices[..] {
        [Device { peak: Some(peak), .. }] => Some(peak.gb_s),
        _ => None,
    };
    Ok(Some(GpuFigures {
        devices,
        layers,
        layers_of,
        dispatches_per_token: decode.counters.dispatches as f64 / tokens,
        submits_per_token: decode.counters.submits as f64 / tokens,
        bytes_per_token,
        weight_bytes_per_token: weight_bytes as f64 / tokens,
        kv_bytes_per_token: kv_bytes as f64 / tokens,
        buffers_per_token: decode.buffers as f64 / tokens,
        decode_gb_s,
        decode_share_of_peak: decode_gb_s.zip(peak).map(|(rate, peak)| rate / peak),
        prompt_tflop_s: alone
            .then_some(prefill.counters.work.flops as f64 * prompt_tok_s / prompt as f64 / 1e12),
    }))
}

/// Counts what a request takes, without computing the session's depth. The request runs twice and the second run
/// counts, so that buffers which are kept for later exist already.
fn count(bench: &mut Bench, prompt: usize, generate: usize) -> Result<Counted, CliError> {
    let mut counted = Counted::default();
    for _ in 0..2 {
        let session = bench.prompted(prompt)?;
        bench.settle()?;
        let before = so_far(bench);
        bench.start(session, generate)?;
        bench.finish_batch(&[session], generate)?;
        bench.close(vec![session]);
        bench.settle()?;
        let after = so_far(bench);
        counted = Counted {
            counters: after.counters.since(&before.counters),
            buffers: after.buffers - before.buffers,
        };
    }
    Ok(counted)
}

fn so_far(bench: &Bench) -> Counted {
    let mut sum = Counted::default();
    for part in bench.host.engine.gpu_shards(bench.host.model) {
        sum.counters += part.counters();
        sum.buffers += part.gpu.allocated().buffers;
    }
    sum
}

fn device(part: &GpuShard) -> Device {
    let (gpu, info, caps) = (&*part.gpu, &part.gpu.info, &part.gpu.capabilities);
    let allocated = gpu.allocated();
    // Taken before the measuring kernels are added to the list.
    let paths = gpu.pipelines.paths().into_iter();
    Device {
        number: part.number,
        adapter: info.name.clone(),
        backend: info.backend.to_string(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        subgroup: caps.subgroup,
        f16: caps.f16,
        packed_dot: caps.packed_dot,
        cooperative: caps.cooperative,
        timestamps: timestamps(part),
        layers: part.layers(),
        weight_bytes: part.weight_bytes(),
        buffers: allocated.buffers,
        buffer_bytes: allocated.bytes,
        memory_bytes: gpu.memory,
        kernels: paths.map(|(name, parts)| Path { name, parts }).collect(),
        // If the device has no memory left for the measurement, its peak is absent.
        peak: GpuProbe::of(gpu).ok().map(|probe| Peak {
            gb_s: probe.read_rate / 1e9,
            bytes: probe.read_bytes,
            dispatch_us: probe.dispatch * 1e6,
            by: if probe.timestamps { "timestamps" } else { "clock" },
        }),
    }
}

/// What the device's timestamps can time; `None` if it has none.
pub(super) fn timestamps(part: &GpuShard) -> Option<&'static str> {
    let caps = &part.gpu.capabilities;
    caps.timestamps.then_some(if caps.timestamps_inside { "dispatches" } else { "passes" })
}

/// Lists the optional features in use, for the user.
fn features(device: &Device) -> String {
    let named = [
        (device.f16, "16-bit floats"),
        (device.packed_dot, "packed 8-bit dot products"),
        (device.cooperative, "cooperative matrices"),
    ];
    let mut features: Vec<_> =
        device.subgroup.map(|lanes| format!("subgroups of {lanes}")).into_iter().collect();
    features.extend(named.into_iter().filter(|(used, _)| *used).map(|(_, name)| name.to_owned()));
    if features.is_empty() { "no optional features".to_owned() } else { features.join(", ") }
}

/// Renders the lines below the table of speeds.
pub(super) fn render(figures: &GpuFigures, style: Style) -> String {
    let mut text = String::new();
    for device in &figures.devices {
        text += &style.bold(&format!("{} ({}, {})", device.adapter, device.backend, device.driver));
        text += &format!(": {}\n", features(device));
        if let Some(peak) = &device.peak {
            text += &format!(
                "  reads {:.1} GB/s at most; a dependent dispatch takes {:.2} µs (measured by {})\n",
                peak.gb_s, peak.dispatch_us, peak.by
            );
        }
    }
    text += &format!(
        "  {} of {} layers; a token takes {:.1} dispatches, {:.2} submits, {:.2} MB of weights, {:.2} MB of KV cache\n",
        figures.layers,
        figures.layers_of,
        figures.dispatches_per_token,
        figures.submits_per_token,
        figures.weight_bytes_per_token / 1e6,
        figures.kv_bytes_per_token / 1e6
    );
    if let Some(rate) = figures.decode_gb_s {
        text += &format!("  decoding reads {rate:.1} GB/s");
        if let Some(share) = figures.decode_share_of_peak {
            text += &format!(", {:.1}% of the device's peak", share * 100.0);
        }
        text.push('\n');
    }
    if let Some(rate) = figures.prompt_tflop_s {
        text += &format!("  prompts compute {rate:.3} TFLOP/s\n");
    }
    text
}

/// Renders the parts of each kernel.
pub(super) fn render_paths(parts: &[GpuShard], style: Style) -> String {
    let mut text = String::new();
    for part in parts {
        text += &style.bold(&format!("Kernels of {}\n", part.gpu.info.name));
        for (name, parts) in part.gpu.pipelines.paths() {
            text += &format!("{name:<20} {}\n", parts.join(" "));
        }
    }
    text
}
