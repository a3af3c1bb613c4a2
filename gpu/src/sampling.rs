//! Sampling on the device: rows of logits `[rows, vocabulary]` become one token id each, and no logit comes back.
//!
//! The host writes a [`SampleRow`] for each row of logits and, for rows with a logit bias or penalties, their
//! [`Adjustment`]s; a [`SampleBatch`] collects both and says which [`SampleStep`]s its rows need, in order. The steps
//! and their order of operations are those of the CPU's sampler: bias, penalties, top-k, top-p, min-p, temperature,
//! draw. Each row has one [`SampleKind`], and a kernel skips rows of other kinds, so that one wave can contain all
//! kinds. All kernels skip rows of the kind [`SampleKind::Host`] and do not change their logits.
//!
//! | binding | buffer | |
//! |---|---|---|
//! | 0 | the wave | contains the number of rows of logits |
//! | 1 | logits | f32, `[rows, vocabulary]`; [`SampleStep::Adjust`] changes them in place |
//! | 2 | [`SampleRow`]s | one per row |
//! | 3 | [`Adjustment`]s | those of all rows; only [`SampleStep::Adjust`] reads them |
//! | 4 | ids | u32, one per row: the token, or [`NO_TOKEN`] |
//! | 5 | sampled | u32, by [`SampleRow::place`]: the token for the next step's embedding; 0 if there is none |
//! | 6 | partials | [`Sampling::partial_bytes`]; intermediate results of a step for the next |

use crate::capabilities::Capabilities;
use crate::shader::{KernelSpec, Part, parts};
use weft_components::SamplerSettings;

/// Largest top-k that the device supports. Each lane of a workgroup holds one candidate.
pub const TOP_K_MAX: usize = 128;
/// Stored instead of a token if no logit of the row is a number above `-inf`.
pub const NO_TOKEN: u32 = u32::MAX;
/// Value of [`SampleRow::place`] if the device does not need the token.
pub const NO_PLACE: u32 = u32::MAX;

/// Largest vocabulary that top-k supports. Its kernel counts blocks of logits in 16 bits and keeps them in registers.
const TOP_K_VOCABULARY: usize = 1 << 20;
/// Lanes of most steps.
const LANES: u32 = 256;
/// Lanes of the steps with little work.
const FEW_LANES: u32 = 64;
/// Packets of four logits that one workgroup of a first half processes: four per lane, loaded together.
const CHUNK_PACKETS: u32 = 4 * LANES;
/// Packets in a block of top-k.
const BLOCK_PACKETS: u32 = 8;
/// Value of [`SampleRow::log_min_p`] if min-p is off.
const MIN_P_OFF: f32 = 1.0;

/// How a row's token is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum SampleKind {
    /// The host chooses it from logits that it reads back.
    #[default]
    Host = 0,
    /// The largest logit.
    Greedy = 1,
    /// A draw from the `k` largest logits, reduced by top-p and min-p.
    TopK = 2,
    /// A draw from all tokens.
    Full = 3,
}

impl SampleKind {
    /// Returns the kind of rows with these settings. The host samples rows with typical sampling, with a report of
    /// log-probabilities, with more than [`TOP_K_MAX`] candidates, or with top-p or min-p but no top-k.
    pub fn of(settings: &SamplerSettings, vocabulary: usize) -> Self {
        let SamplerSettings { top_k, top_p, min_p, temperature, .. } = *settings;
        // A top-k of the whole vocabulary does not truncate.
        let top_k = if top_k < vocabulary { top_k } else { 0 };
        if settings.typical_p < 1.0 || settings.logprobs.is_some() {
            Self::Host
        } else if temperature == 0.0 {
            Self::Greedy
        } else if top_k == 0 && top_p >= 1.0 && min_p <= 0.0 {
            Self::Full
        } else if (1..=TOP_K_MAX).contains(&top_k) && vocabulary <= TOP_K_VOCABULARY {
            Self::TopK
        } else {
            Self::Host
        }
    }

    /// Returns true if the device needs a random number to choose the token.
    pub fn draws(self) -> bool {
        matches!(self, Self::TopK | Self::Full)
    }
}

/// Sampling parameters of one row of logits, as kernels read them.
#[derive(Clone, Copy, Debug, Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct SampleRow {
    /// A [`SampleKind`].
    pub kind: u32,
    /// Divisor of the logits; above 0 for rows that draw.
    pub temperature: f32,
    /// Most candidates.
    pub top_k: u32,
    /// Cumulative probability that the candidates must reach; 1 keeps all of them.
    pub top_p: f32,
    /// Logarithm of min-p; above 0 if min-p is off.
    pub log_min_p: f32,
    /// The draw's random number, in [0, 1]. An `f32` resolves 2^-25 of the whole distribution.
    pub uniform: f32,
    /// Divides positive logits of tokens in the penalty window, and multiplies negative ones.
    pub repetition: f32,
    /// Subtracted once from a token that is in the window.
    pub presence: f32,
    /// Subtracted for each occurrence of the token in the window.
    pub frequency: f32,
    /// Index of the row's first adjustment.
    pub first: u32,
    /// Number of its adjustments.
    pub count: u32,
    /// Index of the row's token in `sampled`; an index past the end stores nothing.
    pub place: u32,
}

/// Change of one token's logit, applied before all other steps. A row has at most one per token.
#[derive(Clone, Copy, Debug, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub struct Adjustment {
    /// The token.
    pub token: u32,
    /// Number of its occurrences in the penalty window.
    pub count: u32,
    /// Added to its logit, before the penalties.
    pub bias: f32,
}

/// Sampling parameters of the rows of a wave's logits. It is reused for every wave and keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct SampleBatch {
    rows: Vec<SampleRow>,
    adjustments: Vec<Adjustment>,
    kinds: [bool; 4],
}

impl SampleBatch {
    /// Removes all rows.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.adjustments.clear();
        self.kinds = [false; 4];
    }

    /// Adds the next row of logits and returns its kind. `counts` lists the tokens of the penalty window, each once,
    /// with their numbers of occurrences. `uniform` returns a random number in `[0, 1)` and is called only if the row
    /// needs one. `place` is [`SampleRow::place`].
    pub fn push(
        &mut self,
        settings: &SamplerSettings,
        vocabulary: usize,
        counts: &[(u32, u32)],
        uniform: impl FnOnce() -> f64,
        place: u32,
    ) -> SampleKind {
        let kind = SampleKind::of(settings, vocabulary);
        self.kinds[kind as usize] = true;
        if kind == SampleKind::Host {
            self.push_host();
            return kind;
        }
        let first = self.adjustments.len();
        self.adjust(&settings.logit_bias, counts);
        self.rows.push(SampleRow {
            kind: kind as u32,
            temperature: settings.temperature,
            top_k: settings.top_k.min(TOP_K_MAX) as u32,
            top_p: settings.top_p,
            log_min_p: if settings.min_p > 0.0 { settings.min_p.ln() } else { MIN_P_OFF },
            uniform: if kind.draws() { uniform() as f32 } else { 0.0 },
            repetition: settings.repetition_penalty,
            presence: settings.presence_penalty,
            frequency: settings.frequency_penalty,
            first: first as u32,
            count: (self.adjustments.len() - first) as u32,
            place,
        });
        kind
    }

    /// Adds a row of logits that the device does not sample.
    pub fn push_host(&mut self) {
        self.kinds[SampleKind::Host as usize] = true;
        self.rows.push(SampleRow { place: NO_PLACE, ..SampleRow::default() });
    }

    /// The rows added so far.
    pub fn rows(&self) -> &[SampleRow] {
        &self.rows
    }

    /// The adjustments of all rows.
    pub fn adjustments(&self) -> &[Adjustment] {
        &self.adjustments
    }

    /// Returns true if a row has this kind.
    pub fn has(&self, kind: SampleKind) -> bool {
        self.kinds[kind as usize]
    }

    /// The steps that the rows need, in order.
    pub fn steps(&self) -> impl Iterator<Item = SampleStep> + '_ {
        SampleStep::ALL.into_iter().filter(|step| match step.kind() {
            Some(kind) => self.has(kind),
            None => !self.adjustments.is_empty(),
        })
    }

    /// Adds a row's adjustments, merged to one per token, because two lanes must not change the same logit.
    fn adjust(&mut self, bias: &[(u32, f32)], counts: &[(u32, u32)]) {
        let first = self.adjustments.len();
        self.adjustments.extend(bias.iter().map(|&(token, bias)| Adjustment { token, count: 0, bias }));
        self.adjustments.extend(counts.iter().map(|&(token, count)| Adjustment { token, count, bias: 0.0 }));
        self.adjustments[first..].sort_unstable_by_key(|adjustment| adjustment.token);
        let mut kept = first;
        for i in first..self.adjustments.len() {
            let next = self.adjustments[i];
            match self.adjustments[first..kept].last_mut() {
                Some(last) if last.token == next.token => {
                    last.count = last.count.saturating_add(next.count);
                    last.bias += next.bias;
                }
                _ => {
                    self.adjustments[kept] = next;
                    kept += 1;
                }
            }
        }
        self.adjustments.truncate(kept);
    }
}

/// One dispatch of sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleStep {
    /// Bias and penalties, in place.
    Adjust,
    /// Greedy: the largest logit of each chunk.
    ChunkMaxima,
    /// Greedy: the token.
    Argmax,
    /// Top-k: the largest logit of each block.
    BlockMaxima,
    /// Top-k: the token.
    TopK,
    /// Full: the weight of each chunk.
    ChunkSums,
    /// Full: the token.
    Full,
}

impl SampleStep {
    /// All steps, in the order in which they run.
    pub const ALL: [Self; 7] = [
        Self::Adjust,
        Self::ChunkMaxima,
        Self::Argmax,
        Self::BlockMaxima,
        Self::TopK,
        Self::ChunkSums,
        Self::Full,
    ];

    /// Kind of the rows that the step processes; `None` for the rows with adjustments.
    fn kind(self) -> Option<SampleKind> {
        match self {
            Self::Adjust => None,
            Self::ChunkMaxima | Self::Argmax => Some(SampleKind::Greedy),
            Self::BlockMaxima | Self::TopK => Some(SampleKind::TopK),
            Self::ChunkSums | Self::Full => Some(SampleKind::Full),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Adjust => "sample_adjust",
            Self::ChunkMaxima => "sample_chunk_maxima",
            Self::Argmax => "sample_argmax",
            Self::BlockMaxima => "sample_block_maxima",
            Self::TopK => "sample_top_k",
            Self::ChunkSums => "sample_chunk_sums",
            Self::Full => "sample_full",
        }
    }

    /// The step's own parts, which follow the parts for the wave and the rows' parameters.
    fn parts(self, scan: Part) -> Vec<Part> {
        match self {
            Self::Adjust => vec![parts::SAMPLE_ADJUST],
            Self::ChunkMaxima => vec![parts::SAMPLE_LOGITS, scan, parts::SAMPLE_CHUNK_MAXIMA],
            Self::Argmax => vec![parts::SAMPLE_OUT, scan, parts::SAMPLE_ARGMAX],
            Self::BlockMaxima => vec![parts::SAMPLE_LOGITS, scan, parts::SAMPLE_BLOCK_MAXIMA],
            Self::TopK => vec![
                parts::SAMPLE_LOGITS,
                parts::SAMPLE_OUT,
                scan,
                parts::SAMPLE_WEIGHTS,
                parts::SAMPLE_TOP_K,
            ],
            Self::ChunkSums => {
                vec![parts::SAMPLE_LOGITS, scan, parts::SAMPLE_WEIGHTS, parts::SAMPLE_CHUNK_SUMS]
            }
            Self::Full => {
                vec![parts::SAMPLE_LOGITS, parts::SAMPLE_OUT, scan, parts::SAMPLE_WEIGHTS, parts::SAMPLE_FULL]
            }
        }
    }

    /// Returns true if a workgroup processes one chunk of a row instead of the whole row.
    fn by_chunk(self) -> bool {
        matches!(self, Self::ChunkMaxima | Self::BlockMaxima | Self::ChunkSums)
    }

    fn lanes(self) -> u32 {
        match self {
            Self::Adjust | Self::Argmax => FEW_LANES,
            _ => LANES,
        }
    }
}

/// The kernels of sampling for one vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// Logits of a row.
    pub vocabulary: u32,
}

impl Sampling {
    /// The kernel of a step.
    pub fn spec(&self, capabilities: &Capabilities, step: SampleStep) -> KernelSpec {
        let scan = capabilities.subgroup.map_or(parts::SCAN_PLAIN, |_| parts::SCAN_SUBGROUP);
        let own = step.parts(scan);
        KernelSpec::new(step.name(), [parts::WAVE, parts::SAMPLE_ROWS].into_iter().chain(own))
            .with("WG", step.lanes())
            .with("LANES", capabilities.subgroup.unwrap_or(1))
            .with("VOCABULARY", self.vocabulary)
            .with("PACKETS", self.packets())
            .with("CHUNK_PACKETS", CHUNK_PACKETS)
            .with("CHUNKS", self.chunks())
            .with("ROW_PARTIALS", self.row_partials())
            .with("K_MAX", TOP_K_MAX as u32)
    }

    /// Workgroups of a step for `rows` rows of logits. The number does not depend on the rows' kinds.
    pub fn grid(&self, step: SampleStep, rows: u32) -> [u32; 3] {
        if step.by_chunk() { [self.chunks(), rows, 1] } else { [rows, 1, 1] }
    }

    /// Bytes of the partials for up to `rows` rows of logits.
    pub fn partial_bytes(&self, rows: u32) -> u64 {
        4 * u64::from(self.row_partials()) * u64::from(rows)
    }

    /// Number of aligned packets of four logits that a row can touch. If the vocabulary is not a multiple of four, a
    /// row can start anywhere in its first packet.
    fn packets(&self) -> u32 {
        if self.vocabulary.is_multiple_of(4) { self.vocabulary / 4 } else { (self.vocabulary + 6) / 4 }
    }

    fn chunks(&self) -> u32 {
        self.packets().div_ceil(CHUNK_PACKETS)
    }

    /// Words of a row's partials: two per chunk, or one per block. A row has only one kind, so both can use the same
    /// words.
    fn row_partials(&self) -> u32 {
        (2 * self.chunks()).max(self.packets().div_ceil(BLOCK_PACKETS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOCABULARY: usize = 1000;

    fn drawing() -> SamplerSettings {
        SamplerSettings { temperature: 0.8, ..SamplerSettings::default() }
    }

    #[test]
    fn kinds_are_what_the_device_takes() {
        let of = |settings: SamplerSettings| SampleKind::of(&settings, VOCABULARY);
        let greedy = SamplerSettings::default();
        assert_eq!(of(greedy.clone()), SampleKind::Greedy);
        assert_eq!(of(SamplerSettings { top_k: 500, top_p: 0.5, ..greedy.clone() }), SampleKind::Greedy);
        assert_eq!(of(SamplerSettings { typical_p: 0.9, ..greedy.clone() }), SampleKind::Host);
        assert_eq!(of(SamplerSettings { logprobs: Some(0), ..greedy }), SampleKind::Host);
        assert_eq!(of(drawing()), SampleKind::Full);
        assert_eq!(of(SamplerSettings { top_k: VOCABULARY, ..drawing() }), SampleKind::Full);
        assert_eq!(of(SamplerSettings { top_k: VOCABULARY, min_p: 0.1, ..drawing() }), SampleKind::Host);
        assert_eq!(of(SamplerSettings { top_k: 128, min_p: 0.1, ..drawing() }), SampleKind::TopK);
        assert_eq!(of(SamplerSettings { top_k: 129, ..drawing() }), SampleKind::Host);
        assert_eq!(of(SamplerSettings { top_p: 0.9, ..drawing() }), SampleKind::Host);
        assert_eq!(of(SamplerSettings { min_p: 0.1, ..drawing() }), SampleKind::Host);
        assert_eq!(SampleKind::of(&SamplerSettings { top_k: 40, ..drawing() }, 40), SampleKind::Full);
    }

    #[test]
    fn a_token_has_one_adjustment_a_row() {
        let mut batch = SampleBatch::default();
        let settings =
            SamplerSettings { logit_bias: vec![(7, 1.0), (3, 2.0), (7, 0.5)], ..SamplerSettings::default() };
        for _ in 0..2 {
            batch.push(&settings, VOCABULARY, &[(3, 4), (5, 1)], || unreachable!(), NO_PLACE);
        }
        let row = [(3, 4, 2.0), (5, 1, 0.0), (7, 0, 1.5)].map(|(token, count, bias)| Adjustment {
            token,
            count,
            bias,
        });
        assert_eq!(batch.adjustments(), [row, row].concat());
        assert_eq!(
            batch.rows().iter().map(|row| (row.first, row.count)).collect::<Vec<_>>(),
            [(0, 3), (3, 3)]
        );
    }

    #[test]
    fn only_steps_that_rows_need_are_dispatched() {
        let mut batch = SampleBatch::default();
        let steps = |batch: &SampleBatch| batch.steps().collect::<Vec<_>>();
        batch.push_host();
        assert_eq!(steps(&batch), []);
        batch.push(&SamplerSettings::default(), VOCABULARY, &[], || unreachable!(), 0);
        assert_eq!(steps(&batch), [SampleStep::ChunkMaxima, SampleStep::Argmax]);
        batch.push(&SamplerSettings { top_k: 40, ..drawing() }, VOCABULARY, &[(1, 1)], || 0.5, 1);
        batch.push(&drawing(), VOCABULARY, &[], || 0.5, 2);
        assert_eq!(steps(&batch), SampleStep::ALL);
        assert_eq!(batch.rows().iter().map(|row| row.uniform).collect::<Vec<_>>(), [0.0, 0.0, 0.5, 0.5]);
        batch.clear();
        batch.push(&SamplerSettings { top_p: 0.9, ..drawing() }, VOCABULARY, &[], || unreachable!(), 0);
        assert!(batch.has(SampleKind::Host) && steps(&batch).is_empty());
    }

    #[test]
    fn packets_cover_rows_wherever_they_start() {
        for vocabulary in 1..=4200 {
            let sampling = Sampling { vocabulary };
            for row in 0..4 {
                let start = row * vocabulary;
                let touched = (start + vocabulary - 1) / 4 - start / 4 + 1;
                assert!(touched <= sampling.packets(), "{vocabulary} {row}");
            }
            assert!(sampling.row_partials() >= 2 * sampling.chunks());
        }
    }
}
