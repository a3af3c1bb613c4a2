//! The steps of a layer and of the head: kernels that are bound to buffers, or are yet to be.

use super::shape::Extent;
use weft_gpu::Bound;

/// A bound kernel and its grid.
pub(super) struct Step {
    pub(super) bound: Bound,
    pub(super) grid: [Extent; 3],
}

/// The steps of a layer, for one class.
pub(super) struct LayerSteps<S> {
    pub(super) project: S,
    /// Attention in the order of [`Attend`].
    pub(super) attend: [S; 4],
    pub(super) output: S,
    pub(super) ffn: S,
}

/// The steps of the head, for one class.
pub(super) struct HeadSteps<S> {
    pub(super) logits: S,
}

impl<S> LayerSteps<S> {
    pub(super) fn each(&self) -> impl Iterator<Item = &S> {
        [&self.project].into_iter().chain(&self.attend).chain([&self.output, &self.ffn])
    }

    pub(super) fn map<T>(self, f: impl Fn(S) -> T) -> LayerSteps<T> {
        LayerSteps {
            project: f(self.project),
            attend: self.attend.map(&f),
            output: f(self.output),
            ffn: f(self.ffn),
        }
    }
}
