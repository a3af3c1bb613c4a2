//! Lists the adapters of this machine, preferred ones first.

/// Returns the adapters of this machine: real GPUs before software adapters, each GPU once.
pub async fn adapters() -> Vec<wgpu::Adapter> {
    let instance = instance();
    if cfg!(target_family = "wasm") {
        // A browser lists no adapters and returns one on request. By default it may return the slower of two.
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
    // Drivers that can report their memory use are asked before memory runs out, since running out loses the device.
    descriptor.memory_budget_thresholds =
        wgpu::MemoryBudgetThresholds { for_resource_creation: Some(97), for_device_loss: None };
    descriptor.flags = wgpu::InstanceFlags::from_build_config().with_env();
    wgpu::Instance::new(descriptor)
}

/// Returns false if this machine surely has no GPU. Looks without loading a driver: loading the driver of a software
/// device alone takes longer than loading a small model. On Linux a GPU has a node in `/dev`.
pub(crate) fn may_have_hardware() -> bool {
    #[cfg(target_os = "linux")]
    {
        // Nodes of NVIDIA's driver, of WSL, and of the vendors' drivers for Arm, Qualcomm and Imagination GPUs.
        const NODES: [&str; 5] =
            ["/dev/nvidiactl", "/dev/dxg", "/dev/mali0", "/dev/kgsl-3d0", "/dev/pvrsrvkm"];
        // All other GPUs have a render node. A device that only drives a display has none.
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
