//! AVX2 with FMA and F16C.

#![expect(unsafe_code, reason = "functions with these target features may assume them")]

use crate::kernels::tile_packing::{PackTable, PackTile, pack, pack_table};
use crate::simd::avx2::Avx2;
use weft_components::BlockFormat;

crate::kernels::instantiate! {
    "avx2",
    PACKS,
    // SAFETY: called only from functions with these target features, which only a machine that has them runs.
    unsafe { Avx2::assume() },
    "avx2,fma,f16c"
}

#[target_feature(enable = "avx2,fma,f16c")]
fn pack_as<F: BlockFormat>(tile: &mut PackTile<'_>) {
    // SAFETY: this function has these target features, so only a machine that has them runs it.
    pack::<_, F>(unsafe { Avx2::assume() }, tile);
}

/// Bound by memory: AVX-512 takes them as well.
pub(in crate::kernels) static PACKS: PackTable = pack_table!(pack_as);
