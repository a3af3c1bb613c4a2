//! How attention is launched: the shapes that its kernels support, the kernels for one shape, their grids and memory.
//!
//! Waves of few rows run row by row (`attend.wgsl`). If the rows fill the device, or contexts are short, that kernel
//! writes the activations itself. It has two forms: `direct` shares a KV head's keys and values among its query heads;
//! `short` gives each query head a workgroup of its own, which finishes sooner. Otherwise each row's context is split
//! into ranges of whole pages, and `attend_combine.wgsl` merges the partial sums of the ranges. Waves with many rows of
//! one session run in tiles of neighbouring positions (`attend_tiled.wgsl`). Every kernel writes the input of the next
//! product, in the form that its `act_*` part defines.

use crate::capabilities::Capabilities;
use crate::error::GpuError;
use crate::kv_layout::KvLayout;
use crate::recent_pages::RecentPages;
use crate::shader::{KernelSpec, Part, parts};

/// Positions in a page of the KV cache.
pub const PAGE: usize = 32;

/// Most splits of a row's context.
pub const SPLITS_MAX: u32 = 64;

/// Most rows of a tile.
pub const TILE: usize = 32;

/// Bytes of a KV head's keys and values below which splitting does not pay. A split costs one more dispatch (3 to 4
/// µs); one workgroup reads this many bytes in that time.
const UNSPLIT: usize = 256 << 10;
/// Fewest pages of a split. With fewer, workgroups spend more time merging their teams than reading keys.
const SPLIT_PAGES: usize = 2;
/// Most heads of a workgroup of `attend`. A lane keeps sixteen floats in registers for each head.
const VECTOR_HEADS: usize = 4;
/// Lanes that a workgroup should have.
const WORKGROUP: usize = 128;
/// Most lanes of a workgroup.
const WORKGROUP_MAX: usize = 256;
/// Fewest lanes of a workgroup: those of the largest subgroup.
const WORKGROUP_MIN: usize = 64;
/// Bytes of workgroup memory that every device has.
const MEMORY: usize = 16 << 10;
/// Fewest positions in workgroup memory at once.
const STAGE_MIN: usize = 4;
/// Largest head dimension.
const HEAD_MAX: usize = 256;

/// Format of the activations that attention writes for the next product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActFormat {
    /// 32-bit floats.
    F32,
    /// 16-bit floats (f16).
    F16,
    /// Signed bytes with a scale and a sum for each block of 32.
    Q8,
}

impl ActFormat {
    /// Shader part that stores this format.
    pub const fn part(self) -> Part {
        match self {
            Self::F32 => parts::ACT_F32,
            Self::F16 => parts::ACT_F16,
            Self::Q8 => parts::ACT_Q8,
        }
    }
}

/// Shape of a model's attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head `h` reads `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Dimensions of a query or key head.
    pub key: usize,
    /// Dimensions of a value head.
    pub value: usize,
    /// Factor of query · key.
    pub scale: f32,
    /// Soft cap: scores become `cap * tanh(score / cap)`; 0 disables it.
    pub cap: f32,
    /// Positions that a row attends to, its own included; 0 means all positions up to its own.
    pub window: usize,
    /// First word of the block tables of the layer's class.
    pub tables: usize,
    /// Where the newest tokens are, if they have pages of their own.
    pub recent: Option<RecentPages>,
    /// How keys and values are stored. If values are rotated, so is the output, which
    /// [`AttentionShape::rotate_back`] turns back.
    pub kv: KvLayout,
}

/// Lanes and heads of a kernel's workgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    workgroup: usize,
    /// Lanes that work on one key.
    team: usize,
    /// Query heads of a workgroup.
    heads: usize,
    /// Workgroups that work on one KV head.
    parts: usize,
    /// Heads merged at once when teams are merged.
    merged: usize,
}

/// The kernels of an [`AttentionShape`].
///
/// Bindings: 0 wave, 1 queries, 2 keys, 3 values, 4 block tables, 5 partial sums, 20 and 21 activations.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionKernels {
    /// Row by row without splits, one workgroup per query head: [`AttentionKernels::short_grid`].
    pub short: KernelSpec,
    /// Row by row without splits: [`AttentionKernels::direct_grid`].
    pub direct: KernelSpec,
    /// Row by row, with the wave's number of splits: [`AttentionKernels::split_grid`].
    pub split: KernelSpec,
    /// Merges the wave's splits: [`AttentionKernels::combine_grid`].
    pub combine: KernelSpec,
    /// Tile by tile: [`AttentionKernels::tiled_grid`].
    pub tiled: KernelSpec,
    shape: AttentionShape,
    few: Layout,
    vector: Layout,
    tile: Layout,
}

fn refuse<T>(what: &'static str, value: usize, allowed: &'static str) -> Result<T, GpuError> {
    Err(GpuError::Shape { what, value, allowed })
}

impl AttentionShape {
    /// Checks that the kernels support this shape.
    ///
    /// # Errors
    /// [`GpuError::Shape`] names the dimension that the kernels do not support.
    pub fn check(&self) -> Result<(), GpuError> {
        const DIMENSIONS: &str = "multiples of 8 from 8 to 256";
        let takes = |dimensions: usize| dimensions.is_multiple_of(8) && (8..=HEAD_MAX).contains(&dimensions);
        if self.kv_heads == 0 {
            return refuse("number of KV heads", 0, "1 and more");
        }
        if self.heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            return refuse("number of query heads", self.heads, "multiples of the number of KV heads");
        }
        // A grid has a workgroup per head, and widths are 32-bit numbers.
        if self.heads > 1 << 14 {
            return refuse("number of query heads", self.heads, "up to 16384");
        }
        if !takes(self.key) {
            return refuse("length of a key head", self.key, DIMENSIONS);
        }
        if !takes(self.value) {
            return refuse("length of a value head", self.value, DIMENSIONS);
        }
        if u32::try_from(self.window).is_err() {
            return refuse("attention window", self.window, "32-bit numbers");
        }
        if !self.scale.is_finite() {
            return refuse("attention scale", 0, "finite numbers");
        }
        if !(self.cap.is_finite() && self.cap >= 0.0) {
            return refuse("cap of attention scores", 0, "finite numbers, not below 0");
        }
        Ok(())
    }

    /// Returns the kernels for this shape.
    ///
    /// # Errors
    /// Those of [`AttentionShape::check`]. Also fails if `format` is [`ActFormat::Q8`] and the query heads of a KV head
    /// together are not whole blocks of 32 elements.
    pub fn kernels(
        &self,
        capabilities: &Capabilities,
        format: ActFormat,
    ) -> Result<AttentionKernels, GpuError> {
        self.check()?;
        // A team must fit into a subgroup.
        let subgroup = |team: usize| capabilities.subgroup.filter(|lanes| team <= *lanes as usize);
        let few = self.vector(format, 1, WORKGROUP_MAX, subgroup)?;
        let vector = self.vector(format, VECTOR_HEADS, WORKGROUP, subgroup)?;
        let tile = self.tile(format)?;
        // Keys and values get half of workgroup memory, or a quarter where workgroups are large.
        let staged = if tile.workgroup > WORKGROUP { MEMORY / 4 } else { MEMORY / 2 };
        let stage = (staged / self.kv.staged_bytes(self.key + self.value)).min(PAGE);
        // Four positions are computed at once. With large heads they take more than their share, which a workgroup
        // that is not large has.
        if stage < STAGE_MIN && tile.workgroup > WORKGROUP {
            return refuse("length of a value head", self.value, BLOCKS);
        }
        let stage = 1 << stage.max(STAGE_MIN).ilog2();
        let spec = |name, layout: Layout, list: &[Part]| {
            let (reduce, lanes) = match subgroup(layout.team) {
                Some(lanes) => ([parts::TEAM_SUBGROUP, parts::REDUCE_SUBGROUP], lanes),
                None => ([parts::TEAM_PLAIN, parts::REDUCE_PLAIN], 32),
            };
            let parts = [parts::WAVE]
                .into_iter()
                .chain(self.kv.load.iter().copied())
                .chain([parts::ATTENTION, format.part()])
                .chain(reduce)
                .chain(list.iter().copied());
            self.constants(KernelSpec::new(name, parts), layout.workgroup)
                .with("LANES", lanes)
                .with("TEAM", layout.team as u32)
                .with("HG", layout.heads as u32)
        };
        let rows = |name, layout, part| {
            spec(name, layout, &[part, parts::ATTEND]).with("MERGED", layout.merged as u32)
        };
        let reduce = capabilities.subgroup.map_or(parts::REDUCE_PLAIN, |_| parts::REDUCE_SUBGROUP);
        let combine = [parts::WAVE, format.part(), reduce, parts::ATTEND_COMBINE];
        Ok(AttentionKernels {
            short: rows("attend_short", few, parts::ATTEND_DIRECT),
            direct: rows("attend", vector, parts::ATTEND_DIRECT),
            split: rows("attend_split", vector, parts::ATTEND_SPLIT),
            combine: self
                .constants(KernelSpec::new("attend_combine", combine), WORKGROUP)
                .with("LANES", capabilities.subgroup.unwrap_or(32)),
            tiled: spec("attend_tiled", tile, &[parts::ATTEND_TILED])
                .with("TILE", TILE as u32)
                .with("STAGE", stage as u32),
            shape: *self,
            few,
            vector,
            tile,
        })
    }

    fn constants(&self, spec: KernelSpec, workgroup: usize) -> KernelSpec {
        RecentPages::constants(self.recent, spec)
            .with("HEADS", self.heads as u32)
            .with("KV_HEADS", self.kv_heads as u32)
            .with("KEY", self.key as u32)
            .with("VALUE", self.value as u32)
            .with("SCALE", self.scale)
            .with("CAP", self.cap)
            .with("WINDOW", self.window as u32)
            .with("TABLES", self.tables as u32)
            .with("PAGE", PAGE as u32)
            .with("ACT_WIDTH", (self.heads * self.value) as u32)
            .with("SPLITS_MAX", SPLITS_MAX)
            .with("TOKEN_BYTES", self.token_bytes() as u32)
            .with("WG", workgroup as u32)
    }

    /// Bytes of a token's keys and values.
    fn token_bytes(&self) -> usize {
        self.kv_heads * (self.kv.head_bytes(self.key) + self.kv.head_bytes(self.value))
    }

    /// The kernel that turns attention's output back and stores it in `format`, and its workgroups for the wave's first
    /// `rows` rows. Its input are 32-bit floats. `None` if the output is not rotated.
    ///
    /// Bindings: 0 wave, 1 attention's output, 20 and 21 activations.
    pub fn rotate_back(
        &self,
        capabilities: &Capabilities,
        format: ActFormat,
        rows: usize,
    ) -> Option<(KernelSpec, [u32; 3])> {
        if !self.kv.rotates(self.value) {
            return None;
        }
        let (reduce, lanes) =
            capabilities.subgroup.map_or((parts::REDUCE_PLAIN, 32), |lanes| (parts::REDUCE_SUBGROUP, lanes));
        // Whole blocks of 32 elements.
        let heads = (32 >> self.value.trailing_zeros().min(5)).max(1);
        let list = [parts::WAVE, format.part(), reduce, parts::HADAMARD, parts::ATTEND_ROTATE];
        let spec = KernelSpec::new("attend_rotate", list)
            .with("VALUE", self.value as u32)
            .with("HG", heads as u32)
            .with("ACT_WIDTH", (self.heads * self.value) as u32)
            .with("WG", WORKGROUP_MIN as u32)
            .with("LANES", lanes);
        Some((spec, [self.heads.div_ceil(heads) as u32, rows as u32, 1]))
    }

    /// Smallest number of query heads whose outputs together are whole blocks of `format`. Workgroups take multiples of
    /// it.
    fn unit(&self, format: ActFormat) -> Result<usize, GpuError> {
        let unit =
            if format == ActFormat::Q8 { (32 >> self.value.trailing_zeros().min(5)).max(1) } else { 1 };
        if (self.heads / self.kv_heads).is_multiple_of(unit) {
            Ok(unit)
        } else {
            refuse(
                "query heads of a KV head times the length of a value head",
                self.heads / self.kv_heads * self.value,
                "multiples of 32 for 8-bit activations",
            )
        }
    }

    /// Returns the heads of a workgroup, at most `most` unless a unit is larger, and the workgroups of a group.
    fn share(&self, unit: usize, most: usize) -> (usize, usize) {
        let group = self.heads / self.kv_heads;
        let parts = group.div_ceil(most.max(1));
        let heads = group.div_ceil(parts).next_multiple_of(unit);
        (heads, group.div_ceil(heads))
    }

    /// Layout of `attend` for up to `most` heads and about `lanes` lanes.
    fn vector(
        &self,
        format: ActFormat,
        most: usize,
        lanes: usize,
        subgroup: impl Fn(usize) -> Option<u32>,
    ) -> Result<Layout, GpuError> {
        let unit = self.unit(format)?;
        let team = (self.key.max(self.value) / 8).next_power_of_two().max(2);
        let (heads, parts) = self.share(unit, most);
        let merged = heads.min(2 * WORKGROUP / lanes).max(unit);
        // Workgroup memory for maxima and totals, for the sums of teams, and for sums over lanes.
        let sums = if subgroup(team).is_some() { 0 } else { 9 };
        let bytes = |lanes: usize| 4 * (lanes / team * (2 * heads + merged * self.value) + sums * lanes);
        [lanes, lanes / 2, WORKGROUP_MIN]
            .into_iter()
            .find(|lanes| bytes(*lanes) <= MEMORY && lanes / team >= 4)
            .map(|workgroup| Layout { workgroup, team, heads, parts, merged })
            .map_or_else(|| refuse("length of a value head", self.value, BLOCKS), Ok)
    }

    /// Layout of `attend_tiled`: a team takes four rows, a lane at most sixteen dimensions.
    fn tile(&self, format: ActFormat) -> Result<Layout, GpuError> {
        let unit = self.unit(format)?;
        let fours = TILE / 4;
        let mut team = (self.key.max(self.value) / 8).div_ceil(2).next_power_of_two();
        let (heads, parts) = self.share(unit, WORKGROUP / (fours * team));
        while fours * heads * team < WORKGROUP_MIN {
            team *= 2;
        }
        let workgroup = fours * heads * team;
        if workgroup > WORKGROUP_MAX {
            return refuse("length of a value head", self.value, BLOCKS);
        }
        Ok(Layout { workgroup, team, heads, parts, merged: heads })
    }
}

const BLOCKS: &str = "multiples of 32 for 8-bit activations where heads are long";

impl AttentionKernels {
    /// Workgroups of `short` for the wave's first `rows` rows.
    pub fn short_grid(&self, rows: usize) -> [u32; 3] {
        [(self.shape.kv_heads * self.few.parts) as u32, rows as u32, 1]
    }

    /// Workgroups of `direct` for the wave's first `rows` rows.
    pub fn direct_grid(&self, rows: usize) -> [u32; 3] {
        self.split_grid(rows, 1)
    }

    /// Workgroups of `split` for the wave's first `rows` rows. `splits` is the wave's number of splits.
    pub fn split_grid(&self, rows: usize, splits: u32) -> [u32; 3] {
        [(self.shape.kv_heads * self.vector.parts) as u32, rows as u32, splits]
    }

    /// Workgroups of `combine` for the wave's first `rows` rows.
    pub fn combine_grid(&self, rows: usize) -> [u32; 3] {
        [(self.shape.heads * self.shape.value).div_ceil(32) as u32, rows as u32, 1]
    }

    /// Workgroups of `tiled` for the wave's tiles, of up to [`TILE`] rows each.
    pub fn tiled_grid(&self, tiles: usize) -> [u32; 3] {
        [(self.shape.kv_heads * self.tile.parts) as u32, tiles as u32, 1]
    }

    /// Bytes of the partial sums of `rows` rows with `splits` splits each.
    pub fn partials_bytes(&self, rows: usize, splits: u32) -> u64 {
        rows as u64 * self.shape.heads as u64 * u64::from(splits) * 4 * (self.shape.value as u64 + 4)
    }

    /// Returns the number of splits that keeps about `workgroups` workgroups busy (two or three per multiprocessor of
    /// the device). `longest` is the largest number of positions that a row without a window attends to. Returns 1 if
    /// the rows alone keep the device busy or contexts are short, and at most [`SPLITS_MAX`].
    pub fn splits(&self, rows: usize, longest: usize, workgroups: usize) -> u32 {
        let AttentionShape { window, kv_heads, .. } = self.shape;
        let seen = if window > 0 { longest.min(window) } else { longest };
        if seen.saturating_mul(self.shape.token_bytes() / kv_heads) <= UNSPLIT {
            return 1;
        }
        let pages = seen.div_ceil(PAGE);
        let busy = (rows * kv_heads * self.vector.parts).max(1);
        let most = (workgroups / busy).min(pages / SPLIT_PAGES).clamp(1, SPLITS_MAX as usize);
        // As many splits as are needed with equally many pages each, so that none is empty.
        pages.div_ceil(pages.div_ceil(most)) as u32
    }

    /// Returns true if unsplit rows are so few that one workgroup per query head is at most `workgroups`. Then `short`
    /// runs, otherwise `direct`.
    pub fn is_short(&self, rows: usize, workgroups: usize) -> bool {
        rows * self.shape.kv_heads * self.few.parts <= workgroups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: AttentionShape = AttentionShape {
        heads: 32,
        kv_heads: 8,
        key: 64,
        value: 64,
        scale: 0.125,
        cap: 0.0,
        window: 0,
        tables: 0,
        recent: None,
        kv: KvLayout::F16,
    };

    const PLAIN: Capabilities = Capabilities {
        subgroup: None,
        f16: false,
        packed_dot: false,
        cooperative: false,
        timestamps: false,
        timestamps_inside: false,
        pipeline_cache: false,
        max_binding: 1 << 27,
        max_buffer: 1 << 27,
        workgroup_memory: 1 << 14,
        workgroup_size: 256,
        storage_buffers: 8,
    };

    /// Layouts of `short`, `direct` and `tiled`. Fails if one of them is unsupported.
    fn layouts(
        shape: &AttentionShape,
        format: ActFormat,
        subgroup: Option<u32>,
    ) -> Result<[Layout; 3], GpuError> {
        let few = shape.vector(format, 1, WORKGROUP_MAX, |_| subgroup)?;
        Ok([few, shape.vector(format, VECTOR_HEADS, WORKGROUP, |_| subgroup)?, shape.tile(format)?])
    }

    /// Returns true if the kernels' arithmetic holds for the layout.
    fn sound(layout: Layout, group: usize, teams: usize) -> bool {
        let Layout { workgroup, team, heads, parts, .. } = layout;
        (WORKGROUP_MIN..=WORKGROUP_MAX).contains(&workgroup)
            && workgroup.is_multiple_of(8)
            && workgroup.is_multiple_of(teams * team)
            && heads * parts >= group
            && heads * (parts - 1) < group
    }

    #[test]
    fn every_shape_has_workgroups_within_bounds_or_is_refused() {
        let cases = [(ActFormat::F32, None), (ActFormat::F32, Some(32)), (ActFormat::Q8, None)];
        let sizes = || (8..=HEAD_MAX).step_by(8);
        for (format, subgroup) in cases {
            for (key, value) in sizes().flat_map(|key| sizes().map(move |value| (key, value))) {
                for group in 1..=17 {
                    let shape = AttentionShape { heads: 2 * group, kv_heads: 2, key, value, ..SHAPE };
                    let Ok([few, vector, tile]) = layouts(&shape, format, subgroup) else {
                        assert!(format == ActFormat::Q8 && value % 32 != 0, "{key} {value} {group}");
                        continue;
                    };
                    for layout in [few, vector] {
                        assert!(sound(layout, group, 4), "{layout:?}");
                        assert!(layout.team * 8 >= key.max(value), "{layout:?}");
                    }
                    assert!(sound(tile, group, 8) && tile.team * 16 >= key.max(value), "{tile:?}");
                    if format == ActFormat::Q8 {
                        let heads = [few.heads, few.merged, vector.heads, vector.merged, tile.heads];
                        assert!(heads.iter().all(|heads| heads * value % 32 == 0), "{heads:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn shapes_that_kernels_do_not_take_are_refused() {
        let wrong = [
            AttentionShape { kv_heads: 0, ..SHAPE },
            AttentionShape { heads: 0, ..SHAPE },
            AttentionShape { heads: 31, ..SHAPE },
            AttentionShape { key: 0, ..SHAPE },
            AttentionShape { key: 60, ..SHAPE },
            AttentionShape { value: 264, ..SHAPE },
            AttentionShape { scale: f32::NAN, ..SHAPE },
            AttentionShape { cap: -1.0, ..SHAPE },
            AttentionShape { window: usize::MAX, ..SHAPE },
        ];
        for shape in wrong {
            let kernels = shape.kernels(&PLAIN, ActFormat::F32);
            assert!(matches!(kernels, Err(GpuError::Shape { .. })), "{shape:?}");
        }
        let ragged = AttentionShape { heads: 3, kv_heads: 3, key: 16, value: 16, ..SHAPE };
        assert!(matches!(ragged.kernels(&PLAIN, ActFormat::Q8), Err(GpuError::Shape { value: 16, .. })));
        assert!(ragged.kernels(&PLAIN, ActFormat::F16).is_ok());
    }

    #[test]
    fn splits_fill_the_device_and_none_is_empty() {
        let Ok(kernels) = SHAPE.kernels(&PLAIN, ActFormat::F32) else { unreachable!() };
        assert_eq!(kernels.splits(1, 200, 396), 1, "short");
        assert_eq!(kernels.splits(64, 32_768, 396), 1, "rows suffice");
        assert_eq!(kernels.splits(1, 2_048, 396), 32, "pages bound");
        assert!(kernels.is_short(1, 396) && kernels.is_short(12, 396) && !kernels.is_short(13, 396));
        assert_eq!(kernels.splits(1, 32_768, 396), 49, "the device's size bounds");
        assert_eq!(kernels.splits(1, 1 << 20, 1 << 20), SPLITS_MAX);
        for longest in 1..3_000 {
            let splits = kernels.splits(1, longest, 396) as usize;
            let pages = longest.div_ceil(PAGE);
            assert!((splits - 1) * pages.div_ceil(splits) < pages, "{longest}");
        }
    }
}
