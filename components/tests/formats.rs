//! Properties of every format that kernels rely on, on random blocks. The two formats that no reference file contains
//! are compared with values computed by hand.

use weft_components::formats::FORMATS;
use weft_components::{CODES, ScaleKind, TensorFormat, TileLayout};

/// Seeded bytes (SplitMix64).
fn random_bytes(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as u8
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn blocks_are_what_their_layout_holds() {
    for info in FORMATS {
        let Some(codec) = info.codec.filter(|codec| codec.layout.is_quantized()) else { continue };
        let (kind, scales) = (codec.layout.codes(), codec.layout.scales());
        let in_super_blocks = matches!(scales, ScaleKind::Super | ScaleKind::SuperHalves);
        assert!(!kind.min || codec.zero_point == 0, "{}: codes with minimums have no zero point", info.name);
        assert!(!kind.table || codec.zero_point == 0, "{}: tables have no zero point", info.name);
        assert!(codec.unit.to_bits() & 0x007f_ffff == 0, "{}: the unit is a power of two", info.name);
        assert!(in_super_blocks || codec.unit == 1.0, "{}: only super-blocks apply a unit", info.name);
        assert_eq!(info.block % if in_super_blocks { 256 } else { CODES }, 0, "{}", info.name);
        for seed in 0..50 {
            let block = random_bytes(seed, info.bytes);
            let first = (codec.codes)(&block, 0);
            for part in 0..info.block / CODES {
                let codes = (codec.codes)(&block, part);
                let name = format!("{} part {part}: {codes:?}", info.name);
                assert!(codes.codes.iter().all(|code| u32::from(*code) < 1 << kind.bits), "{name}");
                let same = |a: f32, b: f32| a.to_bits() == b.to_bits();
                assert!(same(codes.scale, first.scale) && same(codes.min, first.min), "{name}");
                for head in [codes.scale, codes.min] {
                    let half = half::f16::from_f32(head).to_f32();
                    assert!(scales == ScaleKind::Float || head.is_nan() || same(half, head), "{name}");
                }
                // The CPU stores only the upper half of these floats.
                let is_short = codes.scale.to_bits() & 0xffff == 0;
                assert!(codec.layout != TileLayout::T4Float || is_short, "{name}");
                for subs in [codes.sub_scale, codes.sub_min] {
                    assert!(in_super_blocks || subs == [1; 2], "{name}");
                    assert!(scales == ScaleKind::SuperHalves || subs[0] == subs[1], "{name}");
                }
                assert!(kind.min || (codes.min == 0.0 && codes.sub_min == [1; 2]), "{name}");
            }
        }
    }
}

/// `d * q`. The sums that these two formats store for products are not used.
#[test]
fn eight_bit_blocks_with_sums() {
    let quants: Vec<u8> = (0..=255).collect();
    let mut q8_1 = [half::f16::from_f32(0.25).to_le_bytes(), [0xff; 2]].concat();
    q8_1.extend(&quants[112..144]);
    let mut values = [0.0; 32];
    assert!(TensorFormat::from_name("Q8_1").unwrap().dequantize(&q8_1, &mut values));
    let want: Vec<f32> = (112..144u8).map(|q| f32::from(q.cast_signed()) * 0.25).collect();
    assert_eq!(values[..], want);

    let mut q8_k = 0.3f32.to_le_bytes().to_vec();
    q8_k.extend(&quants);
    q8_k.extend([0xff; 32]);
    let mut values = [0.0; 256];
    assert!(TensorFormat::from_name("Q8_K").unwrap().dequantize(&q8_k, &mut values));
    let want: Vec<f32> = quants.iter().map(|q| 0.3 * f32::from(q.cast_signed())).collect();
    assert_eq!(values[..], want);
}
