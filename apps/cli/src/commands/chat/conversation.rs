//! The messages of a conversation. A turn is a user's message and everything up to the next one.
//!
//! If the context cannot hold all messages, the model sees the system messages and the last turns. Messages that it
//! does not see stay in the conversation: they are saved, and seen again once there is room.

use crate::error::CliError;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use weft::Message;
use weft::storage::NewFile;

pub(super) const USER: &str = "user";
pub(super) const ASSISTANT: &str = "assistant";
const SYSTEM: &str = "system";

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Conversation {
    messages: Vec<Message>,
    /// Index of the first message of the first turn that the model sees.
    seen: usize,
}

impl Conversation {
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// Number of messages that the model does not see.
    pub(super) fn unseen(&self) -> usize {
        self.seen.saturating_sub(self.head())
    }

    /// Number of system messages at the start.
    pub(super) fn head(&self) -> usize {
        self.messages.iter().take_while(|message| message.role == SYSTEM).count()
    }

    /// Indices of the turns that the model sees, in ascending order.
    pub(super) fn seen_turns(&self) -> Vec<usize> {
        let first = self.seen.max(self.head());
        let later = (first + 1..self.messages.len()).filter(|at| self.messages[*at].role == USER);
        std::iter::once(first).chain(later).collect()
    }

    /// The messages that the model sees if the first turn is at `first`: the system messages and everything from there
    /// on.
    pub(super) fn seen_from(&self, first: usize) -> Vec<&Message> {
        let head = self.head();
        let turns = self.messages.get(first.max(head)..).unwrap_or_default();
        self.messages[..head].iter().chain(turns).collect()
    }

    /// Makes the model see the turns from `first` on.
    pub(super) fn see_from(&mut self, first: usize) {
        self.seen = first;
    }

    /// Makes the model see all turns again.
    pub(super) fn see_all(&mut self) {
        self.seen = 0;
    }

    pub(super) fn push(&mut self, role: &str, content: &str) {
        self.messages.push(Message::new(role, content));
    }

    pub(super) fn last(&self) -> Option<&Message> {
        self.messages.last()
    }

    /// Removes and returns the last message.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop();
        self.seen = self.seen.min(self.messages.len());
        message
    }

    /// Removes everything after the last user message. Returns false if there is none.
    pub(super) fn drop_answer(&mut self) -> bool {
        let last = self.messages.iter().rposition(|message| message.role == USER);
        if let Some(last) = last {
            self.messages.truncate(last + 1);
            self.seen = self.seen.min(last);
        }
        last.is_some()
    }

    /// Removes the last turn and returns its user message.
    pub(super) fn undo(&mut self) -> Option<Message> {
        self.drop_answer().then(|| self.pop()).flatten()
    }

    /// Replaces the system messages at the start by `text`; an empty text removes them.
    pub(super) fn set_system(&mut self, text: &str) {
        let head = self.head();
        let new = (!text.is_empty()).then(|| Message::new(SYSTEM, text));
        self.seen = (self.seen + usize::from(new.is_some())).saturating_sub(head);
        self.messages.splice(..head, new);
    }

    /// Removes all messages except the system messages.
    pub(super) fn clear(&mut self) {
        self.messages.truncate(self.head());
        self.seen = 0;
    }

    /// Writes the conversation to a file in one step.
    ///
    /// # Errors
    /// [`CliError::NotAConversation`] if the file exists and is not a conversation, [`CliError::Write`].
    pub(super) fn save(&self, file: &Path) -> Result<(), CliError> {
        Self::may_replace(file)?;
        let saved =
            |message: &Message| SavedMessage { role: message.role.clone(), content: message.content.clone() };
        let saved = Saved { messages: self.messages.iter().map(saved).collect() };
        let failed = |reason: String| CliError::Write { to: file.display().to_string(), reason };
        let mut json = serde_json::to_string_pretty(&saved).map_err(|error| failed(error.to_string()))?;
        json.push('\n');
        replace(file, &json).map_err(|error| failed(error.to_string()))
    }

    /// Checks that a conversation, which is new or was loaded from the file `from`, may be saved to `file`. An existing
    /// conversation there may be replaced only if it is the one that was loaded.
    pub(super) fn may_keep(file: &Path, from: Option<&Path>) -> Result<(), CliError> {
        Self::may_replace(file)?;
        let Ok(found) = fs::canonicalize(file) else { return Ok(()) };
        let goes_on = from.and_then(|from| fs::canonicalize(from).ok()).is_some_and(|from| from == found);
        if !goes_on && Self::load(file)?.len() > 0 {
            return Err(CliError::ConversationExists { file: file.display().to_string() });
        }
        Ok(())
    }

    /// Checks that a file may be overwritten: it does not exist, or it holds a conversation.
    pub(super) fn may_replace(file: &Path) -> Result<(), CliError> {
        if file.exists() && Self::load(file).is_err() {
            return Err(CliError::NotAConversation { file: file.display().to_string() });
        }
        Ok(())
    }

    /// Loads a conversation that [`Conversation::save`] wrote.
    pub(super) fn load(file: &Path) -> Result<Self, CliError> {
        let json = crate::input::named(file)?;
        let saved: Saved =
            serde_json::from_str(json.trim_start_matches('\u{feff}')).map_err(|error| CliError::BadJson {
                input: file.display().to_string(),
                reason: error.to_string(),
                wanted: "give a file written by /save",
            })?;
        let message = |saved: SavedMessage| Message { role: saved.role, content: saved.content };
        Ok(Self { messages: saved.messages.into_iter().map(message).collect(), seen: 0 })
    }
}

/// Turns a name that the user gave into a path. `-` is refused, because stdin carries the user's lines.
pub(super) fn file_named(name: &str) -> Result<PathBuf, CliError> {
    if name == "-" {
        return Err(CliError::usage(
            "`-` is no file name here, since stdin carries your messages; use ./- for a file with that name",
        ));
    }
    Ok(name.into())
}

/// Replaces a file's content in one step, so that a failure leaves the old content intact. Its permissions are kept.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let mut new = NewFile::replace(file).map_err(std::io::Error::other)?;
    new.write_all(text.as_bytes())?;
    new.commit().map_err(std::io::Error::other)
}

/// A conversation as it is stored in a file.
#[derive(Deserialize, Serialize)]
struct Saved {
    messages: Vec<SavedMessage>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct SavedMessage {
    role: String,
    content: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(roles: &str) -> Conversation {
        let mut conversation = Conversation::default();
        for (at, role) in roles.chars().enumerate() {
            let role = match role {
                's' => SYSTEM,
                'u' => USER,
                _ => ASSISTANT,
            };
            conversation.push(role, &at.to_string());
        }
        conversation
    }

    fn contents(messages: &[&Message]) -> String {
        messages.iter().map(|message| message.content.as_str()).collect()
    }

    #[test]
    fn turns_begin_with_the_user() {
        let mut talk = conversation("suauaau");
        assert_eq!(talk.seen_turns(), [1, 3, 6]);
        assert_eq!(contents(&talk.seen_from(3)), "03456");
        talk.see_from(3);
        assert_eq!((talk.seen_turns(), talk.unseen()), (vec![3, 6], 2));
        talk.set_system("other");
        assert_eq!((talk.seen_turns(), talk.unseen()), (vec![3, 6], 2));
        talk.set_system("");
        assert_eq!((talk.seen_turns(), talk.unseen()), (vec![2, 5], 2));
        assert_eq!(contents(&talk.seen_from(2)), "3456");
        assert_eq!(conversation("auau").seen_turns(), [0, 1, 3]);
        assert_eq!(conversation("s").seen_turns(), [1]);
        assert_eq!(contents(&conversation("").seen_from(0)), "");
    }

    #[test]
    fn a_dash_is_no_file() {
        assert!(file_named("-").is_err());
        assert_eq!(file_named("./-").ok(), Some(PathBuf::from("./-")));
    }

    #[test]
    fn turns_are_taken_back() {
        let mut talk = conversation("suaua");
        talk.see_from(3);
        assert_eq!(talk.undo().map(|message| message.content).as_deref(), Some("3"));
        assert_eq!(contents(&talk.seen_from(0)), "012");
        assert!(talk.drop_answer());
        assert_eq!(contents(&talk.seen_from(0)), "01");
        assert!(talk.undo().is_some() && talk.undo().is_none() && !talk.drop_answer());
        assert_eq!((talk.len(), talk.head(), talk.unseen()), (1, 1, 0));
    }
}
