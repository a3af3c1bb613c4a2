//! Rows of a tensor laid out as kernels read them.
//!
//! Codes of fewer than eight bits lie in groups of four: group `j` of a block is elements `4j` to `4j + 3`, one in each byte of a
//! word, and a word has as many groups as fit, from the low bits up. A kernel has four codes with a shift and a mask.

use crate::planes::{PLANES, is_centred, plane_bytes};
use weft_components::{BlockCodes, CODES, Codec, ScaleKind, TensorFormat, TileLayout};

/// Rows of a tensor in the device's layout: the planes of codes, of scales, and of high bits, empty where the layout has none.
pub struct PackedRows {
    /// The planes.
    pub planes: [Vec<u8>; PLANES],
}

/// Lays whole rows of a tensor out. `bytes` are as the file holds them; what is no whole block is left out.
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
    /// Lays one block of 32 out, number `part` of a block of the format.
    fn push(&mut self, codec: &Codec, block: &BlockCodes, part: usize) {
        let [codes, scales, high] = &mut self.planes;
        push_codes(codec, &block.codes, codes, high);
        push_scales(codec.layout, block, part, scales);
    }
}

fn push_codes(codec: &Codec, block: &[u8; CODES], codes: &mut Vec<u8>, high: &mut Vec<u8>) {
    // Around its zero point a code is one of two's complement, whose upper bit is the other way round.
    let flip = if is_centred(codec.layout) { codec.zero_point } else { 0 };
    let block = block.map(|code| code ^ flip);
    match codec.layout.codes().bits {
        8 => codes.extend(block),
        6 => {
            spread::<4>(&block, codes);
            spread::<2>(&block.map(|code| code >> 4), high);
        }
        5 => {
            spread::<4>(&block, codes);
            spread::<1>(&block.map(|code| code >> 4), high);
        }
        3 => {
            spread::<2>(&block, codes);
            spread::<1>(&block.map(|code| code >> 2), high);
        }
        2 => spread::<2>(&block, codes),
        _ => spread::<4>(&block, codes),
    }
}

/// The lower bits of codes, in groups of four.
fn spread<const BITS: usize>(block: &[u8; CODES], out: &mut Vec<u8>) {
    let mask = (1 << BITS) - 1;
    for groups in block.chunks_exact(4 * 8 / BITS) {
        let mut word = [0; 4];
        for (at, group) in groups.as_chunks::<4>().0.iter().enumerate() {
            for (byte, code) in word.iter_mut().zip(group) {
                *byte |= (code & mask) << (BITS * at);
            }
        }
        out.extend_from_slice(&word);
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
