//! Panels of rows of activations as 8-bit codes: what a product reads and what quantizing fills. See
//! [`Activations`](crate::Activations) for the layout.

use weft_components::CODES;

/// Rows of a panel.
pub(crate) const PANEL: usize = 16;

/// The codes of a panel: all slices hold `height` items a block of 32 columns.
pub(crate) struct QuantPanel<'a> {
    pub(crate) height: usize,
    pub(crate) codes: &'a [[i8; CODES]],
    pub(crate) scales: &'a [f32],
    pub(crate) sums: &'a [i32],
    /// `scale * sum`.
    pub(crate) offsets: &'a [f32],
    /// Sums of the first and the second 16 codes.
    pub(crate) half_sums: &'a [[i32; 2]],
    /// `scale * half_sums`.
    pub(crate) half_offsets: &'a [[f32; 2]],
}

/// A panel being filled: row `row` of `height`.
pub(crate) struct QuantRow<'a> {
    pub(crate) row: usize,
    pub(crate) height: usize,
    pub(crate) codes: &'a mut [[i8; CODES]],
    pub(crate) scales: &'a mut [f32],
    pub(crate) sums: &'a mut [i32],
    pub(crate) offsets: &'a mut [f32],
    pub(crate) half_sums: &'a mut [[i32; 2]],
    pub(crate) half_offsets: &'a mut [[f32; 2]],
}
