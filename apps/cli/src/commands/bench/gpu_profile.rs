//! `weft bench --backend gpu --profile`: GPU time per kernel, in a decode step and in a prompt. Both are of one session,
//! however many the spans of the host were timed with.
//!
//! Times come from the device's timestamps. A kernel's time runs from the end of the kernel before it to its own end,
//! so it includes launches and waits for data, and kernels add up to the step. A step is one submit. Bytes and
//! operations are the minimum that the step needs.

use super::gpu;
use super::workload::Bench;
use crate::error::CliError;
use crate::style::Style;
use serde::Serialize;
use weft::{KernelTime, StepTimes};

/// Timings of all devices.
#[derive(Serialize)]
pub(super) struct GpuProfile {
    /// What was timed: each dispatch within its pass, or passes of one kernel each, which cost more. `None` without
    /// timestamps.
    timed: Option<&'static str>,
    /// Sessions that these figures are of.
    sessions: usize,
    /// Time per token when decoding without timestamps, by the host's clock. A decode step takes longer by the cost of
    /// timing.
    untimed_us_per_token: f64,
    decode: Vec<Steps>,
    prompt: Vec<Steps>,
}

/// The steps of one device.
#[derive(Serialize)]
struct Steps {
    adapter: String,
    steps: u64,
    /// Steps that were not timed.
    missed: u64,
    /// Time from the start of a step's first kernel to the end of its last.
    us_per_step: f64,
    /// Time between steps, in which the device was idle.
    idle_us_per_step: f64,
    kernels: Vec<Kernel>,
}

#[derive(Serialize)]
struct Kernel {
    name: &'static str,
    calls_per_step: f64,
    us_per_step: f64,
    us_per_call: f64,
    /// Share of the step's time.
    share: f64,
    /// Rate over weights and KV cache; `None` if no bytes are counted.
    gb_s: Option<f64>,
    tflop_s: Option<f64>,
}

/// Decodes and prefills a prompt with timestamps on. `None` if no layer is on a GPU.
pub(super) fn measure(
    bench: &mut Bench,
    generate: usize,
    prompt: usize,
) -> Result<Option<GpuProfile>, CliError> {
    let model = bench.host.model;
    let Some(part) = bench.host.engine.gpu_shards(model).first() else { return Ok(None) };
    let timed = gpu::timestamps(part);
    let untimed_us_per_token = 1e6 / bench.time_generate(generate)?;
    if !bench.host.engine.time_gpu(model, true) {
        let (decode, prompt) = (Vec::new(), Vec::new());
        return Ok(Some(GpuProfile { timed: None, sessions: 1, untimed_us_per_token, decode, prompt }));
    }
    let decode = time(bench, 1, generate)?;
    let prompt = time(bench, prompt, 1)?;
    bench.host.engine.time_gpu(model, false);
    Ok(Some(GpuProfile { timed, sessions: 1, untimed_us_per_token, decode, prompt }))
}

/// Times the steps of a request. It runs twice; the first run warms up.
fn time(bench: &mut Bench, prompt: usize, generate: usize) -> Result<Vec<Steps>, CliError> {
    let mut times = Vec::new();
    for _ in 0..2 {
        let session = bench.prompted(prompt)?;
        bench.settle()?;
        bench.host.engine.take_gpu_times(bench.host.model);
        bench.start(session, generate)?;
        bench.finish_batch(&[session], generate)?;
        bench.close(vec![session]);
        bench.settle()?;
        times = bench.host.engine.take_gpu_times(bench.host.model);
    }
    let parts = bench.host.engine.gpu_shards(bench.host.model).iter();
    let adapters = parts.map(|part| part.gpu.info.name.clone());
    Ok(adapters.zip(times).filter_map(|(adapter, times)| Some(steps(adapter, &times?))).collect())
}

fn steps(adapter: String, times: &StepTimes) -> Steps {
    let count = times.steps.max(1) as f64;
    let mut kernels: Vec<_> = times.kernels.iter().map(|time| kernel(time, times, count)).collect();
    kernels.sort_by(|a, b| b.us_per_step.total_cmp(&a.us_per_step));
    Steps {
        adapter,
        steps: times.steps,
        missed: times.missed,
        us_per_step: times.busy * 1e6 / count,
        idle_us_per_step: (times.elapsed - times.busy).max(0.0) * 1e6 / count,
        kernels,
    }
}

fn kernel(time: &KernelTime, times: &StepTimes, steps: f64) -> Kernel {
    let rate = |amount: u64, unit: f64| {
        (amount > 0 && time.seconds > 0.0).then(|| amount as f64 / time.seconds / unit)
    };
    Kernel {
        name: time.name,
        calls_per_step: time.calls as f64 / steps,
        us_per_step: time.seconds * 1e6 / steps,
        us_per_call: time.seconds * 1e6 / time.calls.max(1) as f64,
        share: if times.busy > 0.0 { time.seconds / times.busy } else { 0.0 },
        gb_s: rate(time.work.bytes(), 1e9),
        tflop_s: rate(time.work.flops, 1e12),
    }
}

/// Renders the tables.
pub(super) fn render(profile: &GpuProfile, style: Style) -> String {
    if profile.timed.is_none() {
        return "The device has no timestamps, so its kernels were not timed.\n".to_owned();
    }
    let mut text = format!(
        "The device's kernels, with one session. Without timestamps, decoding takes {:.1} µs per token\n",
        profile.untimed_us_per_token
    );
    for (what, steps) in [("decode", &profile.decode), ("prompt", &profile.prompt)] {
        for steps in steps {
            text += &style.bold(&format!("{}, {what}, one session: {} steps", steps.adapter, steps.steps));
            text += &format!(
                ", {:.1} µs per step, {:.1} µs between steps\n",
                steps.us_per_step, steps.idle_us_per_step
            );
            if steps.missed > 0 {
                text += &style.dim(&format!("{} more steps were not timed\n", steps.missed));
            }
            text += &table(&steps.kernels);
        }
    }
    if profile.timed == Some("passes") {
        text +=
            "The device times passes only: each kernel ran in its own pass, which takes longer than usual.\n";
    }
    text
}

fn table(kernels: &[Kernel]) -> String {
    let mut text = format!(
        "{:<20} {:>11} {:>11} {:>10} {:>7} {:>9} {:>9}\n",
        "kernel", "calls/step", "µs/step", "µs/call", "share", "GB/s", "TFLOP/s"
    );
    for kernel in kernels {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
        text += &format!(
            "{:<20} {:>11.1} {:>11.1} {:>10.2} {:>6.1}% {:>9} {:>9}\n",
            kernel.name,
            kernel.calls_per_step,
            kernel.us_per_step,
            kernel.us_per_call,
            kernel.share * 100.0,
            number(kernel.gb_s),
            number(kernel.tflop_s)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft::Work;

    #[test]
    fn rates_and_shares_are_of_the_steps_and_absent_where_nothing_is_counted() {
        let work = Work { weight_bytes: 3000, kv_bytes: 1000, flops: 8_000_000 };
        let kernels = vec![
            KernelTime { name: "rms_norm", calls: 6, seconds: 1e-6, work: Work::default() },
            KernelTime { name: "qkv", calls: 4, seconds: 2e-6, work },
        ];
        let times = StepTimes { steps: 2, missed: 1, busy: 4e-6, elapsed: 5e-6, kernels };
        let found = steps("a".into(), &times);
        let names: Vec<_> = found.kernels.iter().map(|kernel| kernel.name).collect();
        assert_eq!(names, ["qkv", "rms_norm"], "the longest first");
        let near = |value: Option<f64>, wanted: f64| value.is_some_and(|value| (value - wanted).abs() < 1e-9);
        let [qkv, norm] = &found.kernels[..] else { panic!("{names:?}") };
        assert!(near(qkv.gb_s, 2.0) && near(qkv.tflop_s, 4.0) && near(Some(qkv.share), 0.5));
        assert!(near(Some(qkv.calls_per_step), 2.0) && near(Some(qkv.us_per_call), 0.5));
        assert_eq!((norm.gb_s, norm.tflop_s), (None, None));
        assert!(near(Some(found.us_per_step), 2.0) && near(Some(found.idle_us_per_step), 0.5));

        let mut profile = GpuProfile {
            timed: Some("passes"),
            sessions: 1,
            untimed_us_per_token: 1.5,
            decode: vec![found],
            prompt: Vec::new(),
        };
        let text = render(&profile, Style::stdout());
        for wanted in
            ["decode, one session: 2 steps", "1 more steps were not timed", "qkv", "times passes only"]
        {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        profile.timed = None;
        assert!(render(&profile, Style::stdout()).contains("no timestamps"));
    }
}
