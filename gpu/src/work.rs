//! What a step reads and computes, as far as figures are made of it: bytes of weights and of the KV cache, and floating-point
//! operations. A product's come from the shape that its kernel is made for, attention's from the contexts of the wave.
//!
//! They are what the step cannot do without. A kernel that reads something twice shows as slower, not as busier.

use crate::shader::KernelSpec;
use crate::wave_upload::Count;

/// The wave of a step, as far as its work depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepShape {
    /// Rows.
    pub rows: u32,
    /// Rows whose logits are computed.
    pub logit_rows: u32,
    /// Tokens whose keys and values are read in each layer, each session's once.
    pub cached: u64,
    /// Pairs of a row and a token that it attends to.
    pub attended: u64,
}

/// What was read and computed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes of weights.
    pub weight_bytes: u64,
    /// Bytes of the KV cache.
    pub kv_bytes: u64,
    /// Floating-point operations, a product and its sum being two.
    pub flops: u64,
}

impl Work {
    /// Bytes in all.
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

/// How a kernel's work follows from a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WorkOf {
    /// A product with a matrix of so many weights.
    Product { weights: u64, count: Count },
    /// A product of pairs of a row and one of its `used` experts with one expert's matrix of so many weights; `held` of
    /// `experts` are in the matrix that is bound.
    Experts { weights: u64, used: u64, held: u64, experts: u64 },
    /// Attention: bytes of a token's keys and values, and operations of a row with a token.
    Attention { token_bytes: u64, pair_flops: u64 },
    /// Little beside the others: nothing is counted.
    Small,
}

impl WorkOf {
    /// The work of a kernel.
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
        let heads = (constant("HEADS"), constant("KV_HEADS"), constant("KEY"), constant("VALUE"));
        match heads {
            (Some(heads), Some(kv_heads), Some(key), Some(value)) if attends => Self::Attention {
                token_bytes: 2 * kv_heads * (key + value),
                pair_flops: 2 * heads * (key + value),
            },
            _ => Self::Small,
        }
    }

    /// The work of one dispatch in a step, with a matrix of so many bytes.
    pub(crate) fn in_step(self, shape: &StepShape, matrix_bytes: u64) -> Work {
        match self {
            Self::Product { weights, count } => {
                let rows = match count {
                    Count::Rows => shape.rows,
                    Count::LogitRows => shape.logit_rows,
                };
                Work { weight_bytes: matrix_bytes, kv_bytes: 0, flops: 2 * weights * u64::from(rows) }
            }
            // Rows choose differently: as many experts are read as there are pairs, at most all.
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
