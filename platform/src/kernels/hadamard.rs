//! Rotates a head's vector before it is rounded to few bits, and back.
//!
//! Keys and values have a few elements far larger than the others, which reduce the resolution of all elements that
//! share their scale. An orthogonal matrix whose entries all have the same magnitude spreads them over the head.
//! Queries rotated in the same way give the same products. The sum of rotated values is rotated back with the same
//! matrix, since it is symmetric.
//!
//! The matrix is Sylvester's Hadamard matrix over `sqrt(n)`, applied to every `n` elements, where `n` is the largest
//! power of two that divides the head. Heads that are not a multiple of 16 are not rotated.
//!
//! Invariant: sums have one fixed order, so that every instruction set gives the same bits.

use crate::simd::{LANES, Simd};

/// Sylvester's matrix of order 16: the sign is the parity of the bits that row and column share.
const SIGNS: [[f32; LANES]; LANES] = {
    let mut signs = [[1.0; LANES]; LANES];
    let mut i = 0;
    while i < LANES * LANES {
        if ((i / LANES) & (i % LANES)).count_ones() % 2 == 1 {
            signs[i / LANES][i % LANES] = -1.0;
        }
        i += 1;
    }
    signs
};

/// Rotates `x`, one head's query, key or value. A second call rotates it back.
#[inline(always)]
pub(crate) fn hadamard<S: Simd>(s: S, x: &mut [f32]) {
    let (vectors, rest) = x.as_chunks_mut::<LANES>();
    if vectors.is_empty() || !rest.is_empty() {
        return;
    }
    // Vectors in a block.
    let count = 1 << vectors.len().trailing_zeros();
    let norm = s.splat(1.0 / ((count * LANES) as f32).sqrt());
    for block in vectors.chunks_exact_mut(count) {
        for vector in block.iter_mut() {
            let mut sum = s.splat(0.0);
            for (v, signs) in vector.iter().zip(&SIGNS) {
                sum = s.fma(s.splat(*v), s.load(signs), sum);
            }
            s.store(s.mul(sum, norm), vector);
        }
        let mut half = 1;
        while half < count {
            for pair in block.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (low, high) in low.iter_mut().zip(high) {
                    let (a, b) = (s.load(low), s.load(high));
                    s.store(s.add(a, b), low);
                    s.store(s.sub(a, b), high);
                }
            }
            half *= 2;
        }
    }
}
