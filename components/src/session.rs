//! Sessions. Each is one conversation or completion.

use crate::model::Pooling;
use crate::sampling::SamplerSettings;
use bevy_ecs::prelude::*;

/// The sessions of a model, in the order in which they were opened.
#[derive(Component, Debug, Default)]
#[relationship_target(relationship = SessionOf, linked_spawn)]
pub struct Sessions(Vec<Entity>);

impl Sessions {
    /// Session entities, oldest first.
    pub fn entities(&self) -> &[Entity] {
        &self.0
    }
}

/// Names the model that a session runs on.
#[derive(Component, Debug)]
#[relationship(relationship_target = Sessions)]
pub struct SessionOf(pub Entity);

/// The tokens of a session: everything it was prompted with and everything it generated.
#[derive(Component, Clone, Debug, Default)]
pub struct TokenHistory(pub Vec<u32>);

/// How much of the history is in the KV cache.
#[derive(Component, Clone, Copy, Debug, Default)]
pub struct ContextCursor {
    /// Leading tokens whose keys and values are cached.
    pub computed: usize,
    /// Number of leading tokens that have joined a wave. Those after `computed` are in flight.
    pub scheduled: usize,
    /// Number of tokens chosen on a device whose ids have not been read. They follow the history.
    pub unread: usize,
    /// Number of drafted tokens that are in flight, to be verified. Rows after them wait for the result.
    pub drafts: usize,
    /// Largest number of tokens the session may hold.
    pub limit: usize,
    /// Counts how often cached context was rewound or preempted, so that rows of a wave in flight can be recognized as
    /// stale.
    pub epoch: u32,
    /// True if the context was preempted so that other sessions could continue, and the session waits to compute it
    /// again.
    pub preempted: bool,
    /// How often the context was preempted during the request.
    pub preemptions: u32,
    /// When the session last joined a wave, on a clock that only orders events.
    pub used: u64,
}

impl ContextCursor {
    /// Keeps the first `keep` tokens of the cached context and discards all rows in flight.
    pub fn rewind(&mut self, keep: usize) {
        self.epoch = self.epoch.wrapping_add(1);
        self.computed = self.computed.min(keep);
        self.scheduled = self.computed;
        self.unread = 0;
        self.drafts = 0;
    }
}

/// Why a session stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-generation token was chosen.
    EndOfGeneration,
    /// A stop string was found.
    StopString,
    /// The requested number of tokens was generated.
    MaxTokens,
    /// The context holds no further token: the session's limit is reached, or no page is left in the arena.
    ContextFull,
    /// The caller cancelled.
    Cancelled,
    /// The model could not be loaded.
    ModelFailed,
    /// No token can be chosen, because every logit is NaN or `-inf`: usually a damaged file.
    InvalidLogits,
}

/// What a session is doing.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing has been requested yet.
    #[default]
    Idle,
    /// Has work to do, but the wave had no capacity or no page was free.
    Waiting,
    /// Its prompt is passing through the model.
    Prefilling,
    /// Generates one token for each wave.
    Decoding,
    /// Paused by the caller: keeps its context, takes no part in waves.
    Paused,
    /// Stopped. It may be continued with more tokens.
    Finished(FinishReason),
}

impl Phase {
    /// Returns true if waves should carry rows of the session.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Waiting | Self::Prefilling | Self::Decoding)
    }
}

/// Physical slots of the session's pages: for each KV class, by page number. Kernels read it. Pages that have left the
/// class's window have slot 0, which kernels do not read.
#[derive(Component, Clone, Debug, Default)]
pub struct BlockTable(pub Vec<Vec<u32>>);

impl BlockTable {
    /// Number of pages of the context. Each class has as many.
    pub fn pages(&self) -> usize {
        self.0.first().map_or(0, Vec::len)
    }
}

/// The parameters of one request of a session.
#[derive(Component, Clone, Debug)]
pub struct Request {
    /// Largest number of tokens to generate. With 0, only the prompt is computed.
    pub max_tokens: usize,
    /// Texts that end the answer. They are not part of it.
    pub stop: Vec<String>,
    /// True if end-of-generation tokens do not end the answer.
    pub ignore_end: bool,
    /// How tokens are chosen.
    pub sampler: SamplerSettings,
    /// Largest number of rows of this session's prompt in one wave. 0 for no limit of its own.
    pub prefill_chunk: usize,
    /// Largest number of tokens that are drafted and verified with the next one. 0 for no speculation.
    pub draft: usize,
    /// What happens when the context is full.
    pub when_full: WhenFull,
}

/// What happens to a request whose session has as many tokens as its context may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// It ends with [`FinishReason::ContextFull`].
    #[default]
    Stop,
    /// About the oldest half of the session's tokens is dropped, except for the first `keep`, and the request goes on. Whole
    /// turns are dropped where one starts near the half ([`TurnStarts::end_of_oldest`]). The rest is computed again, because
    /// keys depend on their positions; what is kept at the beginning stays cached.
    Shift {
        /// Number of first tokens that stay, such as those of a system message. At most half of the context.
        keep: usize,
    },
}

/// Positions in a session's tokens at which turns of a conversation start, ascending: where something was appended, where a
/// context that was set went on from what was there, or where a message of the user starts. A component of every session
/// that the engine opens.
#[derive(Component, Clone, Debug, Default, PartialEq, Eq)]
pub struct TurnStarts(pub Vec<usize>);

impl TurnStarts {
    /// Notes that a turn starts at `position`. What was after it is gone.
    pub fn begin(&mut self, position: usize) {
        self.0.retain(|start| *start < position);
        self.0.push(position);
    }

    /// Up to which position a context of `length` tokens is dropped, from `keep` on, to make room: the start of the turn that
    /// is nearest to half of these tokens, if it drops between a quarter and three quarters of them, else half. With less,
    /// the room would be used up at once; with more, little would be left to go on from.
    pub fn end_of_oldest(&self, keep: usize, length: usize) -> usize {
        let half = length.saturating_sub(keep).div_ceil(2);
        let middle = keep.saturating_add(half);
        let inside = |start: &usize| (keep.saturating_add(1)..length).contains(start);
        let near = |start: &usize| inside(start) && start.abs_diff(middle) <= half / 2;
        let starts = self.0.iter().copied().filter(near);
        // Of two that are as near, the one that makes more room.
        starts.min_by_key(|start| (start.abs_diff(middle), *start < middle)).unwrap_or(middle)
    }

    /// Notes that the tokens of these positions were dropped.
    pub fn drop(&mut self, gone: core::ops::Range<usize>) {
        self.0.retain(|start| !(gone.start..gone.end).contains(start));
        self.0.iter_mut().filter(|start| **start >= gone.end).for_each(|start| *start -= gone.len());
    }
}

impl Default for Request {
    fn default() -> Self {
        Self {
            max_tokens: usize::MAX,
            stop: Vec::new(),
            ignore_end: false,
            sampler: SamplerSettings::default(),
            prefill_chunk: 0,
            draft: 0,
            when_full: WhenFull::Stop,
        }
    }
}

/// Log-probabilities of one chosen token.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability before penalties and truncation.
    pub logprob: f32,
    /// The most likely tokens with their log-probabilities, most likely first.
    pub top: Vec<(u32, f32)>,
}

/// The results of the current request so far. A front end remembers how far it has read.
#[derive(Component, Clone, Debug, Default)]
pub struct Output {
    /// Text so far, in whole UTF-8 characters. Text that may be the start of a stop string is held back.
    pub text: String,
    /// Tokens so far, including the end-of-generation token.
    pub tokens: Vec<u32>,
    /// Log-probabilities of `tokens`, if they were requested.
    pub logprobs: Vec<TokenLogprob>,
}

impl Output {
    /// An empty output, with capacity for `tokens` tokens of usual length.
    pub fn with_capacity(tokens: usize) -> Self {
        /// Bytes of a token's text. English needs about four; this leaves a margin.
        const BYTES: usize = 8;
        Self {
            text: String::with_capacity(tokens.saturating_mul(BYTES)),
            tokens: Vec::with_capacity(tokens),
            logprobs: Vec::new(),
        }
    }
}

/// Requests the logits at positions of the prompt.
#[derive(Component, Clone, Debug, Default)]
pub struct LogitsWanted {
    /// Positions in the history, ascending.
    pub positions: Vec<usize>,
    /// What to keep of each row.
    pub keep: KeepLogits,
}

/// What is kept of a row of logits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeepLogits {
    /// The whole row.
    #[default]
    Row,
    /// The negative log-likelihood of the history's next token.
    NextTokenLoss,
}

/// The answer to [`LogitsWanted`], in the order of its positions.
#[derive(Component, Clone, Debug, Default)]
pub struct LogitsKept {
    /// Rows of `vocabulary` logits, if rows were requested.
    pub rows: Vec<Vec<f32>>,
    /// Losses in nats, if losses were requested.
    pub losses: Vec<f64>,
}

impl LogitsKept {
    /// Number of positions answered.
    pub fn len(&self) -> usize {
        self.rows.len() + self.losses.len()
    }

    /// Returns true if no position has been answered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Marks a session whose logits a caller's system reads or changes, or whose tokens it chooses. A device then reads the
/// logits back and leaves the choice to the host. A component of the session.
#[derive(Component, Clone, Copy, Debug, Default)]
pub struct ReadsLogits;

/// Tokens that a session may generate: bit `t % 32` of word `t / 32` is 1 if token `t` is allowed. Tokens beyond the
/// last word are forbidden. Works on every backend; a GPU applies it itself. A component of the session. If the allowed
/// tokens depend on the tokens before, replace it before each token and add [`ReadsLogits`] to the session, so that no
/// step runs ahead.
#[derive(Component, Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenMask(pub Vec<u32>);

impl TokenMask {
    /// A mask of `vocabulary` tokens that allows those for which `allowed` returns true.
    pub fn new(vocabulary: usize, allowed: impl Fn(u32) -> bool) -> Self {
        let mut words = vec![0; vocabulary.div_ceil(32)];
        for (index, word) in words.iter_mut().enumerate() {
            for bit in 0..32u32 {
                // A vocabulary has fewer than 2^31 tokens.
                let token = index as u32 * 32 + bit;
                *word |= u32::from((token as usize) < vocabulary && allowed(token)) << bit;
            }
        }
        Self(words)
    }

    /// Returns true if a token is allowed.
    pub fn allows(&self, token: usize) -> bool {
        self.0.get(token / 32).is_some_and(|word| word >> (token % 32) & 1 == 1)
    }
}

/// Requests an embedding of the session's tokens.
#[derive(Component, Clone, Copy, Debug)]
pub struct EmbeddingWanted {
    /// Number of tokens of the text: all that the session holds.
    pub tokens: usize,
    /// How final hidden states become the embedding.
    pub pooling: Pooling,
    /// True if vectors are divided by their Euclidean length.
    pub normalize: bool,
}

/// The answer to [`EmbeddingWanted`], position by position.
#[derive(Component, Clone, Debug, Default)]
pub struct EmbeddingKept {
    /// Number of leading positions already included.
    pub positions: usize,
    /// The sum of their hidden states, `[embedding]`, if the mean is requested.
    pub sum: Vec<f64>,
    /// The requested hidden states, `[embedding]` each.
    pub rows: Vec<Vec<f32>>,
}

/// Marks a session whose context is shared with no other: it neither uses cached contexts nor leaves its own behind. A
/// component of the session.
#[derive(Component, Clone, Copy, Debug, Default)]
pub struct PrivateContext;

/// How urgent a session's prompts are among those that wait: higher ones come first. Sessions without it have 0. A
/// component of the session.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(pub i32);

/// On whose behalf a session works. The prompts of a client with many sessions get no more than those of one with few. A
/// session without it is a client of its own. A component of the session.
#[derive(Component, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Client(pub u64);

/// What is expected to follow a session's tokens. Admission adds it to the wave that computes the session's next token, as
/// far as it pays, and the tokens that the session then chooses all the same are accepted: one wave gives several tokens.
/// A component of sessions that speculate. A drafter is a system in the set `Speculate` that writes `tokens` and
/// `confidence`. The engine's own looks for earlier occurrences of the last tokens; one that runs after it replaces what it
/// wrote.
#[derive(Component, Clone, Debug, Default)]
pub struct Draft {
    /// The expected tokens, from the first that the session does not have, whether or not it has been read back from a
    /// device.
    pub tokens: Vec<u32>,
    /// Estimated probability that each of them is chosen if those before are.
    pub confidence: f32,
    /// The tokens that are being verified.
    pub in_flight: Vec<u32>,
    /// True while a draft model computes the tokens. The session joins no wave meanwhile.
    pub pending: bool,
    /// What came of drafts so far.
    pub stats: DraftStats,
}

/// Counts drafts of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DraftStats {
    /// Waves that carried drafted tokens.
    pub waves: u64,
    /// Tokens drafted.
    pub drafted: u64,
    /// Of these, tokens accepted.
    pub accepted: u64,
    /// Tokens drafted for the last such wave.
    pub last_drafted: u32,
    /// Of these, tokens accepted.
    pub last_accepted: u32,
}

/// The session of a draft model that drafts for another session. A component of that one; the draft model's session is
/// despawned with it.
#[derive(Component, Debug)]
#[relationship_target(relationship = DraftsFor, linked_spawn)]
pub struct DraftedBy(Vec<Entity>);

impl DraftedBy {
    /// The session of the draft model.
    pub fn session(&self) -> Option<Entity> {
        self.0.first().copied()
    }
}

/// Marks a session of a draft model: its tokens are drafts for this session.
#[derive(Component, Clone, Copy, Debug)]
#[relationship(relationship_target = DraftedBy)]
pub struct DraftsFor(pub Entity);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_turns_are_dropped_near_half_of_the_context() {
        // 20 tokens are kept, 80 make up the turns: a quarter ends at 40, half at 60, three quarters at 80.
        let end = |starts: &[usize]| TurnStarts(starts.to_vec()).end_of_oldest(20, 100);
        let cases: [(&[usize], usize); 12] = [
            (&[], 60),
            (&[0, 20, 60, 100], 60),
            (&[0, 20, 55, 70, 95], 55),
            (&[0, 20, 45, 62, 95], 62),
            (&[50, 70], 70),
            (&[40], 40),
            (&[80], 80),
            // A turn as long as this is cut: its beginning, or the end of the context, would be all that is left.
            (&[0, 20, 39], 60),
            (&[0, 20, 81], 60),
            (&[0, 20, 99], 60),
            // Not of this context.
            (&[100, 101, usize::MAX], 60),
            (&[70, 50, 61], 61),
        ];
        for (starts, wanted) in cases {
            assert_eq!(end(starts), wanted, "{starts:?}");
        }
    }

    #[test]
    fn any_context_loses_something_and_not_all() {
        for keep in 0..40 {
            for length in keep + 2..keep + 40 {
                for start in 0..length + 2 {
                    let end = TurnStarts(vec![start]).end_of_oldest(keep, length);
                    assert!(
                        (keep + 1..length).contains(&end),
                        "{end} of {length}, {keep} kept, a turn at {start}"
                    );
                }
            }
        }
        // Nothing to drop, and no overflow.
        assert_eq!(TurnStarts(vec![3]).end_of_oldest(5, 5), 5);
        assert_eq!(TurnStarts(vec![3]).end_of_oldest(usize::MAX, 5), usize::MAX);
    }

    #[test]
    fn starts_move_with_the_tokens_after_what_was_dropped() {
        let after = |gone: core::ops::Range<usize>| {
            let mut turns = TurnStarts(vec![0, 5, 23, 41]);
            turns.drop(gone);
            turns.0
        };
        assert_eq!(after(5..23), [0, 5, 23]);
        assert_eq!(after(5..30), [0, 16]);
        assert_eq!(after(6..41), [0, 5, 6]);
        assert_eq!(after(0..50), []);
        assert_eq!(after(7..7), [0, 5, 23, 41]);
    }

    #[test]
    fn a_turn_begins_after_those_before_it() {
        let mut turns = TurnStarts::default();
        [0, 9, 30, 12, 12].into_iter().for_each(|start| turns.begin(start));
        assert_eq!(turns.0, [0, 9, 12]);
    }
}
