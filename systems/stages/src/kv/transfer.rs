//! Cached contexts outside the cache: which pages a context has, what is in them, and putting pages back.

use super::context::{append_rows, available, free_pages, leaf_of, open_run, reserve};
use super::tree::{chain, note_rest, slot};
use crate::place::{Backend, Backends};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{
    AtLayer, BlockTable, ContextCursor, HeldBy, KvRun, Layers, ModelConfig, SessionOf, Wave, Waves,
};
use weft_platform::PAGE;

/// The slots of a session's pages, by class and page number. `None` for a page that has left its class's window.
pub fn context_pages(world: &World, session: Entity) -> Vec<Vec<Option<u32>>> {
    let model = world.get::<SessionOf>(session).and_then(|of| world.get::<ModelConfig>(of.0));
    let mut classes = vec![Vec::new(); model.map_or(0, |config| config.kv_classes.len())];
    let runs: Vec<Entity> = chain(world, leaf_of(world, session)).collect();
    let pages = world.get::<BlockTable>(session).map_or(0, BlockTable::pages);
    for data in runs.iter().rev().filter_map(|run| world.get::<KvRun>(*run)) {
        for (all, here) in classes.iter_mut().zip(&data.pages) {
            all.extend(here.iter().map(|page| page.map(|_| slot(world, *page))));
        }
    }
    classes.iter_mut().for_each(|class| class.truncate(pages));
    classes
}

/// Returns true if no wave of a model travels: what contexts say is computed has been computed in all layers, and nothing
/// will be written to free pages.
pub fn is_quiet(world: &World, model: Entity) -> bool {
    let waves = world.get::<Waves>(model).map_or(&[][..], Waves::entities);
    waves.iter().all(|wave| world.get::<Wave>(*wave).is_none_or(|wave| wave.at == AtLayer::Idle))
}

/// The backend that holds all layers of a model. `None` if several do, or none.
pub fn only_backend(world: &World, model: Entity) -> Option<Arc<dyn Backend>> {
    let layers = world.get::<Layers>(model)?.entities();
    let place = |layer: &Entity| world.get::<HeldBy>(*layer).map(|held| held.0);
    let first = place(layers.first()?)?;
    let alone = layers.iter().all(|layer| place(layer) == Some(first));
    Backends::of(world).at(first).filter(|_| alone).cloned()
}

/// Appends to `bytes` the keys and values in slots of a model, by class; `None` where a class has no page. Returns false if
/// the backend cannot read them.
pub fn read_slots(
    backend: &dyn Backend,
    world: &World,
    model: Entity,
    slots: &[Option<u32>],
    bytes: &mut Vec<u8>,
) -> bool {
    slots
        .iter()
        .enumerate()
        .all(|(class, slot)| slot.is_none_or(|slot| backend.read_page(world, model, class, slot, bytes)))
}

/// Writes to slots of a model, by class, what [`read_slots`] has appended. Returns false if the backend cannot write them, or
/// there are too few bytes.
pub fn write_slots(
    backend: &dyn Backend,
    world: &mut World,
    model: Entity,
    slots: &[Option<u32>],
    mut bytes: &[u8],
) -> bool {
    let mut write = |class, slot| backend.write_page(world, model, class, slot, &mut bytes);
    slots.iter().enumerate().all(|(class, slot)| slot.is_none_or(|slot| write(class, slot)))
}

/// Gives a session without cached context pages for its first `tokens` tokens, whose keys and values the caller then writes
/// to the slots that `write` is called with, by class. `present` are the numbers of the pages that it writes, ascending, by
/// class; the others have left their windows. No other session will use them. Returns false, and gives none, if there are
/// too few free pages.
pub fn import_context(
    world: &mut World,
    session: Entity,
    tokens: usize,
    present: &[Vec<u32>],
    write: impl FnOnce(&mut World, &[Vec<u32>]),
) -> bool {
    let Some(model) = world.get::<SessionOf>(session).map(|of| of.0) else { return false };
    let started = world.get::<ContextCursor>(session).is_none_or(|cursor| cursor.scheduled > 0);
    // Nobody's cached context is dropped in vain.
    if started || tokens == 0 || available(world, model) < tokens.div_ceil(PAGE) {
        return false;
    }
    if reserve(world, session, tokens) < tokens {
        super::detach(world, session);
        return false;
    }
    let Some(run) = open_run(world, session) else { return false };
    if let Some(mut data) = world.get_mut::<KvRun>(run) {
        data.private = true;
    }
    if let Some(mut cursor) = world.get_mut::<ContextCursor>(session) {
        (cursor.computed, cursor.scheduled) = (tokens, tokens);
    }
    append_rows(world, session, tokens, 0);
    let slots = world.get::<BlockTable>(session).map_or_else(Vec::new, |table| table.0.clone());
    write(world, &slots);
    drop_absent(world, session, run, present);
    note_rest(world, run);
    true
}

/// Frees pages of a session's run that are not among `present`.
fn drop_absent(world: &mut World, session: Entity, run: Entity, present: &[Vec<u32>]) {
    for (class, present) in present.iter().enumerate() {
        let Some(mut data) = world.get_mut::<KvRun>(run) else { return };
        let pages = data.pages[class].iter_mut().enumerate();
        let absent = pages.filter(|(number, _)| present.binary_search(&(*number as u32)).is_err());
        let absent = absent.filter_map(|(number, page)| Some((number, page.take()?))).collect();
        free_pages(world, session, class, absent);
    }
}
