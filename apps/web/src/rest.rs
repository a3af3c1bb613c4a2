//! Giving the browser its turn. Promises that are settled already keep others from running, readbacks and paints among
//! them: only a task of its own, as a timer's is, lets them run.

use js_sys::{Date, Function, Promise};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

#[wasm_bindgen]
extern "C" {
    // Pages and workers have it under this name.
    #[wasm_bindgen(js_name = setTimeout)]
    fn set_timeout(then: &Function, milliseconds: i32) -> JsValue;
}

/// Longest that the engine computes before others get their turn, in milliseconds: half a frame of 60 Hz.
const TURN: f64 = 8.0;

/// When the engine's turn began.
pub(crate) struct Turn(f64);

impl Turn {
    /// Begins a turn.
    pub(crate) fn begin() -> Self {
        Self(Date::now())
    }

    /// Whether others have waited long enough.
    pub(crate) fn is_over(&self) -> bool {
        Date::now() - self.0 >= TURN
    }

    /// Lets others run and begins anew.
    pub(crate) async fn rest(&mut self) {
        let later = Promise::new(&mut |resolve, _| {
            set_timeout(&resolve, 0);
        });
        // A timer's promise is never rejected.
        let _ = JsFuture::from(later).await;
        self.0 = Date::now();
    }
}
