//! Matrices that are multiplied with the same activations: projections that share their input are one product, so that one
//! dispatch computes them all where their formats allow it.

use core::ops::Range;
use std::sync::Arc;
use weft_components::{TensorFormat, TensorRole as Role, WeightShard};
use weft_gpu::{BLOCK, Encoding, Gpu, GpuError, GpuMatrix, Segment};

/// A matrix of a product.
pub(super) struct ProductMatrix {
    /// Its first output column.
    pub(super) first: usize,
    /// Output columns; of one expert, where it holds several.
    pub(super) rows: usize,
    /// The experts whose rows it holds, one behind the other; none where it is of no expert.
    pub(super) experts: Range<usize>,
    pub(super) matrix: Arc<GpuMatrix>,
}

/// Matrices whose outputs lie side by side.
pub(super) struct Product {
    /// Output features in all; of one expert, where it has several.
    pub(super) rows: usize,
    /// How many experts each have such a product; `None` where it is of no expert.
    pub(super) experts: Option<usize>,
    /// The matrices in order. Neighbours of one encoding are one matrix.
    pub(super) matrices: Vec<ProductMatrix>,
    /// A role's first output column, and its rows.
    roles: Vec<(Role, Range<usize>)>,
}

/// Rows of one encoding, side by side.
type Group = (Encoding, Range<usize>);

/// Columns of a matrix on a device. Rows of floats are filled up to whole blocks with zeros where what they meet is too, as the
/// inputs of down projections are.
pub(super) fn device_columns(role: Role, format: TensorFormat, columns: usize) -> usize {
    let filled = matches!(role, Role::FfnDown | Role::ExpertDown | Role::SharedDown);
    if filled && format.block() == 1 { columns.next_multiple_of(BLOCK) } else { columns }
}

/// Groups shards by encoding, and says where each lies. Gives their columns too.
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
    /// Takes memory for these shards, in this order.
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

    /// Takes memory for `count` experts, each with shards like these: as many in a matrix as a binding holds.
    ///
    /// # Errors
    /// There is no memory, an expert's matrices are of several encodings, or one expert is more than a binding holds.
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

    /// The matrix that a role's shard is part of, and its first row there.
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

    /// Whether one matrix in one segment holds it all.
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.matrices[..], [one] if one.matrix.segments.len() == 1)
    }

    /// Whether every matrix is of codes, which meet activations of 8 bits.
    pub(super) fn is_quantized(&self) -> bool {
        self.matrices.iter().all(|m| m.matrix.encoding.layout.is_quantized())
    }

    /// Whether it has the matrix of a role.
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
