//! Counters and timings of a GPU's work for a model, for benchmarks and profilers.

use super::gpu_shard::GpuShard;
use super::product::Product;
use weft_components::Wave;
use weft_gpu::{Counters, StepShape, StepTimes};

/// The properties of a wave that the work of its step depends on.
pub(super) fn shape_of(wave: &Wave) -> StepShape {
    let (mut cached, mut attended) = (0, 0);
    for span in &wave.spans {
        let (start, rows) = (span.start as u64, span.rows.len() as u64);
        cached += start + rows;
        attended += rows * start + rows * (rows + 1) / 2;
    }
    StepShape { rows: wave.rows() as u32, logit_rows: wave.logit_rows.len() as u32, cached, attended }
}

impl GpuShard {
    /// Number of layers on this GPU.
    pub fn layers(&self) -> usize {
        self.layers.len()
    }

    /// Counters of everything submitted for the model so far.
    pub fn counters(&self) -> Counters {
        self.commands.counters()
    }

    /// Number of in-flight steps.
    pub fn under_way(&self) -> usize {
        self.in_flight.len()
    }

    /// Turns the timing of kernels on or off, for steps from now on. Returns `false` if the device cannot time kernels.
    pub fn time(&mut self, on: bool) -> bool {
        self.commands.time(&self.gpu, on)
    }

    /// Takes the timings that have been read back, and starts counting again. `None` if nothing is timed.
    pub fn take_times(&mut self) -> Option<StepTimes> {
        self.commands.take_times()
    }

    /// Bytes of the weights of the layers on this GPU, and of the head.
    pub fn weight_bytes(&self) -> u64 {
        let layers: u64 = self.layers.values().map(|layer| layer.bytes()).sum();
        layers + self.ends.head().map_or(0, Product::bytes)
    }
}
