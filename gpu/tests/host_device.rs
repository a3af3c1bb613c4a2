//! The engine on a device that the host program created: the host's handlers stay in place, and failures are found
//! without them.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::{buffer, output, read, run};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use weft_gpu::shader::{KernelSpec, parts};
use weft_gpu::{Capabilities, Gpu, GpuError, GpuOptions, adapters, wgpu};

/// A host program: its device, and the calls of its handlers.
struct Host {
    adapter: wgpu::Adapter,
    device: wgpu::Device,
    queue: wgpu::Queue,
    errors: Arc<AtomicU32>,
    lost: Arc<AtomicU32>,
}

impl Host {
    fn new(features: wgpu::Features, limits: wgpu::Limits) -> Self {
        let adapter = pollster::block_on(adapters()).into_iter().next().unwrap();
        let descriptor = wgpu::DeviceDescriptor {
            required_features: features,
            required_limits: limits,
            ..wgpu::DeviceDescriptor::default()
        };
        let (device, queue) = pollster::block_on(adapter.request_device(&descriptor)).unwrap();
        let (errors, lost) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let (of_error, of_loss) = (Arc::clone(&errors), Arc::clone(&lost));
        device.on_uncaptured_error(Arc::new(move |_: wgpu::Error| {
            of_error.fetch_add(1, Ordering::SeqCst);
        }));
        device.set_device_lost_callback(move |_, _| {
            of_loss.fetch_add(1, Ordering::SeqCst);
        });
        Self { adapter, device, queue, errors, lost }
    }

    /// A device of a host that does not request anything for the engine.
    fn plain() -> Self {
        Self::new(wgpu::Features::empty(), wgpu::Limits::default())
    }

    fn gpu(&self) -> Result<Gpu, GpuError> {
        let (device, queue) = (self.device.clone(), self.queue.clone());
        Gpu::from_device(&self.adapter, device, queue, &GpuOptions::default())
    }

    /// Number of calls of the handlers: for errors, for device loss.
    fn heard(&self) -> (u32, u32) {
        (self.errors.load(Ordering::SeqCst), self.lost.load(Ordering::SeqCst))
    }

    /// Causes an error of the host's own.
    fn fail(&self) {
        let limit = self.device.limits().max_buffer_size;
        let _ = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: limit + 16,
            usage: wgpu::BufferUsages::STORAGE,
            mapped_at_creation: false,
        });
    }
}

/// Adds one to 64 words on the device.
fn add_one(gpu: &Gpu) -> Vec<u32> {
    let spec = KernelSpec::new("add_one", [parts::DISPATCH_CHAIN]).with("WG", 64u32);
    let (words, after) = (buffer(gpu, &core::array::from_fn::<u32, 64, _>(|i| i as u32)), output(gpu, 64));
    run(gpu, &spec, &[(0, &words), (1, &after)], [1, 1, 1]);
    read(gpu, &after, 64)
}

#[test]
fn kernels_run_and_the_handlers_stay_the_hosts() {
    let host = Host::plain();
    let gpu = host.gpu().unwrap();
    assert_eq!(add_one(&gpu), (1..=64).collect::<Vec<u32>>());
    host.fail();
    assert_eq!((host.heard(), gpu.failure()), ((1, 0), None), "an error of the host's is not the engine's");
    host.device.destroy();
    let _ = host.device.poll(wgpu::PollType::Poll);
    assert_eq!(host.heard(), (1, 1));
}

#[test]
fn errors_of_the_engine_are_its_own() {
    type Harm = fn(&Gpu);
    let harms: [(&str, Harm); 4] = [
        ("kernel", |gpu| {
            let _ = gpu.pipelines.get(&KernelSpec::new("broken", ["no WGSL"]));
        }),
        ("write", |gpu| {
            let words = buffer(gpu, &[0u32; 4]);
            gpu.write(&words, 16, &[0; 16]);
        }),
        ("copy", |gpu| {
            let words = buffer(gpu, &[0u32; 4]);
            let mut commands = weft_gpu::Commands::default();
            commands.copy(&words, 0, &words, 0, 16);
            commands.submit(gpu);
        }),
        ("watched", |gpu| {
            gpu.watch(|| {
                let _ = gpu.device.create_sampler(&wgpu::SamplerDescriptor {
                    anisotropy_clamp: 0,
                    ..wgpu::SamplerDescriptor::default()
                });
            });
        }),
    ];
    for (what, harm) in harms {
        let host = Host::plain();
        let gpu = host.gpu().unwrap();
        harm(&gpu);
        assert!(matches!(gpu.failure(), Some(GpuError::Lost { .. })), "{what}");
        assert_eq!(host.heard(), (0, 0), "{what}");
    }
}

#[test]
fn buffers_beyond_the_devices_limits_are_refused() {
    let host = Host::plain();
    let gpu = host.gpu().unwrap();
    let defaults = wgpu::Limits::default();
    let refused = |bytes, limit| GpuError::BufferTooLarge { what: "arena".into(), bytes, limit };
    let binding = defaults.max_storage_buffer_binding_size;
    assert_eq!(gpu.storage("arena", binding + 1).unwrap_err(), refused(binding + 1, binding));
    let buffer = defaults.max_buffer_size;
    assert_eq!(gpu.readback("arena", buffer + 1).unwrap_err(), refused(buffer + 1, buffer));
    assert_eq!((host.heard(), gpu.failure()), ((0, 0), None));
}

#[test]
fn capabilities_are_what_the_device_was_created_with() {
    let gpu = Host::plain().gpu().unwrap();
    let defaults = wgpu::Limits::default();
    let expected = Capabilities {
        subgroup: None,
        f16: false,
        packed_dot: true,
        cooperative: false,
        timestamps: false,
        timestamps_inside: false,
        pipeline_cache: false,
        max_binding: defaults.max_storage_buffer_binding_size,
        max_buffer: defaults.max_buffer_size,
        workgroup_memory: defaults.max_compute_workgroup_storage_size,
        workgroup_size: defaults.max_compute_invocations_per_workgroup,
        storage_buffers: defaults.max_storage_buffers_per_shader_stage,
    };
    assert_eq!(gpu.capabilities, expected);

    let adapter = pollster::block_on(adapters()).into_iter().next().unwrap();
    let host = Host::new(Gpu::wanted_features(&adapter), Gpu::required_limits(&adapter));
    let gpu = host.gpu().unwrap();
    let most = Capabilities::of(&adapter);
    let workgroup_size = gpu.capabilities.workgroup_size;
    assert!(workgroup_size >= 256);
    assert_eq!(gpu.capabilities, Capabilities { cooperative: false, workgroup_size, ..most });
    assert_eq!(add_one(&gpu).len(), 64);
}

#[test]
fn options_that_take_capabilities_away_are_honoured() {
    let adapter = pollster::block_on(adapters()).into_iter().next().unwrap();
    let host = Host::new(Gpu::wanted_features(&adapter), Gpu::required_limits(&adapter));
    let gpu = |options: &GpuOptions| {
        Gpu::from_device(&host.adapter, host.device.clone(), host.queue.clone(), options).unwrap()
    };
    let plain = gpu(&GpuOptions { plain: true, ..GpuOptions::default() });
    assert_eq!(plain.capabilities, Capabilities::of_device(&adapter, &host.device).plain());
    assert!(!gpu(&GpuOptions { exact: true, ..GpuOptions::default() }).capabilities.packed_dot);
}

#[test]
fn a_device_with_too_low_a_limit_is_refused() {
    let low = [
        wgpu::Limits { max_compute_workgroup_storage_size: 8 << 10, ..wgpu::Limits::default() },
        wgpu::Limits { max_storage_buffers_per_shader_stage: 4, ..wgpu::Limits::default() },
        wgpu::Limits { max_compute_invocations_per_workgroup: 128, ..wgpu::Limits::default() },
    ];
    for limits in low {
        let error = Host::new(wgpu::Features::empty(), limits.clone()).gpu().err().unwrap();
        assert!(matches!(error, GpuError::HostLimit { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("max_") && text.contains("Gpu::required_limits"), "{text}");
    }
}

#[test]
fn a_lost_device_fails_its_readbacks_and_is_not_opened_again() {
    // The readback buffer is created before the loss, or after it.
    for after in [false, true] {
        let host = Host::plain();
        let gpu = host.gpu().unwrap();
        assert_eq!(add_one(&gpu).len(), 64);
        let words = buffer(&gpu, &[0u32; 4]);
        let before = gpu.readback("test", 16).unwrap();
        host.device.destroy();
        let staging = if after { gpu.readback("test", 16).unwrap() } else { before };
        let mut commands = weft_gpu::Commands::default();
        commands.copy(&words, 0, &staging, 0, 16);
        commands.submit(&gpu);
        let mapped = Arc::new(Mutex::new(None));
        let result = Arc::clone(&mapped);
        gpu.map_read(&staging, 16, move |mapped| *result.lock().unwrap() = Some(mapped));
        let _ = gpu.device.poll(wgpu::PollType::Poll);
        assert_eq!(*mapped.lock().unwrap(), Some(false), "{after}");
        assert_eq!(host.heard().0, 0, "the host's handler heard nothing of the engine's commands");
        gpu.mark_failed(&GpuError::Readback { adapter: gpu.info.name.clone() });
        let error = pollster::block_on(gpu.reopen()).err().unwrap();
        let GpuError::HostDevice { reason, .. } = &error else { panic!("{error}") };
        assert!(after || reason.contains("did not return"), "{reason}");
    }
}
