//! What waves of decoding sessions cost by their rows, and how many drafted tokens pay.
//!
//! The times are measured, because they are no line: kernels of a few rows differ from those of many, and where steps run
//! ahead of what has been read back, a wave with drafts costs the time of a whole round trip besides. What has not been
//! measured, or not lately, is guessed from what has, and so tried now and then.

/// Number of measured sizes of waves: 1, 1.4, 2, 2.8, … rows, up to 362.
const SIZES: usize = 18;
/// Until waves have been measured: a wave costs as much as this many rows. It is so for CPUs that are limited by the weights
/// they read.
const GUESS: f64 = 4.0;
/// Measurements of a size before it is believed.
const BELIEVED: u32 = 3;
/// Waves after which a measurement is too old.
const OLD: u64 = 2000;

/// What a wave carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One row of each session.
    #[default]
    Plain,
    /// Rows of drafted tokens too.
    Drafted,
    /// Rows of prompts too.
    Prompts,
}

/// The number of rows of a size.
fn rows_of(size: usize) -> f64 {
    (size as f64 / 2.0).exp2()
}

/// The size that a number of rows is nearest to, with a fraction.
fn size_of(rows: f64) -> f64 {
    (2.0 * rows.max(1.0).log2()).min((SIZES - 1) as f64)
}

/// The guess of a wave's time, in rows.
fn guess(rows: f64) -> f64 {
    GUESS + rows
}

/// Measured time of waves of one size.
#[derive(Clone, Copy, Debug, Default)]
struct Measured {
    seconds: f64,
    /// The first measurements, until there are enough to be believed.
    first: [f64; BELIEVED as usize - 1],
    count: u32,
    /// The last wave that was measured.
    at: u64,
}

impl Measured {
    fn add(&mut self, seconds: f64, now: u64) {
        /// Share of the newest wave, and how far it may move the estimate: a machine has other things to do at times.
        const NEWEST: f64 = 0.1;
        const MOST: f64 = 1.5;
        if now - self.at > OLD {
            self.count = 0;
        }
        (self.count, self.at) = (self.count.saturating_add(1), now);
        if let Some(first) = self.first.get_mut(self.count as usize - 1) {
            *first = seconds;
        } else if self.count == BELIEVED {
            // The median: one of them may be far too long, or too short if the wave was found late.
            let [low, high] = [self.first[0].min(self.first[1]), self.first[0].max(self.first[1])];
            self.seconds = seconds.clamp(low, high);
        } else {
            self.seconds += NEWEST * (seconds.clamp(self.seconds / MOST, self.seconds * MOST) - self.seconds);
        }
    }
}

/// Measured times of waves without prompts.
#[derive(Clone, Debug, Default)]
pub(super) struct DecodeTimes {
    plain: [Measured; SIZES],
    /// Those of waves with drafts, where these are another matter.
    drafted: [Measured; SIZES],
    waves: u64,
}

impl DecodeTimes {
    pub(super) fn add(&mut self, kind: Kind, rows: usize, seconds: f64) {
        let all = match kind {
            Kind::Plain => &mut self.plain,
            Kind::Drafted => &mut self.drafted,
            Kind::Prompts => return,
        };
        self.waves += 1;
        // The clock of a browser is coarse.
        if seconds <= 0.0 {
            return;
        }
        let rows = rows as f64;
        let size = size_of(rows).round() as usize;
        all[size].add(seconds * guess(rows_of(size)) / guess(rows), self.waves);
    }

    /// `base` scaled to what has been measured.
    fn scaled(&self, base: [f64; SIZES], measured: [Option<f64>; SIZES]) -> [f64; SIZES] {
        let known = |size: usize| Some((size, measured[size]? / base[size]));
        core::array::from_fn(|size| {
            let below = (0..=size).rev().find_map(known);
            let above = (size..SIZES).find_map(known);
            let factor = match (below, above) {
                (Some((from, low)), Some((to, high))) if from < to => {
                    low + (high - low) * (size - from) as f64 / (to - from) as f64
                }
                (Some((_, factor)), _) | (None, Some((_, factor))) => factor,
                (None, None) => 1.0,
            };
            base[size] * factor
        })
    }

    fn believed(&self, measured: &Measured) -> Option<f64> {
        (measured.count >= BELIEVED && self.waves - measured.at <= OLD).then_some(measured.seconds)
    }

    pub(super) fn cost(&self, ahead: bool) -> DecodeCost {
        let guessed = core::array::from_fn(|size| guess(rows_of(size)));
        let [plain, drafted] =
            [&self.plain, &self.drafted].map(|all| core::array::from_fn(|size| self.believed(&all[size])));
        if ahead {
            let plain = self.scaled(guessed, plain);
            return DecodeCost { plain, drafted: self.scaled(plain, drafted) };
        }
        // A row is a row.
        let both = core::array::from_fn(|size| match (plain[size], drafted[size]) {
            (Some(plain), Some(drafted)) => Some(f64::midpoint(plain, drafted)),
            (plain, drafted) => plain.or(drafted),
        });
        let both = self.scaled(guessed, both);
        DecodeCost { plain: both, drafted: both }
    }
}

/// The times of waves by their rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct DecodeCost {
    plain: [f64; SIZES],
    drafted: [f64; SIZES],
}

/// The wave that drafted tokens may join.
#[derive(Clone, Copy, Debug)]
pub(super) struct Joining {
    /// Rows that it will have without them.
    pub(super) rows: usize,
    /// Tokens that it is expected to give, one of them to the session whose tokens these are.
    pub(super) tokens: f64,
    /// True if other drafted tokens have joined.
    pub(super) drafted: bool,
    /// Waves that the session misses, because how many of its tokens are right is known later.
    pub(super) missed: usize,
    /// Tokens of the session that have been chosen and not been read: the draft has guessed these too.
    pub(super) unread: usize,
}

impl DecodeCost {
    /// A wave of `rows` rows costs `wave + rows`.
    pub(super) fn line(wave: f64) -> Self {
        let line = core::array::from_fn(|size| wave + rows_of(size));
        Self { plain: line, drafted: line }
    }

    /// The time of a wave. One with more rows than were measured takes no less than the largest that was.
    pub(super) fn time(&self, rows: usize, drafted: bool) -> f64 {
        let all = if drafted { &self.drafted } else { &self.plain };
        let rows = rows as f64;
        let size = size_of(rows);
        let below = (size as usize).min(SIZES - 2);
        let (from, to) = (rows_of(below), rows_of(below + 1));
        let step = all[below + 1] - all[below];
        // Measurements scatter: beyond the last of them, a line that falls would come to times below zero.
        let step = if rows > to { step.max(0.0) } else { step };
        all[below] + step * (rows - from) / (to - from)
    }

    /// Number of drafted tokens, up to `most`, that pay, if each is right with the probability `confidence`, and the
    /// tokens that the session is expected to get for each wave then.
    ///
    /// The best number is the one with the most tokens in a second. What the session does not get from waves that it
    /// misses is taken off.
    pub(super) fn worthwhile(&self, wave: Joining, confidence: f32, most: usize) -> (usize, f64) {
        let mut best = (0, 1.0);
        let mut speed = wave.tokens / self.time(wave.rows, wave.drafted);
        let (mut right, mut tokens) = (f64::from(confidence).powi(wave.unread as i32), 1.0);
        for drafts in 1..=most {
            right *= f64::from(confidence);
            tokens += right;
            let each = tokens / (1 + wave.missed) as f64;
            let here = (wave.tokens - 1.0 + each) / self.time(wave.rows + drafts, true);
            if here > speed {
                (best, speed) = ((drafts, each), here);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joining(rows: usize) -> Joining {
        Joining { rows, tokens: rows as f64, drafted: false, missed: 0, unread: 0 }
    }

    #[test]
    fn drafts_pay_while_waves_are_small() {
        let of = |wave, sessions, confidence| {
            DecodeCost::line(wave).worthwhile(joining(sessions), confidence, 8).0
        };
        assert_eq!((of(8.0, 1, 0.9), of(8.0, 1, 0.05)), (8, 0));
        assert!((1..5).contains(&of(8.0, 1, 0.5)), "{}", of(8.0, 1, 0.5));
        assert!(of(8.0, 16, 0.5) == 0 && of(8.0, 16, 0.95) > 0);
        // Where rows are free, all drafts are tried.
        assert_eq!(of(1e6, 64, 0.3), 8);
    }

    #[test]
    fn what_is_missed_meanwhile_is_counted() {
        let of = |confidence, missed| {
            let wave = Joining { missed, ..joining(16) };
            DecodeCost::line(1e3).worthwhile(wave, confidence, 8)
        };
        assert!(of(0.4, 0).0 > 2);
        assert_eq!(of(0.4, 1), (0, 1.0), "two tokens at most, for two waves");
        let (drafts, tokens) = of(0.9, 1);
        assert!(drafts == 8 && (3.0..3.1).contains(&tokens), "{drafts} {tokens}");
    }

    #[test]
    fn what_was_measured_decides() {
        let mut times = DecodeTimes::default();
        let drafts = |times: &DecodeTimes, ahead| times.cost(ahead).worthwhile(joining(1), 0.9, 8).0;
        assert!(drafts(&times, false) > 4);
        // Each row takes as long as the first.
        for rows in [1, 2, 4, 9].into_iter().cycle().take(100) {
            times.add(Kind::Plain, rows, 0.01 * rows as f64);
        }
        assert_eq!(drafts(&times, false), 0);
        // Waves with drafts take as long as three others, whatever their rows.
        let mut times = DecodeTimes::default();
        (0..100).for_each(|_| times.add(Kind::Plain, 1, 0.001));
        assert!(drafts(&times, true) > 4, "nothing is known of them");
        for rows in [2, 3, 4, 6, 9].into_iter().cycle().take(100) {
            times.add(Kind::Drafted, rows, 0.003);
        }
        let doubtful = |times: &DecodeTimes| times.cost(true).worthwhile(joining(1), 0.6, 8).0;
        assert!(drafts(&times, true) > 4 && doubtful(&times) == 0);
        // An estimate that has become old is tried again.
        (0..OLD + 1).for_each(|_| times.add(Kind::Plain, 1, 0.001));
        assert!(doubtful(&times) > 0);
    }

    #[test]
    fn one_slow_wave_is_no_measurement() {
        let mut times = DecodeTimes::default();
        for wave in 0..200 {
            times.add(Kind::Plain, 4, if wave % 50 == 3 { 1.0 } else { 0.01 });
        }
        let found = times.cost(false).time(4, false);
        assert!((0.0099..0.0106).contains(&found), "{found}");
    }

    #[test]
    fn one_odd_wave_among_the_first_decides_nothing() {
        for odd in [1e-6, 1.0] {
            for at in 0..BELIEVED {
                let mut times = DecodeTimes::default();
                (0..BELIEVED).for_each(|wave| times.add(Kind::Plain, 4, if wave == at { odd } else { 0.01 }));
                let found = times.cost(false).time(4, false);
                assert!((0.0099..0.0101).contains(&found), "{found} with {odd} at {at}");
            }
        }
    }

    #[test]
    fn waves_larger_than_any_measured_take_no_less_time() {
        let mut times = DecodeTimes::default();
        let [large, largest] = [SIZES - 2, SIZES - 1].map(|size| rows_of(size).round() as usize);
        for _ in 0..BELIEVED {
            times.add(Kind::Plain, large, 0.020);
            times.add(Kind::Plain, largest, 0.019);
        }
        for ahead in [false, true] {
            let cost = times.cost(ahead);
            for rows in [largest, largest + 1, 500, 1000, 10_000, 1_000_000] {
                let time = cost.time(rows, false);
                assert!((0.0185..0.021).contains(&time), "{rows} rows take {time} s");
            }
        }
        // Where they grow, they go on growing.
        let line = DecodeCost::line(8.0);
        assert!((line.time(1000, false) - 1008.0).abs() < 1e-6, "{}", line.time(1000, false));
        assert!(DecodeTimes::default().cost(true).time(1000, true) > 1000.0);
    }
}
