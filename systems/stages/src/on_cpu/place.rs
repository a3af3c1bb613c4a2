//! The place of the CPU, and the KV cache that models have there.

use bevy_ecs::prelude::*;
use weft_components::Place;
use weft_platform::KvArena;

/// The place that the CPU computes.
#[derive(Resource, Clone, Copy, Debug)]
pub struct CpuPlace(pub Place);

/// Keys and values of a model's sessions, for the layers placed on the CPU: an arena for each class of layers. A component
/// of the model.
#[derive(Component)]
pub struct CpuKv(pub Vec<KvArena>);

/// Appends the keys and values of a page to `bytes`: those of each layer of its class.
pub fn append_page(arena: &KvArena, slot: u32, bytes: &mut Vec<u8>) {
    (0..arena.shape().layers).for_each(|layer| bytes.extend_from_slice(arena.slot(layer, slot)));
}

/// Writes the keys and values that [`append_page`] appended to a page: [`KvArena::slot_bytes`] bytes.
pub fn write_page(arena: &mut KvArena, slot: u32, bytes: &[u8]) {
    let each = arena.slot_bytes() / arena.shape().layers.max(1);
    for (layer, bytes) in bytes.chunks_exact(each.max(1)).take(arena.shape().layers).enumerate() {
        arena.slot_mut(layer, slot).copy_from_slice(bytes);
    }
}
