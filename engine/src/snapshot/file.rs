//! The bytes of a snapshot: a file of sections (`sections.rs`) with the mark `WEFTSNAP`. They are a header in JSON, the
//! tokens as little-endian 32-bit numbers, the pages.

use crate::options::GenerateOptions;
use crate::sections::{self, Kind, SectionsError};
use serde::{Deserialize, Serialize};
use weft_components::{Request, SamplerSettings, WhenFull};

/// The version that is written, and the newest that is read. It grows when a program that reads the one before would
/// misread a snapshot. A field more is no such thing: readers skip those that they do not know, and one that is missing has
/// its default.
const VERSION: u32 = 1;
const KIND: Kind = Kind { mark: b"WEFTSNAP", version: VERSION };

/// Why a snapshot cannot be restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes do not begin as a snapshot does.
    #[error("these bytes are not a snapshot of a session: they do not begin with `WEFTSNAP`")]
    Mark,
    /// The snapshot was written by a newer version.
    #[error("the snapshot has version {version}, and this program reads up to {VERSION}; use a newer Weft")]
    Newer {
        /// Its version.
        version: u32,
    },
    /// Bytes are missing or too many.
    #[error(
        "the snapshot is {found} bytes long, but should be {needed}: it was cut off or something was appended"
    )]
    Length {
        /// Bytes that there are.
        found: usize,
        /// Bytes that its header states.
        needed: u64,
    },
    /// The checksum is wrong.
    #[error("the snapshot is damaged: its SHA-256 is not the one that it states")]
    Checksum,
    /// The header cannot be understood.
    #[error("the snapshot's header is not valid: {reason}")]
    Header {
        /// What is wrong with it.
        reason: String,
    },
    /// The snapshot is of a session of another model.
    #[error(
        "the snapshot is of a session of `{snapshot}`, not of `{model}` or of another file of it; load the model that it was taken from"
    )]
    OtherModel {
        /// The model's name in the snapshot.
        snapshot: String,
        /// The name of the model it was to be restored on.
        model: String,
    },
    /// The session used an adapter that is not loaded.
    #[error("the snapshot's session uses the adapter `{name}`; load it first")]
    Adapter {
        /// Name of its file.
        name: String,
    },
}

/// A session as data.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    pub(super) header: Header,
    pub(super) tokens: Vec<u32>,
    pub(super) pages: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) model: SavedModel,
    pub(super) adapter: Option<SavedAdapter>,
    pub(super) tokens: usize,
    /// Positions at which turns of the conversation start. The first snapshots have none.
    #[serde(default)]
    pub(super) turns: Vec<usize>,
    pub(super) context: usize,
    pub(super) private: bool,
    pub(super) priority: i32,
    pub(super) client: Option<u64>,
    pub(super) request: Option<SavedRequest>,
    pub(super) pages: Option<SavedPages>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SavedModel {
    pub(crate) architecture: String,
    pub(crate) name: String,
    pub(crate) fingerprint: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedAdapter {
    pub(super) name: String,
    pub(super) scale: f32,
}

/// A request in progress.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedRequest {
    /// `None` for no limit.
    pub(super) max_tokens: Option<usize>,
    pub(super) stop: Vec<String>,
    pub(super) ignore_end: bool,
    pub(super) prefill_chunk: usize,
    pub(super) draft: usize,
    pub(super) sampler: SavedSampler,
    /// First tokens that stay when the context is full and its oldest half is dropped. `None` if the request ends then.
    pub(super) shift_keep: Option<usize>,
    /// Its answer so far. The session's tokens end with it, or with its end if the context was full meanwhile.
    pub(super) answer: Vec<u32>,
    /// Random numbers that have been drawn.
    pub(super) draws: u64,
    pub(super) paused: bool,
}

/// [`SamplerSettings`], field by field. Floats as their bits: JSON has no infinity, which forbids or forces a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedSampler {
    logit_bias: Vec<(u32, u32)>,
    penalty_last_n: usize,
    repetition_penalty: u32,
    presence_penalty: u32,
    frequency_penalty: u32,
    top_k: usize,
    typical_p: u32,
    top_p: u32,
    min_p: u32,
    temperature: u32,
    seed: u64,
    logprobs: Option<usize>,
}

impl SavedSampler {
    fn of(settings: &SamplerSettings) -> Self {
        Self {
            logit_bias: settings.logit_bias.iter().map(|(token, bias)| (*token, bias.to_bits())).collect(),
            penalty_last_n: settings.penalty_last_n,
            repetition_penalty: settings.repetition_penalty.to_bits(),
            presence_penalty: settings.presence_penalty.to_bits(),
            frequency_penalty: settings.frequency_penalty.to_bits(),
            top_k: settings.top_k,
            typical_p: settings.typical_p.to_bits(),
            top_p: settings.top_p.to_bits(),
            min_p: settings.min_p.to_bits(),
            temperature: settings.temperature.to_bits(),
            seed: settings.seed,
            logprobs: settings.logprobs,
        }
    }

    fn settings(&self) -> SamplerSettings {
        let float = f32::from_bits;
        SamplerSettings {
            logit_bias: self.logit_bias.iter().map(|(token, bias)| (*token, float(*bias))).collect(),
            penalty_last_n: self.penalty_last_n,
            repetition_penalty: float(self.repetition_penalty),
            presence_penalty: float(self.presence_penalty),
            frequency_penalty: float(self.frequency_penalty),
            top_k: self.top_k,
            typical_p: float(self.typical_p),
            top_p: float(self.top_p),
            min_p: float(self.min_p),
            temperature: float(self.temperature),
            seed: self.seed,
            logprobs: self.logprobs,
        }
    }
}

/// What the page section holds: for each class of layers and each page, the layers' slots one after another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedPages {
    /// Name of the KV format.
    pub(super) format: String,
    /// SHA-256 of the model's final norm, which tells fine-tuned models of one shape apart.
    pub(super) norm: String,
    /// Tokens whose keys and values are in the pages.
    pub(super) computed: usize,
    /// Numbers of the pages, ascending, of each class.
    pub(super) classes: Vec<Vec<u32>>,
}

impl SavedRequest {
    pub(super) fn of(request: &Request) -> Self {
        Self {
            max_tokens: (request.max_tokens < usize::MAX).then_some(request.max_tokens),
            stop: request.stop.clone(),
            ignore_end: request.ignore_end,
            prefill_chunk: request.prefill_chunk,
            draft: request.draft,
            shift_keep: match request.when_full {
                WhenFull::Stop => None,
                WhenFull::Shift { keep } => Some(keep),
            },
            sampler: SavedSampler::of(&request.sampler),
            ..Self::default()
        }
    }

    pub(super) fn options(&self) -> GenerateOptions {
        GenerateOptions {
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            ignore_end: self.ignore_end,
            prefill_chunk: self.prefill_chunk,
            draft: self.draft,
            when_full: self.shift_keep.map_or(WhenFull::Stop, |keep| WhenFull::Shift { keep }),
            // Which model drafts is no part of the text.
            draft_model: None,
            sampler: self.sampler.settings(),
        }
    }
}

impl Snapshot {
    pub(super) fn new(header: Header, tokens: Vec<u32>, pages: Vec<u8>) -> Self {
        Self { header, tokens, pages }
    }

    /// Writes the snapshot as bytes.
    pub fn encode(&self) -> Vec<u8> {
        // Plain data with string keys can always be written.
        let header = serde_json::to_vec(&self.header).unwrap_or_default();
        KIND.encode([&header, &sections::token_bytes(&self.tokens), &self.pages])
    }

    /// Reads a snapshot.
    ///
    /// # Errors
    /// See [`SnapshotError`]. Whether it fits a model is checked when it is restored.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let [header, tokens, pages] = KIND.decode(bytes)?;
        let invalid = |reason: String| SnapshotError::Header { reason };
        let header: Header = serde_json::from_slice(header).map_err(|error| invalid(error.to_string()))?;
        let found = tokens.len() / 4;
        let tokens = sections::tokens(tokens).filter(|tokens| tokens.len() == header.tokens);
        let tokens = tokens
            .ok_or_else(|| invalid(format!("it states {} tokens, and there are {found}", header.tokens)))?;
        Ok(Self { header, tokens, pages: pages.to_vec() })
    }
}

impl From<SectionsError> for SnapshotError {
    fn from(error: SectionsError) -> Self {
        match error {
            SectionsError::Mark => Self::Mark,
            SectionsError::Newer { version } => Self::Newer { version },
            // The bytes are in memory, so their number is in range.
            SectionsError::Length { found, needed } => Self::Length { found: found as usize, needed },
            SectionsError::Checksum => Self::Checksum,
        }
    }
}
