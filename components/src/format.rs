//! Tensor formats as types.
//!
//! A *format* is how a tensor's numbers are stored in a file: a sequence of *blocks*, each of a fixed number of
//! elements in a fixed number of bytes, along the innermost dimension. One file under `formats/` defines one format
//! by implementing [`BlockFormat`]; [`FORMATS`](crate::formats::FORMATS) lists every type the GGUF document names, whether the engine computes
//! with it or only knows its size.
//!
//! A *tile layout* is how a backend holds the numbers while it computes. Many formats share one layout, so a format
//! adds no kernel of its own: it says how one of its blocks becomes codes, a scale and a minimum.

use core::fmt;

/// Elements in a block that becomes [`BlockCodes`]. Formats with larger blocks yield several of these.
pub const CODES: usize = 32;

/// How weights are held for computing. See `weft-platform`'s tiles for the byte order of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileLayout {
    /// 32-bit floats.
    F32,
    /// IEEE half floats.
    F16,
    /// bfloat16.
    Bf16,
    /// Unsigned 4-bit codes, one scale a block, zero point [`BlockFormat::ZERO_POINT`].
    U4,
    /// Unsigned 4-bit codes, one scale and one minimum a block: `w = scale * code + min`.
    U4Min,
    /// Unsigned 8-bit codes, one scale a block, zero point [`BlockFormat::ZERO_POINT`].
    U8,
}

impl TileLayout {
    /// Every layout, in the order of the kernel table.
    pub const ALL: [Self; 6] = [Self::F32, Self::F16, Self::Bf16, Self::U4, Self::U4Min, Self::U8];

    /// Position in [`TileLayout::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Whether activations are quantized to 8 bits before they meet weights in this layout.
    pub const fn is_quantized(self) -> bool {
        matches!(self, Self::U4 | Self::U4Min | Self::U8)
    }
}

/// A block of 32 weights as unsigned codes: `w[i] = scale * (code[i] - zero_point) + min`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BlockCodes {
    /// Unsigned codes in element order.
    pub codes: [u8; CODES],
    /// Scale as IEEE half bits, as the file holds it.
    pub scale: u16,
    /// Minimum as IEEE half bits; zero where the format has none.
    pub min: u16,
}

/// One tensor format. Implemented by an empty type in a file of its own under `formats/`.
pub trait BlockFormat {
    /// Name as GGUF tools print it, such as `Q4_0`.
    const NAME: &'static str;
    /// Type id in a GGUF tensor table.
    const GGML_TYPE: u32;
    /// Elements a block.
    const BLOCK: usize;
    /// Bytes a block.
    const BYTES: usize;
    /// The layout its tiles take.
    const LAYOUT: TileLayout;
    /// What is subtracted from a code before scaling; zero for float layouts and layouts with a minimum.
    const ZERO_POINT: u8 = 0;

    /// The exact values of one block. `block` holds `BYTES` bytes, `out` takes `BLOCK` values.
    fn dequantize(block: &[u8], out: &mut [f32]);

    /// The codes of one block, for quantized layouts. Float layouts copy their bytes and never call this.
    fn codes(_block: &[u8]) -> BlockCodes {
        BlockCodes::default()
    }
}

/// The functions of a format that the engine computes with.
#[derive(Clone, Copy)]
pub struct Codec {
    /// See [`BlockFormat::LAYOUT`].
    pub layout: TileLayout,
    /// See [`BlockFormat::ZERO_POINT`].
    pub zero_point: u8,
    /// See [`BlockFormat::dequantize`].
    pub dequantize: fn(&[u8], &mut [f32]),
    /// See [`BlockFormat::codes`].
    pub codes: fn(&[u8]) -> BlockCodes,
}

/// What is known of a format: a row of [`FORMATS`](crate::formats::FORMATS).
pub struct FormatInfo {
    /// Name as GGUF tools print it.
    pub name: &'static str,
    /// Type id in a GGUF tensor table.
    pub ggml_type: u32,
    /// Elements a block.
    pub block: usize,
    /// Bytes a block.
    pub bytes: usize,
    /// How to compute with it; `None` where the engine only knows its size.
    pub codec: Option<Codec>,
}

impl FormatInfo {
    /// The row of a format that a file under `formats/` defines.
    pub const fn of<F: BlockFormat>() -> Self {
        Self {
            name: F::NAME,
            ggml_type: F::GGML_TYPE,
            block: F::BLOCK,
            bytes: F::BYTES,
            codec: Some(Codec {
                layout: F::LAYOUT,
                zero_point: F::ZERO_POINT,
                dequantize: F::dequantize,
                codes: F::codes,
            }),
        }
    }

    /// The row of a format whose size is known and nothing else.
    pub const fn known(name: &'static str, ggml_type: u32, block: usize, bytes: usize) -> Self {
        Self { name, ggml_type, block, bytes, codec: None }
    }
}

/// A tensor format: a handle to its row of [`FORMATS`](crate::formats::FORMATS).
#[derive(Clone, Copy)]
pub struct TensorFormat(&'static FormatInfo);

impl TensorFormat {
    /// The format with this GGUF type id.
    pub fn from_ggml(id: u32) -> Option<Self> {
        crate::formats::FORMATS.iter().find(|f| f.ggml_type == id).map(Self)
    }

    /// The format with this name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        crate::formats::FORMATS.iter().find(|f| f.name.eq_ignore_ascii_case(name)).map(Self)
    }

    /// Name as GGUF tools print it.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Type id in a GGUF tensor table.
    pub fn ggml_type(self) -> u32 {
        self.0.ggml_type
    }

    /// Elements a block.
    pub fn block(self) -> usize {
        self.0.block
    }

    /// Bytes a block.
    pub fn block_bytes(self) -> usize {
        self.0.bytes
    }

    /// The functions to compute with it, or `None` where only its size is known.
    pub fn codec(self) -> Option<Codec> {
        self.0.codec
    }

    /// Bytes of a row of `elements`, or `None` where `elements` is no multiple of the block or the size overflows.
    pub fn row_bytes(self, elements: usize) -> Option<usize> {
        if !elements.is_multiple_of(self.0.block) {
            return None;
        }
        (elements / self.0.block).checked_mul(self.0.bytes)
    }

    /// Exact values of `bytes`, whole blocks of this format, into `out`.
    ///
    /// Returns `false`, having written nothing, where the format has no codec or the lengths do not match.
    pub fn dequantize(self, bytes: &[u8], out: &mut [f32]) -> bool {
        let Some(codec) = self.0.codec else { return false };
        if self.row_bytes(out.len()) != Some(bytes.len()) {
            return false;
        }
        for (block, values) in bytes.chunks_exact(self.0.bytes).zip(out.chunks_exact_mut(self.0.block)) {
            (codec.dequantize)(block, values);
        }
        true
    }
}

impl PartialEq for TensorFormat {
    fn eq(&self, other: &Self) -> bool {
        self.0.ggml_type == other.0.ggml_type
    }
}

impl Eq for TensorFormat {}

impl fmt::Debug for TensorFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for TensorFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}
