//! The process's peak memory, and sizes as text.

/// Returns the peak resident memory in bytes; `None` if the operating system offers no way that is known here.
///
/// Linux: `VmHWM` of `proc(5)`, in KiB.
pub(crate) fn peak_rss() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Formats a number of bytes with a unit.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("TiB");
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_step_at_1024() {
        assert_eq!(human(0), "0 B");
        assert_eq!(human(1023), "1023 B");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human(98_362_432), "93.8 MiB");
        assert_eq!(human(u64::MAX), "16777216.0 TiB");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_takes_memory() {
        assert!(peak_rss().expect("Linux tells") > 100_000);
    }
}
