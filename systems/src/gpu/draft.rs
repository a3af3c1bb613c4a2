//! The kernels of a model, written down with the buffers and grids they are to be bound to. What a kernel is made of follows
//! from its matrix's layout, the class of waves and what the device can do.

use super::plan::{HeadSteps, LayerSteps, Step};
use super::scratch::{Activations, COOPERATIVE_TILE, Scratch, sampling};
use super::shape::{Class, Extent};
use super::weights::{EndWeights, LayerWeights, Product};
use weft_components::{ModelConfig, RopeStyle, TensorRole};
use weft_gpu::sampling::SampleStep;
use weft_gpu::shader::{KernelSpec, Part, parts};
use weft_gpu::{
    ActFormat, AttentionKernels, AttentionShape, Bound, Capabilities, Count, Gpu, GpuError, GpuMatrix, wgpu,
};
use weft_platform::PAGE;

/// Lanes of most workgroups.
const WG: u32 = 256;
/// Workgroups along x where their number may exceed what one dimension takes.
const GRID: u32 = 32_768;

/// A kernel to be bound.
pub(super) struct Draft {
    pub(super) spec: KernelSpec,
    buffers: Vec<(u32, wgpu::Buffer)>,
    grid: [Extent; 3],
}

/// Whether every segment of a product is whole tiles of cooperative matrices.
fn is_tiled(product: &Product) -> bool {
    let segments = product.matrices.iter().flat_map(|(_, matrix)| &matrix.segments);
    product.rows.is_multiple_of(4)
        && segments.into_iter().all(|s| s.rows.len().is_multiple_of(COOPERATIVE_TILE))
}

impl Draft {
    pub(super) fn bind(self, gpu: &Gpu) -> Step {
        let kernel = gpu.pipelines.get(&self.spec);
        let buffers: Vec<_> =
            self.buffers.iter().map(|(index, buffer)| (*index, buffer.as_entire_binding())).collect();
        Step { bound: Bound::new(gpu, kernel, &buffers), grid: self.grid }
    }
}

/// What becomes of a product.
enum Out<'a> {
    /// Written to rows of this width.
    Store(&'a wgpu::Buffer, usize),
    /// Added to rows of this width.
    Add(&'a wgpu::Buffer, usize),
    /// Gate and up become activations.
    Gate(&'a Activations, ActFormat),
    /// Queries, keys and values, to be turned and kept.
    Rope(&'a LayerWeights),
}

/// What a product reads.
#[derive(Clone, Copy)]
enum In<'a> {
    /// Activations.
    Act(&'a Activations),
    /// The hidden state, to be normed with these weights.
    Norm(&'a wgpu::Buffer),
}

/// How a workgroup shares its columns of a product with few rows among its teams.
struct Tile {
    /// Weight rows of a column: a gate and its up projection, or one.
    parts: u32,
    /// Weight rows that a team takes at once.
    each: u32,
    /// How often it does.
    passes: u32,
    /// Teams that share weight rows, each a part of their length.
    split: u32,
}

impl Tile {
    /// Measured on an H100. A gated block of 32 columns is made in one workgroup, in two passes, which leaves registers for
    /// more workgroups at a time. Elsewhere few long rows are shared by several teams, so that enough reads are under way;
    /// many rows are taken together, so that activations are read once for several of them. Products that norm their
    /// input, or have several rows of it, take few workgroups, since each makes the norm or reads the rows. `turns` is how
    /// many packets of a weight row each lane of a team has, `most` how many rows there are of the input.
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
            (In::Act(_), 8..) if most == 1 && each < 4 => 4,
            (In::Act(_), 4..) if most == 1 && each < 4 => 2,
            _ => 1,
        };
        Self { parts: 1, each, passes: 1, split: split.min(teams) }
    }
}

/// Packets of a matrix's row that each lane of a team has.
fn turns(matrix: &GpuMatrix, lanes: u32) -> usize {
    matrix.row_packets() / lanes as usize
}

/// Writes down the kernels of a model.
pub(super) struct Drafter<'a> {
    pub(super) caps: &'a Capabilities,
    pub(super) config: &'a ModelConfig,
    pub(super) attention: &'a AttentionShape,
    pub(super) scratch: &'a Scratch,
}

impl Drafter<'_> {
    /// A kernel over the wave, with lanes that can be reduced over.
    fn spec(&self, name: &'static str, kernel: &[Part]) -> KernelSpec {
        let (reduce, lanes) = self.reduce();
        KernelSpec::new(name, [parts::WAVE, reduce].into_iter().chain(kernel.iter().copied()))
            .with("WG", WG)
            .with("LANES", lanes)
    }

    fn reduce(&self) -> (Part, u32) {
        self.caps.subgroup.map_or((parts::REDUCE_PLAIN, 32), |lanes| (parts::REDUCE_SUBGROUP, lanes))
    }

    /// The kind of activations that a product of this class reads.
    fn kind(&self, product: &Product, class: Class) -> ActFormat {
        match class {
            Class::Bands(_) => ActFormat::F16,
            Class::Many if self.caps.cooperative && is_tiled(product) => ActFormat::F16,
            Class::Few(_) if self.caps.packed_dot && product.is_quantized() && self.reads_codes(product) => {
                ActFormat::Q8
            }
            Class::Few(_) | Class::Many => ActFormat::F32,
        }
    }

    /// Whether what makes a product's activations can leave them in blocks of 8 bits: attention's heads must be whole ones.
    fn reads_codes(&self, product: &Product) -> bool {
        !product.has(TensorRole::AttentionOutput) || self.attention.kernels(self.caps, ActFormat::Q8).is_ok()
    }

    fn act_buffers(act: &Activations, kind: ActFormat) -> [(u32, wgpu::Buffer); 2] {
        let [numbers, scales] = act.buffers(kind);
        [(20, numbers), (21, scales)]
    }

    pub(super) fn embed(&self, ends: &EndWeights) -> Vec<Draft> {
        let Some(embedding) = &ends.embedding else { return Vec::new() };
        let segments = embedding
            .matrices
            .iter()
            .flat_map(|(_, matrix)| matrix.segments.iter().map(move |s| (matrix, s)));
        segments
            .map(|(matrix, segment)| {
                let spec = KernelSpec::new("embed", [parts::WAVE, matrix.decode(), parts::EMBED])
                    .with("WG", 64u32)
                    .with("VOCABULARY", self.config.vocabulary as u32);
                let mut buffers = vec![
                    (0, self.scratch.wave.clone()),
                    (1, self.scratch.sampled.clone()),
                    (2, self.scratch.hidden.clone()),
                ];
                buffers.extend(segment.buffers());
                let grid = [Extent::Rows, Extent::Fixed(1), Extent::Fixed(1)];
                Draft { spec: matrix.shape(spec, segment), buffers, grid }
            })
            .collect()
    }

    fn norm(&self, weight: &wgpu::Buffer, act: &Activations, kind: ActFormat, gather: bool) -> Draft {
        let spec = self
            .spec("rms_norm", &[kind.part(), parts::RMS_NORM])
            .with("ACT_WIDTH", self.config.embedding as u32)
            .with("EPSILON", self.config.norm_epsilon)
            .with("GATHER", u32::from(gather));
        let mut buffers =
            vec![(0, self.scratch.wave.clone()), (1, self.scratch.hidden.clone()), (2, weight.clone())];
        buffers.extend(Self::act_buffers(act, kind));
        let rows = if gather { Extent::LogitRows } else { Extent::Rows };
        Draft { spec, buffers, grid: [rows, Extent::Fixed(1), Extent::Fixed(1)] }
    }

    /// The kernels of a product: one for each segment of each of its matrices.
    fn product(
        &self,
        name: &'static str,
        product: &Product,
        class: Class,
        input: In<'_>,
        out: &Out<'_>,
        count: Count,
    ) -> Vec<Draft> {
        let kind = self.kind(product, class);
        let mut drafts = Vec::new();
        for (first, matrix) in &product.matrices {
            for segment in &matrix.segments {
                let [numbers, beside] = match input {
                    In::Act(act) => act.buffers(kind),
                    In::Norm(weight) => [self.scratch.hidden.clone(), weight.clone()],
                };
                let mut buffers = vec![(0, self.scratch.wave.clone()), (1, numbers), (2, beside)];
                buffers.extend(segment.buffers());
                let rows = segment.rows.len();
                let (spec, grid) = match class {
                    Class::Few(most) => self.matvec(name, matrix, kind, rows, most, input, out),
                    Class::Bands(bands) => self.bands(name, matrix, rows, bands, out),
                    Class::Many => self.matmul(name, matrix, kind, rows, out, count),
                };
                let spec = spec
                    .with("K", matrix.columns as u32)
                    .with("N", rows as u32)
                    .with("ROW_BASE", (first + segment.rows.start) as u32)
                    .with("ROW_COUNT", count as u32);
                let spec = match out {
                    Out::Store(buffer, stride) | Out::Add(buffer, stride) => {
                        buffers.push((30, (*buffer).clone()));
                        spec.with("OUT_STRIDE", *stride as u32)
                    }
                    Out::Gate(act, kind) => {
                        buffers.extend(Self::act_buffers(act, *kind));
                        spec.with("ACT_WIDTH", act.width as u32)
                    }
                    Out::Rope(weights) => {
                        buffers.extend(self.rope_buffers(weights));
                        self.rope_shape(spec)
                    }
                };
                drafts.push(Draft { spec, buffers, grid });
            }
        }
        drafts
    }

    /// A product with few rows.
    fn matvec(
        &self,
        name: &'static str,
        matrix: &GpuMatrix,
        kind: ActFormat,
        rows: usize,
        most: usize,
        input: In<'_>,
        out: &Out<'_>,
    ) -> (KernelSpec, [Extent; 3]) {
        let (_, lanes) = self.reduce();
        let teams = WG / lanes;
        let Tile { parts: parts_of, each, passes, split } =
            Tile::of(input, out, rows, turns(matrix, lanes), most, teams);
        let dot = match (input, kind) {
            (In::Act(_), ActFormat::Q8) => parts::DOT_Q8,
            (In::Act(_), _) => parts::DOT_F32,
            (In::Norm(_), ActFormat::Q8) => parts::DOT_NORM_Q8,
            (In::Norm(_), _) => parts::DOT_NORM_F32,
        };
        let mut kernel = vec![matrix.decode(), dot, parts::MATVEC];
        match out {
            Out::Store(..) => kernel.push(parts::OUT_STORE),
            Out::Add(..) => kernel.push(parts::OUT_ADD),
            Out::Gate(_, kind) => kernel.extend([kind.part(), parts::GATE_SILU, parts::OUT_GATE]),
            Out::Rope(_) => kernel.extend([parts::ROPE, parts::OUT_ROPE]),
        }
        let tiles = (rows as u32 / parts_of).div_ceil(teams / split * each * passes / parts_of);
        let spec = self
            .spec(name, &kernel)
            .with("NR", each)
            .with("PASSES", passes)
            .with("SPLIT", split)
            .with("PARTS", parts_of)
            .with("ROWS", most as u32)
            .with("EPSILON", self.config.norm_epsilon)
            .with("GRID_X", GRID);
        (spec, [Extent::Fixed(tiles.min(GRID)), Extent::Fixed(tiles.div_ceil(GRID)), Extent::Fixed(1)])
    }

    /// A product with up to so many bands of 16 rows.
    fn bands(
        &self,
        name: &'static str,
        matrix: &GpuMatrix,
        rows: usize,
        bands: usize,
        out: &Out<'_>,
    ) -> (KernelSpec, [Extent; 3]) {
        let tiles = (rows as u32).div_ceil(32);
        let spec = KernelSpec::new(name, [parts::WAVE, matrix.decode(), parts::MATMUL_SKINNY])
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
        let spec = KernelSpec::new(name, [parts::WAVE, matrix.decode(), part])
            .with("GRID_Y", GRID)
            .with("ADD", u32::from(matches!(out, Out::Add(..))));
        let x = match count {
            Count::Rows => Extent::RowTiles(tile),
            Count::LogitRows => Extent::LogitTiles(tile),
        };
        (spec, [x, Extent::Fixed(tiles.min(GRID)), Extent::Fixed(tiles.div_ceil(GRID))])
    }

    /// The constants of rotary embedding.
    fn rope_shape(&self, spec: KernelSpec) -> KernelSpec {
        let config = self.config;
        spec.with("HEADS", config.heads as u32)
            .with("KV_HEADS", config.kv_heads as u32)
            .with("KEY", config.key_length as u32)
            .with("VALUE", config.value_length as u32)
            .with("ROPE", config.ropes[0].dimensions as u32)
            .with("PAGE", PAGE as u32)
    }

    fn rope_buffers(&self, weights: &LayerWeights) -> [(u32, wgpu::Buffer); 4] {
        let scratch = self.scratch;
        [
            (5, scratch.angles.clone()),
            (6, scratch.queries.clone()),
            (7, weights.keys.clone()),
            (8, weights.values.clone()),
        ]
    }

    fn rope(&self, weights: &LayerWeights) -> Draft {
        let spec = KernelSpec::new("rope_kv", [parts::WAVE, parts::ROPE, parts::ROPE_KV])
            .with("WG", 64u32)
            .with("HALVES", u32::from(self.config.ropes[0].style == RopeStyle::Half));
        let mut buffers = vec![(0, self.scratch.wave.clone()), (1, self.scratch.qkv.clone())];
        buffers.extend(self.rope_buffers(weights));
        let across = (weights.qkv.rows as u32).div_ceil(2 * 64);
        Draft {
            spec: self.rope_shape(spec),
            buffers,
            grid: [Extent::Fixed(across), Extent::Rows, Extent::Fixed(1)],
        }
    }

    /// Norm and product: in one kernel where a wave has one row, whose norm is cheaper made by every workgroup than by a
    /// kernel before them; elsewhere one after the other.
    fn normed(
        &self,
        name: &'static str,
        norm: &wgpu::Buffer,
        product: &Product,
        class: Class,
        out: &Out<'_>,
    ) -> Vec<Draft> {
        /// Memory of a workgroup that the rest of a kernel takes.
        const REST: usize = 4 << 10;
        let kind = self.kind(product, class);
        let width = self.config.embedding;
        let bytes = if kind == ActFormat::Q8 { width * 5 / 4 } else { width * 4 };
        if class == Class::Few(1) && bytes + REST <= self.caps.workgroup_memory as usize {
            return self.product(name, product, class, In::Norm(norm), out, Count::Rows);
        }
        let inner = &self.scratch.inner;
        let mut drafts = vec![self.norm(norm, inner, kind, false)];
        drafts.extend(self.product(name, product, class, In::Act(inner), out, Count::Rows));
        drafts
    }

    /// Whether the projection of queries, keys and values can turn and keep what it makes: neighbours turn together, and
    /// one kernel with room for all the buffers makes them.
    fn turns(&self, weights: &LayerWeights, class: Class) -> bool {
        /// Wave, input, norm, codes, scales, angles, queries, keys and values.
        const BUFFERS: u32 = 9;
        matches!(class, Class::Few(_))
            && self.config.ropes[0].style == RopeStyle::Adjacent
            && weights.qkv.is_whole()
            && self.caps.storage_buffers >= BUFFERS
    }

    pub(super) fn layer(
        &self,
        weights: &LayerWeights,
        class: Class,
    ) -> Result<LayerSteps<Vec<Draft>>, GpuError> {
        let (config, scratch) = (self.config, self.scratch);
        let (inner, gated) = (&scratch.inner, &scratch.gated);
        let add = Out::Add(&scratch.hidden, config.embedding);

        let project = if self.turns(weights, class) {
            self.normed("qkv_rope", &weights.attention_norm, &weights.qkv, class, &Out::Rope(weights))
        } else {
            let store = Out::Store(&scratch.qkv, weights.qkv.rows);
            let mut drafts = self.normed("qkv", &weights.attention_norm, &weights.qkv, class, &store);
            drafts.push(self.rope(weights));
            drafts
        };

        let down = self.kind(&weights.down, class);
        let mut ffn = if matches!(class, Class::Few(_)) && weights.gate_up.is_whole() {
            let gate = Out::Gate(gated, down);
            self.normed("gate_up", &weights.ffn_norm, &weights.gate_up, class, &gate)
        } else {
            let store = Out::Store(&scratch.gate_up, 2 * config.feed_forward);
            let mut drafts = self.normed("gate_up", &weights.ffn_norm, &weights.gate_up, class, &store);
            drafts.push(self.silu(gated, down));
            drafts
        };
        ffn.extend(self.product("down", &weights.down, class, In::Act(gated), &add, Count::Rows));
        let attention = self.attention_for(&weights.output, class)?;
        Ok(LayerSteps {
            project,
            attend: self.attend(weights, &attention.0, attention.1),
            output: self.product("attn_output", &weights.output, class, In::Act(inner), &add, Count::Rows),
            ffn,
        })
    }

    /// The kernels of attention that leave the activations that a product of this class reads.
    fn attention_for(
        &self,
        output: &Product,
        class: Class,
    ) -> Result<(AttentionKernels, ActFormat), GpuError> {
        let kind = self.kind(output, class);
        Ok((self.attention.kernels(self.caps, kind)?, kind))
    }

    fn attend(&self, weights: &LayerWeights, kernels: &AttentionKernels, kind: ActFormat) -> [Vec<Draft>; 4] {
        let scratch = self.scratch;
        let draft = |spec: &KernelSpec, across: [u32; 3], down: Extent, deep: Extent| {
            let mut buffers = vec![
                (0, scratch.wave.clone()),
                (1, scratch.queries.clone()),
                (2, weights.keys.clone()),
                (3, weights.values.clone()),
                (4, scratch.tables.clone()),
                (5, scratch.partials.clone()),
            ];
            buffers.extend(Self::act_buffers(&scratch.inner, kind));
            Draft { spec: spec.clone(), buffers, grid: [Extent::Fixed(across[0]), down, deep] }
        };
        let one = Extent::Fixed(1);
        [
            vec![draft(&kernels.short, kernels.short_grid(1), Extent::Rows, one)],
            vec![draft(&kernels.direct, kernels.direct_grid(1), Extent::Rows, one)],
            vec![
                draft(&kernels.split, kernels.split_grid(1, 1), Extent::Rows, Extent::Splits),
                draft(&kernels.combine, kernels.combine_grid(1), Extent::Rows, one),
            ],
            vec![draft(&kernels.tiled, kernels.tiled_grid(1), Extent::AttentionTiles, one)],
        ]
    }

    /// One dispatch of sampling.
    pub(super) fn sample(&self, step: SampleStep) -> Draft {
        let (scratch, kernels) = (self.scratch, sampling(self.config));
        let buffers = vec![
            (0, scratch.wave.clone()),
            (1, scratch.logits.clone()),
            (2, scratch.sample_rows.clone()),
            (3, scratch.adjustments.clone()),
            (4, scratch.ids.clone()),
            (5, scratch.sampled.clone()),
            (6, scratch.sample_partials.clone()),
        ];
        Draft { spec: kernels.spec(self.caps, step), buffers, grid: [Extent::Fixed(1); 3] }
    }

    fn silu(&self, act: &Activations, kind: ActFormat) -> Draft {
        let width = self.config.feed_forward as u32;
        let spec = self
            .spec("gate_mul", &[kind.part(), parts::GATE_SILU, parts::GATE_MUL])
            .with("WIDTH", width)
            .with("ACT_WIDTH", width);
        let mut buffers = vec![(0, self.scratch.wave.clone()), (1, self.scratch.gate_up.clone())];
        buffers.extend(Self::act_buffers(act, kind));
        Draft {
            spec,
            buffers,
            grid: [Extent::Fixed((width / 4).div_ceil(WG)), Extent::Rows, Extent::Fixed(1)],
        }
    }

    pub(super) fn head(&self, ends: &EndWeights, class: Class) -> Option<HeadSteps<Vec<Draft>>> {
        let (norm, head) = (ends.norm.as_ref()?, ends.head()?);
        let inner = &self.scratch.inner;
        let mut logits = vec![self.norm(norm, inner, self.kind(head, class), true)];
        let store = Out::Store(&self.scratch.logits, self.config.vocabulary);
        logits.extend(self.product("head", head, class, In::Act(inner), &store, Count::LogitRows));
        Some(HeadSteps { logits })
    }
}
