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

    /// The time of a plain wave of about as many rows, if it is known.
    pub(super) fn plain(&self, rows: usize) -> Option<f64> {
        let size = size_of(rows as f64).round() as usize;
        let seconds = self.believed(&self.plain[size])?;
        Some(seconds * guess(rows as f64) / guess(rows_of(size)))
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

/// Probabilities of a drafted token from which it may join, one of which is chosen for all sessions of a wave.
const LEVELS: [f64; 8] = [0.95, 0.85, 0.7, 0.55, 0.4, 0.28, 0.18, 0.1];

/// What the sessions of a wave have drafted. For each of [`LEVELS`], what comes of it if the tokens join that are right with
/// at least that probability.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drafted {
    /// Sessions that decode.
    sessions: usize,
    /// Of these, sessions whose drafted tokens join.
    drafting: [usize; LEVELS.len()],
    /// Drafted tokens.
    drafts: [usize; LEVELS.len()],
    /// Of these, how many are expected to be right.
    right: [f64; LEVELS.len()],
}

impl Drafted {
    /// Counts a session that has drafted `tokens` tokens, each of which is right with the probability `confidence` if those
    /// before are. `unread` tokens of the session have been chosen and not been read: the draft has guessed these too.
    pub(super) fn add(&mut self, confidence: f32, unread: usize, tokens: usize) {
        self.sessions += 1;
        for (level, least) in LEVELS.into_iter().enumerate() {
            let joining = joining(least, confidence, unread, tokens);
            if joining > 0 {
                self.drafting[level] += 1;
                self.drafts[level] += joining;
                self.right[level] += chances(confidence, unread).take(joining).sum::<f64>();
            }
        }
    }

    /// True if a session has drafted anything.
    pub(super) fn any(&self) -> bool {
        self.drafting.iter().any(|drafting| *drafting > 0)
    }
}

/// The probabilities that one drafted token after the other is right.
fn chances(confidence: f32, unread: usize) -> impl Iterator<Item = f64> {
    let confidence = f64::from(confidence);
    core::iter::successors(Some(confidence.powi(unread as i32 + 1)), move |before| Some(before * confidence))
}

/// Number of a session's drafted tokens that join if those do that are right with at least the probability `level`.
pub(super) fn joining(level: f64, confidence: f32, unread: usize, tokens: usize) -> usize {
    chances(confidence, unread).take(tokens).take_while(|chance| *chance >= level).count()
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

    /// The probability from which drafted tokens pay, if any do: the one with which the wave gives the most tokens in a second.
    ///
    /// All sessions are looked at together, because that a wave takes longer concerns them all: eight drafted tokens of one
    /// of four sessions may not pay where those of all four do. If other sessions go on meanwhile (`others`, or some of
    /// these), those that draft miss `ahead` waves, which start before it is known how many of their tokens are right.
    pub(super) fn level(&self, of: &Drafted, others: bool, ahead: usize) -> Option<f64> {
        /// How much faster drafts must be expected to be: the estimates err, and one that errs this way costs time, while
        /// one that errs the other way only saves none. Where steps run ahead, entering and leaving cost something too.
        const MARGIN: f64 = 1.05;
        const MARGIN_AHEAD: f64 = 1.3;
        let margin = if ahead > 0 { MARGIN_AHEAD } else { MARGIN };
        let mut speed = margin * of.sessions as f64 / self.time(of.sessions, false);
        let mut best = None;
        for level in (0..LEVELS.len()).filter(|level| of.drafting[*level] > 0) {
            let drafting = of.drafting[level] as f64;
            let apart = others || of.drafting[level] < of.sessions;
            let missed = if apart { ahead } else { 0 };
            let tokens = (of.sessions as f64 - drafting) + (drafting + of.right[level]) / (1 + missed) as f64;
            let here = tokens / self.time(of.sessions + of.drafts[level], true);
            if here > speed {
                (best, speed) = (Some(LEVELS[level]), here);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sessions` sessions that are all as confident of eight tokens.
    fn all(sessions: usize, confidence: f32) -> Drafted {
        let mut drafted = Drafted::default();
        (0..sessions).for_each(|_| drafted.add(confidence, 0, 8));
        drafted
    }

    /// Number of tokens that each of them drafts.
    fn drafts(cost: &DecodeCost, sessions: usize, confidence: f32) -> usize {
        let level = cost.level(&all(sessions, confidence), false, 0);
        level.map_or(0, |level| joining(level, confidence, 0, 8))
    }

    #[test]
    fn drafts_pay_while_waves_are_small() {
        let of = |wave, sessions, confidence| drafts(&DecodeCost::line(wave), sessions, confidence);
        assert_eq!((of(8.0, 1, 0.99), of(8.0, 1, 0.05)), (8, 0));
        assert!(of(8.0, 1, 0.9) > 5, "{}", of(8.0, 1, 0.9));
        assert!((1..5).contains(&of(8.0, 1, 0.5)), "{}", of(8.0, 1, 0.5));
        assert!(of(8.0, 16, 0.5) == 0 && of(8.0, 16, 0.95) > 0);
        // Where rows are free, all drafts are tried that are likely enough.
        assert_eq!(of(1e6, 64, 0.8), 8);
    }

    #[test]
    fn what_does_not_pay_for_one_session_pays_for_all() {
        // A wave with drafts takes as long as three others, whatever its rows.
        let cost = DecodeCost { plain: [1.0; SIZES], drafted: [3.0; SIZES] };
        let mut one = Drafted::default();
        one.add(0.9, 0, 8);
        (0..3).for_each(|_| one.add(0.0, 0, 0));
        assert_eq!(cost.level(&one, false, 0), None);
        assert_eq!(drafts(&cost, 4, 0.9), 8);
        // Where one of them has drafted nothing, the others miss the waves that it goes on in.
        let mut three = all(3, 0.9);
        three.add(0.0, 0, 0);
        assert!(cost.level(&three, false, 0).is_some() && cost.level(&three, false, 2).is_none());
        assert!(cost.level(&all(4, 0.9), true, 2).is_none());
    }

    #[test]
    fn the_likelier_tokens_join() {
        let cost = DecodeCost::line(8.0);
        let mut drafted = all(2, 0.95);
        (0..2).for_each(|_| drafted.add(0.3, 0, 8));
        let level = cost.level(&drafted, false, 0).unwrap();
        assert!(joining(level, 0.95, 0, 8) > 4 && joining(level, 0.3, 0, 8) < 2, "{level}");
        // Tokens that have not been read may be others than those that the draft goes on from.
        assert!(joining(0.5, 0.9, 3, 8) < joining(0.5, 0.9, 0, 8));
        assert_eq!(joining(0.5, 0.5, 3, 8), 0);
    }

    #[test]
    fn what_was_measured_decides() {
        let mut times = DecodeTimes::default();
        let drafted = |times: &DecodeTimes, ahead, confidence| drafts(&times.cost(ahead), 1, confidence);
        assert!(drafted(&times, false, 0.9) > 4);
        // Each row takes as long as the first.
        for rows in [1, 2, 4, 9].into_iter().cycle().take(100) {
            times.add(Kind::Plain, rows, 0.01 * rows as f64);
        }
        assert_eq!(drafted(&times, false, 0.9), 0);
        // Waves with drafts take as long as three others, whatever their rows.
        let mut times = DecodeTimes::default();
        (0..100).for_each(|_| times.add(Kind::Plain, 1, 0.001));
        assert!(drafted(&times, true, 0.9) > 4, "nothing is known of them");
        for rows in [2, 3, 4, 6, 9].into_iter().cycle().take(100) {
            times.add(Kind::Drafted, rows, 0.003);
        }
        assert!(drafted(&times, true, 0.9) > 4 && drafted(&times, true, 0.6) == 0);
        // An estimate that has become old is tried again.
        (0..OLD + 1).for_each(|_| times.add(Kind::Plain, 1, 0.001));
        assert!(drafted(&times, true, 0.6) > 0);
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
