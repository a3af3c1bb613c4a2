//! The pages of a snapshot: keys and values of a context, as they are in the CPU's KV cache. Those of GPUs are converted, so
//! that a session goes on from them on either.

use super::file::SavedPages;
use super::hex;
use crate::world::{ModelId, SessionId};
use bevy_ecs::prelude::*;
use sha2::{Digest, Sha256};
use weft_components::{
    ContextCursor, HeldBy, Layers, ModelConfig, Shards, TensorRole, TokenHistory, WeightShard,
};
use weft_platform::{KvArena, KvShape, PAGE};
use weft_systems::kv::{context_pages, detach, import_context, is_quiet};
use weft_systems::on_cpu::{CpuKv, CpuPlace, CpuWeights, append_page, write_page};
use weft_systems::on_gpu::{GpuShard, GpuShards};

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

/// Where the KV cache of all of a model's layers is.
enum Held {
    Cpu,
    Gpus,
}

/// `None` if layers are at several kinds of places, or at a place from which pages are not copied.
fn held(world: &World, model: ModelId) -> Option<Held> {
    if is_on_cpu(world, model) {
        return Some(Held::Cpu);
    }
    let layers = world.get::<ModelConfig>(model.0)?.layers;
    (layers > 0 && (0..layers).all(|layer| shard_of(world, model, layer).is_some())).then_some(Held::Gpus)
}

/// The GPU shard that holds a layer.
fn shard_of(world: &World, model: ModelId, layer: usize) -> Option<&GpuShard> {
    let entity = *world.get::<Layers>(model.0)?.entities().get(layer)?;
    let place = world.get::<HeldBy>(entity)?.0;
    let shards = &world.get::<GpuShards>(model.0)?.0;
    shards.iter().find(|shard| shard.place == place && shard.has_kv(layer))
}

/// The shapes of pages of each class, as they are saved.
fn shapes(world: &World, model: ModelId, held: &Held) -> Option<Vec<KvShape>> {
    let config = world.get::<ModelConfig>(model.0)?;
    match held {
        Held::Cpu => Some(world.get::<CpuKv>(model.0)?.0.iter().map(KvArena::shape).collect()),
        Held::Gpus => {
            let shard = shard_of(world, model, 0)?;
            config.kv_classes.iter().map(|class| shard.host_shape(config, class.layers.len())).collect()
        }
    }
}

/// The formats of pages: one name if they agree, else one for each class.
fn formats(shapes: &[KvShape]) -> String {
    let mut names: Vec<String> = shapes.iter().map(|shape| format!("{:?}", shape.format)).collect();
    names.dedup();
    names.join("+")
}

/// Bytes of a saved page of one layer.
fn layer_bytes(shape: &KvShape) -> Option<usize> {
    KvShape { layers: 1, slots: 1, ..*shape }.bytes().ok()
}

/// Appends the pages in some slots of a class. On GPUs it blocks until the devices have copied them.
fn read(
    world: &World,
    model: ModelId,
    held: &Held,
    class: usize,
    slots: &[u32],
    out: &mut Vec<u8>,
) -> Option<()> {
    match held {
        Held::Cpu => {
            let arena = world.get::<CpuKv>(model.0)?.0.get(class)?;
            slots.iter().for_each(|slot| append_page(arena, *slot, out));
        }
        #[cfg(not(target_family = "wasm"))]
        Held::Gpus => {
            let config = world.get::<ModelConfig>(model.0)?;
            let layers = &config.kv_classes.get(class)?.layers;
            let each = layer_bytes(&shapes(world, model, held)?[class])?;
            let start = out.len();
            out.resize(start + slots.len() * layers.len() * each, 0);
            for (at, layer) in layers.iter().enumerate() {
                let pages = shard_of(world, model, *layer)?.read_pages(config, *layer, slots)?;
                let places = out[start..].chunks_exact_mut(each.max(1)).skip(at).step_by(layers.len().max(1));
                places.zip(pages.chunks_exact(each.max(1))).for_each(|(to, page)| to.copy_from_slice(page));
            }
        }
        // A browser cannot block.
        #[cfg(target_family = "wasm")]
        Held::Gpus => return None,
    }
    Some(())
}

/// Writes pages to some slots of a class: `bytes` is what [`read`] has appended.
fn write(
    world: &mut World,
    model: ModelId,
    held: &Held,
    class: usize,
    slots: &[u32],
    bytes: &[u8],
) -> Option<()> {
    match held {
        Held::Cpu => {
            let mut kv = world.get_mut::<CpuKv>(model.0)?;
            let arena = kv.0.get_mut(class)?;
            let each = arena.slot_bytes().max(1);
            slots
                .iter()
                .zip(bytes.chunks_exact(each))
                .for_each(|(slot, page)| write_page(arena, *slot, page));
        }
        Held::Gpus => {
            let config = world.get::<ModelConfig>(model.0)?;
            let layers = &config.kv_classes.get(class)?.layers;
            let each = layer_bytes(&shapes(world, model, held)?[class])?;
            for (at, layer) in layers.iter().enumerate() {
                let pages: Vec<u8> = bytes
                    .chunks_exact(each.max(1))
                    .skip(at)
                    .step_by(layers.len().max(1))
                    .flatten()
                    .copied()
                    .collect();
                shard_of(world, model, *layer)?.write_pages(config, *layer, slots, &pages)?;
            }
        }
    }
    Some(())
}

/// The pages of a session's cached context. `None` if they cannot be saved.
pub(super) fn save(world: &World, model: ModelId, session: SessionId) -> Option<(SavedPages, Vec<u8>)> {
    let held = held(world, model).filter(|_| is_quiet(world, model.0))?;
    let shapes = shapes(world, model, &held)?;
    let computed = world.get::<ContextCursor>(session.0)?.computed;
    let (mut classes, mut bytes) = (Vec::new(), Vec::new());
    for (class, pages) in context_pages(world, session.0).into_iter().enumerate() {
        let pages = pages.into_iter().enumerate().take(computed.div_ceil(PAGE));
        let here: Vec<(u32, u32)> = pages.filter_map(|(number, slot)| Some((number as u32, slot?))).collect();
        let slots: Vec<u32> = here.iter().map(|(_, slot)| *slot).collect();
        read(world, model, &held, class, &slots, &mut bytes)?;
        classes.push(here.into_iter().map(|(number, _)| number).collect());
    }
    Some((SavedPages { format: formats(&shapes), norm: norm(world, model)?, computed, classes }, bytes))
}

/// Puts pages back, if they fit the model's KV cache. Otherwise the context will be computed again.
pub(super) fn load(world: &mut World, model: ModelId, session: SessionId, saved: &SavedPages, bytes: &[u8]) {
    let known = world.get::<TokenHistory>(session.0).map_or(0, |history| history.0.len());
    // The last token is always computed, because its logits choose the next.
    let tokens = saved.computed.min(known.saturating_sub(1));
    let Some(held) = held(world, model).filter(|_| tokens > 0) else { return };
    let Some(sizes) = fits(world, model, &held, tokens, saved, bytes) else { return };
    let mut written = None;
    import_context(world, session.0, tokens, &saved.classes, |world, slots| {
        let mut rest = bytes;
        written = saved.classes.iter().zip(slots).zip(sizes).enumerate().try_for_each(
            |(class, ((numbers, slots), size))| {
                let (pages, behind) = rest.split_at(numbers.len() * size);
                rest = behind;
                // Of a page after the last token there is no slot.
                let slots: Vec<u32> =
                    numbers.iter().map_while(|number| slots.get(*number as usize).copied()).collect();
                write(world, model, &held, class, &slots, &pages[..slots.len() * size])
            },
        );
    });
    if written.is_none() {
        detach(world, session.0);
    }
}

/// Bytes of a page of each class. `None` unless the pages are of this model and this KV format, and are all that a context
/// of `tokens` tokens needs.
fn fits(
    world: &World,
    model: ModelId,
    held: &Held,
    tokens: usize,
    saved: &SavedPages,
    bytes: &[u8],
) -> Option<Vec<usize>> {
    if !is_quiet(world, model.0) || norm(world, model)? != saved.norm {
        return None;
    }
    let shapes = shapes(world, model, held)?;
    let config = world.get::<ModelConfig>(model.0)?;
    let (mut needed, mut sizes) = (0usize, Vec::new());
    if shapes.len() != saved.classes.len() || formats(&shapes) != saved.format {
        return None;
    }
    for ((shape, class), pages) in shapes.iter().zip(&config.kv_classes).zip(&saved.classes) {
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
        let size = layer_bytes(shape)?.checked_mul(shape.layers)?;
        needed = needed.checked_add(pages.len().checked_mul(size)?)?;
        sizes.push(size);
    }
    (needed == bytes.len()).then_some(sizes)
}
