//! How long waves take, learned from those that have passed: `a + b · rows` seconds. It bounds the rows of prompts beside
//! sessions that decode, and decides how many drafted tokens pay. Results never depend on it, only when they come.

use core::time::Duration;
use std::collections::VecDeque;
use web_time::Instant;

/// Waves in flight whose start is remembered.
const REMEMBERED: usize = 16;
/// Share that older waves keep when a wave is added.
const KEPT: f64 = 0.97;

/// The time of waves by their rows, as sums of a weighted linear regression.
#[derive(Clone, Debug, Default)]
pub(crate) struct WaveTimes {
    /// Number, rows and start of waves in flight.
    started: VecDeque<(u64, usize, Instant)>,
    /// When the last wave was done.
    stopped: Option<Instant>,
    weight: f64,
    rows: f64,
    seconds: f64,
    rows_rows: f64,
    rows_seconds: f64,
}

impl WaveTimes {
    /// Notes that a wave has been composed.
    pub(super) fn start(&mut self, wave: u64, rows: usize) {
        if self.started.len() == REMEMBERED {
            self.started.pop_front();
        }
        self.started.push_back((wave, rows, Instant::now()));
    }

    /// Notes that the tokens of a wave have been chosen.
    pub(crate) fn stop(&mut self, wave: u64) {
        let now = Instant::now();
        while let Some((number, rows, start)) = self.started.front().copied() {
            if number > wave {
                break;
            }
            self.started.pop_front();
            if number == wave {
                // Waves queue up on a device: one starts when the one before it is done.
                let start = self.stopped.map_or(start, |stopped| stopped.max(start));
                self.add(rows as f64, now.duration_since(start).as_secs_f64());
            }
        }
        self.stopped = Some(now);
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

    /// What a wave costs in proportion to a row, unless the caller says so.
    pub(super) fn cost(&self, wave: Option<f64>) -> RowCost {
        /// Until waves have been measured: a wave costs as much as this many rows. It is so for CPUs that are limited by
        /// the weights they read.
        const GUESS: f64 = 4.0;
        let measured = || self.line().map_or(GUESS, |(wave, row)| wave / row);
        RowCost { wave: wave.unwrap_or_else(measured) }
    }
}

/// What a row costs.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowCost {
    /// The cost of a wave without rows, in rows.
    wave: f64,
}

impl RowCost {
    /// Number of drafted tokens, up to `most`, that pay in a wave of `rows` rows that gives `tokens` tokens, if each is right
    /// with the probability `confidence`. Adds the expected number of right ones to `tokens`.
    ///
    /// One more row pays if it adds a larger share to the wave's tokens than to its time.
    pub(super) fn worthwhile(self, rows: usize, tokens: &mut f64, confidence: f32, most: usize) -> usize {
        let mut time = self.wave + rows.max(1) as f64;
        let mut right = 1.0;
        for drafts in 0..most {
            right *= f64::from(confidence);
            if right * time <= *tokens {
                return drafts;
            }
            time += 1.0;
            *tokens += right;
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn drafts_pay_while_waves_are_small() {
        let of = |wave, sessions: u32, confidence| {
            RowCost { wave }.worthwhile(sessions as usize, &mut f64::from(sessions), confidence, 8)
        };
        assert_eq!((of(8.0, 1, 0.9), of(8.0, 1, 0.05)), (8, 0));
        assert!((1..5).contains(&of(8.0, 1, 0.5)), "{}", of(8.0, 1, 0.5));
        assert!(of(8.0, 16, 0.5) == 0 && of(8.0, 16, 0.95) > 0);
        // Where rows are free, all drafts are tried.
        assert_eq!(of(1e6, 64, 0.3), 8);
    }
}
