//! Compiled kernels. Each is compiled once per device, several in parallel. They are saved on disk if the driver
//! supports it.

use crate::capabilities::Capabilities;
use crate::error::GpuError;
use crate::error_scopes::scoped;
use crate::fault::Fault;
use crate::shader::{Binding, KernelSpec};
use crate::work::WorkOf;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A compiled kernel.
#[derive(Debug)]
pub struct Kernel {
    /// Name in profiles and errors.
    pub name: &'static str,
    /// The pipeline.
    pub pipeline: wgpu::ComputePipeline,
    pub(crate) work: WorkOf,
    layout: wgpu::BindGroupLayout,
    bindings: Vec<Binding>,
}

/// The kernels of a device.
pub struct Pipelines {
    device: wgpu::Device,
    fault: Fault,
    trusted: bool,
    compiled: Mutex<HashMap<KernelSpec, Arc<Kernel>>>,
    cache: Option<wgpu::PipelineCache>,
    #[cfg(not(target_family = "wasm"))]
    file: Option<std::path::PathBuf>,
}

impl Pipelines {
    #[cfg(target_family = "wasm")]
    pub(crate) fn new(
        device: &wgpu::Device,
        fault: &Fault,
        _info: &wgpu::AdapterInfo,
        _capabilities: &Capabilities,
    ) -> Self {
        let (device, fault) = (device.clone(), fault.clone());
        Self { device, fault, trusted: false, compiled: Mutex::default(), cache: None }
    }

    #[cfg(not(target_family = "wasm"))]
    pub(crate) fn new(
        device: &wgpu::Device,
        fault: &Fault,
        info: &wgpu::AdapterInfo,
        capabilities: &Capabilities,
        folder: Option<&std::path::Path>,
    ) -> Self {
        let file = folder
            .filter(|_| capabilities.pipeline_cache)
            .and_then(|folder| Some(folder.join(wgpu::util::pipeline_cache_key(info)?)));
        let cache = file
            .as_ref()
            .map(|file| fault.watch(device, || cache(device, std::fs::read(file).ok().as_deref())));
        // Tests on random shapes, run with checks, show that the loops of our kernels end and their indices are in
        // range. A software device keeps the checks.
        let trusted = info.device_type != wgpu::DeviceType::Cpu;
        let (device, fault) = (device.clone(), fault.clone());
        Self { device, fault, trusted, compiled: Mutex::default(), cache, file }
    }

    /// Returns the kernel of a spec, and compiles it if necessary.
    pub fn get(&self, spec: &KernelSpec) -> Arc<Kernel> {
        if let Some(kernel) = self.lock().get(spec) {
            return Arc::clone(kernel);
        }
        let kernel = Arc::new(self.fault.watch(&self.device, || self.compile(spec)));
        Arc::clone(self.lock().entry(spec.clone()).or_insert(kernel))
    }

    /// Returns the kernel of a spec whose source may be invalid. Natively the future is ready when it is first polled.
    ///
    /// # Errors
    /// [`GpuError::Shader`] if the source does not compile. The device's handlers do not see the error, and the device
    /// keeps working.
    pub(crate) async fn try_get(&self, spec: &KernelSpec) -> Result<Arc<Kernel>, GpuError> {
        if let Some(kernel) = self.lock().get(spec) {
            return Ok(Arc::clone(kernel));
        }
        let (kernel, error) = scoped(&self.device, || self.compile(spec));
        match error.await {
            None => Ok(Arc::clone(self.lock().entry(spec.clone()).or_insert(Arc::new(kernel)))),
            Some(error) => Err(GpuError::Shader { kernel: spec.name, reason: error.to_string() }),
        }
    }

    /// Compiles all of `specs`, on as many threads as the machine has cores.
    pub fn prepare(&self, specs: &[KernelSpec]) {
        #[cfg(not(target_family = "wasm"))]
        {
            let threads = std::thread::available_parallelism().map_or(1, usize::from).min(specs.len()).max(1);
            let next = core::sync::atomic::AtomicUsize::new(0);
            let work = || {
                while let Some(spec) = specs.get(next.fetch_add(1, core::sync::atomic::Ordering::Relaxed)) {
                    let _ = self.get(spec);
                }
            };
            std::thread::scope(|scope| {
                for _ in 1..threads {
                    scope.spawn(work);
                }
                work();
            });
            self.save();
        }
        #[cfg(target_family = "wasm")]
        for spec in specs {
            let _ = self.get(spec);
        }
    }

    /// Specs of the kernels compiled so far, in no particular order.
    pub fn specs(&self) -> Vec<KernelSpec> {
        self.lock().keys().cloned().collect()
    }

    /// Names of the kernels compiled so far, with the names of their parts. Sorted, without duplicates.
    pub fn paths(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut paths: Vec<_> =
            self.lock().keys().map(|spec| (spec.name, spec.part_names().collect::<Vec<_>>())).collect();
        paths.sort_unstable();
        paths.dedup();
        paths
    }

    /// Number of kernels compiled so far.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Returns true if no kernel has been compiled.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<KernelSpec, Arc<Kernel>>> {
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compile(&self, spec: &KernelSpec) -> Kernel {
        let bindings = spec.bindings();
        let entries: Vec<_> = bindings
            .iter()
            .map(|binding| wgpu::BindGroupLayoutEntry {
                binding: binding.index,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: !binding.writes },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            })
            .collect();
        let label = Some(spec.name);
        let layout = self
            .device
            .create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
        let pipeline_layout = self.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let pipeline = self.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &self.module(spec),
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: !spec.is_own(),
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: self.cache.as_ref(),
        });
        Kernel { name: spec.name, pipeline, work: WorkOf::of(spec), layout, bindings }
    }

    #[expect(unsafe_code, reason = "run-time checks in shaders cost speed")]
    fn module(&self, spec: &KernelSpec) -> wgpu::ShaderModule {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some(spec.name),
            source: wgpu::ShaderSource::Wgsl(spec.source().into()),
        };
        if self.trusted && spec.is_own() {
            // SAFETY: the source is this crate's own. Its loops are bounded by constants or by counts that the host
            // checks, and its indices stay within buffers whose sizes follow from the same constants.
            unsafe {
                self.device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            }
        } else {
            self.device.create_shader_module(descriptor)
        }
    }

    /// Saves the driver's compiled pipelines. A failure to write is only a warning.
    #[cfg(not(target_family = "wasm"))]
    fn save(&self) {
        let (Some(cache), Some(file)) = (&self.cache, &self.file) else { return };
        let Some(data) = cache.get_data() else { return };
        let written = file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| {
            let whole = file.with_extension("part");
            std::fs::write(&whole, data)?;
            std::fs::rename(&whole, file)
        });
        if let Err(error) = written {
            tracing::warn!(%error, file = %file.display(), "compiled GPU kernels could not be saved");
        }
    }
}

#[cfg(not(target_family = "wasm"))]
#[expect(unsafe_code, reason = "a driver reads the bytes of the cache")]
fn cache(device: &wgpu::Device, data: Option<&[u8]>) -> wgpu::PipelineCache {
    // SAFETY: this driver produced the bytes for this adapter, whose key names the file. The file is in the user's own
    // cache folder, and wgpu checks its header against adapter and driver before the driver reads it.
    unsafe {
        device.create_pipeline_cache(&wgpu::PipelineCacheDescriptor {
            label: Some("weft"),
            data,
            fallback: true,
        })
    }
}

impl Kernel {
    /// Binds buffers to the kernel. Buffers that the kernel does not declare are skipped.
    pub fn bind(
        &self,
        device: &wgpu::Device,
        buffers: &[(u32, wgpu::BindingResource<'_>)],
    ) -> wgpu::BindGroup {
        let declared = |index: u32| self.bindings.iter().any(|binding| binding.index == index);
        let entries: Vec<_> = buffers
            .iter()
            .filter(|(index, _)| declared(*index))
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding: *binding, resource: resource.clone() })
            .collect();
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(self.name),
            layout: &self.layout,
            entries: &entries,
        })
    }
}
