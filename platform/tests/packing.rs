//! Packing rows of files into tiles: every kernel must write the bytes that the layout defines.

use weft_components::formats::FORMATS;
use weft_components::{BlockCodes, CODES, Codec, ScaleKind, TensorFormat, TileLayout};
use weft_platform::{CpuMatrix, Kernels, TILE_ROWS, TilePacker};

/// Bytes of a vector of codes: four for each row of a tile.
const VECTOR: usize = 4 * TILE_ROWS;

/// The contents of tiles: their codes or values, and their scales.
struct Tiles {
    codes: Vec<u8>,
    scales: Vec<u8>,
}

impl Tiles {
    fn of(matrix: &CpuMatrix) -> Self {
        let tiles = 0..matrix.rows().div_ceil(TILE_ROWS);
        Self {
            codes: tiles.clone().flat_map(|tile| matrix.tile(tile).to_vec()).collect(),
            scales: tiles.flat_map(|tile| matrix.tile_scales(tile).to_vec()).collect(),
        }
    }
}

/// The bytes of the tiles from the definition of the layout, row by row and code by code.
fn naive(format: TensorFormat, rows: usize, cols: usize, bytes: &[u8]) -> Tiles {
    let Codec { layout, codes, .. } = format.codec().unwrap();
    let (size, tiles) = (format.block_bytes(), rows.div_ceil(TILE_ROWS));
    let (tile, scale_tile) = if layout.is_quantized() {
        let scales = Scales::of(layout);
        (cols / CODES * layout.codes().bits as usize * VECTOR, cols / CODES / scales.blocks * scales.group())
    } else {
        (cols * TILE_ROWS * size, 0)
    };
    let mut found = Tiles { codes: vec![0; tiles * tile], scales: vec![0; tiles * scale_tile] };
    for (row, bytes) in bytes.chunks_exact(format.row_bytes(cols).unwrap()).enumerate() {
        let lane = row % TILE_ROWS;
        let places = &mut found.codes[row / TILE_ROWS * tile..][..tile];
        let scales = &mut found.scales[row / TILE_ROWS * scale_tile..][..scale_tile];
        if !layout.is_quantized() {
            for (col, value) in bytes.chunks_exact(size).enumerate() {
                places[(col * TILE_ROWS + lane) * size..][..size].copy_from_slice(value);
            }
            continue;
        }
        let parts = format.block() / CODES;
        for block in 0..cols / CODES {
            let values = codes(&bytes[block / parts * size..][..size], block % parts);
            store_codes(layout, &mut places[block * tile / (cols / CODES)..], lane, &values.codes);
            store_scales(layout, scales, block, lane, &values);
        }
    }
    found
}

/// See `code_planes`: a plane of `n` bits is `n` vectors, and a vector contains groups of four columns that are `n`
/// apart.
fn store_codes(layout: TileLayout, block: &mut [u8], lane: usize, codes: &[u8; CODES]) {
    let planes: &[usize] = match layout.codes().bits {
        2 => &[2],
        3 => &[2, 1],
        4 => &[4],
        5 => &[4, 1],
        6 => &[4, 2],
        _ => &[8],
    };
    for (k, code) in codes.iter().enumerate() {
        let (mut start, mut shift) = (0, 0);
        for &bits in planes {
            let field = u16::from(*code) >> shift & ((1 << bits) - 1);
            let place = &mut block[start + k / 4 % bits * VECTOR + 4 * lane + k % 4];
            *place |= (field << (k / 4 / bits * bits)) as u8;
            start += bits * VECTOR;
            shift += bits;
        }
    }
}

/// How a layout stores scales: a group has a head for each row, or two with minimums, followed by the scales within the
/// group.
struct Scales {
    heads: usize,
    /// Bytes of a head.
    size: usize,
    /// Scales of a block within the group.
    subs: usize,
    /// Blocks in a group.
    blocks: usize,
}

impl Scales {
    fn of(layout: TileLayout) -> Self {
        let (subs, blocks) = match layout.scales() {
            ScaleKind::Super if layout == TileLayout::U2Super => (0, 8),
            ScaleKind::Super => (1, 8),
            ScaleKind::SuperHalves => (2, 8),
            _ => (0, 1),
        };
        let size = if layout == TileLayout::U8Float { 4 } else { 2 };
        Self { heads: if layout.codes().min { 2 } else { 1 }, size, subs, blocks }
    }

    /// Bytes of a group.
    fn group(&self) -> usize {
        self.heads * TILE_ROWS * (self.size + self.blocks * self.subs)
    }
}

/// See `scale_planes`.
fn store_scales(layout: TileLayout, scales: &mut [u8], block: usize, lane: usize, values: &BlockCodes) {
    let shape = Scales::of(layout);
    let Scales { heads, size, subs, blocks } = shape;
    let half = |value: f32| half::f16::from_f32(value).to_ne_bytes().to_vec();
    let start = block / blocks * shape.group();
    for (head, (scale, sub)) in
        [(values.scale, values.sub_scale), (values.min, values.sub_min)].iter().enumerate().take(heads)
    {
        let bytes = match layout {
            TileLayout::U8Float => scale.to_ne_bytes().to_vec(),
            TileLayout::T4Float => half::bf16::from_f32(*scale).to_ne_bytes().to_vec(),
            _ => half(*scale),
        };
        scales[start + (head * TILE_ROWS + lane) * size..][..size].copy_from_slice(&bytes);
        for (at, sub) in sub.iter().enumerate().take(subs) {
            let set = (block % blocks * heads + head) * subs + at;
            scales[start + (heads * size + set) * TILE_ROWS + lane] = sub.cast_unsigned();
        }
    }
}

/// Random bytes without NaN among their f16, because NaN becomes quiet in some instructions only.
fn random_rows(format: TensorFormat, len: usize, seed: &mut u64) -> Vec<u8> {
    let mut next = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) as u8
    };
    // An exponent byte of an f16, bf16 or f32 whose exponent is all ones has bits 2 to 6 set.
    let quiet = |byte: u8| if byte & 0x7c == 0x7c { byte & !0x40 } else { byte };
    let quiet: fn(u8) -> u8 = if format.block() == 1 { |byte| byte } else { quiet };
    (0..len).map(|_| quiet(next())).collect()
}

#[test]
fn every_kernel_gives_the_bytes_that_the_layout_says() {
    let mut seed = 7;
    for format in FORMATS.iter().filter_map(|info| TensorFormat::from_name(info.name)) {
        if format.codec().is_none() {
            continue;
        }
        for (rows, blocks) in [(1, 1), (16, 3), (17, 2), (35, 8), (48, 5), (5, 9)] {
            // Floats also in rows that are not whole vectors.
            let cols = format.block().max(7 * (blocks % 3) + 1) * blocks;
            let group = if format.block() == 1 { 1 } else { format.block() };
            let cols = cols.next_multiple_of(group);
            let bytes = random_rows(format, rows * format.row_bytes(cols).unwrap(), &mut seed);
            let want = naive(format, rows, cols, &bytes);
            for kernels in Kernels::available() {
                let packer = TilePacker::new(kernels, format, rows, cols, bytes.len() as u64).unwrap();
                packer.pack(0, &bytes).unwrap();
                let found = Tiles::of(&packer.finish().unwrap());
                let what = format!("{format} {rows} × {cols} {}", kernels.name());
                assert!(found.codes == want.codes, "codes of {what}");
                assert!(found.scales == want.scales, "scales of {what}");
            }
        }
    }
}
