//! Speculation: drafts of what a session says next, to be verified in the wave that computes its next token.
//!
//! The draft is what followed the last time that the session's last tokens occurred, in its own tokens or those of other
//! sessions of the model ([`Occurrences`]), or what a draft model says (`draft_model`). Admission decides how many drafted tokens pay; `sample` chooses tokens from
//! each of their rows and accepts the drafted ones that it would have chosen anyway. So the text, and with sampling its
//! distribution and even the random numbers, are those without speculation.

mod draft_model;
mod occurrences;

pub use draft_model::{DraftModelUse, draft_with_models};
pub use occurrences::Occurrences;

use crate::admit::SessionQueue;
use bevy_ecs::prelude::*;
use occurrences::LENGTHS;
use weft_components::{ContextCursor, Draft, DraftedBy, Phase, Request, TokenHistory};

/// Longest draft. Text that goes on as before for longer is drafted again.
pub const MOST_DRAFTED: usize = 16;

/// How the engine's drafter does for a session. A component of sessions that speculate without a drafter of the caller's
/// own.
#[derive(Component, Clone, Debug, Default)]
pub struct Drafter {
    /// Tokens of the history that have been noted.
    noted: usize,
    /// Estimated probability that a drafted token is right, by length of the occurrence.
    right: [f32; LENGTHS.len()],
    /// The length of the occurrence that the last draft came from, an index of [`LENGTHS`].
    last: usize,
    /// Waves with drafts that have been learned from.
    learned: u64,
    /// What the last draft expected after the first `expected_at` tokens of the history.
    expected: Vec<u32>,
    expected_at: usize,
}

impl Drafter {
    /// A drafter that knows nothing yet.
    pub fn new() -> Self {
        /// The estimates at first: long occurrences are mostly repetitions.
        const FIRST: [f32; LENGTHS.len()] = [0.9, 0.7, 0.4];
        Self { right: FIRST, ..Self::default() }
    }

    /// Learns from the last wave that carried drafts, or from what has been said since the last draft: whether it would
    /// have been right shows too where no wave carried it.
    fn learn(&mut self, draft: &Draft, history: &[u32]) {
        /// Share of the newest draft in an estimate.
        const NEWEST: f32 = 0.15;
        let (stats, right) = (&draft.stats, &mut self.right[self.last]);
        if stats.waves != self.learned {
            self.learned = stats.waves;
            learn(right, (stats.last_drafted, stats.last_accepted), NEWEST);
        } else {
            let said = history.get(self.expected_at..).unwrap_or_default();
            let known = self.expected.len().min(said.len());
            let same = self.expected.iter().zip(said).take_while(|(expected, said)| expected == said).count();
            learn(right, (known as u32, same as u32), NEWEST);
        }
        self.expected.clear();
    }
}

/// Moves an estimate of how often drafted tokens are right towards what came of a draft, whose first `accepted` of `drafted`
/// tokens were right: towards these, and the first that was not. `newest` is the share of each in the estimate.
fn learn(right: &mut f32, (drafted, accepted): (u32, u32), newest: f32) {
    for place in 0..drafted.min(accepted + 1) {
        let was = if place < accepted { 1.0 } else { 0.0 };
        *right += newest * (was - *right);
    }
}

/// Drafts tokens for active sessions. Runs in the set `Speculate`. Visits only sessions with a request in progress.
pub fn draft(
    mut models: Query<'_, '_, (&SessionQueue, &mut Occurrences)>,
    histories: Query<'_, '_, &TokenHistory>,
    mut sessions: Query<
        '_,
        '_,
        (&ContextCursor, &Request, &Phase, &mut Draft, &mut Drafter),
        Without<DraftedBy>,
    >,
) {
    for (queue, mut occurrences) in &mut models {
        for session in queue.sessions() {
            let Ok((cursor, request, phase, mut draft, mut drafter)) = sessions.get_mut(session) else {
                continue;
            };
            let Ok(TokenHistory(history)) = histories.get(session) else { continue };
            if request.draft == 0 || !phase.is_active() {
                continue;
            }
            if history.len() != drafter.noted {
                drafter.learn(&draft, history);
            }
            occurrences.note(session, history, drafter.noted.min(history.len()));
            drafter.noted = history.len();
            // Only a session whose next row is the last of its tokens can go on with drafted ones.
            let next = history.len() + cursor.unread;
            if cursor.drafts > 0 || cursor.scheduled + 1 < next {
                continue;
            }
            let most = cursor.unread + request.draft.min(MOST_DRAFTED);
            // What a draft model began to draft before it was unloaded.
            draft.pending = false;
            let Draft { tokens, confidence, .. } = &mut *draft;
            tokens.clear();
            let other = |session: Entity| histories.get(session).ok().map(|history| &history.0[..]);
            if let Some(length) = occurrences.find(session, history, other, most, tokens) {
                drafter.last = length;
                *confidence = drafter.right[length];
                drafter.expected.clone_from(tokens);
                drafter.expected_at = history.len();
            }
        }
    }
}
