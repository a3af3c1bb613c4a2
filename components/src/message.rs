//! Messages: what systems tell front ends.

use crate::session::FinishReason;
use bevy_ecs::prelude::*;

/// How far a model's loading has come. Sent whenever something arrived.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadProgress {
    /// The model.
    pub model: Entity,
    /// Bytes that have arrived, as the file holds them.
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
    /// Whether everything has arrived.
    pub fn is_complete(&self) -> bool {
        self.shards == self.total_shards
    }
}

/// A model's load failed; the model's `LoadFailed` says why.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadFailure {
    /// The model.
    pub model: Entity,
}

/// A model was placed anew, since a GPU of its failed. Its sessions go on from their histories.
#[derive(Message, Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceEvent {
    /// The model.
    pub model: Entity,
    /// Where it is now.
    pub kind: DeviceEventKind,
}

/// What became of a model whose GPU failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceEventKind {
    /// It loads onto a fresh device.
    Rebuilt,
    /// It loads onto the CPU.
    OnCpu,
}

/// Something happened to a session. The text and the log-probabilities are in its `Output`.
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
    /// The request ended.
    Finished(FinishReason),
}
