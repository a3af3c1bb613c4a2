//! Drafts from a draft model: a smaller model with the same vocabulary, whose own session follows the tokens of the
//! session that it drafts for.
//!
//! When a session's tokens are known, its drafting session takes them over and generates a few more, greedily, as any
//! session does. The session itself joins no wave meanwhile. Then its wave verifies them.

use super::{MOST_DRAFTED, learn};
use crate::admit::SessionQueue;
use crate::fail::LoadFailed;
use crate::kv::truncate_session;
use crate::sample::SessionSampler;
use bevy_ecs::prelude::*;
use weft_components::{
    ContextCursor, Draft, DraftedBy, Layers, ModelConfig, Output, Phase, Request, Resident, SamplerSettings,
    SessionOf, TickWork, TokenHistory,
};

/// How a draft model does for a session. A component of the session.
#[derive(Component, Clone, Copy, Debug)]
pub struct DraftModelUse {
    /// Estimated probability that a drafted token is right.
    right: f32,
    /// Waves with drafts that have been learned from.
    learned: u64,
    /// Steps without a draft since the last one.
    waited: u32,
    /// Number of the session's tokens that it was last asked to follow, or to leave alone.
    followed: usize,
}

impl Default for DraftModelUse {
    fn default() -> Self {
        Self { right: 0.7, learned: 0, waited: 0, followed: 0 }
    }
}

/// Lets draft models draft for the sessions that have one, and takes over what they have drafted. Runs in the set
/// `Speculate`, after [`draft`](super::draft). Visits only sessions with a request in progress.
pub fn draft_with_models(
    world: &mut World,
    queues: &mut QueryState<&SessionQueue>,
    mut list: Local<'_, Vec<(Entity, Entity)>>,
) {
    for queue in queues.iter(world) {
        let drafting = |session: Entity| world.get::<DraftedBy>(session).and_then(DraftedBy::session);
        list.extend(queue.sessions().filter_map(|session| Some((session, drafting(session)?))));
    }
    for (session, drafting) in list.drain(..) {
        let pending = world.get::<Draft>(session).is_some_and(|draft| draft.pending);
        if !pending {
            begin(world, session, drafting);
        } else if world.get::<Phase>(drafting).is_none_or(|phase| !phase.is_active()) {
            take(world, session, drafting);
            world.resource_mut::<TickWork>().0 += 1;
        }
    }
}

/// Returns true if a draft model has been loaded.
fn is_ready(world: &World, model: Entity) -> bool {
    let layers = world.get::<Layers>(model).map_or(&[][..], Layers::entities);
    world.get::<LoadFailed>(model).is_none()
        && world.get::<Resident>(model).is_some()
        && layers.iter().all(|layer| world.get::<Resident>(*layer).is_some())
}

/// Starts to draft, if the session's tokens are known and drafts are worth it.
fn begin(world: &mut World, session: Entity, drafting: Entity) -> Option<()> {
    /// Share of right tokens below which a draft model is only tried now and then.
    const WORTHWHILE: f32 = 0.35;
    /// Steps after which it is tried again.
    const TRIED_AGAIN: u32 = 64;
    /// Share of the newest draft in the estimate.
    const NEWEST: f32 = 0.1;
    let cursor = *world.get::<ContextCursor>(session)?;
    let length = world.get::<TokenHistory>(session)?.0.len();
    if !world.get::<Phase>(session)?.is_active() || world.get::<DraftModelUse>(session)?.followed == length {
        return None;
    }
    let (request, output) = (world.get::<Request>(session)?, world.get::<Output>(session)?);
    let left = request.max_tokens.saturating_sub(output.tokens.len() + 1);
    let most = request.draft.min(MOST_DRAFTED).min(left);
    // The rows before the last token have been computed, and nothing is in flight.
    if cursor.drafts > 0 || cursor.unread > 0 || cursor.scheduled + 1 != length || most == 0 {
        return None;
    }
    if !is_ready(world, world.get::<SessionOf>(drafting)?.0) {
        return None;
    }
    let stats = world.get::<Draft>(session)?.stats;
    let mut state = world.get_mut::<DraftModelUse>(session)?;
    if stats.waves > state.learned {
        state.learned = stats.waves;
        learn(&mut state.right, (stats.last_drafted, stats.last_accepted), NEWEST);
    }
    state.followed = length;
    state.waited += 1;
    if state.right < WORTHWHILE && state.waited < TRIED_AGAIN {
        return None;
    }
    state.waited = 0;
    // As long as the next token is more likely right than not.
    let count = (0.5f32.ln() / state.right.clamp(0.05, 0.99).ln()).ceil() as usize;
    let history = world.get::<TokenHistory>(session)?.0.clone();
    follow(world, drafting, history, count.clamp(1, most))?;
    world.get_mut::<Draft>(session)?.pending = true;
    Some(())
}

/// Has a drafting session continue `tokens` by up to `count` tokens.
fn follow(world: &mut World, drafting: Entity, tokens: Vec<u32>, count: usize) -> Option<()> {
    let limit = world.get::<ContextCursor>(drafting)?.limit;
    if tokens.len() + count > limit {
        return None;
    }
    let model = world.get::<SessionOf>(drafting)?.0;
    let vocabulary = world.get::<ModelConfig>(model)?.vocabulary;
    let before = &world.get::<TokenHistory>(drafting)?.0;
    let common = before.iter().zip(&tokens).take_while(|(old, new)| old == new).count();
    truncate_session(world, drafting, common.min(tokens.len() - 1));
    world.get_mut::<TokenHistory>(drafting)?.0 = tokens;
    let sampler = SessionSampler::new(&SamplerSettings::default(), vocabulary, &[], &[], None).ok()?;
    let request = Request { max_tokens: count, ignore_end: true, ..Request::default() };
    // An observer of the request enters the session into its model's queue.
    world.entity_mut(drafting).insert((Phase::Waiting, sampler, Output::with_capacity(count), request));
    Some(())
}

/// Takes over what has been drafted.
fn take(world: &mut World, session: Entity, drafting: Entity) -> Option<()> {
    let drafted = world.get::<Output>(drafting).map_or_else(Vec::new, |output| output.tokens.clone());
    let vocabulary =
        world.get::<SessionOf>(session).and_then(|of| world.get::<ModelConfig>(of.0))?.vocabulary;
    let right = world.get::<DraftModelUse>(session)?.right;
    let mut draft = world.get_mut::<Draft>(session)?;
    draft.pending = false;
    draft.tokens = drafted;
    draft.tokens.retain(|token| (*token as usize) < vocabulary);
    draft.confidence = right;
    Some(())
}
