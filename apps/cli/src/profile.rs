//! Measures where the time of a tick goes, by summing the busy time of the engine's tracing spans.
//!
//! The subscriber is written here instead of being a layer over a registry: spans of a tick take microseconds, and a
//! registry would add as much as it measures. A span is identified by its callsite alone, and its times come from a
//! stack of entries per thread. Entering and leaving costs two clock readings and one uncontended lock.
//!
//! Spans with the target [`KERNEL`] are kernels. Nested kernels count once in the sum of kernel time.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// Target of the spans around kernels.
pub(crate) const KERNEL: &str = "weft::kernel";
/// Name of the span around a whole tick.
pub(crate) const TICK: &str = "tick";
/// Prefix of the engine's span targets. Spans of other crates are not counted.
const OURS: &str = "weft";

/// Time spent in one span.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SpanTime {
    /// The span's name.
    pub(crate) name: &'static str,
    /// True if the span is around a kernel.
    pub(crate) kernel: bool,
    /// How often it was entered.
    pub(crate) calls: u64,
    /// Time between entering and leaving, including nested spans.
    pub(crate) busy: Duration,
}

/// Times since the last reset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times {
    /// Spans in the order in which they were first entered.
    pub(crate) spans: Vec<SpanTime>,
    /// Time in kernels; nested kernels are not counted twice.
    pub(crate) kernels: Duration,
}

#[derive(Default)]
struct State {
    sites: Vec<&'static Metadata<'static>>,
    times: Times,
}

/// Handle to the sums of an installed [`Profiler`].
#[derive(Clone, Default)]
pub(crate) struct Profile(Arc<Mutex<State>>);

impl Profile {
    /// Begins to count the spans of all threads, until the program ends.
    ///
    /// # Errors
    /// If another subscriber is installed.
    pub(crate) fn install() -> Result<Self, tracing::subscriber::SetGlobalDefaultError> {
        let profile = Self::default();
        tracing::subscriber::set_global_default(Profiler(profile.clone()))?;
        Ok(profile)
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resets all counts.
    pub(crate) fn reset(&self) {
        self.with(|state| {
            state.times.kernels = Duration::ZERO;
            for span in &mut state.times.spans {
                (span.calls, span.busy) = (0, Duration::ZERO);
            }
        });
    }

    /// Measures how much timing one span adds to the time around it, beyond the time counted for the span itself.
    /// Resets all counts.
    pub(crate) fn cost_of_a_span(&self) -> Duration {
        const SPANS: u32 = 20_000;
        let measure = || {
            self.reset();
            let start = Instant::now();
            for _ in 0..SPANS {
                let _empty = tracing::trace_span!(target: "weft::kernel", "empty").entered();
            }
            let whole = start.elapsed();
            let counted = self.times().kernels;
            self.reset();
            whole.saturating_sub(counted) / SPANS
        };
        // The minimum of a few runs, because disturbances only add time.
        (0..5).map(|_| measure()).min().unwrap_or_default()
    }

    /// Returns what was counted since the last reset, without spans that were not entered.
    pub(crate) fn times(&self) -> Times {
        let mut times = self.with(|state| state.times.clone());
        times.spans.retain(|span| span.calls > 0);
        times
    }
}

/// The tracing subscriber that fills a [`Profile`].
struct Profiler(Profile);

struct Entry {
    site: usize,
    kernel: bool,
    at: Instant,
}

thread_local! {
    static ENTERED: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

impl Profiler {
    /// Returns the callsite's index in the sums. A span's id is this index plus one, because ids cannot be zero.
    fn site(&self, metadata: &'static Metadata<'static>) -> usize {
        self.0.with(|state| {
            let known = state.sites.iter().position(|site| site.callsite() == metadata.callsite());
            known.unwrap_or_else(|| {
                state.sites.push(metadata);
                state.times.spans.push(SpanTime {
                    name: metadata.name(),
                    kernel: metadata.target() == KERNEL,
                    calls: 0,
                    busy: Duration::ZERO,
                });
                state.sites.len() - 1
            })
        })
    }
}

fn index(id: &Id) -> usize {
    usize::try_from(id.into_u64() - 1).unwrap_or(usize::MAX)
}

impl Subscriber for Profiler {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && metadata.target().starts_with(OURS)
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        Id::from_u64(self.site(span.metadata()) as u64 + 1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, id: &Id) {
        let site = index(id);
        let kernel = self.0.with(|state| state.times.spans.get(site).is_some_and(|span| span.kernel));
        ENTERED.with_borrow_mut(|entered| entered.push(Entry { site, kernel, at: Instant::now() }));
    }

    fn exit(&self, id: &Id) {
        let now = Instant::now();
        let left = ENTERED.with_borrow_mut(|entered| {
            let at = entered.iter().rposition(|entry| entry.site == index(id))?;
            let entry = entered.remove(at);
            let outermost = entry.kernel && !entered.iter().any(|other| other.kernel);
            Some((entry, outermost))
        });
        let Some((entry, outermost)) = left else { return };
        let busy = now.duration_since(entry.at);
        self.0.with(|state| {
            if let Some(span) = state.times.spans.get_mut(entry.site) {
                span.calls += 1;
                span.busy += busy;
            }
            if outermost {
                state.times.kernels += busy;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::sleep;

    #[test]
    fn nested_kernels_count_once_and_foreign_spans_not_at_all() {
        let profile = Profile::default();
        let step = Duration::from_millis(2);
        tracing::subscriber::with_default(Profiler(profile.clone()), || {
            for _ in 0..2 {
                let _tick = tracing::trace_span!(target: "weft", "tick").entered();
                sleep(step);
                let _outer = tracing::trace_span!(target: "weft::kernel", "outer").entered();
                let _inner = tracing::trace_span!(target: "weft::kernel", "inner").entered();
                let _foreign = tracing::trace_span!(target: "elsewhere", "foreign").entered();
                sleep(step);
            }
        });
        let times = profile.times();
        let names: Vec<_> = times.spans.iter().map(|span| (span.name, span.kernel, span.calls)).collect();
        assert_eq!(names, [("tick", false, 2), ("outer", true, 2), ("inner", true, 2)]);
        assert!(times.kernels >= 2 * step && times.kernels < times.spans[0].busy);
        assert!(times.spans[0].busy >= 4 * step && times.kernels <= times.spans[1].busy);
        profile.reset();
        assert!(profile.times().spans.is_empty());
    }
}
