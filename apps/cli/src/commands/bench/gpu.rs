//! `weft bench --backend gpu`: which device, which of its features and kernels, and how near to its limits decoding comes.
//!
//! Dispatches, submits and bytes are counted while one session decodes after a prompt of one token; bytes are those of weights
//! and of the KV cache that a step cannot do without. The device's limits are measured on it, after that. A figure that
//! cannot be had is absent rather than 0.

use super::workload::Bench;
use crate::error::CliError;
use crate::style::Style;
use serde::Serialize;
use weft::{Counters, GpuPart, GpuProbe, Work};

/// What the GPUs are and did.
#[derive(Serialize)]
pub(super) struct GpuFigures {
    devices: Vec<Device>,
    /// Layers on the devices, of all.
    layers: usize,
    layers_of: usize,
    dispatches_per_token: f64,
    submits_per_token: f64,
    bytes_per_token: f64,
    weight_bytes_per_token: f64,
    kv_bytes_per_token: f64,
    /// Buffers that were taken while it decoded.
    buffers_per_token: f64,
    /// `None` where layers are elsewhere too: the time is not the devices' then.
    decode_gb_s: Option<f64>,
    /// Of what was measured on the device; `None` with several, which take turns.
    decode_share_of_peak: Option<f64>,
    prompt_tflop_s: Option<f64>,
}

#[derive(Serialize)]
struct Device {
    number: usize,
    adapter: String,
    backend: String,
    driver: String,
    /// Lanes of a subgroup, where kernels use them.
    subgroup: Option<u32>,
    f16: bool,
    packed_dot: bool,
    cooperative: bool,
    /// What can be timed: dispatches in a pass, or passes.
    timestamps: Option<&'static str>,
    layers: usize,
    weight_bytes: u64,
    buffers: u64,
    buffer_bytes: u64,
    /// That it has, where the backend says so.
    memory_bytes: Option<u64>,
    peak: Option<Peak>,
    kernels: Vec<Path>,
}

/// What was measured on a device.
#[derive(Serialize)]
struct Peak {
    gb_s: f64,
    /// Bytes that were read for it.
    bytes: u64,
    /// From a dispatch to the next that waits for it.
    dispatch_us: f64,
    by: &'static str,
}

/// A kernel, and the parts that it is made of on this device.
#[derive(Serialize)]
struct Path {
    name: &'static str,
    parts: Vec<&'static str>,
}

/// Counted over a request.
#[derive(Clone, Copy, Default)]
struct Counted {
    counters: Counters,
    buffers: u64,
}

/// Counts and measures; `None` where the model is on no GPU. The speeds are those of the same run, in tokens a second.
pub(super) fn measure(
    bench: &mut Bench,
    (prompt, prompt_tok_s): (usize, f64),
    (generate, generate_tok_s): (usize, f64),
) -> Result<Option<GpuFigures>, CliError> {
    let model = bench.host.model;
    if bench.host.engine.gpu_parts(model).is_empty() {
        return Ok(None);
    }
    let decode = count(bench, 1, generate)?;
    let prefill = count(bench, prompt, 1)?;
    let tokens = generate as f64;
    let Work { weight_bytes, kv_bytes, .. } = decode.counters.work;
    let bytes_per_token = decode.counters.work.bytes() as f64 / tokens;
    let layers_of = bench.host.engine.config(model)?.layers;
    let parts = bench.host.engine.gpu_parts(model);
    let layers = parts.iter().map(GpuPart::layers).sum();
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

/// What a request took, its session's depth left out. Once before, so that what is kept for later is there.
fn count(bench: &mut Bench, prompt: usize, generate: usize) -> Result<Counted, CliError> {
    let mut counted = Counted::default();
    for _ in 0..2 {
        let session = bench.prompted(prompt)?;
        bench.settle()?;
        let before = so_far(bench);
        bench.start(session, generate)?;
        bench.end_generate(session, generate)?;
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
    for part in bench.host.engine.gpu_parts(bench.host.model) {
        sum.counters += part.counters();
        sum.buffers += part.gpu.allocated().buffers;
    }
    sum
}

fn device(part: &GpuPart) -> Device {
    let (gpu, info, caps) = (&*part.gpu, &part.gpu.info, &part.gpu.capabilities);
    let allocated = gpu.allocated();
    // Before the measuring kernels join them.
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
        // A device with no room left is not measured.
        peak: GpuProbe::of(gpu).ok().map(|probe| Peak {
            gb_s: probe.read_rate / 1e9,
            bytes: probe.read_bytes,
            dispatch_us: probe.dispatch * 1e6,
            by: if probe.timestamps { "timestamps" } else { "clock" },
        }),
    }
}

/// What a device can time.
pub(super) fn timestamps(part: &GpuPart) -> Option<&'static str> {
    let caps = &part.gpu.capabilities;
    caps.timestamps.then_some(if caps.timestamps_inside { "dispatches" } else { "passes" })
}

/// The features in use, for people.
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

/// Renders what goes below the table of speeds.
pub(super) fn render(figures: &GpuFigures, style: Style) -> String {
    let mut text = String::new();
    for device in &figures.devices {
        text += &style.bold(&format!("{} ({}, {})", device.adapter, device.backend, device.driver));
        text += &format!(": {}\n", features(device));
        if let Some(peak) = &device.peak {
            text += &format!(
                "  reads {:.1} GB/s at most, a dispatch that waits takes {:.2} µs (measured by {})\n",
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
            text += &format!(", {:.1}% of what the device gives", share * 100.0);
        }
        text.push('\n');
    }
    if let Some(rate) = figures.prompt_tflop_s {
        text += &format!("  prompts compute {rate:.3} TFLOP/s\n");
    }
    text
}

/// Renders the path of each kernel.
pub(super) fn render_paths(parts: &[GpuPart], style: Style) -> String {
    let mut text = String::new();
    for part in parts {
        text += &style.bold(&format!("Kernels of {}\n", part.gpu.info.name));
        for (name, parts) in part.gpu.pipelines.paths() {
            text += &format!("{name:<20} {}\n", parts.join(" "));
        }
    }
    text
}
