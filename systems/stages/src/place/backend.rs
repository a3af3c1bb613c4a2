//! The trait [`Backend`]: computes the layers and ends of models that are placed on it.

use super::error::PlaceError;
use super::prepare::Prepare;
use bevy_ecs::prelude::*;
use core::ops::Range;
use std::sync::Arc;
use weft_components::{ModelConfig, Place, WaveLimits};
use weft_formats::ShardSpec;
use weft_platform::{KvArena, KvError, KvFormat, KvShape};

/// How many layers are wanted on places other than the first. The first place is the CPU unless the caller registers
/// another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GpuLayers {
    /// As many as fit.
    #[default]
    Auto,
    /// This many, the last ones; all of them and the head if the model has no more.
    Count(usize),
}

/// Which ends of a model are wanted on a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndsWanted {
    /// Those next to the layers that it takes: the embedding with layer 0, the head with the last layer.
    Adjoining,
    /// Those that it already holds.
    Unchanged,
    /// Exactly these.
    Exactly {
        /// The embedding.
        embed: bool,
        /// The head.
        head: bool,
    },
}

impl EndsWanted {
    /// Those that go along with layers to a backend: the adjoining ones, or none if it takes none.
    pub(crate) fn with_layers(backend: &dyn Backend) -> Self {
        if backend.takes_ends() { Self::Adjoining } else { Self::Exactly { embed: false, head: false } }
    }
}

/// Layers and ends of a model that a backend is asked to take.
#[derive(Clone)]
pub struct Assignment<'a> {
    /// The model.
    pub model: Entity,
    /// The place that the backend received when it was registered.
    pub place: Place,
    /// The model's hyperparameters.
    pub config: &'a ModelConfig,
    /// Its tensors.
    pub shards: &'a [ShardSpec],
    /// Pages of the KV cache, of each class of layers.
    pub slots: &'a [u32],
    /// How keys and values are stored.
    pub kv_format: KvFormat,
    /// The limits of the model's waves before any backend lowers them.
    pub limits: WaveLimits,
    /// Largest number of rows of a wave.
    pub max_rows: usize,
    /// The layers.
    pub layers: Range<usize>,
    /// The ends.
    pub ends: EndsWanted,
    /// True if the backend must take all of the layers or refuse. Otherwise it takes as many of the last ones as fit.
    pub all: bool,
}

impl Assignment<'_> {
    /// Pages of the KV cache of a layer.
    pub fn slots_of(&self, layer: usize) -> usize {
        let class = self.config.layer.get(layer).map_or(0, |layer| layer.kv_class);
        self.slots.get(class).map_or(0, |slots| *slots as usize)
    }

    /// Allocates arenas of KV cache on the host, one for each class of the model's layers, with room for all of these.
    /// Memory is only taken as it is written.
    ///
    /// # Errors
    /// See [`KvError`].
    pub fn kv_arenas(&self) -> Result<Vec<KvArena>, KvError> {
        let classes = self.config.kv_classes.iter().zip(self.slots).enumerate();
        classes
            .map(|(index, (class, slots))| KvArena::new(self.kv_shape(index, class.layers.len(), *slots)))
            .collect()
    }

    /// The shape of a KV arena on the host for some layers of class `class`.
    pub fn kv_shape(&self, class: usize, layers: usize, slots: u32) -> KvShape {
        kv_shape(self.config, self.kv_format, class, layers, slots)
    }

    /// Which ends go along if `layers` are taken; `held` is what the backend holds already.
    pub fn ends_with(&self, layers: &Range<usize>, held: (bool, bool)) -> (bool, bool) {
        match self.ends {
            EndsWanted::Adjoining => {
                let any = !layers.is_empty();
                (any && layers.start == 0, any && layers.end == self.config.layers)
            }
            EndsWanted::Unchanged => held,
            EndsWanted::Exactly { embed, head } => (embed, head),
        }
    }
}

/// The format of the pages of class `class` of a model whose KV cache has the format `format`. Where that is for sealed
/// pages, classes without newest tokens of their own are in 16 bits: those of the newest tokens, and of windows no longer
/// than these.
pub(crate) fn class_format(config: &ModelConfig, format: KvFormat, class: usize) -> KvFormat {
    if format.is_sealed() && !config.has_recent(class) { KvFormat::F16 } else { format }
}

/// The shape of a KV arena on the host for some layers of class `class` of a model.
pub(crate) fn kv_shape(
    config: &ModelConfig,
    format: KvFormat,
    class: usize,
    layers: usize,
    slots: u32,
) -> KvShape {
    KvShape {
        layers,
        slots: slots as usize,
        kv_heads: config.kv_heads,
        k_dim: config.key_length,
        v_dim: config.value_length,
        format: class_format(config, format, class),
    }
}

/// The part of an [`Assignment`] that a backend has taken.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The layers: the last ones of the wanted layers.
    pub layers: Range<usize>,
    /// Limits of the model's waves: those of the assignment, or narrower ones.
    pub limits: WaveLimits,
}

/// Memory that an [`Assignment`] needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes of weights.
    pub weights: u64,
    /// Bytes of the KV cache when all of it is in use.
    pub kv: u64,
    /// Bytes of the buffers of the largest wave.
    pub scratch: u64,
}

impl Need {
    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.weights.saturating_add(self.kv).saturating_add(self.scratch)
    }
}

/// A backend: computes the layers and ends of models that are placed on it.
///
/// Its state is in the `World`, as resources and components of its own; `self` is shared. Besides implementing these
/// methods, a backend adds systems: in `TickSet::Load` systems that update its plans, in `TickSet::Embed` and
/// `TickSet::Head` systems that compute the ends placed on it, in `LayerSet::Attention` and `LayerSet::Ffn` systems
/// that compute [`CurrentLayer`](weft_components::CurrentLayer) if that is placed on it.
///
/// A backend that computes elsewhere notifies [`Wake`](crate::host::Wake) when results have arrived, so that a host that
/// sleeps runs a tick. If rows are lost for good, it calls [`fail_model`](crate::load::fail_model).
///
/// The example `custom_backend` of the engine is a short one.
pub trait Backend: Send + Sync + 'static {
    /// Its name in messages: `CPU`, the name of a device, an address.
    fn name(&self, world: &World) -> String;

    /// Bytes of memory that it may use. `None` if unknown.
    fn memory(&self, _world: &World) -> Option<u64> {
        None
    }

    /// How many steps of a session may be in flight whose tokens have not been read back, for models wholly on this
    /// place.
    fn steps_ahead(&self) -> usize {
        0
    }

    /// Returns false if it computes layers only. The ends of models then stay on the first place.
    fn takes_ends(&self) -> bool {
        true
    }

    /// Returns true if it computes while the host does other work. A model has one wave for each such place.
    fn is_asynchronous(&self) -> bool {
        false
    }

    /// Computes the memory that an assignment needs here. Allocates nothing.
    ///
    /// # Errors
    /// The backend cannot compute the model.
    fn fits(&self, world: &World, wanted: &Assignment<'_>) -> Result<Need, PlaceError>;

    /// Prepares for layers and ends: allocates memory for their weights, their KV cache and the buffers of waves, in
    /// addition to what it already holds of the model. Layers whose weights were evicted get memory again.
    ///
    /// # Errors
    /// The backend cannot compute the model, or there is not enough memory. Then what it held before is unchanged.
    fn prepare(&self, world: &mut World, wanted: &Assignment<'_>) -> Result<Taken, PlaceError>;

    /// Returns the object that turns a shard's bytes into weights here. `None` if nothing here reads the shard.
    fn install(&self, world: &World, model: Entity, shard: &ShardSpec) -> Option<Arc<dyn Prepare>>;

    /// Drops the weights of a layer. Its KV cache stays.
    fn evict(&self, world: &mut World, model: Entity, layer: usize);

    /// Drops the weights and the KV cache of a layer, which is computed elsewhere from now on.
    fn release_layer(&self, world: &mut World, model: Entity, layer: usize);

    /// Drops everything that it holds of a model.
    fn release(&self, world: &mut World, model: Entity);

    /// Takes a wave in, whose hidden state is on the host or which is before the embedding, and sets
    /// [`Wave::place`](weft_components::Wave::place). Returns false if it cannot yet. It is called again in a later
    /// tick.
    fn enter(&self, world: &mut World, wave: Entity) -> bool;

    /// Reads the hidden state of a wave back to the host and releases the wave: sets `Wave::place` to `None`. Returns
    /// false while the readback is in flight. It is called again in a later tick.
    fn leave(&self, world: &mut World, wave: Entity) -> bool;

    /// Appends the keys and values of a page to `bytes`: those of all layers of a KV class of a model that is wholly here.
    /// Returns false if it cannot do so at once; then contexts that are preempted are computed again.
    fn read_page(
        &self,
        _world: &World,
        _model: Entity,
        _class: usize,
        _slot: u32,
        _bytes: &mut Vec<u8>,
    ) -> bool {
        false
    }

    /// Writes to a page what [`Backend::read_page`] has appended, from the start of `bytes`, and takes that off. Returns false
    /// if it cannot do so at once.
    fn write_page(
        &self,
        _world: &mut World,
        _model: Entity,
        _class: usize,
        _slot: u32,
        _bytes: &mut &[u8],
    ) -> bool {
        false
    }

    /// Releases a wave whose rows are no longer wanted, before it is cleared.
    fn abandon(&self, world: &mut World, wave: Entity);
}
