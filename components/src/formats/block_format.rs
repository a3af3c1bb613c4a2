//! The parts of a tensor format: its blocks, the codes that a block becomes, and the layout of its tiles.

/// Elements in a block that becomes [`BlockCodes`]. Formats with larger blocks yield several of these.
pub const CODES: usize = 32;

/// How weights are stored for computing. `weft-platform`'s tiles document the byte order of each.
///
/// A layout combines a kind of codes with a kind of scales ([`TileLayout::codes`], [`TileLayout::scales`]). Only
/// combinations that a format needs exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TileLayout {
    /// 32-bit floats.
    F32,
    /// 16-bit floats (f16).
    F16,
    /// bfloat16.
    Bf16,
    /// 4-bit codes, f16 scales: Q4_0.
    U4,
    /// 4-bit codes, f16 scales and minimums: Q4_1.
    U4Min,
    /// 8-bit codes, f16 scales: Q8_0, Q8_1.
    U8,
    /// 5-bit codes, f16 scales: Q5_0.
    U5,
    /// 5-bit codes, f16 scales and minimums: Q5_1.
    U5Min,
    /// 4-bit codes that index a table, f16 scales: IQ4_NL.
    T4,
    /// 8-bit codes, f32 scales: Q8_K.
    U8Float,
    /// 4-bit codes that index a table, f32 scales: MXFP4.
    T4Float,
    /// 4-bit codes, scales and minimums in super-blocks: Q4_K.
    U4MinSuper,
    /// 5-bit codes, scales and minimums in super-blocks: Q5_K.
    U5MinSuper,
    /// 2-bit codes, scales in super-blocks: TQ1_0, TQ2_0.
    U2Super,
    /// 3-bit codes that index a table, scales in super-blocks: IQ1_S, IQ2_XXS.
    T3Super,
    /// 4-bit codes that index a table, scales in super-blocks: IQ3_XXS, IQ3_S, IQ4_XS.
    T4Super,
    /// 2-bit codes, scales and minimums of half blocks in super-blocks: Q2_K.
    U2MinHalves,
    /// 3-bit codes, scales of half blocks in super-blocks: Q3_K.
    U3Halves,
    /// 6-bit codes, scales of half blocks in super-blocks: Q6_K.
    U6Halves,
    /// 3-bit codes that index a table, scales of half blocks in super-blocks: IQ1_M, IQ2_XS, IQ2_S.
    T3Halves,
}

/// How the scales of a layout are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleKind {
    /// No scales.
    None,
    /// An f16 per block of 32, and a second one for its minimum if there are minimums.
    Half,
    /// An f32 per block of 32.
    Float,
    /// An f16 per super-block of 256, times a signed byte per block of 32; the same for the minimum.
    Super,
    /// An f16 per super-block of 256, times a signed byte per 16 weights; the same for the minimum.
    SuperHalves,
}

/// How the codes of a layout are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CodeKind {
    /// Bits of a code; 0 for layouts of floats.
    pub bits: u32,
    /// True if a code is an index into [`BlockFormat::TABLE`].
    pub table: bool,
    /// True if there are minimums.
    pub min: bool,
}

impl TileLayout {
    /// Every layout, in the order of the kernel table.
    pub const ALL: [Self; 20] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::U4,
        Self::U4Min,
        Self::U8,
        Self::U5,
        Self::U5Min,
        Self::T4,
        Self::U8Float,
        Self::T4Float,
        Self::U4MinSuper,
        Self::U5MinSuper,
        Self::U2Super,
        Self::T3Super,
        Self::T4Super,
        Self::U2MinHalves,
        Self::U3Halves,
        Self::U6Halves,
        Self::T3Halves,
    ];

    /// Position in [`TileLayout::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// How its codes are stored.
    pub const fn codes(self) -> CodeKind {
        let (bits, table, min) = match self {
            Self::F32 | Self::F16 | Self::Bf16 => (0, false, false),
            Self::U4 => (4, false, false),
            Self::U4Min | Self::U4MinSuper => (4, false, true),
            Self::U5 => (5, false, false),
            Self::U5Min | Self::U5MinSuper => (5, false, true),
            Self::U8 | Self::U8Float => (8, false, false),
            Self::T4 | Self::T4Float | Self::T4Super => (4, true, false),
            Self::T3Super | Self::T3Halves => (3, true, false),
            Self::U2Super => (2, false, false),
            Self::U2MinHalves => (2, false, true),
            Self::U3Halves => (3, false, false),
            Self::U6Halves => (6, false, false),
        };
        CodeKind { bits, table, min }
    }

    /// How its scales are stored.
    pub const fn scales(self) -> ScaleKind {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => ScaleKind::None,
            Self::U4 | Self::U4Min | Self::U8 | Self::U5 | Self::U5Min | Self::T4 => ScaleKind::Half,
            Self::U8Float | Self::T4Float => ScaleKind::Float,
            Self::U4MinSuper | Self::U5MinSuper | Self::U2Super | Self::T3Super | Self::T4Super => {
                ScaleKind::Super
            }
            Self::U2MinHalves | Self::U3Halves | Self::U6Halves | Self::T3Halves => ScaleKind::SuperHalves,
        }
    }

    /// Returns true if activations are quantized to 8 bits before they are multiplied by weights in this layout.
    pub const fn is_quantized(self) -> bool {
        self.codes().bits > 0
    }
}

/// Elements in a super-block, which share the f16 of [`ScaleKind::Super`] and [`ScaleKind::SuperHalves`].
pub const SUPER: usize = 256;

/// A block of 32 weights as unsigned codes.
///
/// With `h = i / 16` the half of the block that contains weight `i`: `w[i] = UNIT * scale * sub_scale[h] *
/// value(code[i]) + min * sub_min[h]`. `value` is the entry of [`BlockFormat::TABLE`], or the code less
/// [`BlockFormat::ZERO_POINT`]. Both entries of `sub_scale` and `sub_min` are 1 if the layout has no super-blocks, and
/// equal if it has one scale per block. `scale` and `min` are the same in all blocks of a super-block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockCodes {
    /// Unsigned codes in element order.
    pub codes: [u8; CODES],
    /// Scale, exact as an f16, except for [`ScaleKind::Float`].
    pub scale: f32,
    /// Minimum, exact as the scale is; zero if the format has none.
    pub min: f32,
    /// Factor of the scale in each half of the block.
    pub sub_scale: [i8; 2],
    /// Factor of the minimum in each half of the block.
    pub sub_min: [i8; 2],
}

impl Default for BlockCodes {
    fn default() -> Self {
        Self { codes: [0; CODES], scale: 0.0, min: 0.0, sub_scale: [1; 2], sub_min: [1; 2] }
    }
}

impl BlockCodes {
    /// The exact values. `codec` is the format's.
    pub fn values(&self, codec: &Codec) -> [f32; CODES] {
        let has_table = codec.layout.codes().table;
        core::array::from_fn(|i| {
            let (half, code) = (i / (CODES / 2), self.codes[i]);
            let value = if has_table {
                f32::from(codec.table[usize::from(code & 15)])
            } else {
                f32::from(code) - f32::from(codec.zero_point)
            };
            let scale = codec.unit * self.scale * f32::from(self.sub_scale[half]);
            if codec.layout.codes().min {
                scale * value + self.min * f32::from(self.sub_min[half])
            } else {
                scale * value
            }
        })
    }
}

/// One tensor format. Implemented by an empty type in a file of its own under `formats/`.
pub trait BlockFormat {
    /// Name as GGUF tools print it, such as `Q4_0`.
    const NAME: &'static str;
    /// Type id in a GGUF tensor table.
    const GGML_TYPE: u32;
    /// Elements in a block: 1 for floats, otherwise a multiple of 32.
    const BLOCK: usize;
    /// Bytes in a block.
    const BYTES: usize;
    /// The layout of its tiles.
    const LAYOUT: TileLayout;
    /// Number that is subtracted from a code before scaling. Zero for float layouts, tables, and layouts with a
    /// minimum.
    const ZERO_POINT: u8 = 0;
    /// Values that codes index, for layouts with a table. Codes of 3 bits index the first eight.
    const TABLE: [i8; 16] = [0; 16];
    /// A power of two, the factor of all scales.
    const UNIT: f32 = 1.0;

    /// The 32 codes of part `part` of a block: elements from `32 * part` on. `block` has `BYTES` bytes. Float layouts
    /// copy their bytes and never call this.
    fn codes(_block: &[u8], _part: usize) -> BlockCodes {
        BlockCodes::default()
    }

    /// Writes the exact values of one block. `block` has `BYTES` bytes, `out` has `BLOCK` values.
    fn dequantize(block: &[u8], out: &mut [f32]) {
        let codec = Codec::of::<Self>();
        for (part, out) in out.chunks_exact_mut(CODES).enumerate() {
            out.copy_from_slice(&Self::codes(block, part).values(&codec));
        }
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
    pub codes: fn(&[u8], usize) -> BlockCodes,
    /// See [`BlockFormat::TABLE`].
    pub table: [i8; 16],
    /// See [`BlockFormat::UNIT`].
    pub unit: f32,
}

impl Codec {
    /// The functions of a format.
    pub const fn of<F: BlockFormat + ?Sized>() -> Self {
        Self {
            layout: F::LAYOUT,
            zero_point: F::ZERO_POINT,
            dequantize: F::dequantize,
            codes: F::codes,
            table: F::TABLE,
            unit: F::UNIT,
        }
    }
}

/// Properties of a format: a row of [`FORMATS`](super::FORMATS).
pub struct FormatInfo {
    /// Name as GGUF tools print it.
    pub name: &'static str,
    /// Type id in a GGUF tensor table.
    pub ggml_type: u32,
    /// Elements in a block.
    pub block: usize,
    /// Bytes in a block.
    pub bytes: usize,
    /// How to compute with it; `None` if the engine knows only its size.
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
            codec: Some(Codec::of::<F>()),
        }
    }

    /// The row of a format of which only the size is known.
    pub const fn known(name: &'static str, ggml_type: u32, block: usize, bytes: usize) -> Self {
        Self { name, ggml_type, block, bytes, codec: None }
    }
}
