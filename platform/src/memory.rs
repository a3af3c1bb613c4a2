//! How much memory the machine has left.

/// Bytes of memory that can be taken without swapping; `None` if the operating system does not say so in a way known here.
///
/// Linux: `MemAvailable` of `proc(5)`, at most what the process's control group (version 2) leaves.
pub fn available_memory() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
        let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        let available = kib.checked_mul(1024)?;
        let number = |file| -> Option<u64> {
            std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok()?.trim().parse().ok()
        };
        let group = number("memory.max").map(|max| max.saturating_sub(number("memory.current").unwrap_or(0)));
        Some(group.map_or(available, |group| group.min(available)))
    }
    #[cfg(not(target_os = "linux"))]
    None
}
