//! Swapping: the whole pages of a preempted session's context are copied to host memory outside of the KV cache, and back
//! when the session starts again, so that they are not computed a second time.
//!
//! They come back as cached runs of the prefix tree, which the session then takes over as it would those of any other
//! session. What has been swapped out is only a copy: if it cannot be used, the context is computed.

use super::context::{adapter_of, is_private};
use super::prefixes::{Room, import_prefix};
use super::transfer::{context_pages, is_quiet, only_backend, read_slots, write_slots};
use super::tree::{PrefixTree, evict_cached};
use bevy_ecs::prelude::*;
use weft_components::{ContextCursor, KvPools, SessionOf, TokenHistory};
use weft_platform::PAGE;

/// The whole pages of a session's context, copied when it was preempted. A component of the session.
#[derive(Component, Debug, Default)]
pub struct SwappedContext {
    /// Its tokens, [`PAGE`] for each page.
    tokens: Vec<u32>,
    /// For each page and class, whether there are keys and values: the others had left their windows.
    present: Vec<Vec<bool>>,
    /// For each page, the keys and values of the classes that are present.
    pages: Vec<Vec<u8>>,
}

impl SwappedContext {
    /// Bytes of keys and values.
    pub fn bytes(&self) -> u64 {
        self.pages.iter().map(|page| page.len() as u64).sum()
    }
}

/// Copies the whole pages of a session's context to host memory, if those of all sessions then take at most `most` bytes.
/// Private contexts, contexts with an adapter, and those at places that do not copy pages are left out. No row of the
/// session may be in flight.
pub(crate) fn swap_out(world: &mut World, session: Entity, most: u64) {
    let before: u64 = world.query::<&SwappedContext>().iter(world).map(SwappedContext::bytes).sum();
    // What the session has swapped out before is replaced.
    let own = world.entity_mut(session).take::<SwappedContext>().map_or(0, |swapped| swapped.bytes());
    if let Some(swapped) = copied(world, session, most.saturating_sub(before - own)) {
        world.entity_mut(session).insert(swapped);
    }
}

/// The copy of a session's whole pages, if it takes at most `most` bytes.
fn copied(world: &World, session: Entity, most: u64) -> Option<SwappedContext> {
    if is_private(world, session) || adapter_of(world, session).is_some() {
        return None;
    }
    let model = world.get::<SessionOf>(session)?.0;
    let backend = only_backend(world, model)?;
    let history = &world.get::<TokenHistory>(session)?.0;
    let classes = context_pages(world, session);
    let held = classes.iter().map(Vec::len).min().unwrap_or(0);
    let count = (world.get::<ContextCursor>(session)?.computed.min(history.len()) / PAGE).min(held);
    let slots = |page: usize| classes.iter().map(move |class| class[page]).enumerate();
    let sizes = &world.get::<PrefixTree>(model)?.page_bytes;
    let needed = (0..count).flat_map(slots).filter(|(_, slot)| slot.is_some());
    if count == 0 || needed.map(|(class, _)| sizes.get(class).copied().unwrap_or(0)).sum::<u64>() > most {
        return None;
    }
    let mut swapped =
        SwappedContext { tokens: history[..count * PAGE].to_vec(), ..SwappedContext::default() };
    for page in 0..count {
        let mut bytes = Vec::new();
        let here: Vec<Option<u32>> = slots(page).map(|(_, slot)| slot).collect();
        if !read_slots(&*backend, world, model, &here, &mut bytes) {
            return None;
        }
        swapped.present.push(here.iter().map(Option::is_some).collect());
        swapped.pages.push(bytes);
    }
    Some(swapped)
}

/// Brings back what a session that is about to start has swapped out, as cached runs, as far as its tokens are still those
/// and there are pages. Contexts that nobody holds are dropped for it. Nothing is done while a wave is in flight, whose rows
/// may be written to free pages: then the context is computed.
pub(crate) fn swap_in(world: &mut World, session: Entity) {
    if !world.entity(session).contains::<SwappedContext>() {
        return;
    }
    let (Some(model), Some(swapped)) =
        (world.get::<SessionOf>(session).map(|of| of.0), world.entity_mut(session).take::<SwappedContext>())
    else {
        return;
    };
    let history = world.get::<TokenHistory>(session).map_or(&[][..], |history| &history.0);
    let common = swapped.tokens.iter().zip(history).take_while(|(a, b)| a == b).count() / PAGE;
    let Some(backend) = only_backend(world, model).filter(|_| is_quiet(world, model)) else { return };
    let present = &swapped.present[..common];
    for class in 0..present.first().map_or(0, Vec::len) {
        let needed = present.iter().filter(|page| page[class]).count();
        let free = |world: &World| world.get::<KvPools>(model).map_or(0, |pools| pools.0[class].free());
        while free(world) < needed && evict_cached(world, model, super::tree::EVICTED_PAGES) {}
    }
    let tokens = &swapped.tokens[..common * PAGE];
    import_prefix(world, model, tokens, present, Room::Free, |world, page, slots| {
        write_slots(&*backend, world, model, slots, &swapped.pages[page])
    });
}
