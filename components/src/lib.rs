//! Plain data of the Weft engine: components, relationships, resources, messages and tensor formats.
//!
//! This crate has no behaviour: no I/O, no threads, no arithmetic except decoding one block of one tensor format.

pub mod adapter;
pub mod format;
pub mod formats;
pub mod kv;
pub mod message;
pub mod model;
pub mod sampling;
pub mod session;
pub mod shard;
pub mod wave;

pub use adapter::{
    AdaptedRows, Adapter, AdapterOf, AdapterSite, AdapterUsers, Adapters, LowRank, UsesAdapter, WaveAdapters,
};
pub use format::{
    BlockCodes, BlockFormat, CODES, CodeKind, Codec, FormatInfo, SUPER, ScaleKind, TensorFormat, TileLayout,
};
pub use kv::{
    ChildRuns, KvClass, KvPage, KvPool, KvPools, KvRun, LeafRun, LeafSessions, PageOf, Pages, RunIn, RunOf,
    Runs,
};
pub use message::{DeviceEvent, DeviceEventKind, LoadFailure, LoadProgress, SessionEvent, SessionEventKind};
pub use model::{
    Activation, Ends, EndsHeldBy, ExpertConfig, HeldBy, LayerConfig, LayerIndex, LayerOf, Layers,
    MissingShards, Model, ModelConfig, Place, PlacedOn, Pooling, RecentTokens, Resident, RopeConfig,
    RopeFactors, RopeStyle, SentenceConfig, StepsAhead, Yarn,
};
pub use sampling::{IgnoredDefault, SamplerSettings, SamplingDefaults};
pub use session::{
    BlockTable, Client, ContextCursor, Draft, DraftStats, DraftedBy, DraftsFor, EmbeddingKept,
    EmbeddingWanted, FinishReason, KeepLogits, LogitsKept, LogitsWanted, Output, Phase, Priority,
    PrivateContext, ReadsLogits, Request, SessionOf, Sessions, TokenHistory, TokenLogprob, TokenMask,
    TurnStarts, WhenFull,
};
pub use shard::{Evictable, Fetching, Queued, ShardOf, Shards, TensorRole, WeightShard};
pub use wave::{
    AtLayer, Chosen, CurrentLayer, DEVICE_TOKEN, ReadbackOf, Readbacks, TickWork, Wave, WaveKv, WaveLimits,
    WaveOf, WaveSpan, Waves,
};
