//! Weights as the CPU multiplies them: row-interleaved tiles.
//!
//! A [`CpuMatrix`] of `rows × cols` (outputs × inputs) is cut into tiles of 16 rows; a lane of a vector is a row, so a
//! product ends without a horizontal sum. The last tile is padded with zeros. Tiles lie one after another, so a matrix
//! times one vector reads memory once, in order.
//!
//! - Float layouts: a tile holds, for each column, its 16 values.
//! - Quantized layouts: a tile holds, for each block of 32 columns, its codes, as `codes` cuts them into planes of bits; the scales lie
//!   in a plane of their own, see `scales`.
//!
//! Invariant: [`CpuMatrix::row`] gives what [`TensorFormat::dequantize`] gives, bit for bit.

pub(crate) mod code_planes;
pub(crate) mod cpu_matrix;
pub(crate) mod scale_planes;

pub use cpu_matrix::{CpuMatrix, PackError};
