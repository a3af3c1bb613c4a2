//! How failures of a device are found.
//!
//! On a device that the engine opened, handlers note them. A host's device keeps the host's handlers: there, error scopes stand
//! around whatever the engine creates or submits.

use crate::error_scopes::{error_of, scoped};
use std::sync::{Arc, Mutex, PoisonError};

/// The first failure of a device.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    first: Arc<Mutex<Option<String>>>,
    /// True on a host's device, whose handlers are left alone.
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

    /// For a host's device: [`Fault::watch`] finds its errors.
    pub(crate) fn scoped() -> Self {
        Self { first: Arc::default(), scoped: true }
    }

    /// Notes a failure, if it is the first.
    pub(crate) fn set(&self, reason: String) {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reason);
    }

    /// The first failure.
    pub(crate) fn get(&self) -> Option<String> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes an error of a command.
    pub(crate) fn refuse(&self, error: &wgpu::Error) {
        tracing::error!(%error, "the GPU refused a command");
        self.set(error.to_string());
    }

    /// Runs `work`, which uses `device` on this thread. On a host's device an error of it becomes the failure, and the host's
    /// handler does not see it.
    pub(crate) fn watch<T>(&self, device: &wgpu::Device, work: impl FnOnce() -> T) -> T {
        // A browser answers later, when nothing waits any more: there the host's handler sees the engine's errors.
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
