//! Operations on queries, keys and values between the projections and attention: a factor, a bias, a norm, rotary
//! embedding. Each row holds queries, keys and values side by side.

use super::rope::RopeTable;
use super::steps::{by_rows, row_of};
use weft_platform::Cpu;

/// What is applied to the queries, the keys or the values of a row, in this order.
#[derive(Default)]
pub struct HeadPart<'a> {
    /// Floats of all heads.
    pub width: usize,
    /// Factor of the floats.
    pub factor: f32,
    /// Bias, added after the factor, `[width]`.
    pub bias: Option<&'a [f32]>,
    /// Weight of a norm: as long as one head, for a norm of each head, or as long as all heads together.
    pub norm: Option<&'a [f32]>,
}

impl HeadPart<'_> {
    fn is_plain(&self) -> bool {
        self.factor == 1.0 && self.bias.is_none() && self.norm.is_none()
    }

    fn apply(&self, cpu: &Cpu, values: &mut [f32], epsilon: f32) {
        if self.factor != 1.0 {
            cpu.kernels.scale(values, self.factor);
        }
        if let Some(bias) = self.bias {
            cpu.kernels.add(values, bias);
        }
        if let Some(norm) = self.norm {
            for head in values.chunks_exact_mut(norm.len().max(1)) {
                cpu.kernels.rms_norm_in_place(head, norm, epsilon);
            }
        }
    }
}

/// The angles of rotary embedding for some rows.
pub struct Turn<'a> {
    /// Frequencies and pairing.
    pub table: &'a RopeTable,
    /// Cosines of the rows' positions, `[rows, pairs]`.
    pub cos: &'a [f32],
    /// Sines.
    pub sin: &'a [f32],
}

/// The operations on each row of heads.
pub struct Heads<'a> {
    /// Queries, keys, values.
    pub parts: [HeadPart<'a>; 3],
    /// Dimensions of a query or key.
    pub length: usize,
    /// Epsilon of the norms.
    pub epsilon: f32,
    /// Rotary embedding of queries and keys. `None` if the layer has none.
    pub turn: Option<Turn<'a>>,
}

impl Heads<'_> {
    /// Changes rows of heads in place.
    pub fn apply(&self, cpu: &Cpu, rows: &mut [f32]) {
        let plain = self.parts.iter().all(HeadPart::is_plain);
        if plain && self.turn.is_none() {
            return;
        }
        let _kernel = tracing::trace_span!(target: "weft::kernel", "rope").entered();
        let [queries, keys, values] = &self.parts;
        by_rows(cpu, rows, queries.width + keys.width + values.width, |row, heads| {
            if !plain {
                let (q, rest) = heads.split_at_mut(queries.width);
                let (k, v) = rest.split_at_mut(keys.width);
                queries.apply(cpu, q, self.epsilon);
                keys.apply(cpu, k, self.epsilon);
                values.apply(cpu, v, self.epsilon);
            }
            if let Some(Turn { table, cos, sin }) = &self.turn {
                let (pairs, turned) = (table.pairs(), &mut heads[..queries.width + keys.width]);
                cpu.kernels.rope(
                    table.style,
                    turned,
                    self.length,
                    row_of(cos, pairs, row),
                    row_of(sin, pairs, row),
                );
            }
        });
    }
}
