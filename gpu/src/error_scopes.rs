//! Catches a device's errors with error scopes instead of its handlers. A scope belongs to the thread that pushed it.

use core::future::Future;
use core::task::{Context, Poll, Waker};

/// All kinds of errors.
const FILTERS: [wgpu::ErrorFilter; 3] =
    [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::Internal];

/// Runs `work`. Returns its value and the first error that it caused on `device` from the calling thread. Natively the
/// future is ready; in a browser it becomes ready later.
pub(crate) fn scoped<T>(
    device: &wgpu::Device,
    work: impl FnOnce() -> T,
) -> (T, impl Future<Output = Option<wgpu::Error>>) {
    let [outer, middle, inner] = FILTERS.map(|filter| device.push_error_scope(filter));
    let value = work();
    // Scopes are a stack, so that the innermost is popped first.
    let (inner, middle, outer) = (inner.pop(), middle.pop(), outer.pop());
    (value, async move {
        let errors = [inner.await, middle.await, outer.await];
        errors.into_iter().flatten().next()
    })
}

/// The error of a scope. `None` if there is none, or if it is not known yet.
pub(crate) fn error_of(error: impl Future<Output = Option<wgpu::Error>>) -> Option<wgpu::Error> {
    let mut error = core::pin::pin!(error);
    match error.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(error) => error,
        Poll::Pending => None,
    }
}
