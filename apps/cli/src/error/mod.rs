//! Errors of the command: their messages, the facts that a script reads, and the exit code.
//!
//! With `--json` an error is `{"error": {"kind", "message", …facts}}` on stdout. `kind` is the name of the innermost
//! error's variant in snake case and the facts are its fields (see [`facts`]).

mod facts;

use crate::interrupt;
use crate::pull::{self, PullError};
use serde_json::{Map, Value, json};
use std::fmt;
use std::path::PathBuf;
use weft::{LoadError, ModelError};

/// Exit code where the work failed.
const FAILED: u8 = 1;
/// Exit code of wrong usage, which is also clap's.
pub(crate) const USAGE: u8 = 2;

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// The engine refused.
    #[error("{0}")]
    Engine(#[from] weft::Error),
    /// A GGUF file could not be read.
    #[error("{0}")]
    Gguf(#[from] weft::gguf::GgufError),
    /// Bytes of a file could not be read.
    #[error("{0}")]
    Storage(#[from] weft::storage::StorageError),
    /// A text could not be tokenized, or tokens not be turned into text.
    #[error("{0}")]
    Tokenize(#[from] weft::TokenizeError),
    /// A chat template failed.
    #[error("{0}")]
    Template(#[from] weft::TemplateError),
    /// A model could not be fetched.
    #[error("{0}")]
    Pull(#[from] PullError),
    /// A model could not be made up.
    #[error("{0}")]
    Synth(#[from] weft::synth::SynthError),
    /// A model and an adapter could not be merged.
    #[error("{0}")]
    Merge(#[from] weft::MergeError),
    /// A model could not be quantized.
    #[error("{0}")]
    Quantize(#[from] weft::quantize::QuantizeError),
    /// A file could not be made.
    #[error("{0}")]
    NewFile(#[from] weft::storage::NewFileError),
    /// Neither a file nor a name of the catalogue.
    #[error(
        "model `{model}` is neither a file here nor in the catalogue ({known}); check the path, or see `weft list`"
    )]
    UnknownModel { model: String, known: String },
    /// A name of a model on the hub that is not in the cache.
    #[error("model `{model}` is not here; `weft pull {model}` fetches it, if it is a name on the hub")]
    NotPulled { model: String },
    /// A text without a token.
    #[error("the text is empty, and the model puts nothing before a text; give some")]
    EmptyPrompt,
    /// More tokens than the context takes.
    #[error("{tokens} tokens do not fit into the context of {limit}; {}", room(*tokens, *model))]
    ContextOverflow { tokens: usize, limit: usize, model: usize },
    /// What a damaged model led to.
    #[error("{source}\n`{advice}` checks the model's file and fetches it again if it is damaged")]
    OfModel { source: Box<Self>, advice: String },
    /// Texts that have no embedding.
    #[error("{refused} of {texts} texts have no embedding; {first}")]
    TextsRefused { refused: usize, texts: usize, first: String },
    /// What has been told already, on stdout and on stderr.
    #[error("{source}")]
    Told { source: Box<Self> },
    /// A context that the model was not made for.
    #[error("a context of {asked} tokens is more than the {model} that the model takes; ask for less")]
    ContextTooLarge { asked: usize, model: usize },
    /// A model that was to be timed on a GPU moved to the CPU.
    #[error(
        "the GPU failed and `{model}` moved to the CPU, so what was timed is neither; the log says why it failed; use --backend cpu, or --gpu-plain"
    )]
    LeftGpu { model: String },
    /// A file could not be read.
    #[error("{file}: {reason}; check the path and its permissions")]
    Read { file: String, reason: String },
    /// Something could not be written.
    #[error("{to}: {reason}; check that the folder exists and has room")]
    Write { to: String, reason: String },
    /// Input that is not text.
    #[error("{input} is not UTF-8 text: byte {offset} is wrong; convert it first, with iconv for example")]
    NotUtf8 { input: String, offset: usize },
    /// Input that is not the JSON that was asked for.
    #[error("{input}: {reason}; {wanted}")]
    BadJson { input: String, reason: String, wanted: &'static str },
    /// No tensor of this name.
    #[error("{file}: there is no tensor `{tensor}`{}; `weft inspect` lists them", like(.similar))]
    NoSuchTensor { file: String, tensor: String, similar: Vec<String> },
    /// A tensor whose numbers cannot be read.
    #[error(
        "{file}: tensor `{tensor}` is {format}, whose numbers this build cannot read; it reads {readable}"
    )]
    UnreadableTensor { file: String, tensor: String, format: String, readable: String },
    /// Text too short to be scored.
    #[error(
        "{file}: {tokens} tokens do not fill one chunk of {context}; give a longer text or a smaller --context"
    )]
    TextTooShort { file: String, tokens: usize, context: usize },
    /// A damaged model's numbers.
    #[error("the model computes NaN or infinity after {tokens} tokens; its file is damaged, fetch it again")]
    InvalidLogits { tokens: usize },
    /// A request that ended before its work was done.
    #[error("the request ended early ({finish}) after {tokens} tokens; {remedy}")]
    EndedEarly { finish: &'static str, tokens: usize, remedy: &'static str },
    /// A message that no context of the session has room for.
    #[error(
        "the message needs a context of {need} tokens and there are {limit}; shorten it, or start with a larger --context (the model takes {most})"
    )]
    MessageTooLong { need: usize, limit: usize, most: usize },
    /// A message that the conversation before it leaves no room for.
    #[error(
        "the conversation fills its context of {limit} tokens; /clear starts anew, /undo takes the last turn back, --context-policy shift lets the oldest turns go"
    )]
    ConversationTooLong { limit: usize },
    /// A file that a conversation is not written over.
    #[error("{file} exists and holds no conversation, so it is left alone; name another file")]
    NotAConversation { file: String },
    /// A conversation that another one is not written over.
    #[error(
        "{file} holds a conversation, which is left alone; --load {file} goes on from it, or save to another file"
    )]
    ConversationExists { file: String },
    /// Wrong usage that the argument parser cannot see.
    #[error("{message}")]
    Usage { message: String },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Whoever read stdout has gone.
    #[error("nobody reads the output any more")]
    ReaderGone,
}

/// What lets a longer prompt in.
fn room(tokens: usize, model: usize) -> String {
    /// Room for an answer, and a round number.
    const ANSWER: usize = 1024;
    if tokens < model {
        let room = tokens.saturating_add(ANSWER).div_ceil(ANSWER).saturating_mul(ANSWER).min(model);
        format!("give --context {room}, or any number up to the model's {model}")
    } else {
        format!("the model was made for {model}: shorten the text")
    }
}

fn like(similar: &[String]) -> String {
    if similar.is_empty() { String::new() } else { format!(" (there is {})", similar.join(", ")) }
}

impl CliError {
    /// Wrong usage.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into() }
    }

    /// A file that could not be read.
    pub(crate) fn read(file: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::Read { file: file.to_string(), reason: error.to_string() }
    }

    /// Whether the command line is at fault, whatever the files say: names of no format, type or preset.
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

    /// Whether a damaged file of the model may have led to it.
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

    /// Adds how to mend a model that was pulled and may be damaged. `model` is where the command's model is.
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

    /// What scripts read: kind, message and facts.
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

    /// The line that `--json` prints.
    pub(crate) fn to_json(&self) -> Value {
        json!({ "error": self.facts() })
    }

    /// The exit code of the program that this error ends.
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
