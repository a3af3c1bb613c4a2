//! How weights are stored in device memory: the planes of each layout, and the shader parts that decode them.
//!
//! A matrix has up to three planes, each stored row by row: *codes*, in *packets* of several weights; *scales*, in
//! blocks of 32 weights or super-blocks of 256; and the *high* bits of codes whose number of bits is not a power of
//! two. The layout's `decode_*.wgsl` and `scales_*.wgsl` document their contents. A layout combines one kind of codes
//! with one kind of scales, so that no layout has a kernel or part of its own.

use crate::error::GpuError;
use crate::shader::{KernelSpec, Part, parts};
use weft_components::{ScaleKind, TensorFormat, TileLayout};

/// Weights that share one scale, or two. The length of a row is a multiple of it.
pub const BLOCK: usize = 32;

/// Planes of a matrix: codes, scales, and high bits of codes.
pub const PLANES: usize = 3;

/// Bindings of the planes.
pub(crate) const PLANE_BINDINGS: [u32; PLANES] = [10, 11, 12];

/// Number of weights that [`CodePlane::bytes`] and [`ScalePlane::bytes`] refer to.
const UNIT: usize = weft_components::SUPER;

/// A kind of codes in device memory.
struct CodePlane {
    /// Part that decodes it.
    decode: Part,
    /// Weights in a packet.
    packet: usize,
    /// Bytes of 256 weights: their codes, and the high bits of their codes.
    bytes: [usize; 2],
    /// The kernels' codes are the format's, less the zero point, times this factor. `None` if codes are not centred.
    centre: Option<f32>,
}

/// A kind of scales in device memory.
struct ScalePlane {
    /// Part that decodes it, and part that says how many scales a block has.
    decode: [Part; 2],
    /// Bytes of the scales of 256 weights.
    bytes: usize,
}

const fn codes(decode: Part, packet: usize, bytes: [usize; 2], centre: Option<f32>) -> CodePlane {
    CodePlane { decode, packet, bytes, centre }
}

const fn code_plane(layout: TileLayout) -> CodePlane {
    let kind = layout.codes();
    match (kind.bits, kind.table, layout) {
        (8, ..) => codes(parts::DECODE_U8, 16, [256, 0], Some(1.0)),
        (6, ..) => codes(parts::DECODE_U6, 32, [128, 64], Some(4.0)),
        (5, ..) => codes(parts::DECODE_U5, 32, [128, 32], None),
        (4, false, _) => codes(parts::DECODE_U4, 32, [128, 0], None),
        (4, true, _) => codes(parts::DECODE_T4, 32, [128, 0], None),
        (3, false, _) => codes(parts::DECODE_U3, 32, [64, 32], Some(32.0)),
        (3, true, _) => codes(parts::DECODE_T3, 32, [64, 32], None),
        (2, ..) => codes(parts::DECODE_U2, 32, [64, 0], None),
        (.., TileLayout::F16) => codes(parts::DECODE_F16, 8, [512, 0], None),
        (.., TileLayout::Bf16) => codes(parts::DECODE_BF16, 8, [512, 0], None),
        _ => codes(parts::DECODE_F32, 4, [1024, 0], None),
    }
}

const fn scale_plane(layout: TileLayout) -> ScalePlane {
    let (scales, count, bytes) = match (layout.scales(), layout.codes().min) {
        (ScaleKind::None, _) => (parts::SCALES_NONE, parts::ONE_SCALE, 0),
        (ScaleKind::Half, false) => (parts::SCALES_HALF, parts::ONE_SCALE, 16),
        (ScaleKind::Half, true) => (parts::SCALES_HALF_MIN, parts::ONE_SCALE, 32),
        (ScaleKind::Float, _) => (parts::SCALES_FLOAT, parts::ONE_SCALE, 32),
        (ScaleKind::Super, false) => (parts::SCALES_SUPER, parts::ONE_SCALE, 10),
        (ScaleKind::Super, true) => (parts::SCALES_SUPER_MIN, parts::ONE_SCALE, 20),
        (ScaleKind::SuperHalves, false) => (parts::SCALES_HALVES, parts::TWO_SCALES, 18),
        (ScaleKind::SuperHalves, true) => (parts::SCALES_HALVES_MIN, parts::TWO_SCALES, 20),
    };
    ScalePlane { decode: [scales, count], bytes }
}

/// Returns true if the codes of a layout are stored around their zero point.
pub(crate) const fn is_centred(layout: TileLayout) -> bool {
    code_plane(layout).centre.is_some()
}

/// Weights in a packet.
pub(crate) const fn packet(layout: TileLayout) -> usize {
    code_plane(layout).packet
}

/// Bytes of the planes of codes, scales and high bits of `rows` × `columns` weights. A plane that the layout does not
/// have takes 0 bytes.
pub fn plane_bytes(layout: TileLayout, rows: usize, columns: usize) -> [u64; PLANES] {
    let [low, high] = code_plane(layout).bytes;
    [low, scale_plane(layout).bytes, high].map(|bytes| (rows as u64) * (columns * bytes / UNIT) as u64)
}

/// Bytes of `rows` × `columns` weights in device memory.
pub fn device_bytes(layout: TileLayout, rows: usize, columns: usize) -> u64 {
    plane_bytes(layout, rows, columns).into_iter().sum()
}

/// The meaning of a matrix's codes: its layout, and the constants in which formats of one layout differ. The same
/// kernels read all matrices of one encoding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Encoding {
    /// Layout of the weights.
    pub layout: TileLayout,
    zero_point: u8,
    table: [i8; 16],
    unit: f32,
}

impl Encoding {
    /// Encoding of a format on a GPU, for rows of `columns` weights. `what` names the tensor.
    ///
    /// # Errors
    /// [`GpuError::Columns`] if the engine does not compute with the format, or if `columns` is not a multiple of its
    /// block and of [`BLOCK`].
    pub fn of(what: &str, format: TensorFormat, columns: usize) -> Result<Self, GpuError> {
        let multiple = format.block().max(BLOCK);
        match format.codec() {
            Some(codec) if columns.is_multiple_of(multiple) => Ok(Self {
                layout: codec.layout,
                zero_point: codec.zero_point,
                table: codec.table,
                unit: codec.unit,
            }),
            _ => Err(GpuError::Columns { what: what.to_owned(), columns, multiple }),
        }
    }

    /// Parts that decode its planes.
    pub fn decode(&self) -> [Part; 3] {
        let [scales, count] = scale_plane(self.layout).decode;
        [code_plane(self.layout).decode, scales, count]
    }

    /// Adds the constants that those parts need to a kernel: `ZERO`, `UNIT`, and the table's values, each repeated in
    /// all bytes of a word.
    pub fn constants(&self, spec: KernelSpec) -> KernelSpec {
        const TABLE: [&str; 16] = [
            "TABLE_0", "TABLE_1", "TABLE_2", "TABLE_3", "TABLE_4", "TABLE_5", "TABLE_6", "TABLE_7",
            "TABLE_8", "TABLE_9", "TABLE_10", "TABLE_11", "TABLE_12", "TABLE_13", "TABLE_14", "TABLE_15",
        ];
        if !self.layout.is_quantized() {
            return spec;
        }
        let centre = code_plane(self.layout).centre;
        let zero = if centre.is_some() { 0.0 } else { f32::from(self.zero_point) };
        let spec = spec.with("ZERO", zero).with("UNIT", self.unit / centre.unwrap_or(1.0));
        let kind = self.layout.codes();
        let values = if kind.table { 1 << kind.bits } else { 0 };
        let word = |value: i8| u32::from_le_bytes([value.cast_unsigned(); 4]);
        TABLE.into_iter().zip(self.table).take(values).fold(spec, |spec, (name, v)| spec.with(name, word(v)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_components::formats::FORMATS;

    /// Kernels read centred codes with the upper bit inverted, which subtracts half of the codes' range.
    #[test]
    fn centred_codes_have_their_zero_point_in_the_middle() {
        for info in FORMATS {
            let Some(codec) = info.codec.filter(|codec| codec.layout.is_quantized()) else { continue };
            if is_centred(codec.layout) {
                let middle = 1 << (codec.layout.codes().bits - 1);
                assert_eq!(u32::from(codec.zero_point), middle, "{}", info.name);
            }
        }
    }

    #[test]
    fn layouts_with_a_table_or_a_minimum_have_no_zero_point() {
        for info in FORMATS {
            let Some(codec) = info.codec else { continue };
            let kind = codec.layout.codes();
            assert!(codec.zero_point == 0 || !(kind.table || kind.min), "{}", info.name);
        }
    }

    /// Kernels read whole bytes, so `plane_bytes` of a row must be exact.
    #[test]
    fn planes_of_every_layout_are_whole_bytes() {
        for layout in TileLayout::ALL {
            let columns = match layout.scales() {
                ScaleKind::Super | ScaleKind::SuperHalves => UNIT,
                _ => BLOCK,
            };
            let each = plane_bytes(layout, 1, columns).map(|bytes| bytes * (UNIT / columns) as u64);
            assert_eq!(each, plane_bytes(layout, 1, UNIT), "{layout:?}");
        }
    }
}
