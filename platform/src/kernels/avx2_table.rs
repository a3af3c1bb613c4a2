//! The kernel table of AVX2 with FMA and F16C.

#![expect(unsafe_code, reason = "functions with these target features may assume them")]

use crate::kernels::tile_packing::{PackTable, PackTile, pack, pack_table};
use crate::simd::avx2::Avx2;
use weft_components::BlockFormat;

crate::kernels::instantiate! {
    "avx2",
    PACKS,
    // SAFETY: called only from functions with these target features, which run only on machines that have them.
    unsafe { Avx2::assume() },
    "avx2,fma,f16c"
}

#[target_feature(enable = "avx2,fma,f16c")]
fn pack_as<F: BlockFormat>(tile: &mut PackTile<'_>) {
    // SAFETY: this function has these target features, so it runs only on machines that have them.
    pack::<_, F>(unsafe { Avx2::assume() }, tile);
}

/// Packing is limited by memory bandwidth, so AVX-512 uses these too.
pub(in crate::kernels) static PACKS: PackTable = pack_table!(pack_as);
