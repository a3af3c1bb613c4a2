//! The KV cache's `Q8_0`, written a second time: the rotation in the order of sums that every instruction set has, the
//! codes, and the inverse of both in f64.

/// The definition of the format: a head in blocks of 32, the last one shorter, each element as its code times its
/// block's scale.
pub(crate) fn q8_0(head: &[f32]) -> Vec<f64> {
    let block = |x: &[f32]| {
        let largest = x.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let scale = half::f16::from_f32(largest / 127.0);
        let code = move |v: &f32| f64::from((v / scale.to_f32()).round_ties_even().clamp(-127.0, 127.0));
        x.iter()
            .map(|v| if scale.to_bits() == 0 { 0.0 } else { code(v) * scale.to_f64() })
            .collect::<Vec<_>>()
    };
    head.chunks(32).flat_map(block).collect()
}

/// The rotation of heads that are a multiple of 16: sums of 16 in order, then sums and differences of ever larger
/// parts.
pub(crate) fn rotated(head: &[f32]) -> Vec<f32> {
    if !head.len().is_multiple_of(16) {
        return head.to_vec();
    }
    let n = 1usize << head.len().trailing_zeros();
    let norm = 1.0 / (n as f32).sqrt();
    let sign = |i: usize, j: usize| if (i & j).count_ones() % 2 == 1 { -1.0 } else { 1.0 };
    let sixteen = |x: &[f32]| {
        (0..16).map(|j| (0..16).fold(0.0, |sum, i| sum + sign(i, j) * x[i]) * norm).collect::<Vec<f32>>()
    };
    let mut out: Vec<f32> = head.chunks(16).flat_map(sixteen).collect();
    for block in out.chunks_mut(n) {
        let mut half = 16;
        while half < n {
            for i in (0..n).filter(|i| i & half == 0) {
                (block[i], block[i + half]) = (block[i] + block[i + half], block[i] - block[i + half]);
            }
            half *= 2;
        }
    }
    out
}

/// The inverse of [`rotated`], from the matrix's definition.
fn rotated_back(head: &[f64]) -> Vec<f64> {
    if !head.len().is_multiple_of(16) {
        return head.to_vec();
    }
    let n = 1usize << head.len().trailing_zeros();
    let sign = |i: usize, j: usize| if (i & j).count_ones() % 2 == 1 { -1.0 } else { 1.0 };
    let block = |x: &[f64]| {
        (0..n).map(|j| (0..n).map(|i| sign(i, j) * x[i]).sum::<f64>() / (n as f64).sqrt()).collect::<Vec<_>>()
    };
    head.chunks(n).flat_map(block).collect()
}

/// The values that the cache's Q8_0 stands for.
pub(crate) fn stored_q8_0(head: &[f32]) -> Vec<f64> {
    rotated_back(&q8_0(&rotated(head)))
}
