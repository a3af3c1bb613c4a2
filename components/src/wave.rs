//! Waves: the rows that pass through a model together.

use crate::adapter::{UsesAdapter, WaveAdapters};
use crate::model::{ModelConfig, Place};
use bevy_ecs::prelude::*;
use core::ops::Range;

/// Flag in [`Wave::tokens`], in place of a token's id. The id is on the device that chose it, at the place in the KV
/// cache that the lower bits give.
pub const DEVICE_TOKEN: u32 = 1 << 31;

/// How far a wave has come through its model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AtLayer {
    /// Carries no rows.
    #[default]
    Idle,
    /// Waits for the embedding.
    Embed,
    /// Is before this layer.
    Layer(usize),
    /// Is in this layer: its attention has run, its feed-forward network has not.
    Ffn(usize),
    /// Is before the head.
    Head,
    /// Its logits and final hidden states are on the host, ready for delivery to their sessions.
    Sample,
    /// The head's backend has recorded its logits and submits them itself. They are read back into another wave.
    OnDevice,
}

impl AtLayer {
    /// Returns true if the wave carries rows that have not passed the head.
    pub fn travels(self) -> bool {
        matches!(self, Self::Embed | Self::Layer(_) | Self::Ffn(_) | Self::Head)
    }
}

/// How the token of a span is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Chosen {
    /// By the session's sampler, from the logits.
    #[default]
    Sampler,
    /// A device has chosen it. `None` if every logit was NaN or `-inf`.
    Device(Option<u32>),
    /// A system has chosen it, in place of the session's sampler. Only for sessions with
    /// [`ReadsLogits`](crate::ReadsLogits): a device's choice cannot be replaced, since steps in flight have used it.
    System(u32),
}

/// Consecutive positions of one session in a wave.
#[derive(Clone, Debug)]
pub struct WaveSpan {
    /// The session. It may have been despawned since.
    pub session: Entity,
    /// Its rows of the wave.
    pub rows: Range<usize>,
    /// Position of the first row in the session's context.
    pub start: usize,
    /// Range of its block table in [`WaveKv::tables`], the same for each class.
    pub table: Range<usize>,
    /// The span's rows of the wave's logits.
    pub logits: Range<usize>,
    /// The span's rows of the wave's states.
    pub states: Range<usize>,
    /// The session's epoch when the rows were added.
    pub epoch: u32,
    /// True if its last row is the end of the session's tokens, so that a token can be chosen.
    pub complete: bool,
    /// Number of its last rows that carry drafted tokens. A token is chosen from each of their rows of logits, and from the
    /// one before, as long as the drafted tokens are those chosen.
    pub drafts: usize,
    /// The adapter that the session uses.
    pub adapter: Option<UsesAdapter>,
}

/// Where the keys and values of a wave are in the arena of one KV class.
#[derive(Clone, Debug, Default)]
pub struct WaveKv {
    /// Block tables of the spans, one after another.
    pub tables: Vec<u32>,
    /// Slot that stores each row's keys and values.
    pub slots: Vec<u32>,
    /// Pages to copy before the rows' keys and values are stored, `(from, to)`: sessions that diverge within a page.
    pub copies: Vec<(u32, u32)>,
    /// The class that keeps this one's newest tokens ([`KvClass::recent_of`](crate::KvClass::recent_of)), if there is one.
    pub recent: Option<usize>,
    /// Pages that the wave completes, in a class whose pages are made from those of a class of newest tokens: `(slot there,
    /// slot here)`. They are made after the rows' keys and values are stored, and before any row attends.
    pub seals: Vec<(u32, u32)>,
}

impl WaveKv {
    fn clear(&mut self) {
        self.tables.clear();
        self.slots.clear();
        self.copies.clear();
        self.seals.clear();
    }
}

/// The rows that pass through a model together, as arrays by row: hidden state `[rows, embedding]`, logits `[logit
/// rows, vocabulary]`.
///
/// Sessions join when a wave is composed and leave when it is sampled. Arrays keep their capacity.
#[derive(Component, Debug, Default)]
pub struct Wave {
    /// How far the wave has come.
    pub at: AtLayer,
    /// Number of the wave in the order in which the model's waves were composed. No wave overtakes an earlier one,
    /// because a later one may hold the next positions of the same session.
    pub turn: u64,
    /// The sessions that the rows belong to.
    pub spans: Vec<WaveSpan>,
    /// Where the rows' keys and values are, for each KV class of the model.
    pub kv: Vec<WaveKv>,
    /// Token of each row.
    pub tokens: Vec<u32>,
    /// Position of each row.
    pub positions: Vec<u32>,
    /// Rows whose logits are wanted, ascending.
    pub logit_rows: Vec<u32>,
    /// Rows whose final hidden state is wanted, ascending.
    pub state_rows: Vec<u32>,
    /// The rows that use an adapter.
    pub adapters: WaveAdapters,
    /// The place that the wave has entered. `None` while it is between places. Then `hidden` holds the hidden state.
    pub place: Option<Place>,
    /// Hidden state, row by row, while it is on the host.
    pub hidden: Vec<f32>,
    /// Logits, row by row.
    pub logits: Vec<f32>,
    /// Final hidden states, `[state rows, embedding]`.
    pub states: Vec<f32>,
    /// How each span's token is chosen. [`Chosen::Sampler`] for spans beyond its end.
    pub chosen: Vec<Chosen>,
    /// Tokens that a device chose, by row of logits. Only spans with drafts have more than the one in `chosen`.
    pub picked: Vec<Option<u32>>,
}

impl Wave {
    /// Number of pages in the block tables of its spans.
    pub fn pages(&self) -> usize {
        self.kv.first().map_or(0, |kv| kv.tables.len())
    }

    /// Number of rows in the wave.
    pub fn rows(&self) -> usize {
        self.tokens.len()
    }

    /// Empties the wave and keeps its memory.
    pub fn clear(&mut self) {
        self.at = AtLayer::Idle;
        self.place = None;
        self.spans.clear();
        self.kv.iter_mut().for_each(WaveKv::clear);
        self.tokens.clear();
        self.positions.clear();
        self.logit_rows.clear();
        self.state_rows.clear();
        self.adapters.clear();
        self.chosen.clear();
        self.picked.clear();
    }
}

/// Limits of a model's waves, so that their memory stays in proportion to the model's file.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaveLimits {
    /// Largest number of rows.
    pub rows: usize,
    /// Largest number of rows whose logits are computed.
    pub logit_rows: usize,
    /// Largest number of pages of context that its sessions may have together: as many as fit a device's block tables.
    pub pages: usize,
}

impl WaveLimits {
    /// Limits for a model whose weights take `weight_bytes`.
    ///
    /// Widths come from the file's metadata, so a small file may ask for rows of any width.
    pub fn new(config: &ModelConfig, weight_bytes: u64) -> Self {
        /// Memory in bytes that any model's waves may take.
        const LEAST: u64 = 64 << 20;
        let budget = weight_bytes.max(LEAST);
        let heads = config.heads.saturating_mul(config.key_length.saturating_add(config.value_length));
        let kv_heads = config.kv_heads.saturating_mul(config.key_length.saturating_add(config.value_length));
        // Hidden state, normed and kept, projections and attention, gate, up and their product. Then once more for
        // quantized copies.
        let row = config.embedding.saturating_mul(3).saturating_add(heads).saturating_add(kv_heads);
        let row = row.saturating_add(config.feed_forward.saturating_mul(3));
        // Layers with experts: scores, rows of one expert, the sum over them.
        let experts = config.experts.map_or(0, |experts| {
            let inner = experts.feed_forward.max(experts.shared_feed_forward).saturating_mul(3);
            inner.saturating_add(experts.count).saturating_add(config.embedding.saturating_mul(2))
        });
        let row = row.saturating_add(experts).saturating_mul(2);
        let fit = |floats: usize| {
            let bytes = (floats as u64).saturating_mul(4).max(1);
            usize::try_from(budget / bytes).unwrap_or(usize::MAX).max(1)
        };
        Self { rows: fit(row), logit_rows: fit(config.vocabulary), pages: usize::MAX }
    }
}

/// The waves of a model.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = WaveOf, linked_spawn)]
pub struct Waves(Vec<Entity>);

impl Waves {
    /// Wave entities.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// Marks a wave that carries a readback: logits and states of rows that were computed in another wave. Admission adds
/// no rows to it. The stage `Sample` treats it like any wave.
#[derive(Component, Debug)]
#[relationship(relationship_target = Readbacks)]
pub struct ReadbackOf(pub Entity);

/// The waves that carry readbacks of a model.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = ReadbackOf, linked_spawn)]
pub struct Readbacks(Vec<Entity>);

impl Readbacks {
    /// Wave entities.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// Names the model that a wave passes through.
#[derive(Component, Debug)]
#[relationship(relationship_target = Waves)]
pub struct WaveOf(pub Entity);

/// Counts the progress of ticks: shards taken, waves composed, layers run, waves sampled, sessions ended.
#[derive(Resource, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TickWork(pub u64);

/// The layer for which the schedule `LayerStep` runs.
#[derive(Resource, Clone, Copy, Debug)]
pub struct CurrentLayer {
    /// The wave.
    pub wave: Entity,
    /// The model.
    pub model: Entity,
    /// The layer.
    pub layer: Entity,
    /// Its index.
    pub index: usize,
    /// The layer's place. The wave has entered it.
    pub place: Place,
    /// True if its attention has run, in this tick or an earlier one.
    pub attended: bool,
    /// True if all of it has run. A layer that no backend computes stops the wave.
    pub computed: bool,
}
