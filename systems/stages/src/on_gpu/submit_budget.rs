//! The submit budget: how long a device takes for a layer, and so how much of a wave goes into one submit. A submit
//! that runs long keeps other programs from the device, for example a desktop's windows.

use core::time::Duration;

/// The measured speed of a device on a model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SubmitBudget {
    /// Seconds for one row of one layer, in waves with many rows. `None` until one was timed.
    row: Option<f64>,
    /// Seconds of work recorded since the last submit.
    recorded: f64,
}

/// Rows from which a wave is used to measure the time of a row: fewer rows cost as much as one.
const MANY: usize = 32;

impl SubmitBudget {
    /// Learns that `rows` rows took `took` to pass `layers` layers.
    pub(super) fn learn(&mut self, rows: usize, layers: usize, took: Duration) {
        if rows >= MANY && layers > 0 {
            let row = took.as_secs_f64() / (rows * layers) as f64;
            self.row = Some(self.row.map_or(row, |before| 0.5 * (before + row)));
        }
    }

    /// Notes that a layer has been recorded for `rows`. Returns true if it is time to submit.
    pub(super) fn layer(&mut self, rows: usize, budget: Duration) -> bool {
        let budget = budget.as_secs_f64();
        // Before the first measurement, a layer of many rows is one submit.
        let seconds = if rows >= MANY { self.row.map_or(budget, |row| row * rows as f64) } else { 0.0 };
        self.recorded += seconds;
        self.recorded >= budget
    }

    /// Notes a submit.
    pub(super) fn submitted(&mut self) {
        self.recorded = 0.0;
    }

    /// The number of rows, at most `most`, for which each layer of a wave keeps within the budget.
    pub(super) fn rows(&self, budget: Duration, most: usize) -> usize {
        let fit = self.row.map_or(most, |row| (budget.as_secs_f64() / row) as usize);
        // Powers of two, so that the chunks of a long prompt have one size.
        (1 << fit.max(MANY).ilog2()).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(50);

    #[test]
    fn submits_keep_to_their_budget() {
        let mut submit_budget = SubmitBudget::default();
        assert!(submit_budget.layer(512, BUDGET), "nothing is measured yet");
        submit_budget.submitted();
        assert!(!submit_budget.layer(1, BUDGET), "a decode step is one submit");
        // 10 ms a layer of 1,000 rows.
        submit_budget.learn(1000, 10, Duration::from_millis(100));
        let layers = (1..).find(|_| submit_budget.layer(1000, BUDGET));
        assert_eq!(layers, Some(5));
        submit_budget.submitted();
        assert!(!submit_budget.layer(1000, BUDGET));
    }

    #[test]
    fn a_layer_that_takes_too_long_gets_fewer_rows() {
        let mut submit_budget = SubmitBudget::default();
        assert_eq!(submit_budget.rows(BUDGET, 2048), 2048);
        submit_budget.learn(1024, 2, Duration::from_millis(400));
        assert_eq!(submit_budget.rows(BUDGET, 2048), 256);
        submit_budget.learn(1, 2, Duration::from_secs(1));
        assert_eq!(submit_budget.rows(BUDGET, 2048), 256, "one row does not measure many");
        for _ in 0..20 {
            submit_budget.learn(64, 2, Duration::from_secs(10));
        }
        assert_eq!(submit_budget.rows(BUDGET, 2048), 32, "a wave always makes some progress");
    }
}
