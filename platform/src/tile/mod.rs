//! Weights in the form that the CPU multiplies: row-interleaved tiles.
//!
//! A [`CpuMatrix`] of `rows × cols` (outputs × inputs) is divided into tiles of 16 rows. A lane of a vector is a row,
//! so that a product ends without a horizontal sum. The last tile is padded with zeros. Tiles are stored one after
//! another, so that a matrix times one vector reads memory once, in order.
//!
//! - Float layouts: a tile contains, for each column, its 16 values.
//! - Quantized layouts: a tile contains, for each block of 32 columns, its codes in planes of bits (`code_planes`). The
//!   scales are in a plane of their own (`scale_planes`).
//!
//! Invariant: [`CpuMatrix::row`] returns what [`TensorFormat::dequantize`](weft_components::TensorFormat::dequantize)
//! returns, bit for bit.

pub(crate) mod code_planes;
pub(crate) mod cpu_matrix;
pub(crate) mod scale_planes;

pub use cpu_matrix::{CpuMatrix, PackError};
