//! Loads the scales of a tile's block. `crate::tile::scale_planes` documents their plane.

use crate::simd::{LANES, Simd};

/// Words of 16 f16; 16 signed bytes take half as many.
const HALVES: usize = LANES / 2;
const BYTES: usize = LANES / 4;

/// Layout of scales in groups of blocks. A group is read as 32-bit words.
pub(crate) trait Scales {
    /// Blocks in a group.
    const BLOCKS: usize;
    /// Words in a group.
    const WORDS: usize;
    /// True if there are minimums.
    const MIN: bool;
    /// True if each half of a block has its own scale.
    const BY_HALF: bool;
    /// The group's scales times `unit`, and its minimums.
    fn heads<S: Simd>(s: S, group: &[u32], unit: f32) -> [S::F; 2];
    /// The scale and the minimum of the halves of block `block`. Values that the layout does not have are undefined.
    fn block<S: Simd>(s: S, group: &[u32], heads: [S::F; 2], block: usize) -> [[S::F; 2]; 2];
}

/// An f16 per block, and a second one if there are minimums.
pub(crate) struct Half<const MIN: bool>;

impl<const MIN: bool> Scales for Half<MIN> {
    const BLOCKS: usize = 1;
    const WORDS: usize = if MIN { 2 * HALVES } else { HALVES };
    const MIN: bool = MIN;
    const BY_HALF: bool = false;
    #[inline(always)]
    fn heads<S: Simd>(s: S, group: &[u32], _unit: f32) -> [S::F; 2] {
        halves::<S, MIN>(s, group)
    }
    #[inline(always)]
    fn block<S: Simd>(_s: S, _group: &[u32], heads: [S::F; 2], _block: usize) -> [[S::F; 2]; 2] {
        heads.map(|head| [head; 2])
    }
}

/// An f32 per block. If `SHORT`, only its upper half is stored.
pub(crate) struct Float<const SHORT: bool>;

impl<const SHORT: bool> Scales for Float<SHORT> {
    const BLOCKS: usize = 1;
    const WORDS: usize = if SHORT { HALVES } else { LANES };
    const MIN: bool = false;
    const BY_HALF: bool = false;
    #[inline(always)]
    fn heads<S: Simd>(s: S, group: &[u32], _unit: f32) -> [S::F; 2] {
        if const { SHORT } {
            let (shorts, _) = bytemuck::cast_slice::<u32, u16>(group).as_chunks::<LANES>();
            return [s.load_bf16(&shorts[0]); 2];
        }
        let (floats, _) = bytemuck::cast_slice::<u32, f32>(group).as_chunks::<LANES>();
        [s.load(&floats[0]); 2]
    }
    #[inline(always)]
    fn block<S: Simd>(_s: S, _group: &[u32], heads: [S::F; 2], _block: usize) -> [[S::F; 2]; 2] {
        heads.map(|head| [head; 2])
    }
}

/// An f16 per super-block, and a second one if there are minimums, times `SUBS` signed bytes per block: none, one, or
/// one per half.
pub(crate) struct Super<const MIN: bool, const SUBS: usize>;

impl<const MIN: bool, const SUBS: usize> Super<MIN, SUBS> {
    const HEADS: usize = if MIN { 2 } else { 1 };

    #[inline(always)]
    fn sub<S: Simd>(s: S, group: &[u32], head: S::F, set: usize) -> S::F {
        let (sets, _) = group[Self::HEADS * HALVES..].as_chunks::<BYTES>();
        s.mul(head, s.to_float(s.load_i8(bytemuck::cast_ref(&sets[set]))))
    }
}

impl<const MIN: bool, const SUBS: usize> Scales for Super<MIN, SUBS> {
    const BLOCKS: usize = weft_components::SUPER / weft_components::CODES;
    const WORDS: usize = Self::HEADS * (HALVES + Self::BLOCKS * SUBS * BYTES);
    const MIN: bool = MIN;
    const BY_HALF: bool = SUBS == 2;
    #[inline(always)]
    fn heads<S: Simd>(s: S, group: &[u32], unit: f32) -> [S::F; 2] {
        let [scale, min] = halves::<S, MIN>(s, group);
        [s.mul(scale, s.splat(unit)), min]
    }
    #[inline(always)]
    fn block<S: Simd>(s: S, group: &[u32], heads: [S::F; 2], block: usize) -> [[S::F; 2]; 2] {
        if const { SUBS == 0 } {
            return [[heads[0]; 2], [heads[1]; 2]];
        }
        let set = block * Self::HEADS * SUBS;
        let scales = [Self::sub(s, group, heads[0], set), Self::sub(s, group, heads[0], set + SUBS - 1)];
        if const { !MIN } {
            return [scales; 2];
        }
        let set = set + SUBS;
        [scales, [Self::sub(s, group, heads[1], set), Self::sub(s, group, heads[1], set + SUBS - 1)]]
    }
}

#[inline(always)]
fn halves<S: Simd, const MIN: bool>(s: S, group: &[u32]) -> [S::F; 2] {
    let (halves, _) = bytemuck::cast_slice::<u32, u16>(group).as_chunks::<LANES>();
    let scale = s.load_f16(&halves[0]);
    [scale, if const { MIN } { s.load_f16(&halves[1]) } else { scale }]
}
