//! Measures what a device can reach: its memory read rate, and the time of a dispatch that depends on the one before
//! it. Measurements of models are compared with these.

use crate::command::Bound;
use crate::command_list::Commands;
use crate::device::Gpu;
use crate::error::GpuError;
use crate::shader::{KernelSpec, parts};
use std::time::Instant;

/// Most bytes to read: many times the size of any cache.
const MOST_BYTES: u64 = 1 << 30;
/// Fewest bytes to read. A cache would serve fewer.
const LEAST_BYTES: u64 = 1 << 26;
const WORKGROUP: u32 = 256;
/// Packets of 16 bytes that one lane reads.
const PACKETS: u32 = 8;
/// Timed runs. The fastest counts, since any disturbance only makes a run slower.
const REPEATS: usize = 5;
/// Dispatches that each depend on the one before.
const CHAIN: u32 = 256;

/// Results of a measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GpuProbe {
    /// Bytes per second that kernels read.
    pub read_rate: f64,
    /// Bytes of the buffer that was read.
    pub read_bytes: u64,
    /// Seconds from one dispatch to the next one that depends on it.
    pub dispatch: f64,
    /// True if the device measured the times; otherwise the host's clock did, and submits and waits are included.
    pub timestamps: bool,
}

impl GpuProbe {
    /// Measures a device. Blocks for a fraction of a second.
    ///
    /// # Errors
    /// The device has no memory for a buffer larger than its caches, or it fails.
    pub fn of(gpu: &Gpu) -> Result<Self, GpuError> {
        let (packets, read_bytes) = largest(gpu)?;
        let spec = KernelSpec::new("read_bandwidth", [parts::READ_BANDWIDTH])
            .with("WG", WORKGROUP)
            .with("PER", PACKETS);
        let found = gpu.storage("read_bandwidth", 16)?;
        let read = bind(gpu, &spec, &packets, &found);
        let groups = u32::try_from(read_bytes / (16 * u64::from(WORKGROUP * PACKETS))).unwrap_or(u32::MAX);
        let seconds = fastest(gpu, |commands| commands.dispatch(&read, [groups, 1, 1]))?;

        const LANES: u32 = 64;
        let spec = KernelSpec::new("dispatch_chain", [parts::DISPATCH_CHAIN]).with("WG", LANES);
        let ends = [
            gpu.storage("dispatch_chain", 4 * u64::from(LANES))?,
            gpu.storage("dispatch_chain", 4 * u64::from(LANES))?,
        ];
        let there = bind(gpu, &spec, &ends[0], &ends[1]);
        let back = bind(gpu, &spec, &ends[1], &ends[0]);
        let chain = fastest(gpu, |commands| {
            for nth in 0..CHAIN {
                commands.dispatch(if nth % 2 == 0 { &there } else { &back }, [1, 1, 1]);
            }
        })?;
        Ok(Self {
            read_rate: read_bytes as f64 / seconds,
            read_bytes,
            dispatch: chain / f64::from(CHAIN),
            timestamps: gpu.capabilities.timestamps,
        })
    }
}

/// Creates the largest buffer of zeros that fits.
fn largest(gpu: &Gpu) -> Result<(wgpu::Buffer, u64), GpuError> {
    let limit = gpu.capabilities.max_binding.min(gpu.capabilities.max_buffer);
    // A power of two is a whole number of workgroups and does not exceed the largest grid.
    let mut bytes = 1 << limit.clamp(LEAST_BYTES, MOST_BYTES).ilog2();
    loop {
        match gpu.storage("read_bandwidth", bytes) {
            Ok(buffer) => return Ok((buffer, bytes)),
            Err(GpuError::OutOfMemory { .. }) if bytes > LEAST_BYTES => bytes /= 2,
            Err(error) => return Err(error),
        }
    }
}

fn bind(gpu: &Gpu, spec: &KernelSpec, read: &wgpu::Buffer, written: &wgpu::Buffer) -> Bound {
    let buffers = [(0, read.as_entire_binding()), (1, written.as_entire_binding())];
    Bound::new(gpu, gpu.pipelines.get(spec), &buffers)
}

/// Seconds that a submit of the recorded dispatches takes. A first run warms up.
fn fastest(gpu: &Gpu, record: impl Fn(&mut Commands)) -> Result<f64, GpuError> {
    let mut commands = Commands::default();
    let timed = commands.time(gpu, true);
    let mut fastest = f64::INFINITY;
    for nth in 0..=REPEATS {
        record(&mut commands);
        let start = Instant::now();
        let index = commands.submit(gpu);
        // A lost device is reported by `failure` below.
        let _ = gpu.device.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: None });
        let waited = start.elapsed().as_secs_f64();
        if let Some(error) = gpu.failure() {
            return Err(error);
        }
        let of_device = commands.take_times().map(|times| times.busy).filter(|seconds| *seconds > 0.0);
        let seconds = if timed { of_device } else { Some(waited) };
        if let Some(seconds) = seconds.filter(|_| nth > 0) {
            fastest = fastest.min(seconds);
        }
    }
    Ok(fastest)
}
