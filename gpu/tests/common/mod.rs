//! Shared by the kernel tests: the devices to test on, random numbers, and running one kernel.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "each test program uses its part of this"
)]

pub mod act;
pub mod kv;
pub mod product;
pub mod twins;

use bytemuck::Pod;
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{Bound, Commands, Gpu, GpuOptions, WaveData, wgpu};

/// The device with all its features, and the same device on its plain path.
pub fn devices() -> [Gpu; 2] {
    [false, true].map(|plain| {
        let options = GpuOptions { plain, ..GpuOptions::default() };
        pollster::block_on(Gpu::open(&options))
            .expect("a GPU; on a machine without one install mesa-vulkan-drivers")
    })
}

/// The part that reduces over lanes on this device, and the lanes of a team.
pub fn reduce(gpu: &Gpu) -> (Part, u32) {
    gpu.capabilities.subgroup.map_or((parts::REDUCE_PLAIN, 32), |lanes| (parts::REDUCE_SUBGROUP, lanes))
}

/// Pseudo-random numbers between -1 and 1.
pub struct Random(pub u64);

impl Random {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn unit(&mut self) -> f32 {
        (self.word() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    pub fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.unit()).collect()
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.word() % limit as u64) as usize
    }
}

/// A buffer that contains `data`.
pub fn buffer<T: Pod>(gpu: &Gpu, data: &[T]) -> wgpu::Buffer {
    let bytes: &[u8] = bytemuck::cast_slice(data);
    let buffer = gpu.storage("test", bytes.len() as u64).expect("memory");
    gpu.queue.write_buffer(&buffer, 0, bytes);
    buffer
}

/// A buffer for `count` floats, filled with NaN, so that elements that a kernel does not write show.
pub fn output(gpu: &Gpu, count: usize) -> wgpu::Buffer {
    buffer(gpu, &vec![f32::NAN; count])
}

/// The buffer of a wave.
pub fn wave(gpu: &Gpu, data: &WaveData<'_>) -> wgpu::Buffer {
    let mut words = Vec::new();
    data.encode(&mut words);
    buffer(gpu, &words)
}

/// Runs one kernel.
pub fn run(gpu: &Gpu, spec: &KernelSpec, buffers: &[(u32, &wgpu::Buffer)], grid: [u32; 3]) {
    let kernel = gpu.pipelines.get(spec);
    let buffers: Vec<_> =
        buffers.iter().map(|(index, buffer)| (*index, buffer.as_entire_binding())).collect();
    let mut commands = Commands::default();
    commands.dispatch(&Bound::new(gpu, kernel, &buffers), grid);
    commands.submit(gpu);
    assert_eq!(gpu.failure(), None, "{}\n{}", spec.name, spec.source());
}

/// Reads the contents of a buffer.
pub fn read<T: Pod>(gpu: &Gpu, buffer: &wgpu::Buffer, count: usize) -> Vec<T> {
    let bytes = (count * size_of::<T>()) as u64;
    let staging = gpu.readback("test", bytes).expect("memory");
    let mut commands = Commands::default();
    commands.copy(buffer, 0, &staging, 0, bytes.next_multiple_of(4));
    commands.submit(gpu);
    gpu.map_read(&staging, staging.size(), |mapped| assert!(mapped));
    gpu.device.poll(wgpu::PollType::wait_indefinitely()).expect("finished");
    assert_eq!(gpu.failure(), None);
    let view = staging.slice(..).get_mapped_range().expect("mapped");
    bytemuck::cast_slice(&view[..bytes as usize]).to_vec()
}

/// Returns true if the word is still what `output` filled the buffer with.
pub fn is_untouched(word: &u32) -> bool {
    *word == f32::NAN.to_bits()
}

/// The largest magnitude of some numbers.
pub fn largest(numbers: &[f64]) -> f64 {
    numbers.iter().fold(1e-6, |most, x| most.max(x.abs()))
}

/// Asserts that `found` is within `tolerance` of `wanted`, relative to the largest of `wanted`.
pub fn close(found: &[f32], wanted: &[f64], tolerance: f64, what: &str) {
    within(found, wanted, &vec![tolerance * largest(wanted); wanted.len()], what);
}

/// Asserts that each of `found` is within `allowed` of its `wanted`.
pub fn within(found: &[f32], wanted: &[f64], allowed: &[f64], what: &str) {
    assert_eq!((found.len(), allowed.len()), (wanted.len(), wanted.len()), "{what}");
    for (i, ((found, wanted), allowed)) in found.iter().zip(wanted).zip(allowed).enumerate() {
        let off = (f64::from(*found) - wanted).abs();
        assert!(
            off <= *allowed,
            "{what}: element {i} is {found}, wanted {wanted} ({off:.2e} off, {allowed:.2e} allowed)"
        );
    }
}
