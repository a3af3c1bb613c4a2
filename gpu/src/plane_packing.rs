//! Lays out rows of a tensor as kernels read them.
//!
//! Codes of fewer than eight bits are stored in groups of four. Group `j` of a block contains elements `4j` to `4j +
//! 3`, one in each byte of a word. A word contains as many groups as fit, from the low bits up. A kernel unpacks four
//! codes with a shift and a mask.

use crate::planes::{PLANES, is_centred, plane_bytes};
use weft_components::{BlockCodes, CODES, Codec, ScaleKind, TensorFormat, TileLayout};

/// Rows of a tensor in the device's layout: planes of codes, scales and high bits. A plane is empty if the layout does
/// not have it.
pub struct PackedRows {
    /// The planes.
    pub planes: [Vec<u8>; PLANES],
}

/// Lays out whole rows of a tensor. `bytes` are the file's; a partial block at the end is ignored.
pub fn pack(format: TensorFormat, bytes: &[u8]) -> PackedRows {
    let Some(codec) = format.codec() else { return PackedRows { planes: Default::default() } };
    if !codec.layout.is_quantized() {
        return PackedRows { planes: [bytes.to_vec(), Vec::new(), Vec::new()] };
    }
    let weights = bytes.len() / format.block_bytes() * format.block();
    let room = plane_bytes(codec.layout, 1, weights).map(|bytes| Vec::with_capacity(bytes as usize));
    let mut packed = PackedRows { planes: room };
    for block in bytes.chunks_exact(format.block_bytes()) {
        for part in 0..format.block() / CODES {
            packed.push(&codec, &(codec.codes)(block, part), part);
        }
    }
    packed
}

impl PackedRows {
    /// Lays out one block of 32 elements: block `part` within a block of the format.
    fn push(&mut self, codec: &Codec, block: &BlockCodes, part: usize) {
        let [codes, scales, high] = &mut self.planes;
        push_codes(codec, &block.codes, codes, high);
        push_scales(codec.layout, block, part, scales);
    }
}

/// Groups of four codes, one in each byte of a word.
type Groups = [u32; CODES / 4];

/// A word with `byte` in all four bytes.
const fn each(byte: u8) -> u32 {
    u32::from_le_bytes([byte; 4])
}

fn push_codes(codec: &Codec, block: &[u8; CODES], codes: &mut Vec<u8>, high: &mut Vec<u8>) {
    // A code stored around its zero point is a two's complement number, whose upper bit is inverted.
    let flip = if is_centred(codec.layout) { each(codec.zero_point) } else { 0 };
    let groups: Groups =
        core::array::from_fn(|j| u32::from_le_bytes(core::array::from_fn(|i| block[4 * j + i])) ^ flip);
    match codec.layout.codes().bits {
        8 => spread::<8>(&groups, 0, codes),
        6 => {
            spread::<4>(&groups, 0, codes);
            spread::<2>(&groups, 4, high);
        }
        5 => {
            spread::<4>(&groups, 0, codes);
            spread::<1>(&groups, 4, high);
        }
        3 => {
            spread::<2>(&groups, 0, codes);
            spread::<1>(&groups, 2, high);
        }
        2 => spread::<2>(&groups, 0, codes),
        _ => spread::<4>(&groups, 0, codes),
    }
}

/// Appends `BITS` bits of each code, from bit `first` up, with as many groups per word as fit.
fn spread<const BITS: usize>(groups: &Groups, first: u32, out: &mut Vec<u8>) {
    let mask = each(u8::MAX >> (8 - BITS));
    for groups in groups.chunks_exact(8 / BITS) {
        let place = |word, (at, group): (usize, &u32)| word | (((group >> first) & mask) << (BITS * at));
        out.extend_from_slice(&groups.iter().enumerate().fold(0, place).to_le_bytes());
    }
}

fn push_scales(layout: TileLayout, block: &BlockCodes, part: usize, scales: &mut Vec<u8>) {
    let half = |x: f32| half::f16::from_f32(x).to_le_bytes();
    let has_min = layout.codes().min;
    let shared = matches!(layout.scales(), ScaleKind::Super | ScaleKind::SuperHalves);
    if layout.scales() == ScaleKind::Float {
        scales.extend_from_slice(&block.scale.to_le_bytes());
    } else if !shared || part == 0 {
        scales.extend_from_slice(&half(block.scale));
        if has_min {
            scales.extend_from_slice(&half(block.min));
        }
    }
    let [scale, min] = [block.sub_scale, block.sub_min].map(|subs| subs.map(i8::cast_unsigned));
    match (layout.scales(), has_min) {
        (ScaleKind::Super, false) => scales.push(scale[0]),
        (ScaleKind::Super, true) => scales.extend_from_slice(&[scale[0], min[0]]),
        (ScaleKind::SuperHalves, false) => scales.extend_from_slice(&scale),
        (ScaleKind::SuperHalves, true) => scales.extend([0, 1].map(|i| (scale[i] & 15) | (min[i] << 4))),
        (ScaleKind::None | ScaleKind::Half | ScaleKind::Float, _) => {}
    }
}
