//! Messages from systems to front ends.

use crate::session::FinishReason;
use bevy_ecs::prelude::*;

/// The progress of a model's load. Sent each time a tensor has arrived.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The model.
    pub model: Entity,
    /// Bytes that have arrived, counted as in the file.
    pub bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Tensors that have arrived.
    pub shards: usize,
    /// Tensors in all.
    pub total_shards: usize,
    /// Layers that can be computed.
    pub layers: usize,
    /// Layers in all.
    pub total_layers: usize,
}

impl LoadProgress {
    /// Returns true if everything has arrived.
    pub fn is_complete(&self) -> bool {
        self.shards == self.total_shards
    }
}

/// A model's load failed. The model's `LoadFailed` has the reason.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadFailure {
    /// The model.
    pub model: Entity,
}

/// A model was placed again because one of its GPUs failed. Its sessions continue from their histories.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceEvent {
    /// The model.
    pub model: Entity,
    /// The model's new place.
    pub kind: DeviceEventKind,
}

/// The new place of a model whose GPU failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEventKind {
    /// The model loads onto a fresh device.
    Rebuilt,
    /// The model loads onto the CPU.
    OnCpu,
}

/// An event of a session. The text and the log-probabilities are in its `Output`.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionEvent {
    /// The session.
    pub session: Entity,
    /// What happened.
    pub kind: SessionEventKind,
}

/// What happened to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEventKind {
    /// A token was chosen.
    Token(u32),
    /// The context was full, and this many of its oldest tokens were dropped.
    Shifted(usize),
    /// The request ended.
    Finished(FinishReason),
}
