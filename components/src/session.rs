//! Sessions: one conversation or completion each.

use crate::model::Pooling;
use crate::sampling::SamplerSettings;
use bevy_ecs::lifecycle::HookContext;
use bevy_ecs::prelude::*;
use bevy_ecs::world::DeferredWorld;

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

/// A session runs on this model.
#[derive(Component, Debug)]
#[relationship(relationship_target = Sessions)]
pub struct SessionOf(pub Entity);

/// The tokens of a session: everything it was told and everything it said.
#[derive(Component, Clone, Debug, Default)]
pub struct TokenHistory(pub Vec<u32>);

/// How much of the history is in the KV cache.
#[derive(Component, Clone, Copy, Debug, Default)]
pub struct ContextCursor {
    /// Leading tokens whose keys and values are cached.
    pub computed: usize,
    /// Leading tokens that have been given to a wave; those behind `computed` are under way.
    pub scheduled: usize,
    /// Tokens chosen on a device whose ids have not been read: they follow the history.
    pub unread: usize,
    /// Most tokens the session may hold.
    pub limit: usize,
    /// Counts the times that cached context was given up, so that a wave under way can tell that its rows are stale.
    pub epoch: u32,
    /// Whether the context was given up to let others go on, and the session waits for its turn to compute it again.
    pub preempted: bool,
    /// When the session last joined a wave, by a clock that only orders.
    pub used: u64,
}

impl ContextCursor {
    /// Keeps the first `keep` tokens of what is cached, and makes everything that is under way void.
    pub fn rewind(&mut self, keep: usize) {
        self.epoch = self.epoch.wrapping_add(1);
        self.computed = self.computed.min(keep);
        self.scheduled = self.computed;
        self.unread = 0;
    }
}

/// Why a session stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// An end-of-generation token.
    EndOfGeneration,
    /// A stop string.
    StopString,
    /// The asked number of tokens.
    MaxTokens,
    /// The context holds no further token: the session's limit, or no page is left in the arena.
    ContextFull,
    /// The caller cancelled.
    Cancelled,
    /// The model could not be loaded.
    ModelFailed,
    /// The model's numbers are no numbers: a damaged file.
    InvalidLogits,
}

/// What a session is doing.
#[derive(Component, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing asked yet.
    #[default]
    Idle,
    /// Work to do, but no room in a wave or no page.
    Waiting,
    /// Its prompt is passing through the model.
    Prefilling,
    /// Generating, a token a wave.
    Decoding,
    /// Held by the caller: keeps its context, takes no part in waves.
    Paused,
    /// Stopped; may be continued with more tokens.
    Finished(FinishReason),
}

impl Phase {
    /// Whether waves should carry rows of the session.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Waiting | Self::Prefilling | Self::Decoding)
    }
}

/// Physical slots of the session's pages, by page number: what kernels read.
#[derive(Component, Clone, Debug, Default)]
pub struct BlockTable(pub Vec<u32>);

/// What one request of a session asks for.
#[derive(Component, Clone, Debug)]
pub struct Request {
    /// Most tokens to generate; 0 passes the prompt through and stops.
    pub max_tokens: usize,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Whether end-of-generation tokens end the answer.
    pub ignore_end: bool,
    /// How tokens are chosen.
    pub sampler: SamplerSettings,
    /// Most rows of this session's prompt in one wave; 0 for no limit of its own.
    pub prefill_chunk: usize,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            max_tokens: usize::MAX,
            stop: Vec::new(),
            ignore_end: false,
            sampler: SamplerSettings::default(),
            prefill_chunk: 0,
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
    /// The most likely tokens with theirs, best first.
    pub top: Vec<(u32, f32)>,
}

/// What the current request has produced. A front end remembers how far it has read.
#[derive(Component, Clone, Debug, Default)]
pub struct Output {
    /// Text so far, whole UTF-8 characters, without a held-back start of a stop string.
    pub text: String,
    /// Tokens so far, the end-of-generation token included.
    pub tokens: Vec<u32>,
    /// Log-probabilities of `tokens`, where asked for.
    pub logprobs: Vec<TokenLogprob>,
}

impl Output {
    /// No output yet, with room for so many tokens of usual length.
    pub fn with_capacity(tokens: usize) -> Self {
        /// Bytes of a token's text, generously: English has four.
        const BYTES: usize = 8;
        Self {
            text: String::with_capacity(tokens.saturating_mul(BYTES)),
            tokens: Vec::with_capacity(tokens),
            logprobs: Vec::new(),
        }
    }
}

/// Asks for the logits at positions of the prompt.
#[derive(Component, Clone, Debug, Default)]
pub struct LogitsWanted {
    /// Positions in the history, ascending.
    pub positions: Vec<usize>,
    /// What to keep of each.
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

/// Answers [`LogitsWanted`], in the order of its positions.
#[derive(Component, Clone, Debug, Default)]
pub struct LogitsKept {
    /// Rows of `vocabulary` logits, where rows were asked for.
    pub rows: Vec<Vec<f32>>,
    /// Losses in nats, where losses were asked for.
    pub losses: Vec<f64>,
}

impl LogitsKept {
    /// Positions answered.
    pub fn len(&self) -> usize {
        self.rows.len() + self.losses.len()
    }

    /// Whether no position has been answered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A system of the caller's reads or changes the session's logits, or chooses its tokens: a device brings the logits back and
/// leaves the choice to the host. A component of the session.
#[derive(Component, Clone, Copy, Debug, Default)]
pub struct ReadsLogits;

/// Tokens that a session may generate: bit `t % 32` of word `t / 32` is 1 if token `t` is allowed. Tokens beyond the last
/// word are forbidden. Works wherever the model is; a GPU applies it itself. A component of the session, to be replaced before
/// each token if the allowed tokens depend on those before: then the session also carries [`ReadsLogits`], so that no step runs
/// ahead.
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

/// Asks for an embedding of what the session holds.
#[derive(Component, Clone, Copy, Debug)]
pub struct EmbeddingWanted {
    /// Tokens of the text: all that the session holds.
    pub tokens: usize,
    /// How final hidden states become it.
    pub pooling: Pooling,
    /// Whether vectors are divided by their Euclidean length.
    pub normalize: bool,
}

/// Answers [`EmbeddingWanted`], position by position.
#[derive(Component, Clone, Debug, Default)]
pub struct EmbeddingKept {
    /// Leading positions that have been taken into account.
    pub positions: usize,
    /// The sum of the hidden states of those, `[embedding]`, where their mean is wanted.
    pub sum: Vec<f64>,
    /// Hidden states that were asked for, `[embedding]` each.
    pub rows: Vec<Vec<f32>>,
}

/// The run that ends a session's context. Removing it despawns the run and so returns its pages.
#[derive(Component, Clone, Copy, Debug)]
#[component(immutable, on_remove = drop_run)]
pub struct LeafRun(pub Entity);

fn drop_run(mut world: DeferredWorld<'_>, context: HookContext) {
    let Some(run) = world.get::<LeafRun>(context.entity).map(|leaf| leaf.0) else {
        return;
    };
    world.commands().entity(run).try_despawn();
}
