//! Finds the failures of a device.
//!
//! On a device that the engine opened, handlers record them. A device that the host program created keeps the host's
//! handlers. On it, error scopes surround everything that the engine creates or submits.

use crate::error_scopes::{error_of, scoped};
use std::sync::{Arc, Mutex, PoisonError};

/// The first failure of a device. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    first: Arc<Mutex<Option<String>>>,
    /// True if the host program created the device, whose handlers then stay in place.
    scoped: bool,
}

impl Fault {
    /// Installs handlers on a device that the engine opened.
    pub(crate) fn handled(device: &wgpu::Device) -> Self {
        let fault = Self { first: Arc::default(), scoped: false };
        let lost = fault.clone();
        device.set_device_lost_callback(move |reason, message| {
            lost.set(format!("device lost ({reason:?}): {message}"))
        });
        let refused = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| refused.refuse(&error)));
        fault
    }

    /// For a device of the host program. [`Fault::watch`] finds its errors.
    pub(crate) fn scoped() -> Self {
        Self { first: Arc::default(), scoped: true }
    }

    /// Records a failure, unless one is recorded already.
    pub(crate) fn set(&self, reason: String) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    /// Returns the first failure.
    pub(crate) fn get(&self) -> Option<String> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records the error of a command.
    pub(crate) fn refuse(&self, error: &wgpu::Error) {
        tracing::error!(%error, "the GPU rejected a command");
        self.set(error.to_string());
    }

    /// Runs `work`, which uses `device` on the calling thread. On a device of the host program an error that `work`
    /// causes becomes the failure, and the host's handler does not see it.
    pub(crate) fn watch<T>(&self, device: &wgpu::Device, work: impl FnOnce() -> T) -> T {
        // In a browser a scope answers later, after this call. There the host's handler sees the engine's errors.
        if !self.scoped || cfg!(target_family = "wasm") {
            return work();
        }
        let (value, error) = scoped(device, work);
        if let Some(error) = error_of(error) {
            self.refuse(&error);
        }
        value
    }
}
