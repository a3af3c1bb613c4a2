//! Errors of the command: their messages, the facts that a script reads, and the exit codes.
//!
//! With `--json` an error is printed on stdout as `{"error": {"kind", "message", …facts}}`. `kind` is the name of the
//! innermost error's variant in snake case, and the facts are its fields (see [`facts`]).

mod facts;

use crate::interrupt;
use crate::pull::{self, PullError};
use serde_json::{Map, Value, json};
use std::fmt;
use std::path::PathBuf;
use weft::{LoadError, ModelError};

/// Exit code of a command whose work failed.
const FAILED: u8 = 1;
/// Exit code of wrong usage; clap uses the same.
pub(crate) const USAGE: u8 = 2;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The engine returned an error.
    #[error("{0}")]
    Engine(#[from] weft::Error),
    /// A GGUF file could not be read.
    #[error("{0}")]
    Gguf(#[from] weft::gguf::GgufError),
    /// The bytes of a file could not be read.
    #[error("{0}")]
    Storage(#[from] weft::storage::StorageError),
    /// A text could not be tokenized, or tokens could not be decoded to text.
    #[error("{0}")]
    Tokenize(#[from] weft::TokenizeError),
    /// A chat template failed to render.
    #[error("{0}")]
    Template(#[from] weft::TemplateError),
    /// A model could not be downloaded.
    #[error("{0}")]
    Pull(#[from] PullError),
    /// A synthetic model could not be made.
    #[error("{0}")]
    Synth(#[from] weft::synth::SynthError),
    /// A model and an adapter could not be merged.
    #[error("{0}")]
    Merge(#[from] weft::MergeError),
    /// A model could not be quantized.
    #[error("{0}")]
    Quantize(#[from] weft::quantize::QuantizeError),
    /// An output file could not be created.
    #[error("{0}")]
    NewFile(#[from] weft::storage::NewFileError),
    /// The model is neither a file nor a name of the catalogue.
    #[error(
        "model `{model}` is neither a file nor in the catalogue ({known}); check the path, or see `weft list`"
    )]
    UnknownModel { model: String, known: String },
    /// The model is a name on the hub that is not in the cache.
    #[error(
        "model `{model}` is not on this machine; `weft pull {model}` downloads it if it is a name on the hub"
    )]
    NotPulled { model: String },
    /// The prompt has no tokens.
    #[error(
        "the text is empty and the model adds no tokens of its own, so there is nothing to compute; give some text"
    )]
    EmptyPrompt,
    /// The prompt has more tokens than the context.
    #[error("{tokens} tokens do not fit into the context of {limit}; {}", room(*tokens, *model))]
    ContextOverflow { tokens: usize, limit: usize, model: usize },
    /// An error that a damaged model file may have caused, with advice on how to repair the file.
    #[error("{source}\n`{advice}` checks the model's file and downloads it again if it is damaged")]
    OfModel { source: Box<Self>, advice: String },
    /// Some texts have no embedding.
    #[error("{refused} of {texts} texts have no embedding; {first}")]
    TextsRefused { refused: usize, texts: usize, first: String },
    /// An error that was already reported, on stdout and on stderr.
    #[error("{source}")]
    Told { source: Box<Self> },
    /// The requested context is larger than the model's.
    #[error("a context of {asked} tokens is more than the model's {model}; ask for less")]
    ContextTooLarge { asked: usize, model: usize },
    /// The model was to be measured on a GPU but moved to the CPU.
    #[error(
        "the GPU failed and `{model}` moved to the CPU, so the times measure neither; the log says why it failed; use --backend cpu, or --gpu-plain"
    )]
    LeftGpu { model: String },
    /// A file could not be read.
    #[error("{file}: {reason}; check the path and its permissions")]
    Read { file: String, reason: String },
    /// Output could not be written.
    #[error("{to}: {reason}; check that the folder exists and has room")]
    Write { to: String, reason: String },
    /// The input is not UTF-8.
    #[error("{input} is not UTF-8 text: byte {offset} is invalid; convert it first, for example with iconv")]
    NotUtf8 { input: String, offset: usize },
    /// The input is not the expected JSON.
    #[error("{input}: {reason}; {wanted}")]
    BadJson { input: String, reason: String, wanted: &'static str },
    /// The file has no tensor of this name.
    #[error("{file}: there is no tensor `{tensor}`{}; `weft inspect` lists all tensors", like(.similar))]
    NoSuchTensor { file: String, tensor: String, similar: Vec<String> },
    /// The tensor's format cannot be decoded.
    #[error(
        "{file}: tensor `{tensor}` has the format {format}, which this build cannot decode; it decodes {readable}"
    )]
    UnreadableTensor { file: String, tensor: String, format: String, readable: String },
    /// The text is too short to be scored.
    #[error(
        "{file}: {tokens} tokens do not fill one chunk of {context}; give a longer text or a smaller --context"
    )]
    TextTooShort { file: String, tokens: usize, context: usize },
    /// The model computed NaN or infinity.
    #[error(
        "the model computes NaN or infinity after {tokens} tokens; its file is damaged, download it again"
    )]
    InvalidLogits { tokens: usize },
    /// A request ended before its work was done.
    #[error("the request ended early ({finish}) after {tokens} tokens; {remedy}")]
    EndedEarly { finish: &'static str, tokens: usize, remedy: &'static str },
    /// The message does not fit even into an empty context.
    #[error(
        "the message needs a context of {need} tokens, but the context has {limit}; shorten it, or start with a larger --context (the model allows {most})"
    )]
    MessageTooLong { need: usize, limit: usize, most: usize },
    /// The conversation leaves no room for the message.
    #[error(
        "the conversation fills its context of {limit} tokens; /clear starts a new one, /undo removes the last turn, --context-policy shift drops the oldest turns"
    )]
    ConversationTooLong { limit: usize },
    /// The file exists and is not a conversation, so it is not overwritten.
    #[error("{file} exists and holds no conversation, so it is not overwritten; name another file")]
    NotAConversation { file: String },
    /// The file holds another conversation, so it is not overwritten.
    #[error(
        "{file} holds a conversation, which is not overwritten; --load {file} goes on from it, or save to another file"
    )]
    ConversationExists { file: String },
    /// Wrong usage that the argument parser cannot detect.
    #[error("{message}")]
    Usage { message: String },
    /// The user pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The process that read stdout closed it.
    #[error("the reader of stdout closed it")]
    ReaderGone,
}

/// Says how a longer prompt could fit.
fn room(tokens: usize, model: usize) -> String {
    /// Tokens reserved for an answer; the suggested context is a multiple of it.
    const ANSWER: usize = 1024;
    if tokens < model {
        let room = tokens.saturating_add(ANSWER).div_ceil(ANSWER).saturating_mul(ANSWER).min(model);
        format!("give --context {room}, or any number up to the model's {model}")
    } else {
        format!("the model's context is {model}: shorten the text")
    }
}

fn like(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!(" (similar: {})", similar.join(", ")) }
}

impl CliError {
    /// Creates an error of wrong usage.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into() }
    }

    /// Creates the error of a file that could not be read.
    pub(crate) fn read(file: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::Read { file: file.to_string(), reason: error.to_string() }
    }

    /// Returns true if the command line alone is wrong, such as an unknown format, type or preset.
    fn is_usage(&self) -> bool {
        use weft::quantize::QuantizeError;
        use weft::synth::SynthError;
        matches!(
            self,
            Self::Usage { .. }
                | Self::Quantize(QuantizeError::UnsupportedType { .. })
                | Self::Synth(
                    SynthError::UnsupportedArchitecture { .. }
                        | SynthError::UnsupportedFormat { .. }
                        | SynthError::UnknownPreset { .. }
                )
        )
    }

    /// Returns true if a damaged model file may have caused the error.
    fn may_be_damage(&self) -> bool {
        let of_file = |error: &ModelError| {
            matches!(
                error,
                ModelError::Gguf(_)
                    | ModelError::Storage(_)
                    | ModelError::Tokenize(_)
                    | ModelError::BadMetadata { .. }
                    | ModelError::MissingTensor { .. }
                    | ModelError::BadShape { .. }
                    | ModelError::VocabularySize { .. }
                    | ModelError::Pack { .. }
            )
        };
        match self {
            Self::Gguf(_) | Self::Storage(_) | Self::InvalidLogits { .. } => true,
            Self::Engine(weft::Error::Model(error)) => of_file(error),
            Self::Engine(weft::Error::Load(error)) => match &**error {
                LoadError::Model(error) => of_file(error),
                LoadError::Storage(_) => true,
                _ => false,
            },
            Self::Engine(error) => matches!(error, weft::Error::InvalidEmbedding),
            _ => false,
        }
    }

    /// If the error may come from a damaged model that was pulled, adds the command that repairs it. `model` returns
    /// the path of the command's model.
    pub(crate) fn with_advice(self, model: impl FnOnce() -> Option<PathBuf>) -> Self {
        if !self.may_be_damage() {
            return self;
        }
        let (_, facts) = facts::of(&self);
        let file = ["file", "path", "name"].iter().find_map(|fact| facts.get(*fact)?.as_str());
        let name = file.map(PathBuf::from).or_else(model).and_then(|file| pull::name_of(&file));
        match name {
            Some(name) => {
                Self::OfModel { source: Box::new(self), advice: format!("weft pull --verify {name}") }
            }
            None => self,
        }
    }

    /// The error's kind, message and facts, as scripts read them.
    pub(crate) fn facts(&self) -> Map<String, Value> {
        let mut error = Map::new();
        let (kind, facts) = facts::of(self);
        error.insert("kind".into(), json!(kind));
        error.insert("message".into(), json!(self.to_string()));
        for (name, value) in facts {
            error.entry(name).or_insert(value);
        }
        error
    }

    /// The JSON value that `--json` prints.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "error": self.facts() })
    }

    /// The program's exit code for this error.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Interrupted => interrupt::EXIT,
            error if error.is_usage() => USAGE,
            _ => FAILED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_its_kind_message_and_facts() {
        let error = CliError::ContextTooLarge { asked: 9000, model: 2048 };
        let json = error.to_json();
        assert_eq!(json["error"]["kind"], "context_too_large");
        assert_eq!(json["error"]["asked"], 9000);
        assert_eq!(json["error"]["model"], 2048);
        assert_eq!(json["error"]["message"], error.to_string());
    }

    #[test]
    fn the_engines_errors_keep_their_facts() {
        let error = CliError::from(weft::Error::UnknownToken { token: 7, vocabulary: 3 });
        let json = error.to_json();
        assert_eq!(json["error"]["kind"], "unknown_token");
        assert_eq!(json["error"]["token"], 7);
        assert_eq!(json["error"]["vocabulary"], 3);
    }
}
