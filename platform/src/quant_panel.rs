//! Panels of rows of activations as 8-bit codes: views for products, which read them, and for quantizing, which fills
//! them. [`Activations`](crate::Activations) documents the layout.

use weft_components::CODES;

/// Rows in a panel.
pub(crate) const PANEL: usize = 16;

/// The codes of a panel. All slices have `height` items per block of 32 columns.
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

/// A panel to fill: row `row` of `height` rows.
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
