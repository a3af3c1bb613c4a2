//! `weft bench --profile`: shows where the time of a decode tick goes.
//!
//! Every span of the engine is timed while sessions decode, one if no other number is given. Timing a span costs some tens of nanoseconds, which are
//! part of the figures of the stages. The cost is measured beforehand and subtracted from the share of the ECS.
//!
//! With a GPU, the spans show the host's work. The device's work is timed separately afterwards.

use super::gpu;
use super::gpu_profile::{self, GpuProfile};
use super::workload::{Bench, threads};
use crate::args::BenchArgs;
use crate::error::CliError;
use crate::output;
use crate::profile::{Profile, SpanTime, TICK, Times};
use crate::style::Style;
use serde::Serialize;
use std::time::Duration;

#[derive(Serialize)]
struct Report {
    engine: &'static str,
    model: String,
    threads: usize,
    sessions: usize,
    ticks: u64,
    tick_us: f64,
    /// The part of `tick_us` that timing the spans took.
    timing_us: f64,
    /// Share of a tick spent neither in a kernel nor in timing the spans. `None` with a GPU, because no span covers its
    /// kernels.
    ecs_share: Option<f64>,
    spans: Vec<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gpu: Option<GpuProfile>,
}

#[derive(Serialize)]
struct Span {
    name: &'static str,
    kernel: bool,
    calls_per_tick: f64,
    us_per_tick: f64,
    /// Share of the tick. Spans nest, so shares add up to more than 1.
    share: f64,
}

/// Runs the command.
pub(super) fn run(args: &BenchArgs, isa: Option<&str>) -> Result<(), CliError> {
    let profile = Profile::install()
        .map_err(|error| CliError::Write { to: "the profiler".into(), reason: error.to_string() })?;
    let cost = profile.cost_of_a_span();
    let [count] = *args.sessions() else {
        return Err(CliError::usage("--profile takes one number of sessions, such as --sessions 16"));
    };
    let count = count as usize;
    let mut bench = Bench::open(args, isa)?;
    // The first run warms up. The first token of a session is computed before the spans are counted.
    for _ in 0..2 {
        let sessions = bench.begin_batch(count, args.generate)?;
        profile.reset();
        bench.finish_batch(&sessions, args.generate)?;
        bench.close(sessions);
    }
    let times = profile.times();
    let Some(tick) = times.spans.iter().find(|span| span.name == TICK && !span.kernel).copied() else {
        return Err(CliError::Read {
            file: "the engine's spans".into(),
            reason: "no tick was recorded".into(),
        });
    };
    let mut report = report(&times, tick, cost, bench.host.file_name.clone(), threads(args.model.threads));
    report.sessions = count;
    report.gpu = gpu_profile::measure(&mut bench, args.generate, args.prompt)?;
    report.ecs_share = report.ecs_share.filter(|_| report.gpu.is_none());
    if args.json {
        return output::json(&report);
    }
    let paths = gpu::render_paths(bench.host.engine.gpu_shards(bench.host.model), Style::stdout());
    output::text(&(render(&report) + &paths))
}

fn report(times: &Times, tick: SpanTime, cost: Duration, model: String, threads: usize) -> Report {
    let ticks = tick.calls.max(1) as f64;
    let whole = tick.busy.max(Duration::from_nanos(1));
    let timing = cost.mul_f64(times.spans.iter().map(|span| span.calls as f64).sum());
    let share = |busy: Duration| busy.as_secs_f64() / whole.as_secs_f64();
    let mut spans: Vec<Span> = times
        .spans
        .iter()
        .map(|span| Span {
            name: span.name,
            kernel: span.kernel,
            calls_per_tick: span.calls as f64 / ticks,
            us_per_tick: span.busy.as_secs_f64() * 1e6 / ticks,
            share: share(span.busy),
        })
        .collect();
    spans.sort_by(|a, b| a.kernel.cmp(&b.kernel).then(b.us_per_tick.total_cmp(&a.us_per_tick)));
    Report {
        engine: "weft",
        model,
        threads,
        sessions: 1,
        ticks: tick.calls,
        tick_us: whole.as_secs_f64() * 1e6 / ticks,
        timing_us: timing.as_secs_f64() * 1e6 / ticks,
        ecs_share: Some((1.0 - share(times.kernels) - share(timing)).max(0.0)),
        spans,
        gpu: None,
    }
}

fn render(report: &Report) -> String {
    let style = Style::stdout();
    let mut text = style.bold(&format!(
        "{}, {} thread(s), {} session(s), {} decode ticks",
        report.model, report.threads, report.sessions, report.ticks
    ));
    text += &format!("\n{:<28} {:>12} {:>12} {:>8}\n", "span", "calls/tick", "µs/tick", "share");
    for span in &report.spans {
        let name = if span.kernel { format!("  {} (kernel)", span.name) } else { span.name.to_owned() };
        let (calls, us, share) = (span.calls_per_tick, span.us_per_tick, span.share * 100.0);
        text += &format!("{name:<28} {calls:>12.1} {us:>12.1} {share:>7.1}%\n");
    }
    if let Some(share) = report.ecs_share {
        text += &format!("ECS (everything that is not a kernel): {:.1}% of a decode tick; ", share * 100.0);
    } else {
        text += "These are the host's spans; ";
    }
    text += &format!("timing the spans took {:.0} µs of it\n", report.timing_us);
    if let Some(gpu) = &report.gpu {
        text += &gpu_profile::render(gpu, style);
    }
    text
}
