//! Counters and timings of a GPU's work for a model, for benchmarks and profilers.

use super::gpu_shard::GpuShard;
use super::product::Product;
use weft_gpu::{Counters, StepTimes};

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
