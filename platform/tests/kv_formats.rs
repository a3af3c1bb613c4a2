//! The KV cache's formats: memory, and the precision of `Q8_0`.

#![expect(clippy::unwrap_used, reason = "a helper of tests may panic")]

use crate::common::kv_format::{q8_0, stored_q8_0};
use crate::common::{Random, serial};
use weft_platform::{
    AttentionParams, AttentionScratch, AttentionSpan, Kernels, KvArena, KvFormat, KvShape, PAGE, attention,
};

#[test]
fn memory_is_what_the_format_says() {
    let shape = KvShape { layers: 3, slots: 5, kv_heads: 2, k_dim: 64, v_dim: 128, format: KvFormat::Q8_0 };
    let values = 3 * 5 * 2 * PAGE * (64 + 128);
    for (format, bits) in [(KvFormat::F32, 32.0), (KvFormat::F16, 16.0), (KvFormat::Q8_0, 8.5)] {
        let arena = KvArena::new(KvShape { format, ..shape }).unwrap();
        assert_eq!(arena.bytes() as f64 * 8.0, values as f64 * bits, "{format:?}");
        assert_eq!(arena.slot_bytes() * 5, arena.bytes(), "{format:?}");
        assert_eq!((format.row_bytes(64) * 8) as f64, 64.0 * bits, "{format:?}");
    }
    // Partial blocks have a scale too, and values are padded to 16.
    let odd = KvShape { k_dim: 40, v_dim: 20, ..shape };
    assert_eq!(odd.bytes(), Ok(3 * 5 * 2 * PAGE * (40 + 2 * 2 + 32 + 2)));
}

/// Attention of a query of zeros to one token returns the token's value as it is stored.
fn read_back(format: KvFormat, value: &[f32]) -> Vec<f32> {
    let shape = KvShape { layers: 1, slots: 1, kv_heads: 1, k_dim: 1, v_dim: value.len(), format };
    let mut arena = KvArena::new(shape).unwrap();
    arena.write(Kernels::detect(), 0, 0, 0, &[0.0], value);
    let (mut out, params) =
        (vec![0.0; value.len()], AttentionParams { heads: 1, scale: 1.0, ..AttentionParams::default() });
    let span = AttentionSpan { first_row: 0, rows: 1, start: 0, table: &[0] };
    let mut scratch = AttentionScratch::default();
    let (cpu, n) = (serial(Kernels::detect()), value.len());
    attention(&cpu, &arena, 0, &[span], &params, &[0.0], 1, &mut out, n, &mut scratch);
    out
}

#[test]
fn q8_0_stores_the_nearest_codes() {
    let mut random = Random(23);
    // Not multiples of 16, so that heads are not rotated and the stored values are the written ones.
    for dim in [1, 7, 31, 33, 40, 100, 511] {
        for exponent in [-30, -12, 0, 10, 14] {
            let mut value = random.floats(dim);
            // A tie in the first block: 127 makes the scale 1.
            if exponent == 0 && dim > 3 {
                value[..4].copy_from_slice(&[127.0, 2.5, -3.5, 0.5]);
                value[4..dim.min(32)].fill(0.25);
            }
            value.iter_mut().for_each(|v| *v *= 2.0f32.powi(exponent));
            let found = read_back(KvFormat::Q8_0, &value);
            for (found, wanted) in found.iter().zip(q8_0(&value)) {
                // Scale times code is exact in a float.
                assert_eq!(f64::from(*found), wanted, "{dim} at 2^{exponent}");
            }
            if exponent == 0 && dim > 3 {
                assert_eq!(found[..4], [127.0, 2.0, -4.0, 0.0]);
            }
        }
    }
}

#[test]
fn q8_0_of_what_no_scale_fits() {
    // Too small and too large values do not become NaN.
    assert_eq!(read_back(KvFormat::Q8_0, &[1e-30, -1e-30, 0.0]), [0.0; 3]);
    assert_eq!(read_back(KvFormat::Q8_0, &[f32::MAX, -3e38, 0.0]), [65504.0 * 127.0, -65504.0 * 127.0, 0.0]);
    // The scale is rounded down a lot: the code must be the largest one and not wrap.
    let tiny = 2.0f32.powi(-24) * 1.4 * 127.0;
    assert_eq!(read_back(KvFormat::Q8_0, &[tiny, -tiny])[0], 127.0 * 2.0f32.powi(-24));
    // NaN and infinity stay in their own block, as NaN.
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for at in [0, 15, 16, 31] {
            let mut value = [1.0; 40];
            value[at] = bad;
            let found = read_back(KvFormat::Q8_0, &value);
            assert!(found[..32].iter().all(|v| v.is_nan()), "{bad} at {at}");
            assert_eq!(found[32..], [q8_0(&[1.0])[0] as f32; 8]);
            let mut value = [1.0; 64];
            value[at] = bad;
            assert!(read_back(KvFormat::Q8_0, &value).iter().all(|v| v.is_nan()), "{bad} at {at}");
        }
    }
}

#[test]
fn q8_0_spreads_an_outlier() {
    // One element a hundred times the others. Without rotation one code step is 100 / 127 and the others would be lost.
    let mut random = Random(24);
    for dim in [16, 48, 64, 80, 128, 512] {
        let mut value: Vec<f32> = (0..dim).map(|_| random.float()).collect();
        value[dim / 3] = 100.0;
        let found = read_back(KvFormat::Q8_0, &value);
        // The scale is at most that of the outlier's share of its block plus a block of ones.
        let block = 1usize << dim.trailing_zeros();
        let worst = (100.0 / (block as f32).sqrt() + (block as f32).sqrt()) / 127.0;
        // Half a code step each. A sum of rotated ones is at most sqrt(block).
        let root = (found.iter().zip(&value).map(|(f, v)| (f - v).powi(2)).sum::<f32>() / dim as f32).sqrt();
        assert!(root <= worst / 2.0, "{dim}: {root} {worst}");
        for (found, wanted) in found.iter().zip(stored_q8_0(&value)) {
            // Rotated back in floats: sums of up to 512 terms with partial sums of at most 100 sqrt(512).
            assert!((f64::from(*found) - wanted).abs() < 2e-4, "{dim}: {found} {wanted}");
        }
    }
}
