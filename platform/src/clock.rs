//! Monotonic time that works where `std::time::Instant` does not.
//!
//! Natively a clock counts from its own start. In the browser there is no portable source below this crate, so the
//! host passes one (`performance.now`); until it does the clock stands still.

/// A monotonic clock. Cheap to copy; readings of one clock compare with each other only.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    #[cfg(not(target_family = "wasm"))]
    Instant(std::time::Instant),
    Function(fn() -> u64),
}

impl Clock {
    /// The machine's monotonic clock, from zero now. On wasm it stands at zero: see [`Clock::with_source`].
    pub fn new() -> Self {
        #[cfg(not(target_family = "wasm"))]
        let source = Source::Instant(std::time::Instant::now());
        #[cfg(target_family = "wasm")]
        let source = Source::Function(|| 0);
        Self { source }
    }

    /// A clock that reads `nanos`, a function that never goes backwards. Tests and the browser use it.
    pub fn with_source(nanos: fn() -> u64) -> Self {
        Self { source: Source::Function(nanos) }
    }

    /// Nanoseconds since the clock's origin.
    pub fn nanos(&self) -> u64 {
        match self.source {
            #[cfg(not(target_family = "wasm"))]
            Source::Instant(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Source::Function(nanos) => nanos(),
        }
    }

    /// Seconds since the clock's origin.
    pub fn seconds(&self) -> f64 {
        self.nanos() as f64 * 1e-9
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_goes_backwards() {
        let clock = Clock::new();
        let readings: Vec<u64> = (0..100).map(|_| clock.nanos()).collect();
        assert!(readings.is_sorted());
    }

    #[test]
    fn reads_its_source() {
        let clock = Clock::with_source(|| 1_500_000_000);
        assert_eq!((clock.nanos(), clock.seconds()), (1_500_000_000, 1.5));
    }
}
