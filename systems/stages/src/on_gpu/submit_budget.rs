//! How long a device takes for a layer, and so how much of a wave goes into one submit: a submit that runs long keeps others
//! from the device, a desktop's windows among them.

use core::time::Duration;

/// What is known of a device's speed on a model.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SubmitBudget {
    /// Seconds for a row of a layer, of waves with many rows; `None` until one was timed.
    row: Option<f64>,
    /// Seconds of work recorded since the last submit.
    recorded: f64,
}

/// Rows from which a wave says how long a row takes: fewer cost as much as one.
const MANY: usize = 32;

impl SubmitBudget {
    /// Takes in that `rows` took so long to pass `layers`.
    pub(super) fn learn(&mut self, rows: usize, layers: usize, took: Duration) {
        if rows >= MANY && layers > 0 {
            let row = took.as_secs_f64() / (rows * layers) as f64;
            self.row = Some(self.row.map_or(row, |before| 0.5 * (before + row)));
        }
    }

    /// Notes that a layer has been recorded for `rows`, and says whether it is time for a submit.
    pub(super) fn layer(&mut self, rows: usize, budget: Duration) -> bool {
        let budget = budget.as_secs_f64();
        // Where nothing is known, a layer of many rows is a submit.
        let seconds = if rows >= MANY { self.row.map_or(budget, |row| row * rows as f64) } else { 0.0 };
        self.recorded += seconds;
        self.recorded >= budget
    }

    /// Notes a submit.
    pub(super) fn submitted(&mut self) {
        self.recorded = 0.0;
    }

    /// Rows of a wave whose layers each keep within the budget, of at most `most`.
    pub(super) fn rows(&self, budget: Duration, most: usize) -> usize {
        let fit = self.row.map_or(most, |row| (budget.as_secs_f64() / row) as usize);
        // Powers of two: parts of a long prompt are then of one size.
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
        assert!(submit_budget.layer(512, BUDGET), "nothing is known yet");
        submit_budget.submitted();
        assert!(!submit_budget.layer(1, BUDGET), "a step that decodes is one submit");
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
        assert_eq!(submit_budget.rows(BUDGET, 2048), 256, "one row says nothing of many");
        for _ in 0..20 {
            submit_budget.learn(64, 2, Duration::from_secs(10));
        }
        assert_eq!(submit_budget.rows(BUDGET, 2048), 32, "some progress always");
    }
}
