//! The pages of a snapshot: keys and values of a context on the CPU, as they are in its KV cache.

use super::file::SavedPages;
use super::hex;
use crate::world::{ModelId, SessionId};
use bevy_ecs::prelude::*;
use sha2::{Digest, Sha256};
use weft_components::{
    AtLayer, ContextCursor, HeldBy, Layers, ModelConfig, Shards, TensorRole, TokenHistory, Wave, Waves,
    WeightShard,
};
use weft_platform::{KvArena, PAGE};
use weft_systems::kv::{context_pages, import_context};
use weft_systems::on_cpu::{CpuKv, CpuPlace, CpuWeights};

/// The checksum of the model's final norm. `None` if it has not been loaded to the host.
fn norm(world: &World, model: ModelId) -> Option<String> {
    let shards = world.get::<Shards>(model.0)?.entities().iter();
    let is_norm = |shard: &&Entity| {
        world.get::<WeightShard>(**shard).is_some_and(|shard| shard.role == TensorRole::OutputNorm)
    };
    let weights = world.get::<CpuWeights>(*shards.clone().find(is_norm)?)?.0.vector()?;
    let mut hash = Sha256::new();
    weights.iter().for_each(|weight| hash.update(weight.to_le_bytes()));
    Some(hex(&hash.finalize()))
}

/// Returns true if the whole model is on the CPU.
pub(crate) fn is_on_cpu(world: &World, model: ModelId) -> bool {
    let layers = world.get::<Layers>(model.0).map_or(&[][..], Layers::entities);
    let Some(cpu) = world.get_resource::<CpuPlace>() else { return false };
    layers.iter().all(|layer| world.get::<HeldBy>(*layer).is_some_and(|held| held.0 == cpu.0))
}

/// Returns true if no wave of the model travels: what contexts say is computed has been computed in all layers, and nothing
/// will be written to free pages.
pub(crate) fn is_quiet(world: &World, model: ModelId) -> bool {
    let waves = world.get::<Waves>(model.0).map_or(&[][..], Waves::entities);
    waves.iter().all(|wave| world.get::<Wave>(*wave).is_none_or(|wave| wave.at == AtLayer::Idle))
}

/// The formats of the arenas: one name if they agree, else one for each class.
fn formats(arenas: &[KvArena]) -> String {
    let mut names: Vec<String> = arenas.iter().map(|arena| format!("{:?}", arena.shape().format)).collect();
    names.dedup();
    names.join("+")
}

/// Appends the keys and values of a page to `bytes`: those of each layer of its class.
pub(crate) fn append_page(arena: &KvArena, slot: u32, bytes: &mut Vec<u8>) {
    (0..arena.shape().layers).for_each(|layer| bytes.extend_from_slice(arena.slot(layer, slot)));
}

/// Writes the keys and values that [`append_page`] appended to a page: [`KvArena::slot_bytes`] bytes.
pub(crate) fn write_page(arena: &mut KvArena, slot: u32, bytes: &[u8]) {
    let each = arena.slot_bytes() / arena.shape().layers.max(1);
    for (layer, bytes) in bytes.chunks_exact(each.max(1)).take(arena.shape().layers).enumerate() {
        arena.slot_mut(layer, slot).copy_from_slice(bytes);
    }
}

/// The pages of a session's cached context. `None` if they cannot be saved.
pub(super) fn save(world: &World, model: ModelId, session: SessionId) -> Option<(SavedPages, Vec<u8>)> {
    if !is_on_cpu(world, model) || !is_quiet(world, model) {
        return None;
    }
    let arenas = &world.get::<CpuKv>(model.0)?.0;
    let computed = world.get::<ContextCursor>(session.0)?.computed;
    let (mut classes, mut bytes) = (Vec::new(), Vec::new());
    for (arena, pages) in arenas.iter().zip(context_pages(world, session.0)) {
        let pages = pages.into_iter().enumerate().take(computed.div_ceil(PAGE));
        let here: Vec<(u32, u32)> = pages.filter_map(|(number, slot)| Some((number as u32, slot?))).collect();
        for (_, slot) in &here {
            append_page(arena, *slot, &mut bytes);
        }
        classes.push(here.into_iter().map(|(number, _)| number).collect());
    }
    Some((SavedPages { format: formats(arenas), norm: norm(world, model)?, computed, classes }, bytes))
}

/// Puts pages back, if they fit the model's KV cache. Otherwise the context will be computed again.
pub(super) fn load(world: &mut World, model: ModelId, session: SessionId, saved: &SavedPages, bytes: &[u8]) {
    let known = world.get::<TokenHistory>(session.0).map_or(0, |history| history.0.len());
    // The last token is always computed, because its logits choose the next.
    let tokens = saved.computed.min(known.saturating_sub(1));
    if tokens == 0 || fits(world, model, tokens, saved, bytes).is_none() {
        return;
    }
    import_context(world, session.0, tokens, &saved.classes, |world, slots| {
        let Some(mut kv) = world.get_mut::<CpuKv>(model.0) else { return };
        let mut rest = bytes;
        for ((arena, slots), pages) in kv.0.iter_mut().zip(slots).zip(&saved.classes) {
            for number in pages {
                let (page, behind) = rest.split_at(arena.slot_bytes());
                rest = behind;
                if let Some(slot) = slots.get(*number as usize) {
                    write_page(arena, *slot, page);
                }
            }
        }
    });
}

/// `None` unless the pages are of this model and this KV format, and are all that a context of `tokens` tokens needs.
fn fits(world: &World, model: ModelId, tokens: usize, saved: &SavedPages, bytes: &[u8]) -> Option<()> {
    if !is_on_cpu(world, model) || !is_quiet(world, model) || norm(world, model)? != saved.norm {
        return None;
    }
    let arenas = &world.get::<CpuKv>(model.0)?.0;
    let config = world.get::<ModelConfig>(model.0)?;
    let mut needed = 0usize;
    if arenas.len() != saved.classes.len() || formats(arenas) != saved.format {
        return None;
    }
    for ((arena, class), pages) in arenas.iter().zip(&config.kv_classes).zip(&saved.classes) {
        // From the first page that the next token attends to on, none is missing.
        let first = class.first_needed(tokens) / PAGE;
        let last = saved.computed.div_ceil(PAGE);
        let ascend = pages.windows(2).all(|pair| pair[0] < pair[1]);
        let kept = pages.iter().filter(|page| (first..last).contains(&(**page as usize))).count();
        if !ascend
            || kept != last.saturating_sub(first)
            || pages.last().is_some_and(|page| *page as usize >= last)
        {
            return None;
        }
        needed = needed.checked_add(pages.len().checked_mul(arena.slot_bytes())?)?;
    }
    (needed == bytes.len()).then_some(())
}
