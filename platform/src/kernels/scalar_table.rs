//! The kernel table of plain Rust.

use crate::kernels::tile_packing::{PackTable, PackTile, pack, pack_table};
use crate::simd::scalar::Scalar;
use weft_components::BlockFormat;

crate::kernels::instantiate! { "scalar", PACKS, Scalar }

fn pack_as<F: BlockFormat>(tile: &mut PackTile<'_>) {
    pack::<_, F>(Scalar, tile);
}

static PACKS: PackTable = pack_table!(pack_as);
