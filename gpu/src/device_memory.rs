//! Memory size of an adapter. wgpu does not report it, Vulkan does.

/// Bytes of the adapter's largest device-local heap, or of its largest heap if it has no local one. `None` if the
/// adapter is not a Vulkan adapter.
#[cfg(any(target_os = "linux", target_os = "android", windows))]
#[expect(unsafe_code, reason = "wgpu does not say what Vulkan does")]
pub(crate) fn device_memory(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the guard is dropped at the end; nothing is destroyed.
    let adapter = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let instance = adapter.shared_instance().raw_instance();
    // SAFETY: the physical device is this instance's, which the adapter keeps alive.
    let memory = unsafe { instance.get_physical_device_memory_properties(adapter.raw_physical_device()) };
    let heaps = || memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    /// `VK_MEMORY_HEAP_DEVICE_LOCAL_BIT`.
    const DEVICE_LOCAL: u32 = 1;
    let own = heaps().filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size).max();
    own.or_else(|| heaps().map(|heap| heap.size).max())
}

/// Returns `None`: only Vulkan reports memory sizes.
#[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
pub(crate) fn device_memory(_adapter: &wgpu::Adapter) -> Option<u64> {
    None
}
