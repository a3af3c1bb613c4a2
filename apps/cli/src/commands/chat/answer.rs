//! Generates one answer: fits the conversation into the context, writes the text as it is generated, and handles a full
//! context.
//!
//! If not everything fits, the oldest turns are dropped from the context, enough of them to free room for more than a
//! few tokens, because after each drop everything behind it has to be prefilled again. An answer in whose middle that
//! happens continues from its own tokens.

use super::conversation::{ASSISTANT, USER};
use super::screen::Screen;
use super::stats::stats;
use super::{Chat, Cut};
use crate::args::ContextPolicy;
use crate::commands::run::rate;
use crate::error::CliError;
use crate::interrupt::Answering;
use crate::output;
use crate::style::Style;
use std::time::Instant;
use weft::components::ContextCursor;
use weft::{FinishReason, GenerateOptions, SpecialTokens};

/// Once turns were dropped, a context of N tokens keeps N / `FREE` free.
const FREE: usize = 4;
/// While no turn was dropped, N / `LEAST_FREE` tokens must be free before an answer begins.
const LEAST_FREE: usize = 16;
/// Maximum tokens that make up one character.
const MOST_BYTES: usize = 4;

/// Counts and times of the last answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerStats {
    pub(super) prompt_tokens: usize,
    pub(super) tokens: usize,
    pub(super) first_token_s: f64,
    pub(super) tok_s: Option<f64>,
    /// Seed of its first token; `weft run --seed` with it draws the same tokens.
    pub(super) seed: u64,
}

/// The part of an answer generated so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) tokens: Vec<u32>,
    pub(super) text: String,
}

/// The result of one request of an answer. An answer takes several if turns are dropped in its middle.
struct Part {
    /// The answer up to the end of its last complete character.
    draft: Draft,
    /// The replacement characters to show for a last character whose bytes are incomplete.
    cut_off: String,
    reason: FinishReason,
}

/// When an answer was asked for, and when its first and last tokens came.
struct Clock {
    asked: Instant,
    first: Option<Instant>,
    last: Instant,
}

impl Chat {
    /// Runs one turn: appends the user's message and streams the model's answer to stdout.
    pub(super) fn ask(&mut self, text: &str) -> Result<(), CliError> {
        let before = self.conversation.clone();
        self.conversation.push(USER, text);
        // The conversation is restored, so that the user can try a shorter message.
        self.answer(Draft::default()).inspect_err(|_| self.conversation = before)
    }

    /// Answers the last user message, continuing from `draft`, and appends the answer to the conversation.
    pub(super) fn answer(&mut self, draft: Draft) -> Result<(), CliError> {
        if !self.fit(&draft.tokens, false)? {
            return Err(self.too_long(&draft.tokens)?);
        }
        let mut screen = Screen::open();
        let answered = self.generate(draft, &mut screen);
        screen.close()?;
        let (draft, cut_off, reason) = answered?;
        self.conversation.push(ASSISTANT, &format!("{}{cut_off}", draft.text));
        self.changed = true;
        let why = match reason {
            FinishReason::Cancelled => Some("stopped; /continue goes on".to_owned()),
            FinishReason::MaxTokens => Some(format!(
                "cut at --max-tokens {}; /continue goes on, /set max-tokens N changes it",
                self.settings.max_tokens()
            )),
            FinishReason::ContextFull => Some(self.full()),
            _ => None,
        };
        self.cut = if why.is_some() { Cut::At(draft) } else { Cut::Nowhere };
        self.notes.extend(why);
        self.tell_notes();
        if self.stats {
            output::note(stats(self)?.trim_end());
        }
        self.autosave();
        Ok(())
    }

    /// Generates in the context that `fit` prepared. Drops turns when the context is full, if the policy allows it.
    fn generate(
        &mut self,
        mut draft: Draft,
        screen: &mut Screen,
    ) -> Result<(Draft, String, FinishReason), CliError> {
        let prompt_tokens = self.host.engine.history(self.session)?.len();
        let (most, mut said) = (self.settings.max_tokens(), 0);
        let now = Instant::now();
        let mut clock = Clock { asked: now, first: None, last: now };
        let mut options = self.settings.for_answer();
        let seed = options.sampler.seed;
        let (cut_off, reason) = loop {
            options.max_tokens = Some(most.saturating_sub(said));
            let Part { draft: part, cut_off, reason } = self.part(&options, screen, &mut clock)?;
            said += part.tokens.len();
            draft.tokens.extend(part.tokens);
            draft.text.push_str(&part.text);
            let full = reason == FinishReason::ContextFull && self.policy == ContextPolicy::Shift;
            if !full || !self.fit(&draft.tokens, true)? {
                break (cut_off, reason);
            }
            // Continues with another seed, so that the rest does not repeat the same random numbers.
            options.sampler.seed = options.sampler.seed.wrapping_add(1 << 32);
        };
        // The answer was cut within a character.
        screen.write(&cut_off)?;
        let first = clock.first.unwrap_or(clock.last);
        self.last = Some(AnswerStats {
            prompt_tokens,
            tokens: said,
            first_token_s: first.duration_since(clock.asked).as_secs_f64(),
            tok_s: rate(said.saturating_sub(1), clock.last.duration_since(first).as_secs_f64()),
            seed,
        });
        Ok((draft, cut_off, reason))
    }

    /// Generates until the model, a limit or the user ends the request, and writes the text.
    fn part(
        &mut self,
        options: &GenerateOptions,
        screen: &mut Screen,
        clock: &mut Clock,
    ) -> Result<Part, CliError> {
        let Self { host, session, .. } = self;
        host.engine.generate(*session, options)?;
        let answering = Answering::start();
        // Replacement characters of a character whose remaining bytes may still come.
        let mut unfinished = String::new();
        let reason = host.answer(*session, Some(&answering), |piece, tokens| {
            clock.last = Instant::now();
            if tokens > 0 && clock.first.is_none() {
                clock.first = Some(clock.last);
            }
            let whole = piece.trim_end_matches(char::REPLACEMENT_CHARACTER);
            if !whole.is_empty() {
                screen.write(&std::mem::take(&mut unfinished))?;
                screen.write(whole)?;
            }
            unfinished.push_str(&piece[whole.len()..]);
            Ok(())
        })?;
        drop(answering);
        let output = host.engine.output(*session)?;
        let (mut tokens, mut text) = (output.tokens.clone(), output.text.clone());
        if reason == FinishReason::EndOfGeneration {
            tokens.pop();
        } else if !unfinished.is_empty() {
            // The tokens of the incomplete character are dropped: a continued answer generates it again, completely.
            let tokenizer = host.engine.tokenizer(host.model)?;
            let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
            let says = |tokens: &[u32]| {
                let said = tokenizer.decode(tokens, false);
                said.is_ok_and(|said| said.trim_start() == text[..whole].trim_start())
            };
            let mut fewer = (1..=MOST_BYTES).filter_map(|cut| tokens.len().checked_sub(cut));
            if let Some(kept) = fewer.find(|kept| says(&tokens[..*kept])) {
                tokens.truncate(kept);
                text.truncate(whole);
                return Ok(Part { draft: Draft { tokens, text }, cut_off: unfinished, reason });
            }
        }
        screen.write(&unfinished)?;
        Ok(Part { draft: Draft { tokens, text }, cut_off: String::new(), reason })
    }

    /// Sets the session's context to the last turns that fit, followed by `draft` of an answer. If `must_go`, at least
    /// the oldest of the turns is dropped. Returns false if no turn fits.
    fn fit(&mut self, draft: &[u32], must_go: bool) -> Result<bool, CliError> {
        let limit = self.limit();
        let turns = match self.policy {
            ContextPolicy::Shift => self.conversation.seen_turns(),
            ContextPolicy::Stop => self.conversation.seen_turns().into_iter().take(1).collect(),
        };
        let fits = |gone: std::ops::Range<usize>, room: usize| {
            first_of(gone, |gone| {
                let tokens = self.context(turns[gone], draft)?;
                Ok::<_, CliError>((limit.saturating_sub(tokens.len()) >= room.max(1)).then_some(tokens))
            })
        };
        let least = usize::from(must_go);
        let short = self.settings.max_tokens().min(limit / LEAST_FREE);
        let mut found = fits(least..1, short)?;
        if found.is_none() {
            found = fits(1..turns.len(), limit / FREE)?;
        }
        if found.is_none() {
            found = fits(least..turns.len(), 1)?;
        }
        let Some((gone, tokens)) = found else { return Ok(false) };
        let first = turns[gone];
        self.host.engine.set_context(self.session, tokens)?;
        if gone > 0 {
            self.conversation.see_from(first);
            let system = if self.conversation.head() > 0 { "; the system message stays" } else { "" };
            let unseen = self.conversation.unseen();
            self.notes.push(format!(
                "the context of {limit} tokens is full: the model no longer sees the oldest {unseen} messages{system}"
            ));
        }
        Ok(true)
    }

    /// The tokens of the turns from `first` on, followed by an answer's draft.
    fn context(&self, first: usize, draft: &[u32]) -> Result<Vec<u32>, CliError> {
        let messages = self.conversation.seen_from(first);
        let mut tokens = self.host.engine.chat_tokens(self.host.model, &messages, &Default::default())?;
        tokens.extend_from_slice(draft);
        Ok(tokens)
    }

    /// The error for a message that does not fit into the context.
    fn too_long(&self, draft: &[u32]) -> Result<CliError, CliError> {
        let turns = self.conversation.seen_turns();
        let last = turns.last().copied().unwrap_or_default();
        let (need, limit) = (self.context(last, draft)?.len() + 1, self.limit());
        if need <= limit {
            return Ok(CliError::ConversationTooLong { limit });
        }
        let most = self.host.engine.config(self.host.model)?.context;
        Ok(CliError::MessageTooLong { need, limit, most })
    }

    /// The note for an answer that filled the context.
    fn full(&self) -> String {
        let limit = self.limit();
        match self.policy {
            ContextPolicy::Shift => format!(
                "cut: this turn alone fills the context of {limit} tokens; start with a larger --context for more"
            ),
            ContextPolicy::Stop => format!(
                "cut: the context of {limit} tokens is full; /clear starts anew, /undo removes the last turn, \
                 --context-policy shift lets the oldest turns go"
            ),
        }
    }

    /// Maximum tokens of the session's context.
    pub(super) fn limit(&self) -> usize {
        let cursor = self.host.engine.world().get::<ContextCursor>(self.session.0);
        cursor.map_or(0, |cursor| cursor.limit)
    }

    /// Encodes a text that an answer begins with.
    pub(super) fn tokens_of(&self, text: &str) -> Result<Vec<u32>, CliError> {
        let tokenizer = self.host.engine.tokenizer(self.host.model)?;
        Ok(tokenizer.encode(text, SpecialTokens::AsText, false)?)
    }

    /// Prints the notes that were collected during an answer, so that they do not interrupt its text.
    fn tell_notes(&mut self) {
        for note in self.notes.drain(..) {
            output::note(&Style::stderr().dim(&format!("[{note}]")));
        }
    }
}

/// Returns the first number of a range for which `what` returns a value. `what` has to return a value for all numbers
/// after that one too. This is a binary search: it calls `what` as often as the length of the range has binary digits.
fn first_of<T, E>(
    range: std::ops::Range<usize>,
    what: impl Fn(usize) -> Result<Option<T>, E>,
) -> Result<Option<(usize, T)>, E> {
    let (mut start, mut end, mut found) = (range.start, range.end, None);
    while start < end {
        let middle = start + (end - start) / 2;
        match what(middle)? {
            Some(thing) => (end, found) = (middle, Some((middle, thing))),
            None => start = middle + 1,
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::first_of;
    use std::cell::Cell;

    #[test]
    fn the_first_is_found_in_as_many_steps_as_the_count_has_digits() {
        for from in 0..1501 {
            let asked = Cell::new(0);
            let what = |at: usize| {
                asked.set(asked.get() + 1);
                Ok::<_, ()>((at >= from).then_some(at * 2))
            };
            let wanted = (from < 1500).then_some((from.max(3), from.max(3) * 2));
            assert_eq!(first_of(3..1500, what), Ok(wanted), "{from}");
            assert!(asked.get() <= 11, "{from}: {}", asked.get());
        }
        assert_eq!(first_of(1..1, |_| Ok::<_, ()>(Some(()))), Ok(None));
        assert_eq!(first_of(0..9, |at| if at == 4 { Err("no") } else { Ok(Some(())) }), Err("no"));
    }
}
