//! One answer: what of the conversation the model sees, its text as it comes, and what becomes of it where the context
//! is full.
//!
//! Where not everything fits, the oldest turns go, as many as it takes to leave room for more than a few tokens: with each
//! turn that goes, what follows it has to pass through the model again. An answer in whose middle that happens goes on
//! from its own tokens.

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

/// Of a context that turns had to leave, this part stays free for what comes.
const FREE: usize = 4;
/// Of a context that nothing has left yet, this part is to be free before an answer begins.
const LEAST_FREE: usize = 16;
/// Most tokens that a character is made of.
const MOST_BYTES: usize = 4;

/// What the last answer took.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnswerStats {
    pub(super) prompt_tokens: usize,
    pub(super) tokens: usize,
    pub(super) first_token_s: f64,
    pub(super) tok_s: Option<f64>,
    /// That its first token was drawn with; `weft run --seed` draws the same.
    pub(super) seed: u64,
}

/// An answer so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) tokens: Vec<u32>,
    pub(super) text: String,
}

/// What one request of an answer brought.
struct Part {
    /// Up to the end of a character.
    draft: Draft,
    /// What shows for a character whose last bytes are missing.
    cut_off: String,
    reason: FinishReason,
}

/// When the tokens of an answer came.
struct Clock {
    asked: Instant,
    first: Option<Instant>,
    last: Instant,
}

impl Chat {
    /// One turn: the user's message, and the model's answer on stdout as it comes.
    pub(super) fn ask(&mut self, text: &str) -> Result<(), CliError> {
        let before = self.conversation.clone();
        self.conversation.push(USER, text);
        // A shorter message can be tried: the conversation stays as it was.
        self.answer(Draft::default()).inspect_err(|_| self.conversation = before)
    }

    /// Answers the last message of the user, going on from a draft, and adds the answer to the conversation.
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

    /// Generates in the context that has been made to fit, and makes room where that gets full.
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
            // The rest is not to have the same random numbers once more.
            options.sampler.seed = options.sampler.seed.wrapping_add(1 << 32);
        };
        // Where it was cut off within a character.
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

    /// Generates until the model, a limit or the user ends it, and writes the text.
    fn part(
        &mut self,
        options: &GenerateOptions,
        screen: &mut Screen,
        clock: &mut Clock,
    ) -> Result<Part, CliError> {
        let Self { host, session, .. } = self;
        host.engine.generate(*session, options)?;
        let answering = Answering::start();
        // Bytes of a character whose other bytes may still come, shown as characters that are none.
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
            // An answer that goes on generates the character again, where it can be whole.
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

    /// Makes the last turns that fit the session's context, with `draft` of an answer behind them; without the oldest of
    /// them where one `must_go`. Says whether any fit.
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

    /// The tokens of the turns from `first` on and of an answer's draft.
    fn context(&self, first: usize, draft: &[u32]) -> Result<Vec<u32>, CliError> {
        let messages = self.conversation.seen_from(first);
        let mut tokens = self.host.engine.chat_tokens(self.host.model, &messages, &Default::default())?;
        tokens.extend_from_slice(draft);
        Ok(tokens)
    }

    /// The error for a message that does not fit.
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

    /// What to say of an answer that filled the context.
    fn full(&self) -> String {
        let limit = self.limit();
        match self.policy {
            ContextPolicy::Shift => format!(
                "cut: this turn alone fills the context of {limit} tokens; start with a larger --context for more"
            ),
            ContextPolicy::Stop => format!(
                "cut: the context of {limit} tokens is full; /clear starts anew, /undo takes the last turn back, \
                 --context-policy shift lets the oldest turns go"
            ),
        }
    }

    /// Most tokens that the context holds.
    pub(super) fn limit(&self) -> usize {
        let cursor = self.host.engine.world().get::<ContextCursor>(self.session.0);
        cursor.map_or(0, |cursor| cursor.limit)
    }

    /// The tokens of a text that an answer begins with.
    pub(super) fn tokens_of(&self, text: &str) -> Result<Vec<u32>, CliError> {
        let tokenizer = self.host.engine.tokenizer(self.host.model)?;
        Ok(tokenizer.encode(text, SpecialTokens::AsText, false)?)
    }

    /// Tells what happened beside the answer, which is not interrupted by it.
    fn tell_notes(&mut self) {
        for note in self.notes.drain(..) {
            output::note(&Style::stderr().dim(&format!("[{note}]")));
        }
    }
}

/// The first number of a range for which `what` gives something, where it gives something for all numbers from some one on.
/// Asks for as many as the range has binary digits.
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
