//! A GPU: its device and queue, its capabilities, and its failure if it has one.

use crate::adapter_list::{adapters, may_have_hardware};
use crate::capabilities::Capabilities;
use crate::device_memory::device_memory;
use crate::error::GpuError;
use crate::error_scopes::{error_of, scoped};
use crate::fault::Fault;
use crate::gpu_options::GpuOptions;
use crate::limits::{check, required};
use crate::pipeline::Pipelines;
use core::future::Future;
use std::sync::{Mutex, PoisonError};

/// One opened GPU. Models share it through an `Arc`.
pub struct Gpu {
    /// The device.
    pub device: wgpu::Device,
    /// The device's queue.
    pub queue: wgpu::Queue,
    /// Features and limits that kernels may use.
    pub capabilities: Capabilities,
    /// The adapter, as its driver describes it.
    pub info: wgpu::AdapterInfo,
    /// Bytes of device memory, if the backend reports them. Other programs may use part of it.
    pub memory: Option<u64>,
    /// Compiled kernels.
    pub pipelines: Pipelines,
    /// The options that the GPU was opened with.
    pub options: GpuOptions,
    adapter: Option<wgpu::Adapter>,
    /// True if a host program created the device.
    hosted: bool,
    fault: Fault,
    allocated: Mutex<Allocated>,
}

/// Buffers allocated since the device was opened, freed ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Number of buffers.
    pub buffers: u64,
    /// Bytes of the buffers.
    pub bytes: u64,
}

impl Gpu {
    /// Opens the first adapter that the options allow.
    ///
    /// # Errors
    /// There is no such adapter, or it returns no device.
    pub async fn open(options: &GpuOptions) -> Result<Self, GpuError> {
        let one = GpuOptions { devices: 1, ..options.clone() };
        let mut opened = Self::open_all(&one).await?;
        opened.pop().ok_or(GpuError::NoAdapter { wanted: String::new() })
    }

    /// Opens as many GPUs as the options ask for and the machine has.
    ///
    /// # Errors
    /// There is no such adapter, or it returns no device.
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
    /// The adapter returns no device, or its limits are too low for the kernels.
    pub async fn of(adapter: &wgpu::Adapter, options: &GpuOptions) -> Result<Self, GpuError> {
        let info = adapter.get_info();
        #[cfg_attr(not(target_family = "wasm"), expect(unused_mut, reason = "only browsers hide subgroups"))]
        let mut capabilities = Capabilities::of(adapter).with(options);
        let limits = adapter.limits();
        if let Some(lack) = check(&limits) {
            return Err(lack.of_adapter(&info));
        }
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("weft"),
            required_features: capabilities.features(),
            required_limits: limits,
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
        let fault = Fault::handled(&device);
        Ok(Self { adapter, memory, ..Self::with(device, queue, capabilities, info, options.clone(), fault) })
    }

    /// Uses a device and a queue that the host program created, for instance a game or a GUI.
    ///
    /// - The host's handlers for uncaptured errors and for device loss stay in place. Error scopes catch the errors of
    ///   what the engine creates and submits, so that the host's handler does not see them. In a browser scopes answer
    ///   too late, and the host's handler sees them. A failed readback shows that the device is lost.
    /// - Kernels use the features and limits that the device was created with. [`Gpu::wanted_features`] and
    ///   [`Gpu::required_limits`] return those to request.
    /// - The engine polls the device. Callbacks of the host's own mappings may therefore run on the engine's thread.
    /// - [`Gpu::reopen`] fails. The models of a lost device move to the CPU.
    ///
    /// `adapter` is the one that the device was requested from. The options `adapter`, `hardware` and `devices` choose
    /// an adapter and are ignored.
    ///
    /// # Errors
    /// [`GpuError::HostLimit`] if the device was created with a limit below what every kernel needs.
    pub fn from_device(
        adapter: &wgpu::Adapter,
        device: wgpu::Device,
        queue: wgpu::Queue,
        options: &GpuOptions,
    ) -> Result<Self, GpuError> {
        let info = adapter.get_info();
        if let Some(lack) = check(&device.limits()) {
            return Err(lack.of_device(&info));
        }
        #[cfg_attr(not(target_family = "wasm"), expect(unused_mut, reason = "only browsers hide subgroups"))]
        let mut capabilities = Capabilities::of_device(adapter, &device).with(options);
        #[cfg(target_family = "wasm")]
        if !options.plain {
            capabilities.subgroup = capabilities.subgroup.or(web_subgroup(&device, &info));
        }
        let (memory, fault) = (device_memory(adapter), Fault::scoped());
        let gpu = Self::with(device, queue, capabilities, info, options.clone(), fault);
        Ok(Self { memory, hosted: true, ..gpu })
    }

    /// Limits to request for a device that is passed to [`Gpu::from_device`]: WebGPU's defaults, with the following
    /// raised to what `adapter` has. A host can raise its own limits to these with
    /// [`wgpu::Limits::or_better_values_from`].
    ///
    /// | limit | what it bounds |
    /// |---|---|
    /// | `max_storage_buffer_binding_size`, `max_buffer_size` | the KV cache's arena and activations; larger matrices are cut into segments |
    /// | `max_storage_buffers_per_shader_stage` | how much of a layer one kernel can fuse; at least 8 |
    /// | `max_compute_workgroup_storage_size` | tiles of products and of attention; at least 16 KiB |
    ///
    /// WebGPU's defaults are needed and are enough for `max_compute_invocations_per_workgroup` and
    /// `max_compute_workgroup_size_x` (256) and `max_compute_workgroups_per_dimension` (65,535).
    pub fn required_limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
        required(&adapter.limits())
    }

    /// Features to request for a device that is passed to [`Gpu::from_device`], as far as `adapter` has them. All are
    /// optional.
    ///
    /// | feature | what it adds |
    /// |---|---|
    /// | `SUBGROUP` | sums over lanes without workgroup memory |
    /// | `SHADER_F16` | activations in 16-bit floats |
    /// | `TIMESTAMP_QUERY`, `TIMESTAMP_QUERY_INSIDE_PASSES` | kernel times |
    /// | `PIPELINE_CACHE` | saving compiled kernels, see [`GpuOptions`]'s `cache` |
    ///
    /// `EXPERIMENTAL_COOPERATIVE_MATRIX` is not included, because a host must accept experimental features itself
    /// ([`wgpu::ExperimentalFeatures`]). Products of many rows use it on a device that has it together with
    /// `SHADER_F16`.
    pub fn wanted_features(adapter: &wgpu::Adapter) -> wgpu::Features {
        Capabilities::of(adapter).features() - wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
    }

    /// Returns a future that opens the same GPU again after a failure. It fails with [`GpuError::HostDevice`] if the
    /// host program created the device.
    pub fn reopen(&self) -> impl Future<Output = Result<Self, GpuError>> + 'static {
        let (adapter, options) = (self.adapter.clone(), self.options.clone());
        let refused = self.hosted.then(|| GpuError::HostDevice {
            adapter: self.info.name.clone(),
            reason: self.fault.get().unwrap_or_else(|| "it was not lost".to_owned()),
        });
        async move {
            if let Some(error) = refused {
                return Err(error);
            }
            // In a browser an adapter returns only one device.
            match adapter.filter(|_| !cfg!(target_family = "wasm")) {
                Some(adapter) => Self::of(&adapter, &options).await,
                None => Self::open(&options).await,
            }
        }
    }

    /// A device that computes nothing and accepts every feature, for tests of what is compiled and recorded. It starts
    /// from WebGPU's default limits.
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
        let (info, fault) = (device.adapter_info(), Fault::handled(&device));
        Self::with(device, queue, capabilities, info, GpuOptions::default(), fault)
    }

    fn with(
        device: wgpu::Device,
        queue: wgpu::Queue,
        capabilities: Capabilities,
        info: wgpu::AdapterInfo,
        options: GpuOptions,
        fault: Fault,
    ) -> Self {
        #[cfg(not(target_family = "wasm"))]
        let pipelines = Pipelines::new(&device, &fault, &info, &capabilities, options.cache.as_deref());
        #[cfg(target_family = "wasm")]
        let pipelines = Pipelines::new(&device, &fault, &info, &capabilities);
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
            hosted: false,
            fault,
            allocated,
        }
    }

    /// Longest time that one submit should keep the device busy.
    pub fn submit_budget(&self) -> core::time::Duration {
        self.options.submit.unwrap_or(core::time::Duration::from_millis(50))
    }

    /// Returns the error that stopped the device from working, if there is one.
    pub fn failure(&self) -> Option<GpuError> {
        self.fault.get().map(|reason| GpuError::Lost { adapter: self.info.name.clone(), reason })
    }

    /// Marks the device as failed because of an error that the engine found.
    pub fn mark_failed(&self, error: &GpuError) {
        self.fault.set(error.to_string());
    }

    /// Runs `work`, which uses the device on the calling thread. If the host program created the device, an error that
    /// `work` causes becomes this GPU's [failure](Gpu::failure) instead of reaching the host's handler.
    pub fn watch<T>(&self, work: impl FnOnce() -> T) -> T {
        self.fault.watch(&self.device, work)
    }

    /// Buffers allocated so far, freed ones included.
    pub fn allocated(&self) -> Allocated {
        *self.allocated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Creates a storage buffer for kernels, filled with zeros. Copies into and out of it are allowed.
    ///
    /// # Errors
    /// The buffer is larger than the device's limits or than its free memory.
    pub fn storage(&self, what: &str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        use wgpu::BufferUsages as Usage;
        let limit = self.capabilities.max_binding.min(self.capabilities.max_buffer);
        self.buffer(what, bytes, limit, Usage::STORAGE | Usage::COPY_DST | Usage::COPY_SRC)
    }

    /// Creates a buffer that the host reads.
    ///
    /// # Errors
    /// As [`Gpu::storage`].
    pub fn readback(&self, what: &str, bytes: u64) -> Result<wgpu::Buffer, GpuError> {
        use wgpu::BufferUsages as Usage;
        self.buffer(what, bytes, self.capabilities.max_buffer, Usage::MAP_READ | Usage::COPY_DST)
    }

    /// Writes `bytes` into a buffer at byte offset `at`, before the next submit. The offset and the length must be
    /// multiples of 4.
    pub fn write(&self, buffer: &wgpu::Buffer, at: u64, bytes: &[u8]) {
        self.watch(|| self.queue.write_buffer(buffer, at, bytes));
    }

    /// Starts to map the first `bytes` bytes of a [readback](Gpu::readback) buffer. A poll of the device calls `done`, with
    /// false if the mapping failed, as it does on a lost device.
    pub fn map_read(&self, buffer: &wgpu::Buffer, bytes: u64, done: impl FnOnce(bool) + Send + 'static) {
        self.watch(|| {
            buffer.slice(..bytes).map_async(wgpu::MapMode::Read, |result| done(result.is_ok()));
        });
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
        let descriptor = wgpu::BufferDescriptor { label: Some(what), size, usage, mapped_at_creation: false };
        let create = || self.device.create_buffer(&descriptor);
        // In a browser an error arrives later. Without a scope it reaches the handler, which records it as the device's
        // failure.
        let (buffer, error) = if cfg!(target_family = "wasm") {
            (create(), None)
        } else {
            let (buffer, error) = scoped(&self.device, create);
            (buffer, error_of(error))
        };
        match error {
            None => {
                let mut allocated = self.allocated.lock().unwrap_or_else(PoisonError::into_inner);
                allocated.buffers += 1;
                allocated.bytes += size;
                Ok(buffer)
            }
            Some(wgpu::Error::OutOfMemory { .. }) => {
                Err(GpuError::OutOfMemory { what: what.to_owned(), bytes })
            }
            Some(error) => {
                self.fault.refuse(&error);
                Err(GpuError::Lost { adapter: self.info.name.clone(), reason: error.to_string() })
            }
        }
    }
}

/// Bytes that a buffer for `bytes` bytes takes.
pub const fn storage_bytes(bytes: u64) -> u64 {
    /// Kernels bind buffers as vectors of four words.
    const UNIT: u64 = 16;
    if bytes < UNIT { UNIT } else { bytes.next_multiple_of(UNIT) }
}

/// Lanes of a subgroup, if a browser's device has subgroup operations. wgpu neither requests nor reports them. The page
/// enables them by adding `subgroups` to the features that its adapters are asked for.
#[cfg(target_family = "wasm")]
fn web_subgroup(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> Option<u32> {
    device.as_webgpu().filter(|device| device.features().has("subgroups"))?;
    crate::capabilities::subgroup_lanes(info)
}

/// Token that allows the experimental features among `capabilities`.
#[expect(unsafe_code, reason = "cooperative matrices are behind a token that says they are experimental")]
fn experimental(capabilities: &Capabilities) -> wgpu::ExperimentalFeatures {
    if capabilities.cooperative {
        // SAFETY: the only experimental feature requested is the cooperative matrix. Its kernels use only the shapes
        // that the adapter lists and memory that they bind themselves.
        unsafe { wgpu::ExperimentalFeatures::enabled() }
    } else {
        wgpu::ExperimentalFeatures::disabled()
    }
}
