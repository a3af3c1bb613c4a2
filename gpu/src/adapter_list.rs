//! The adapters of this machine, in the order in which they are preferred.

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
pub(crate) fn may_have_hardware() -> bool {
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
