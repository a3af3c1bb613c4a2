//! Yields to the browser. Awaiting a promise that is already settled does not let the browser run readbacks or paint;
//! only a new task, such as a timer's, does.

use js_sys::{Date, Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    // The name is the same in pages and in workers.
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(then: &Function, milliseconds: i32) -> JsValue;
}

/// Maximum time in milliseconds that the engine computes before it yields: half a frame at 60 Hz.
const TURN: f64 = 8.0;

/// The time at which the engine's turn began, in milliseconds since the epoch.
pub(crate) struct Turn(f64);

impl Turn {
    /// Begins a turn.
    pub(crate) fn begin() -> Self {
        Self(Date::now())
    }

    /// Returns true if the turn has used up its time.
    pub(crate) fn is_over(&self) -> bool {
        Date::now() - self.0 >= TURN
    }

    /// Yields to the browser, then begins a new turn.
    pub(crate) async fn rest(&mut self) {
        let later = Promise::new(&mut |resolve, _| {
            set_timeout(&resolve, 0);
        });
        // A timer's promise is never rejected.
        let _ = JsFuture::from(later).await;
        self.0 = Date::now();
    }
}
