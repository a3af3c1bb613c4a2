//! How long waves take, learned from those that have passed: `a + b · rows` seconds, which bounds the rows of prompts beside
//! sessions that decode. Waves without prompts are measured by their number of rows (see `decode_cost`). Results never
//! depend on it, only when they come.

use super::decode_cost::{DecodeCost, DecodeTimes, Kind};
use core::time::Duration;
use std::collections::VecDeque;
use web_time::Instant;

/// Waves in flight whose start is remembered.
const REMEMBERED: usize = 16;
/// Rows of prompts from which a wave is large: the device computes longer than the host takes to compose the next one.
const LARGE: usize = 256;
/// Large waves in flight: one that is computed, and one that waits, so that the device never does. A prompt that arrives
/// waits for them all.
pub(super) const MOST_LARGE: usize = 2;
/// Share that older waves keep when a wave is added.
const KEPT: f64 = 0.97;

/// A wave in flight.
#[derive(Clone, Copy, Debug)]
struct Started {
    wave: u64,
    rows: usize,
    /// Rows of prompts among them.
    prompt_rows: usize,
    kind: Kind,
    at: Instant,
}

impl Started {
    /// Returns true if two waves should take about the same time.
    fn is_like(&self, other: &Self) -> bool {
        self.kind == other.kind && self.rows <= 2 * other.rows && other.rows <= 2 * self.rows
    }
}

/// The time of waves by their rows, as sums of a weighted linear regression.
#[derive(Clone, Debug, Default)]
pub(crate) struct WaveTimes {
    started: VecDeque<Started>,
    /// Waves whose results have come since the last call of [`Self::measure`].
    stopped: Vec<Started>,
    /// The times of waves without prompts.
    decoding: DecodeTimes,
    /// The rows and the time of the last wave, if it had drafts: not all of its time is known.
    drafted: Option<(usize, f64)>,
    /// When the last wave was done.
    done: Option<Instant>,
    weight: f64,
    rows: f64,
    seconds: f64,
    rows_rows: f64,
    rows_seconds: f64,
}

impl WaveTimes {
    /// Notes that a wave of `rows` rows, `prompt_rows` of them of prompts, has been composed.
    pub(super) fn start(&mut self, wave: u64, rows: usize, prompt_rows: usize, kind: Kind, now: Instant) {
        if self.started.len() == REMEMBERED {
            self.started.pop_front();
        }
        self.started.push_back(Started { wave, rows, prompt_rows, kind, at: now });
    }

    /// Notes that the results of a wave are on the host. Waves come in the order of their numbers.
    pub(crate) fn stop(&mut self, wave: u64) {
        while let Some(started) = self.started.front().copied() {
            if started.wave > wave {
                break;
            }
            self.started.pop_front();
            if started.wave == wave {
                self.stopped.push(started);
            }
        }
    }

    /// Measures the waves that have stopped since the last call, all of them found `now`. Of several it is not known when
    /// each was done, so the time since the wave before them is shared out evenly.
    pub(crate) fn measure(&mut self, now: Instant) {
        if let Some(first) = self.stopped.first().copied() {
            let count = self.stopped.len();
            let rows: usize = self.stopped.iter().map(|wave| wave.rows).sum();
            // Waves queue up on a device, so one starts when the one before it is done. If it is only composed later,
            // because it had to wait for the tokens of that one, the time between is part of what it costs.
            let seconds = |from: Instant| now.duration_since(from).as_secs_f64() / count as f64;
            let before = self.done.unwrap_or(first.at);
            let alike = self.stopped.iter().all(|wave| wave.is_like(&first));
            self.stopped.clear();
            for _ in 0..count {
                self.add(rows as f64 / count as f64, seconds(before.max(first.at)));
                self.add_decoding(alike.then_some(first.kind), rows / count, seconds(before));
            }
        }
        self.done = Some(now);
    }

    /// Adds the time of a wave without prompts. `kind` is `None` if waves of several kinds were found together.
    ///
    /// What follows a wave with drafts is composed only when its tokens have been read, and does not queue up behind it. What
    /// a plain wave takes longer for that is part of the cost of the drafts.
    fn add_decoding(&mut self, kind: Option<Kind>, rows: usize, seconds: f64) {
        if let Some((drafted, before)) = self.drafted.take() {
            let usual = self.decoding.plain(rows).filter(|_| kind == Some(Kind::Plain));
            let late = usual.map_or(0.0, |usual| seconds - usual);
            self.decoding.add(Kind::Drafted, drafted, (before + late).max(before / 2.0));
            if usual.is_some() {
                return;
            }
        }
        match kind {
            Some(Kind::Drafted) => self.drafted = Some((rows, seconds)),
            Some(kind) => self.decoding.add(kind, rows, seconds),
            None => {}
        }
    }

    /// Number of waves that have been composed and whose results are not on the host: those of requests that have ended
    /// meanwhile too, since a device computes them all the same.
    fn in_flight(&self) -> usize {
        self.started.len()
    }

    /// Returns true if no other wave should be composed now, where steps run `ahead` of what has been read back: as many
    /// waves as a session may have are in flight, or as many large ones as keep the device busy. With more, sessions that
    /// are not in step would have waves of their own, which cost as much as one of them all, and a new prompt would wait
    /// for them.
    pub(super) fn are_enough(&self, ahead: usize) -> bool {
        let large = || self.started.iter().filter(|wave| wave.prompt_rows >= LARGE).count();
        ahead > 0 && (self.in_flight() > ahead || large() >= MOST_LARGE)
    }

    /// Notes that a wave was abandoned: it has no results.
    pub(crate) fn forget(&mut self, wave: u64) {
        self.started.retain(|started| started.wave != wave);
    }

    /// Notes that all waves in flight were abandoned.
    pub(crate) fn forget_all(&mut self) {
        self.started.clear();
    }

    /// Notes that no session has a request in progress. The time until the next one is no wave's.
    pub(crate) fn rest(&mut self) {
        self.done = None;
        self.drafted = None;
    }

    fn add(&mut self, rows: f64, seconds: f64) {
        let sums = [
            &mut self.weight,
            &mut self.rows,
            &mut self.seconds,
            &mut self.rows_rows,
            &mut self.rows_seconds,
        ];
        for (sum, more) in sums.into_iter().zip([1.0, rows, seconds, rows * rows, rows * seconds]) {
            *sum = *sum * KEPT + more;
        }
    }

    /// The costs of a wave and of a row, in seconds. `None` if too little is known.
    fn line(&self) -> Option<(f64, f64)> {
        let variance = self.rows_rows * self.weight - self.rows * self.rows;
        let covariance = self.rows_seconds * self.weight - self.rows * self.seconds;
        // Waves that all have about the same number of rows tell nothing about a row.
        if variance < 0.1 * self.weight * self.weight || covariance <= 0.0 {
            return None;
        }
        let row = covariance / variance;
        Some((((self.seconds - row * self.rows) / self.weight).max(0.0), row))
    }

    /// Number of rows that take about this time, but at least `least`.
    pub(super) fn rows_in(&self, time: Duration, least: usize) -> usize {
        let seconds = time.as_secs_f64();
        match self.line() {
            Some((wave, row)) => (((seconds - wave) / row).max(0.0) as usize).max(least),
            None if self.rows > 0.0 => ((seconds * self.rows / self.seconds.max(1e-9)) as usize).max(least),
            None => usize::MAX,
        }
    }

    /// What waves of decoding sessions cost. `wave` is the cost of a wave in rows, where the caller says so; `ahead` is true
    /// if a wave with drafts keeps the next one waiting.
    pub(super) fn cost(&self, wave: Option<f64>, ahead: bool) -> DecodeCost {
        match wave {
            Some(wave) => DecodeCost::line(wave),
            None => self.decoding.cost(ahead),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, milliseconds: u64) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    /// Seconds that a wave of `rows` rows without drafts is expected to take, from those measured.
    fn expected(times: &WaveTimes, rows: usize) -> f64 {
        times.cost(None, true).time(rows, false)
    }

    #[test]
    fn a_line_is_found_in_noise() {
        let mut times = WaveTimes::default();
        for wave in 0..400u32 {
            let rows = f64::from(1 + wave % 9);
            let noise = 1.0 + 0.1 * f64::from(wave * 7919 % 13) / 13.0;
            times.add(rows, (0.010 + 0.002 * rows) * noise);
        }
        let (wave, row) = times.line().unwrap();
        assert!((0.009..0.012).contains(&wave) && (0.0018..0.0024).contains(&row), "{wave} {row}");
        assert!((90..110).contains(&times.rows_in(Duration::from_millis(210), 1)));
    }

    #[test]
    fn equal_waves_tell_nothing_of_a_row() {
        let mut times = WaveTimes::default();
        (0..100).for_each(|_| times.add(1.0, 0.01));
        assert_eq!(times.line(), None);
        assert_eq!(times.rows_in(Duration::from_millis(105), 1), 10);
    }

    /// A host that is busy elsewhere finds several waves at once.
    #[test]
    fn waves_that_are_found_together_share_the_time() {
        let start = Instant::now();
        let mut times = WaveTimes::default();
        // A wave takes 10 ms. The host looks every 20.
        for found in 0..8u64 {
            let waves = 2 * found..2 * found + 2;
            for wave in waves.clone() {
                times.start(wave, 4, 0, Kind::Plain, after(start, 20 * found));
            }
            waves.for_each(|wave| times.stop(wave));
            times.measure(after(start, 20 * found + 20));
        }
        let found = expected(&times, 4);
        assert!((0.0099..0.0101).contains(&found), "{found}");
        assert_eq!(times.rows_in(Duration::from_millis(50), 1), 20);
        assert_eq!(times.in_flight(), 0);
    }

    #[test]
    fn waves_that_differ_and_are_found_together_say_nothing_of_either() {
        let start = Instant::now();
        let mut times = WaveTimes::default();
        for found in 0..8u64 {
            times.start(2 * found, 4, 0, Kind::Plain, after(start, 100 * found));
            times.start(2 * found + 1, 512, 508, Kind::Prompts, after(start, 100 * found));
            times.stop(2 * found);
            times.stop(2 * found + 1);
            times.measure(after(start, 100 * found + 100));
        }
        // What is guessed for the lack of a measurement: 4 and one for each row.
        assert!((expected(&times, 4) - 8.0).abs() < 1e-9, "{}", expected(&times, 4));
        // Together they still say how many rows pass in a second.
        assert!((255..=260).contains(&times.rows_in(Duration::from_millis(50), 1)));
    }

    #[test]
    fn time_without_a_request_belongs_to_no_wave() {
        let start = Instant::now();
        let mut times = WaveTimes::default();
        for round in 0..4u64 {
            let at = |milliseconds| after(start, 1000 * round + milliseconds);
            times.rest();
            times.start(2 * round, 4, 0, Kind::Plain, at(0));
            times.stop(2 * round);
            times.measure(at(10));
            // It was composed late, because it waited for the tokens of the one before: that is what it costs.
            times.start(2 * round + 1, 4, 0, Kind::Plain, at(13));
            times.stop(2 * round + 1);
            times.measure(at(20));
        }
        let found = expected(&times, 4);
        assert!((0.0099..0.0101).contains(&found), "{found}");
    }

    #[test]
    fn what_a_wave_with_drafts_delays_is_its_own() {
        let start = Instant::now();
        let mut times = WaveTimes::default();
        let (mut now, mut wave) = (0, 0);
        let mut pass = |times: &mut WaveTimes, rows, kind, milliseconds| {
            times.start(wave, rows, 0, kind, after(start, now));
            times.stop(wave);
            now += milliseconds;
            times.measure(after(start, now));
            wave += 1;
        };
        (0..8).for_each(|_| pass(&mut times, 1, Kind::Plain, 10));
        // The wave with drafts takes 15 ms, and the next one 20 ms more than usual, because nothing was queued up.
        for _ in 0..8 {
            pass(&mut times, 9, Kind::Drafted, 15);
            pass(&mut times, 1, Kind::Plain, 30);
            (0..3).for_each(|_| pass(&mut times, 1, Kind::Plain, 10));
        }
        let plain = expected(&times, 1);
        assert!((0.0099..0.0101).contains(&plain), "{plain}");
        let drafted = times.cost(None, true).time(9, true);
        assert!((0.033..0.037).contains(&drafted), "{drafted}");
        // One after the other, each takes what it takes.
        (0..100).for_each(|_| pass(&mut times, 9, Kind::Drafted, 25));
        let drafted = times.cost(None, true).time(9, true);
        assert!((0.024..0.026).contains(&drafted), "{drafted}");
    }

    #[test]
    fn waves_are_in_flight_until_they_stop_or_are_forgotten() {
        let now = Instant::now();
        let mut times = WaveTimes::default();
        (0..5).for_each(|wave| times.start(wave, 1, 0, Kind::Plain, now));
        // That no request is in progress says nothing of what a device computes.
        times.rest();
        assert_eq!(times.in_flight(), 5);
        times.forget(1);
        times.forget(7);
        assert_eq!(times.in_flight(), 4);
        // An earlier wave that never stopped is gone with a later one, and one that was forgotten is not measured.
        times.stop(1);
        assert_eq!((times.in_flight(), times.stopped.len()), (3, 0));
        times.stop(3);
        assert_eq!((times.in_flight(), times.stopped.len()), (1, 1));
        times.forget_all();
        assert_eq!(times.in_flight(), 0);
        times.stop(4);
        times.measure(now);
        assert_eq!((times.in_flight(), times.stopped.len(), times.done), (0, 0, Some(now)));
        (5..105).for_each(|wave| times.start(wave, 1, 0, Kind::Plain, now));
        assert_eq!(times.in_flight(), REMEMBERED);
    }
}
