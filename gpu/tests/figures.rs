//! Times and counts of submitted work. No test depends on how long anything takes.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::{buffer, devices, output};
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{Bound, Commands, Counters, Gpu, GpuProbe, StepShape, StepTimes, Work, wgpu};

/// A kernel that adds one to what it reads.
fn bound(gpu: &Gpu, name: &'static str) -> Bound {
    let spec = KernelSpec::new(name, [parts::DISPATCH_CHAIN]).with("WG", 64u32);
    let (read, written) = (buffer(gpu, &[0u32; 64]), output(gpu, 64));
    let buffers = [(0, read.as_entire_binding()), (1, written.as_entire_binding())];
    Bound::new(gpu, gpu.pipelines.get(&spec), &buffers)
}

fn wait(gpu: &Gpu) {
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).unwrap();
}

/// Two runs of one kernel around one of another, and a copy.
fn step(gpu: &Gpu, commands: &mut Commands, [one, other]: &[Bound; 2]) {
    let [from, to] = [buffer(gpu, &[7u32; 4]), output(gpu, 4)];
    for _ in 0..3 {
        commands.dispatch(one, [1, 1, 1]);
    }
    commands.dispatch(other, [2, 1, 1]);
    commands.copy(&from, 0, &to, 0, 16);
    commands.dispatch(one, [1, 1, 1]);
    commands.dispatch(other, [0, 1, 1]);
    commands.submit(gpu);
}

fn check(times: &StepTimes, steps: u64) {
    let calls: Vec<_> = times.kernels.iter().map(|kernel| (kernel.name, kernel.calls)).collect();
    assert_eq!(calls, [("one", 4 * steps), ("other", steps)]);
    assert_eq!((times.steps, times.missed), (steps, 0));
    assert!(times.kernels.iter().all(|kernel| kernel.seconds >= 0.0), "{times:?}");
    let sum: f64 = times.kernels.iter().map(|kernel| kernel.seconds).sum();
    assert!(times.busy > 0.0 && sum > 0.0 && times.elapsed >= times.busy * 0.999, "{times:?}");
}

#[test]
fn kernels_are_timed_by_name_within_a_pass_and_by_passes() {
    for inside in [true, false] {
        let [mut gpu, _] = devices();
        assert!(gpu.capabilities.timestamps && gpu.capabilities.timestamps_inside, "llvmpipe has both");
        gpu.capabilities.timestamps_inside = inside;
        let kernels = ["one", "other"].map(|name| bound(&gpu, name));
        let mut commands = Commands::default();
        step(&gpu, &mut commands, &kernels);
        assert_eq!(commands.take_times(), None, "nobody asked");
        assert!(commands.time(&gpu, true));
        for steps in [1, 2] {
            for _ in 0..steps {
                step(&gpu, &mut commands, &kernels);
            }
            wait(&gpu);
            check(&commands.take_times().unwrap(), steps);
        }
        assert_eq!(commands.take_times(), Some(StepTimes::default()), "taken is taken");
        // More steps than may be outstanding. Steps that are not timed are counted.
        for _ in 0..40 {
            step(&gpu, &mut commands, &kernels);
        }
        wait(&gpu);
        let times = commands.take_times().unwrap();
        assert_eq!(times.steps + times.missed, 40);
        assert!(times.steps > 0);
        assert!(commands.time(&gpu, false));
        assert_eq!(commands.take_times(), None);
        assert_eq!(commands.counters().submits, 44);
        assert_eq!(gpu.failure(), None);
    }
}

#[test]
fn a_device_without_timestamps_times_nothing() {
    let [mut gpu, _] = devices();
    gpu.capabilities.timestamps = false;
    let kernels = ["one", "other"].map(|name| bound(&gpu, name));
    let mut commands = Commands::default();
    assert!(!commands.time(&gpu, true));
    step(&gpu, &mut commands, &kernels);
    wait(&gpu);
    assert_eq!(commands.take_times(), None);
    let counters = commands.counters();
    assert_eq!(counters, Counters { submits: 1, dispatches: 5, copies: 1, work: Work::default() });
}

#[test]
fn work_follows_from_the_kernels_constants_and_the_step() {
    /// The bindings of weights, and no computation of interest.
    const PRODUCT: Part = "@group(0) @binding(10) var<storage, read> codes: array<u32>;
@group(0) @binding(11) var<storage, read> scales: array<u32>;
@group(0) @binding(30) var<storage, read_write> out: array<u32>;
@compute @workgroup_size(1) fn main() { out[0] = codes[0] + scales[0]; }
";
    let [gpu, _] = devices();
    let shape = StepShape { rows: 3, logit_rows: 2, cached: 10, attended: 24 };
    let work = |spec: KernelSpec| {
        let (codes, scales, out) = (buffer(&gpu, &[0u32; 64]), buffer(&gpu, &[0u32; 4]), output(&gpu, 4));
        let buffers = [(10, &codes), (11, &scales), (30, &out)].map(|(at, b)| (at, b.as_entire_binding()));
        let bound = Bound::new(&gpu, gpu.pipelines.get(&spec), &buffers);
        let mut commands = Commands::default();
        commands.describe(shape);
        commands.dispatch(&bound, [1, 1, 1]);
        commands.submit(&gpu);
        commands.counters().work
    };
    let product = |count: u32| {
        let spec = KernelSpec::new("qkv", [PRODUCT]).with("K", 32u32).with("N", 8u32);
        work(spec.with("ROW_COUNT", count))
    };
    assert_eq!(product(0), Work { weight_bytes: 256 + 16, kv_bytes: 0, flops: 2 * 32 * 8 * 3 });
    assert_eq!(product(1).flops, 2 * 32 * 8 * 2);
    // An embedding reads only some rows.
    assert_eq!(work(KernelSpec::new("embed", [PRODUCT]).with("K", 32u32).with("N", 8u32)), Work::default());
    let heads = |name| {
        let spec = KernelSpec::new(name, [PRODUCT]).with("HEADS", 6u32).with("TOKEN_BYTES", 96u32);
        work(spec.with("KEY", 16u32).with("VALUE", 8u32))
    };
    for name in ["attend", "attend_split", "attend_tiled"] {
        assert_eq!(heads(name), Work { weight_bytes: 0, kv_bytes: 10 * 96, flops: 24 * 2 * 24 * 6 });
    }
    assert_eq!(heads("attend_combine"), Work::default());
}

#[test]
fn a_device_is_measured_with_and_without_timestamps() {
    for timestamps in [true, false] {
        let [mut gpu, _] = devices();
        gpu.capabilities.timestamps &= timestamps;
        let before = gpu.allocated();
        let found = GpuProbe::of(&gpu).unwrap();
        assert_eq!(found.timestamps, gpu.capabilities.timestamps);
        assert!(found.read_rate.is_finite() && found.read_rate > 0.0, "{found:?}");
        assert!(found.dispatch.is_finite() && found.dispatch > 0.0, "{found:?}");
        assert!(found.read_bytes >= 1 << 26 && found.read_bytes <= 1 << 30);
        let taken = gpu.allocated();
        assert_eq!(taken.buffers - before.buffers, 4);
        assert!(taken.bytes - before.bytes >= found.read_bytes);
    }
}

#[test]
fn paths_name_the_parts_of_kernels() {
    let [gpu, _] = devices();
    assert!(gpu.pipelines.paths().is_empty());
    bound(&gpu, "one");
    bound(&gpu, "one");
    assert_eq!(gpu.pipelines.paths(), [("one", vec!["dispatch_chain"])]);
}
