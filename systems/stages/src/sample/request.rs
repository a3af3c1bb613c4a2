//! What a request needs to choose tokens and turn them into text, and how it ends.

use super::{SampleError, Sampler};
use bevy_ecs::prelude::*;
use weft_components::{
    ContextCursor, FinishReason, Output, Phase, SamplerSettings, SessionEvent, SessionEventKind,
};
use weft_gpu::sampling::{SampleBatch, SampleKind};
use weft_text::{Detokenizer, StopStrings, TokenizeError, Tokenizer};

/// Why a request was refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// A setting of its sampler is invalid.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// A stop string is invalid.
    #[error(transparent)]
    Stop(#[from] TokenizeError),
}

/// How one request chooses tokens and turns them into text. A component of the session, created anew for each request.
#[derive(Component)]
pub struct SessionSampler {
    pub(super) sampler: Sampler,
    pub(super) detokenizer: Detokenizer,
    pub(super) stops: StopStrings,
    /// Stop strings that are control tokens: they have no text for `stops` to find.
    pub(super) stop_tokens: Vec<u32>,
}

impl SessionSampler {
    /// A sampler that has seen `history`. A stop string that equals the text of a control token of `tokenizer` ends the
    /// answer at that token, which shows no text.
    ///
    /// # Errors
    /// Invalid settings or stop strings.
    pub fn new(
        settings: &SamplerSettings,
        vocabulary: usize,
        history: &[u32],
        stop: &[String],
        tokenizer: Option<&Tokenizer>,
    ) -> Result<Self, RequestError> {
        let mut sampler = Sampler::new(settings.clone(), vocabulary)?;
        let seen = history.len().saturating_sub(settings.penalty_last_n);
        history[seen..].iter().for_each(|token| sampler.accept(*token));
        let control = |text: &String| {
            tokenizer.and_then(|tokenizer| tokenizer.token_to_id(text).filter(|id| tokenizer.is_control(*id)))
        };
        Ok(Self {
            sampler,
            detokenizer: Detokenizer::continuing(false),
            stops: StopStrings::new(stop)?,
            stop_tokens: stop.iter().filter_map(control).collect(),
        })
    }
}

impl SessionSampler {
    /// The kind of choice that a device would make for this request.
    pub fn kind(&self) -> SampleKind {
        SampleKind::of(self.sampler.settings(), self.sampler.vocabulary())
    }

    /// Returns true if the next step of the request can start before the token of this one has been read: a device can
    /// choose it without knowing the tokens before.
    pub fn runs_ahead(&self) -> bool {
        let settings = self.sampler.settings();
        let penalties = settings.penalty_last_n > 0
            && (settings.repetition_penalty != 1.0
                || settings.presence_penalty != 0.0
                || settings.frequency_penalty != 0.0);
        !penalties && self.kind() != SampleKind::Host
    }

    /// Largest number of logit adjustments that the request's next row asks for.
    pub(crate) fn adjustments(&self) -> usize {
        self.sampler.settings().logit_bias.len() + self.sampler.window().len()
    }

    /// Adds the request's row to those that a device chooses tokens for. `place` is where the device keeps the token.
    pub(crate) fn ask(&mut self, batch: &mut SampleBatch, place: u32) {
        let draw = self.kind().draws().then(|| self.sampler.uniform());
        let sampler = &self.sampler;
        let draw = || draw.unwrap_or_default();
        batch.push(sampler.settings(), sampler.vocabulary(), sampler.window(), draw, place);
    }

    /// Number of random numbers drawn for tokens that have been read. `unread` have been chosen and not read.
    pub fn settled_draws(&self, unread: usize) -> u64 {
        let ahead = if self.kind().draws() { unread as u64 } else { 0 };
        self.sampler.draws().saturating_sub(ahead)
    }

    /// Takes back the random numbers of `draws` tokens that were chosen and never read.
    pub fn take_back(&mut self, draws: usize) {
        if !self.kind().draws() {
            return;
        }
        self.sampler.set_draws(self.sampler.draws().saturating_sub(draws as u64));
    }
}

/// The components that change at the end of a request.
pub struct Ending<'a> {
    /// Holds back text that may be the start of a stop string or of a character.
    pub sampler: &'a mut SessionSampler,
    /// Receives that text.
    pub output: &'a mut Output,
    /// Becomes finished.
    pub phase: &'a mut Phase,
}

impl Ending<'_> {
    /// Ends the request for any reason: outputs the text held back and sends the event.
    pub fn finish(self, session: Entity, reason: FinishReason, events: &mut MessageWriter<'_, SessionEvent>) {
        self.end(reason);
        events.write(SessionEvent { session, kind: SessionEventKind::Finished(reason) });
    }

    /// Ends the request for any reason: outputs the text held back. The caller sends the event.
    pub(crate) fn end(self, reason: FinishReason) {
        let SessionSampler { detokenizer, stops, .. } = self.sampler;
        if reason != FinishReason::StopString {
            self.output.text.push_str(stops.push(detokenizer.finish()).text);
            self.output.text.push_str(stops.finish());
        }
        *self.phase = Phase::Finished(reason);
    }
}

/// Ends a session's request from outside, `(session, reason)`, if it has one. Its rows in flight are discarded.
pub fn end_request(
    In((entity, reason)): In<(Entity, FinishReason)>,
    mut sessions: Query<'_, '_, (&mut SessionSampler, &mut Output, &mut Phase, &mut ContextCursor)>,
    mut events: MessageWriter<'_, SessionEvent>,
) {
    let Ok((mut sampler, mut output, mut phase, mut cursor)) = sessions.get_mut(entity) else { return };
    if phase.is_active() || *phase == Phase::Paused {
        let computed = cursor.computed;
        cursor.rewind(computed);
        Ending { sampler: &mut sampler, output: &mut output, phase: &mut phase }.finish(
            entity,
            reason,
            &mut events,
        );
    }
}
