//! Products: the kernel for a matrix and a number of rows, its inputs, and the use of the sums.

use super::adapter::Adapted;
use super::{Lowering, UnboundStep, WG};
use crate::on_gpu::layer_weights::Residual;
use crate::on_gpu::product::{Product, ProductMatrix};
use crate::on_gpu::scratch::{Activations, COOPERATIVE_TILE};
use crate::on_gpu::shape::{Class, Extent};
use crate::on_gpu::vectors::Vectors;
use weft_components::TensorRole;
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{ActFormat, Count, GpuMatrix, wgpu};

/// Workgroups along x, if their number may exceed the limit of one dimension.
const GRID: u32 = 32_768;

/// Returns true if every segment of a product is whole tiles of cooperative matrices.
fn is_tiled(product: &Product) -> bool {
    let segments = product.matrices.iter().flat_map(|m| &m.matrix.segments);
    product.rows.is_multiple_of(4)
        && segments.into_iter().all(|s| s.rows.len().is_multiple_of(COOPERATIVE_TILE))
}

/// Where the output of a product goes.
pub(super) enum Out<'a> {
    /// Written to rows of this width.
    Store(&'a wgpu::Buffer, usize),
    /// Added to rows of this width.
    Add(&'a wgpu::Buffer, usize),
    /// Gate and up become activations, in rows of this width.
    Gate(&'a Activations, ActFormat, usize),
    /// Queries, keys and values, which get rotary embedding and are stored: its constants, its buffers, and the parts
    /// that store pairs of elements.
    Rope(&'a dyn Fn(KernelSpec) -> KernelSpec, Vec<(u32, wgpu::Buffer)>, Vec<Part>),
}

/// The input of a product.
#[derive(Clone, Copy)]
pub(super) enum In<'a> {
    /// Activations.
    Act(&'a Activations),
    /// The hidden state without a norm.
    Hidden,
    /// The hidden state, normed with these weights.
    Norm(&'a Vectors),
}

/// The rows of a product with few rows.
#[derive(Clone, Copy)]
pub(super) struct FewRows<'a> {
    /// The kernel parts that define them.
    pub(super) parts: &'a [Part],
    /// Most rows of a workgroup.
    pub(super) most: usize,
}

/// How a workgroup shares its columns of a product with few rows among its teams.
struct Tile {
    /// Weight rows of a column: a gate and its up projection, or one.
    parts: u32,
    /// Weight rows that a team computes at once.
    each: u32,
    /// Number of times a team does so.
    passes: u32,
    /// Teams that share weight rows, each computing a part of their length.
    split: u32,
}

impl Tile {
    /// Measured on an H100. A gated block of 32 columns is computed in one workgroup, in two passes, which leaves
    /// registers for more workgroups at a time. Elsewhere several teams share few long rows, so that enough reads are
    /// in flight; many rows are computed together, so that activations are read once for several of them. Products that
    /// norm their input, or have several rows of it, use few workgroups, because each computes the norm or reads the
    /// rows. `turns` is the number of packets of a weight row for each lane of a team, `most` the number of rows of the
    /// input.
    fn of(input: In<'_>, out: &Out<'_>, rows: usize, turns: usize, most: usize, teams: u32) -> Self {
        if let Out::Gate(..) = out {
            return Self { parts: 2, each: 32u32.div_ceil(teams), passes: 2, split: 1 };
        }
        let each = match (rows, turns) {
            (16_384.., _) => 4,
            (4096.., _) | (_, 32..) => 2,
            _ => 1,
        };
        let split = match (input, turns) {
            (In::Norm(_), _) => 1,
            (_, 8..) if most == 1 && each < 4 => 4,
            (_, 4..) if most == 1 && each < 4 => 2,
            _ => 1,
        };
        // A tile has an even number of columns, because rotary embedding works on pairs.
        Self { parts: 1, each, passes: 1, split: split.min(teams / 2).max(1) }
    }
}

/// The parts of a kernel over the wave that reads a matrix.
pub(super) fn reading(matrix: &GpuMatrix, kernel: &[Part]) -> Vec<Part> {
    [&[parts::WAVE][..], &matrix.decode(), kernel].concat()
}

/// Packets of a matrix's row for each lane of a team.
fn turns(matrix: &GpuMatrix, lanes: u32) -> usize {
    matrix.row_packets() / lanes as usize
}

impl Lowering<'_> {
    /// The kind of activations that a product of this class reads.
    pub(super) fn kind(&self, product: &Product, class: Class) -> ActFormat {
        let (routes, experts) = (product.has(TensorRole::Router), product.experts.is_some());
        match class {
            // Adapters read floats besides the product.
            _ if self.adapters.is_some() => ActFormat::F32,
            // Scores are nearly equal at times, and small errors would choose other experts.
            _ if routes => ActFormat::F32,
            Class::Bands(_) | Class::Many if experts => ActFormat::F32,
            Class::Bands(_) => ActFormat::F16,
            Class::Many if self.caps.cooperative && is_tiled(product) => ActFormat::F16,
            Class::Few(_) if self.caps.packed_dot && product.is_quantized() && self.reads_codes(product) => {
                ActFormat::Q8
            }
            Class::Few(_) | Class::Many => ActFormat::F32,
        }
    }

    /// Returns true if the kernel before a product can write its activations as 8-bit blocks. For attention, heads must
    /// be whole blocks.
    fn reads_codes(&self, product: &Product) -> bool {
        !product.has(TensorRole::AttentionOutput) || self.attention.kernels(self.caps, ActFormat::Q8).is_ok()
    }

    /// The kernels of a product: one for each segment of each of its matrices.
    pub(super) fn product(
        &self,
        name: &'static str,
        product: &Product,
        class: Class,
        input: In<'_>,
        out: &Out<'_>,
        count: Count,
    ) -> Vec<UnboundStep> {
        let kind = self.kind(product, class);
        let mut steps = Vec::new();
        for ProductMatrix { first, matrix, .. } in &product.matrices {
            for segment in &matrix.segments {
                let [numbers, beside] = self.read(input, kind);
                let mut buffers = vec![(0, self.scratch.wave.clone()), (1, numbers), (2, beside)];
                buffers.extend(segment.buffers());
                let rows = segment.rows.len();
                let (spec, grid) = match class {
                    Class::Few(most) => {
                        let of = FewRows { parts: &[parts::WAVE, parts::ROWS_WAVE], most };
                        self.matvec(name, matrix, kind, rows, of, input, out)
                    }
                    Class::Bands(bands) if kind == ActFormat::F16 => {
                        self.bands(name, matrix, rows, bands, out)
                    }
                    Class::Bands(_) | Class::Many => self.matmul(name, matrix, kind, rows, out, count),
                };
                let spec = matrix
                    .encoding
                    .constants(spec)
                    .with("K", matrix.columns as u32)
                    .with("N", rows as u32)
                    .with("ROW_BASE", (first + segment.rows.start) as u32)
                    .with("ROW_COUNT", count as u32);
                let spec = Self::put(spec, out, &mut buffers);
                steps.push(UnboundStep { spec, buffers, grid });
            }
        }
        steps
    }

    /// Adds the constants and the buffers of a product's output.
    pub(super) fn put(spec: KernelSpec, out: &Out<'_>, buffers: &mut Vec<(u32, wgpu::Buffer)>) -> KernelSpec {
        match out {
            Out::Store(buffer, stride) | Out::Add(buffer, stride) => {
                buffers.push((30, (*buffer).clone()));
                spec.with("OUT_STRIDE", *stride as u32)
            }
            Out::Gate(act, kind, width) => {
                buffers.extend(Self::act_buffers(act, *kind));
                spec.with("ACT_WIDTH", *width as u32)
            }
            Out::Rope(shaped, places, _) => {
                buffers.extend(places.iter().cloned());
                shaped(spec)
            }
        }
    }

    /// The buffers of a product's input: numbers, and their scales.
    pub(super) fn read(&self, input: In<'_>, kind: ActFormat) -> [wgpu::Buffer; 2] {
        match input {
            In::Act(act) => act.buffers(kind),
            In::Hidden => [self.scratch.hidden.clone(), self.scratch.hidden.clone()],
            In::Norm(weight) => [self.scratch.hidden.clone(), weight.buffer.clone()],
        }
    }

    /// A product with few rows.
    pub(super) fn matvec(
        &self,
        name: &'static str,
        matrix: &GpuMatrix,
        kind: ActFormat,
        rows: usize,
        FewRows { parts: rows_of, most }: FewRows<'_>,
        input: In<'_>,
        out: &Out<'_>,
    ) -> (KernelSpec, [Extent; 3]) {
        let (_, lanes) = self.reduce();
        let teams = WG / lanes;
        let Tile { parts: parts_of, each, passes, split } =
            Tile::of(input, out, rows, turns(matrix, lanes), most, teams);
        let dot = match (input, kind) {
            (In::Norm(_), ActFormat::Q8) => [parts::DOT_NORM_Q8, parts::ADD_Q8],
            (In::Norm(_), _) => [parts::DOT_NORM_F32, parts::ADD_F32],
            (_, ActFormat::Q8) => [parts::DOT_Q8, parts::ADD_Q8],
            _ => [parts::DOT_F32, parts::ADD_F32],
        };
        let (reduce, _) = self.reduce();
        let mut kernel = [rows_of, &[reduce], &matrix.decode(), &dot, &[parts::MATVEC]].concat();
        match out {
            Out::Store(..) => kernel.push(parts::OUT_STORE),
            Out::Add(..) => kernel.push(parts::OUT_ADD),
            Out::Gate(_, kind, _) => kernel.extend([kind.part(), self.gate(), parts::OUT_GATE]),
            Out::Rope(_, _, pairs) => {
                kernel.push(parts::ROPE);
                kernel.extend(pairs);
                kernel.push(parts::OUT_ROPE);
            }
        }
        let tiles = (rows as u32 / parts_of).div_ceil(teams / split * each * passes / parts_of);
        let spec = KernelSpec::new(name, kernel)
            .with("WG", WG)
            .with("LANES", lanes)
            .with("NR", each)
            .with("PASSES", passes)
            .with("SPLIT", split)
            .with("PARTS", parts_of)
            .with("ROWS", most as u32)
            .with("EPSILON", self.config.norm_epsilon)
            .with("GRID_X", GRID);
        (spec, [Extent::Fixed(tiles.min(GRID)), Extent::Fixed(tiles.div_ceil(GRID)), Extent::Fixed(1)])
    }

    /// A product with up to this many bands of 16 rows.
    fn bands(
        &self,
        name: &'static str,
        matrix: &GpuMatrix,
        rows: usize,
        bands: usize,
        out: &Out<'_>,
    ) -> (KernelSpec, [Extent; 3]) {
        let tiles = (rows as u32).div_ceil(32);
        let spec = KernelSpec::new(name, reading(matrix, &[parts::MATMUL_SKINNY]))
            .with("GRID_X", GRID)
            .with("BANDS", bands as u32)
            .with("ADD", u32::from(matches!(out, Out::Add(..))));
        (spec, [Extent::Fixed(tiles.min(GRID)), Extent::Fixed(tiles.div_ceil(GRID)), Extent::Fixed(1)])
    }

    /// A product with many rows.
    fn matmul(
        &self,
        name: &'static str,
        matrix: &GpuMatrix,
        kind: ActFormat,
        rows: usize,
        out: &Out<'_>,
        count: Count,
    ) -> (KernelSpec, [Extent; 3]) {
        let (part, tile) = match kind {
            ActFormat::F16 => (parts::MATMUL_COOPERATIVE, COOPERATIVE_TILE as u32),
            ActFormat::F32 | ActFormat::Q8 => (parts::MATMUL, 32),
        };
        let tiles = (rows as u32).div_ceil(tile);
        let spec = KernelSpec::new(name, reading(matrix, &[part]))
            .with("GRID_Y", GRID)
            .with("ADD", u32::from(matches!(out, Out::Add(..))));
        let x = match count {
            Count::Rows => Extent::RowTiles(tile),
            Count::LogitRows => Extent::LogitTiles(tile),
        };
        (spec, [x, Extent::Fixed(tiles.min(GRID)), Extent::Fixed(tiles.div_ceil(GRID))])
    }

    /// Norm and product. They are one kernel for waves of one row, because computing its norm in every workgroup is
    /// cheaper than a kernel before them. For more rows the norm is a kernel of its own. Without a norm, the product
    /// reads the hidden state itself if it reads floats.
    pub(super) fn normed(
        &self,
        name: &'static str,
        norm: Option<&Vectors>,
        product: &Product,
        class: Class,
        out: &Out<'_>,
        adapted: Adapted,
    ) -> Vec<UnboundStep> {
        let (mut steps, input) = self.input(norm, &[self.kind(product, class)], class);
        steps.extend(self.product(name, product, class, input, out, Count::Rows));
        if let Out::Store(buffer, width) = out {
            let x = &self.read(input, ActFormat::F32)[0];
            let x = (x, product.columns());
            steps.extend(self.adapt(adapted, x, (buffer, *width), Count::Rows));
        }
        steps
    }

    /// The hidden state in these kinds, each kind listed once, as products read it: normed if there is a norm. Includes
    /// the kernels that compute it.
    pub(super) fn input<'n>(
        &'n self,
        norm: Option<&'n Vectors>,
        kinds: &[ActFormat],
        class: Class,
    ) -> (Vec<UnboundStep>, In<'n>) {
        /// Workgroup memory that the rest of a kernel uses.
        const REST: usize = 4 << 10;
        let (inner, width) = (&self.scratch.inner, self.config.embedding);
        let bytes = |kind: &ActFormat| if *kind == ActFormat::Q8 { width * 5 / 4 } else { width * 4 };
        let fits = |kind| bytes(kind) + REST <= self.caps.workgroup_memory as usize;
        match norm {
            Some(norm) if self.adapters.is_none() && class == Class::Few(1) && kinds.iter().all(fits) => {
                (Vec::new(), In::Norm(norm))
            }
            None if kinds == [ActFormat::F32] => (Vec::new(), In::Hidden),
            _ => {
                let each = |kind: &ActFormat| match norm {
                    Some(norm) => self.norm(norm, &self.scratch.hidden, width, (inner, *kind), Extent::Rows),
                    None => self.load(inner, *kind),
                };
                (kinds.iter().map(each).collect(), In::Act(inner))
            }
        }
    }

    /// A product whose sums are added to the residual: by its own kernel, or by a later one if more is done to them
    /// first.
    pub(super) fn add_to_residual(
        &self,
        name: &'static str,
        product: &Product,
        class: Class,
        input: In<'_>,
        residual: Option<&Residual>,
        adapted: Adapted,
    ) -> Vec<UnboundStep> {
        let (scratch, width) = (self.scratch, self.config.embedding);
        let (to, out) = match residual {
            None => (&scratch.hidden, Out::Add(&scratch.hidden, width)),
            Some(_) => (&scratch.qkv, Out::Store(&scratch.qkv, width)),
        };
        let mut steps = self.product(name, product, class, input, &out, Count::Rows);
        let x = &self.read(input, ActFormat::F32)[0];
        steps.extend(self.adapt(adapted, (x, product.columns()), (to, width), Count::Rows));
        let Some(residual) = residual else { return steps };
        steps.push(self.residual(residual, parts::DELTA_ROWS, vec![(1, scratch.qkv.clone())]));
        steps
    }
}
