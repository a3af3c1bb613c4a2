//! Counts the work of a step: bytes of weights and of the KV cache that it reads, and floating-point operations. The
//! work of a product follows from the shape that its kernel is compiled for, that of attention from the contexts of the
//! wave.
//!
//! These are the least that the step needs. A kernel that reads something twice appears slower, not busier.

use crate::shader::KernelSpec;
use crate::wave_upload::Count;

/// The properties of a wave that its work depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepShape {
    /// Rows.
    pub rows: u32,
    /// Rows whose logits are computed.
    pub logit_rows: u32,
    /// Tokens whose keys and values are read in each layer, counted once per session.
    pub cached: u64,
    /// Pairs of a row and a token that the row attends to.
    pub attended: u64,
}

/// Bytes that were read and operations that were computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of weights.
    pub weight_bytes: u64,
    /// Bytes of the KV cache.
    pub kv_bytes: u64,
    /// Floating-point operations. A multiplication and an addition count as two.
    pub flops: u64,
}

impl Work {
    /// Bytes in total.
    pub fn bytes(&self) -> u64 {
        self.weight_bytes + self.kv_bytes
    }

    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            weight_bytes: self.weight_bytes - before.weight_bytes,
            kv_bytes: self.kv_bytes - before.kv_bytes,
            flops: self.flops - before.flops,
        }
    }
}

impl core::ops::AddAssign for Work {
    fn add_assign(&mut self, more: Self) {
        self.weight_bytes += more.weight_bytes;
        self.kv_bytes += more.kv_bytes;
        self.flops += more.flops;
    }
}

/// How the work of a kernel depends on the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkOf {
    /// A product with a matrix of `weights` weights.
    Product { weights: u64, count: Count },
    /// A product of each row with its `used` experts, each a matrix of `weights` weights. The bound matrix contains
    /// `held` of all `experts` experts.
    Experts { weights: u64, used: u64, held: u64, experts: u64 },
    /// Attention: bytes of a token's keys and values, and operations per pair of a row and a token.
    Attention { token_bytes: u64, pair_flops: u64 },
    /// Negligible compared with the others, so that nothing is counted.
    Small,
}

impl WorkOf {
    /// Returns how the work of a kernel depends on the step.
    pub(crate) fn of(spec: &KernelSpec) -> Self {
        let constant = |name| spec.constant(name).map(u64::from);
        let experts = (constant("USED"), constant("HELD"), constant("EXPERTS"));
        if let ((Some(used), Some(held), Some(experts)), Some(columns), Some(rows)) =
            (experts, constant("K"), constant("N"))
        {
            return Self::Experts { weights: columns * rows, used, held, experts };
        }
        let product = (constant("K"), constant("N"), constant("ROW_COUNT"));
        if let (Some(columns), Some(rows), Some(count)) = product {
            let count = if count == Count::LogitRows as u64 { Count::LogitRows } else { Count::Rows };
            return Self::Product { weights: columns * rows, count };
        }
        let attends = matches!(spec.name, "attend" | "attend_short" | "attend_split" | "attend_tiled");
        let shape = (constant("HEADS"), constant("KEY"), constant("VALUE"), constant("TOKEN_BYTES"));
        match shape {
            (Some(heads), Some(key), Some(value), Some(token_bytes)) if attends => {
                Self::Attention { token_bytes, pair_flops: 2 * heads * (key + value) }
            }
            _ => Self::Small,
        }
    }

    /// Work of one dispatch in a step, with a matrix of `matrix_bytes` bytes.
    pub(crate) fn in_step(self, shape: &StepShape, matrix_bytes: u64) -> Work {
        match self {
            Self::Product { weights, count } => {
                let rows = match count {
                    Count::Rows => shape.rows,
                    Count::LogitRows => shape.logit_rows,
                };
                Work { weight_bytes: matrix_bytes, kv_bytes: 0, flops: 2 * weights * u64::from(rows) }
            }
            // Rows choose different experts: as many experts are read as there are pairs, at most all.
            Self::Experts { weights, used, held, experts } => {
                let pairs = u64::from(shape.rows) * used;
                Work {
                    weight_bytes: matrix_bytes * pairs.min(experts) / experts,
                    kv_bytes: 0,
                    flops: 2 * weights * pairs * held / experts,
                }
            }
            Self::Attention { token_bytes, pair_flops } => Work {
                weight_bytes: 0,
                kv_bytes: token_bytes * shape.cached,
                flops: pair_flops * shape.attended,
            },
            Self::Small => Work::default(),
        }
    }
}
