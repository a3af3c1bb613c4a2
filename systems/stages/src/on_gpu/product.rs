//! Products: matrices that are multiplied with the same activations. Projections that share their input are one
//! product, so that one dispatch computes them all if their formats allow it.

use core::ops::Range;
use std::sync::Arc;
use weft_components::{TensorFormat, TensorRole as Role, WeightShard};
use weft_gpu::{BLOCK, Encoding, Gpu, GpuError, GpuMatrix, Segment};

/// A matrix of a product.
pub(super) struct ProductMatrix {
    /// Its first output column.
    pub(super) first: usize,
    /// Output columns; of one expert, if the matrix holds several.
    pub(super) rows: usize,
    /// The experts whose rows it holds, one after another. Empty if the matrix belongs to no expert.
    pub(super) experts: Range<usize>,
    pub(super) matrix: Arc<GpuMatrix>,
}

/// Matrices whose outputs lie side by side.
pub(super) struct Product {
    /// Output features in all; of one expert, if there are several.
    pub(super) rows: usize,
    /// Number of experts, each with such a product. `None` if the product belongs to no expert.
    pub(super) experts: Option<usize>,
    /// The matrices in order. Neighbours of one encoding are one matrix.
    pub(super) matrices: Vec<ProductMatrix>,
    /// For each role, its output columns, from the first on.
    roles: Vec<(Role, Range<usize>)>,
}

/// Rows of one encoding, side by side.
type Group = (Encoding, Range<usize>);

/// Columns of a matrix on a device. Rows of floats are filled up to whole blocks with zeros if their inputs are filled
/// with zeros too, as the inputs of down projections are.
pub(super) fn device_columns(role: Role, format: TensorFormat, columns: usize) -> usize {
    let filled = matches!(role, Role::FfnDown | Role::ExpertDown | Role::SharedDown);
    if filled && format.block() == 1 { columns.next_multiple_of(BLOCK) } else { columns }
}

/// Groups shards by encoding. Returns the groups, the rows of each role, and the number of columns.
fn group(shards: &[&WeightShard]) -> Result<(Vec<Group>, Vec<(Role, Range<usize>)>, usize), GpuError> {
    let mut groups: Vec<Group> = Vec::new();
    let (mut roles, mut columns, mut row) = (Vec::new(), 0, 0);
    for shard in shards {
        columns = device_columns(shard.role, shard.format, shard.cols);
        let encoding = Encoding::of(&shard.name, shard.format, columns)?;
        let rows = row..row + shard.rows;
        row = rows.end;
        match groups.last_mut() {
            Some((found, group)) if *found == encoding => group.end = row,
            _ => groups.push((encoding, rows.clone())),
        }
        roles.push((shard.role, rows));
    }
    Ok((groups, roles, columns))
}

impl Product {
    /// Allocates memory for these shards, in this order.
    pub(super) fn new(gpu: &Gpu, what: &str, shards: &[&WeightShard]) -> Result<Self, GpuError> {
        let (groups, roles, columns) = group(shards)?;
        let matrices = groups.into_iter().map(|(encoding, rows)| {
            let matrix = Arc::new(GpuMatrix::new(gpu, what, encoding, rows.len(), columns)?);
            Ok(ProductMatrix { first: rows.start, rows: rows.len(), experts: 0..0, matrix })
        });
        let matrices = matrices.collect::<Result<Vec<_>, GpuError>>()?;
        let rows = roles.last().map_or(0, |(_, rows)| rows.end);
        Ok(Self { rows, experts: None, matrices, roles })
    }

    /// Allocates memory for `count` experts, each with shards like these. A matrix holds as many experts as fit a
    /// binding.
    ///
    /// # Errors
    /// There is not enough memory, an expert's matrices are of several encodings, or one expert does not fit a binding.
    pub(super) fn stack(
        gpu: &Gpu,
        what: &str,
        shards: &[&WeightShard],
        count: usize,
    ) -> Result<Self, GpuError> {
        let (groups, roles, columns) = group(shards)?;
        let [(encoding, rows)] = &groups[..] else {
            return Err(GpuError::Experts { what: what.to_owned() });
        };
        let rows = rows.len();
        let limit = gpu.capabilities.max_binding.min(gpu.capabilities.max_buffer);
        let most =
            weft_gpu::plane_bytes(encoding.layout, rows, columns).into_iter().max().unwrap_or(0).max(1);
        // Kernels count weights in 32 bits.
        let addressed = u64::from(u32::MAX) / (rows * columns).max(1) as u64;
        let each = usize::try_from((limit / most).min(addressed)).unwrap_or(count).min(count);
        if each == 0 {
            return Err(GpuError::BufferTooLarge { what: what.to_owned(), bytes: most, limit });
        }
        let matrices = (0..count).step_by(each).map(|first| {
            let experts = first..(first + each).min(count);
            let matrix = Arc::new(GpuMatrix::new(gpu, what, *encoding, rows * experts.len(), columns)?);
            Ok(ProductMatrix { first: 0, rows, experts, matrix })
        });
        let matrices = matrices.collect::<Result<Vec<_>, GpuError>>()?;
        Ok(Self { rows, experts: Some(count), matrices, roles })
    }

    /// The matrix that holds a role's shard, and the shard's first row in it.
    pub(super) fn target(&self, role: Role, expert: usize) -> Option<(Arc<GpuMatrix>, usize)> {
        let (_, rows) = self.roles.iter().find(|(found, _)| *found == role)?;
        let found = self.matrices.iter().find(|m| match self.experts {
            Some(_) => m.experts.contains(&expert),
            None => (m.first..m.first + m.rows).contains(&rows.start),
        })?;
        let before = (expert - found.experts.start.min(expert)) * found.rows;
        Some((Arc::clone(&found.matrix), before + rows.start - found.first))
    }

    /// The segments of its matrices, in order.
    pub(super) fn segments(&self) -> impl Iterator<Item = (&GpuMatrix, &Segment)> {
        self.matrices.iter().flat_map(|m| m.matrix.segments.iter().map(move |segment| (&*m.matrix, segment)))
    }

    /// Input features.
    pub(super) fn columns(&self) -> usize {
        self.matrices.first().map_or(0, |m| m.matrix.columns)
    }

    /// Returns true if one matrix in one segment holds the whole product.
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.matrices[..], [one] if one.matrix.segments.len() == 1)
    }

    /// Returns true if every matrix is quantized. Such matrices are multiplied with 8-bit activations.
    pub(super) fn is_quantized(&self) -> bool {
        self.matrices.iter().all(|m| m.matrix.encoding.layout.is_quantized())
    }

    /// Returns true if the product has the matrix of a role.
    pub(super) fn has(&self, role: Role) -> bool {
        self.roles.iter().any(|(found, _)| *found == role)
    }

    /// Bytes of all its matrices.
    pub(super) fn bytes(&self) -> u64 {
        let each = |m: &ProductMatrix| {
            weft_gpu::device_bytes(m.matrix.encoding.layout, m.matrix.rows, m.matrix.columns)
        };
        self.matrices.iter().map(each).sum()
    }
}
