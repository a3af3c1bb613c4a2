//! A GPU: its device and queue, what it can do, and whether it still works.

use crate::capabilities::Capabilities;
use crate::error::GpuError;
use crate::memory::device_memory;
use crate::pipeline::Pipelines;
use core::future::Future;
use core::task::{Context, Poll, Waker};
use std::sync::{Arc, Mutex, PoisonError};

/// Which adapter to open, and what of it to use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Part of the adapter's name, in any case; `None` for any.
    pub adapter: Option<String>,
    /// Leave software devices, such as llvmpipe and SwiftShader, out: a CPU computes faster by itself.
    pub hardware: bool,
    /// Use none of the features that only add speed.
    pub plain: bool,
    /// Round no activations, neither to halves, as cooperative matrices do for prompts and large waves, nor to 8 bits, as a few rows
    /// of quantized weights do: slower, but what a session says does not depend on how many rows share its waves, to within the
    /// order of sums.
    pub exact: bool,
    /// Most GPUs to open; 0 opens one. Software devices are opened only where there is nothing else.
    pub devices: usize,
    /// Bytes of each device's memory that may be used; `None` for what allocation finds.
    pub memory: Option<u64>,
    /// Longest that one submit should keep the device busy, so that others get their turn; `None` for 50 ms.
    pub submit: Option<core::time::Duration>,
    /// Folder for compiled pipelines; `None` keeps none.
    #[cfg(not(target_family = "wasm"))]
    pub cache: Option<std::path::PathBuf>,
}

/// The first failure of a device, if there was one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    fn set(&self, reason: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One opened GPU.
pub struct Gpu {
    /// The device.
    pub device: wgpu::Device,
    /// Its queue.
    pub queue: wgpu::Queue,
    /// What kernels may use.
    pub capabilities: Capabilities,
    /// The adapter, as its driver describes it.
    pub info: wgpu::AdapterInfo,
    /// Bytes of its memory, where the backend says so; not all of them need be free.
    pub memory: Option<u64>,
    /// Compiled kernels.
    pub pipelines: Pipelines,
    /// The options that it was opened with.
    pub options: GpuOptions,
    adapter: Option<wgpu::Adapter>,
    fault: Fault,
    allocated: Mutex<Allocated>,
}

/// Buffers taken from a device since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// How many.
    pub buffers: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The adapters of this machine, real GPUs before software ones, no GPU twice.
pub async fn adapters() -> Vec<wgpu::Adapter> {
    let instance = instance();
    if cfg!(target_family = "wasm") {
        // A browser lists none and gives one, which may be the slower of two unless it is told.
        let wanted = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..wgpu::RequestAdapterOptions::default()
        };
        return instance.request_adapter(&wanted).await.into_iter().collect();
    }
    let mut found = instance.enumerate_adapters(wgpu::Backends::all()).await;
    found.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    found
}

fn instance() -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    // Drivers that can tell are asked before memory runs out, which would lose the device.
    descriptor.memory_budget_thresholds =
        wgpu::MemoryBudgetThresholds { for_resource_creation: Some(97), for_device_loss: None };
    descriptor.flags = wgpu::InstanceFlags::from_build_config().with_env();
    wgpu::Instance::new(descriptor)
}

/// Whether there can be a GPU, looked up without loading a driver, since that of a software device alone takes longer than a small
/// model. On Linux a GPU has a node in `/dev`.
fn may_have_hardware() -> bool {
    #[cfg(target_os = "linux")]
    {
        // NVIDIA's own driver, WSL's, and the vendors' for Arm's, Qualcomm's and Imagination's GPUs.
        const NODES: [&str; 5] =
            ["/dev/nvidiactl", "/dev/dxg", "/dev/mali0", "/dev/kgsl-3d0", "/dev/pvrsrvkm"];
        // All others draw through a render node; a mere display has none.
        let renders = std::fs::read_dir("/dev/dri").is_ok_and(|nodes| {
            nodes.flatten().any(|node| node.file_name().as_encoded_bytes().starts_with(b"renderD"))
        });
        renders || NODES.iter().any(|node| std::path::Path::new(node).exists())
    }
    #[cfg(not(target_os = "linux"))]
    true
}

fn rank(kind: wgpu::DeviceType) -> u8 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

impl Gpu {
    /// Opens the first adapter that the options allow.
    ///
    /// # Errors
    /// No such adapter, or one that gives no device.
    pub async fn open(options: &GpuOptions) -> Result<Self, GpuError> {
        let one = GpuOptions { devices: 1, ..options.clone() };
        let mut opened = Self::open_all(&one).await?;
        opened.pop().ok_or(GpuError::NoAdapter { wanted: String::new() })
    }

    /// Opens as many GPUs as the options ask for and the machine has.
    ///
    /// # Errors
    /// No such adapter, or one that gives no device.
    pub async fn open_all(options: &GpuOptions) -> Result<Vec<Self>, GpuError> {
        let wanted = options.adapter.as_deref().unwrap_or_default().to_lowercase();
        if options.hardware && !may_have_hardware() {
            return Err(GpuError::NoAdapter { wanted });
        }
        let mut found = adapters().await;
        found.retain(|adapter| adapter.get_info().name.to_lowercase().contains(&wanted));
        let software = |adapter: &wgpu::Adapter| adapter.get_info().device_type == wgpu::DeviceType::Cpu;
        if options.hardware || found.first().is_some_and(|adapter| !software(adapter)) {
            found.retain(|adapter| !software(adapter));
        }
        let mut opened = Vec::new();
        for adapter in found.iter().take(options.devices.max(1)) {
            opened.push(Self::of(adapter, options).await?);
        }
        if opened.is_empty() { Err(GpuError::NoAdapter { wanted }) } else { Ok(opened) }
    }

    /// Opens an adapter.
    ///
    /// # Errors
    /// It gives no device, or one that kernels cannot run on.
    pub async fn of(adapter: &wgpu::Adapter, options: &GpuOptions) -> Result<Self, GpuError> {
        let info = adapter.get_info();
        let mut capabilities = Capabilities::of(adapter);
        if options.plain {
            capabilities = capabilities.plain();
        }
        capabilities.cooperative &= !options.exact;
        capabilities.packed_dot &= !options.exact;
        check(&capabilities, &info)?;
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("weft"),
            required_features: capabilities.features(),
            required_limits: adapter.limits(),
            experimental_features: experimental(&capabilities),
            memory_hints: wgpu::MemoryHints::Performance,
            trace: wgpu::Trace::Off,
        };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|error| GpuError::NoDevice { adapter: info.name.clone(), reason: error.to_string() })?;
        #[cfg(target_family = "wasm")]
        if !options.plain {
            capabilities.subgroup = capabilities.subgroup.or(web_subgroup(&device, &info));
        }
        let memory = device_memory(adapter);
        let adapter = Some(adapter.clone());
        Ok(Self { adapter, memory, ..Self::with(device, queue, capabilities, info, options.clone()) })
    }

    /// What opens the same GPU again, after a failure.
    pub fn reopen(&self) -> impl Future<Output = Result<Self, GpuError>> + 'static {
        let (adapter, options) = (self.adapter.clone(), self.options.clone());
        async move {
            // A browser's adapter gives one device only.
            match adapter.filter(|_| !cfg!(target_family = "wasm")) {
                Some(adapter) => Self::of(&adapter, &options).await,
                None => Self::open(&options).await,
            }
        }
    }

    /// A device that computes nothing and says yes to every feature: for tests of what is compiled and recorded. It starts
    /// from the limits that WebGPU promises.
    #[cfg(feature = "noop")]
    pub fn noop(capabilities: impl FnOnce(Capabilities) -> Capabilities) -> Self {
        let limits = wgpu::Limits::default();
        let plain = Capabilities {
            subgroup: None,
            f16: false,
            packed_dot: false,
            cooperative: false,
            timestamps: false,
            timestamps_inside: false,
            pipeline_cache: false,
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            workgroup_memory: limits.max_compute_workgroup_storage_size,
            workgroup_size: limits.max_compute_invocations_per_workgroup,
            storage_buffers: limits.max_storage_buffers_per_shader_stage,
        };
        let capabilities = capabilities(plain);
        let (device, queue) = wgpu::Device::noop(&wgpu::DeviceDescriptor {
            required_features: capabilities.features(),
            required_limits: wgpu::Limits {
                max_storage_buffer_binding_size: capabilities.max_binding,
                max_buffer_size: capabilities.max_buffer,
                max_compute_workgroup_storage_size: capabilities.workgroup_memory,
                max_compute_invocations_per_workgroup: capabilities.workgroup_size,
                max_storage_buffers_per_shader_stage: capabilities.storage_buffers,
                ..limits
            },
            experimental_features: experimental(&capabilities),
            ..wgpu::DeviceDescriptor::default()
        });
        let info = device.adapter_info();
        Self::with(device, queue, capabilities, info, GpuOptions::default())
    }

    fn with(
        device: wgpu::Device,
        queue: wgpu::Queue,
        capabilities: Capabilities,
        info: wgpu::AdapterInfo,
        options: GpuOptions,
    ) -> Self {
        let fault = Fault::default();
        let lost = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            lost.set(format!("device lost ({reason:?}): {message}"))
        });
        let refused = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            tracing::error!(%error, "the GPU refused a command");
            refused.set(error.to_string());
        }));
        #[cfg(not(target_family = "wasm"))]
        let pipelines = Pipelines::new(&device, &info, &capabilities, options.cache.as_deref());
        #[cfg(target_family = "wasm")]
        let pipelines = Pipelines::new(&device, &info, &capabilities);
        let allocated = Mutex::default();
        Self {
            device,
            queue,
            capabilities,
            info,
            memory: None,
            pipelines,
            options,
            adapter: None,
            fault,
            allocated,
        }
    }

    /// Longest that one submit should keep the device busy.
    pub fn submit_budget(&self) -> core::time::Duration {
        self.options.submit.unwrap_or(core::time::Duration::from_millis(50))
    }

    /// Why the device no longer works, if it does not.
    pub fn failure(&self) -> Option<GpuError> {
        self.fault.get().map(|reason| GpuError::Lost { adapter: self.info.name.clone(), reason })
    }

    /// Gives the device up, since it does not do what it has to.
    pub fn give_up(&self, error: &GpuError) {
        self.fault.set(error.to_string());
    }

    /// Buffers taken so far, those that are gone too.
    pub fn allocated(&self) -> Allocated {
        *self.allocated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer for kernels, zeroed. Copies into it are always allowed, copies out of it too.
    ///
    /// # Errors
    /// It is larger than the device allows, or than what is free.
    pub fn storage(&self, what: &str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        use wgpu::BufferUsages as Usage;
        let limit = self.capabilities.max_binding.min(self.capabilities.max_buffer);
        self.buffer(what, bytes, limit, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC)
    }

    /// A buffer that the host reads.
    ///
    /// # Errors
    /// As [`Gpu::storage`].
    pub fn readback(&self, what: &str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        use wgpu::BufferUsages as Usage;
        self.buffer(what, bytes, self.capabilities.max_buffer, Usage::MAP_READ | Usage::COPY_DST)
    }

    fn buffer(
        &self,
        what: &str,
        bytes: u64,
        limit: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<wgpu::Buffer, GpuError> {
        let size = storage_bytes(bytes);
        if size > limit {
            return Err(GpuError::BufferTooLarge { what: what.to_owned(), bytes, limit });
        }
        // A browser answers later: there the device's failure says it, if no scope takes the error.
        let scope = (!cfg!(target_family = "wasm"))
            .then(|| self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory));
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        let buffer = self.device.create_buffer(&descriptor);
        match scope.and_then(|scope| now(scope.pop())).flatten() {
            None => {
                let mut allocated = self.allocated.lock().unwrap_or_else(PoisonError::into_inner);
                allocated.buffers += 1;
                allocated.bytes += size;
                Ok(buffer)
            }
            Some(_) => Err(GpuError::OutOfMemory { what: what.to_owned(), bytes }),
        }
    }
}

/// Bytes that a buffer of so many takes.
pub const fn storage_bytes(bytes: u64) -> u64 {
    /// Vectors of four words are bound.
    const UNIT: u64 = 16;
    if bytes < UNIT { UNIT } else { bytes.next_multiple_of(UNIT) }
}

/// The result of a future that is ready.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = core::pin::pin!(future);
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// Lanes of a subgroup on a browser's device that has subgroup operations. wgpu neither asks for them nor says so: the page
/// does, by adding `subgroups` to what its adapters are asked for.
#[cfg(target_family = "wasm")]
fn web_subgroup(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Option<u32> {
    device.as_webgpu().filter(|device| device.features().has("subgroups"))?;
    crate::capabilities::subgroup_lanes(info)
}

/// Leave to use the experimental features among those of `capabilities`.
#[expect(unsafe_code, reason = "cooperative matrices are behind a token that says they are experimental")]
fn experimental(capabilities: &Capabilities) -> wgpu::ExperimentalFeatures {
    if capabilities.cooperative {
        // SAFETY: the one experimental feature asked for is the cooperative matrix, whose kernels keep to the shapes that
        // the adapter lists and to memory that they bound themselves.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}

/// What every kernel takes for granted.
fn check(capabilities: &Capabilities, info: &wgpu::AdapterInfo) -> Result<(), GpuError> {
    const WORKGROUP: u64 = 256;
    const MEMORY: u64 = 16 << 10;
    let limits = [
        ("maxComputeInvocationsPerWorkgroup", u64::from(capabilities.workgroup_size), WORKGROUP),
        ("maxComputeWorkgroupStorageSize", u64::from(capabilities.workgroup_memory), MEMORY),
    ];
    match limits.into_iter().find(|(_, value, needed)| value < needed) {
        Some((limit, value, needed)) => {
            Err(GpuError::Limit { adapter: info.name.clone(), limit, value, needed })
        }
        None => Ok(()),
    }
}
