//! Multiplies weights by activations, on all threads.
//!
//! The tiles of all matrices that share the activations form one range of work, so that there is one fork for any
//! number of matrices. One thread computes a tile's outputs, in one fixed order. No result depends on how the range is
//! divided.

use crate::activations::Activations;
use crate::kernels::Product;
use crate::shared::Shared;
use crate::simd::LANES;
use crate::threads::Cpu;
use crate::tile::cpu_matrix::CpuMatrix;

/// Fewest multiply-adds for which a fork pays: about 2 µs of one core.
const GRAIN: usize = 1 << 16;

/// `out[row] = x[row] · Wᵀ` for several matrices and the same activations.
///
/// Row `r` of the output starts at `r * out_stride` and contains the outputs of the matrices one after another.
///
/// # Panics
/// If a matrix has a different number of columns than `x`, `x` was not loaded in a form that a layout needs, or `out`
/// is too short.
pub fn matmul(cpu: &Cpu, weights: &[&CpuMatrix], x: &Activations, out: &mut [f32], out_stride: usize) {
    let columns = weights.iter().fold(0usize, |sum, w| sum.saturating_add(w.rows()));
    let tiles: usize = weights.iter().map(|w| w.tiles()).sum();
    for w in weights {
        assert!(w.cols() == x.cols(), "{w:?} times activations of {} columns", x.cols());
        let has = if w.layout().is_quantized() { x.need().quantized } else { x.need().floats };
        assert!(has, "{w:?} needs activations in another form");
    }
    if x.rows() == 0 || columns == 0 {
        return;
    }
    let end = (x.rows() - 1).checked_mul(out_stride).and_then(|start| start.checked_add(columns));
    assert!(
        (x.rows() == 1 || out_stride >= columns) && end.is_some_and(|end| end <= out.len()),
        "output too short"
    );
    let shared = Shared(out.as_mut_ptr());
    let grain = (GRAIN / (x.rows() * x.cols() * LANES).max(1)).max(1);
    cpu.for_each_chunk(tiles, grain, |range| {
        // Borrows the wrapper itself, not its field: the closure must capture the wrapper.
        let shared = &shared;
        let (mut first_tile, mut first_column) = (0, 0);
        for w in weights {
            let start = range.start.clamp(first_tile, first_tile + w.tiles()) - first_tile;
            let end = range.end.clamp(first_tile, first_tile + w.tiles()) - first_tile;
            if start < end {
                // Ranges of `for_each_chunk` are disjoint, and the output has every column of every row, as checked
                // above. So no two products write the same float, which `Product::store` relies on.
                let out = Shared(shared.0.wrapping_add(first_column));
                let product = Product { matrix: w, tiles: start..end, acts: x, out, stride: out_stride };
                cpu.kernels.product(w.layout(), &product);
            }
            first_tile += w.tiles();
            first_column += w.rows();
        }
    });
}
