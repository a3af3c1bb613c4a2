//! The kernels, behind one dispatch table.
//!
//! Each kernel is written once, generic over `Simd`, in `tile_product`, `vector` and `attend`, and instantiated in the
//! file of each instruction set. [`Kernels`] is the table. A reference to one proves that the machine can run it. All
//! tables give the same bits.

mod attend;
mod codes;
mod hadamard;
mod kv_codes;
mod kv_element;
mod scalar_table;
mod scales;
mod seal;
mod tile_packing;
mod tile_product;
mod vector;

#[cfg(target_arch = "x86_64")]
mod avx2_table;
#[cfg(target_arch = "x86_64")]
mod avx512_table;

pub(crate) use attend::{Attend, MAX_QUERIES, Part, QueryBatch, STATE_SUM, STATE_VALUES};
pub(crate) use seal::SealPage;
pub(crate) use tile_packing::PackTile;
pub(crate) use tile_product::Product;

use crate::kv_arena::KvFormat;
use crate::quant_panel::QuantRow;
use core::fmt;
use weft_components::{Activation, RopeStyle, TensorFormat, TileLayout};

/// The kernels of one instruction set.
#[expect(clippy::type_complexity, reason = "each is the signature of one kernel, named once")]
pub struct Kernels {
    name: &'static str,
    packs: tile_packing::PackTable,
    /// Indexed by [`TileLayout::index`].
    products: [unsafe fn(&Product<'_>); TileLayout::ALL.len()],
    quantize: unsafe fn(&[f32], QuantRow<'_>),
    rms_norm: unsafe fn(&[f32], &[f32], f32, &mut [f32]),
    layer_norm: unsafe fn(&mut [f32], &[f32], &[f32], f32),
    add: unsafe fn(&mut [f32], &[f32]),
    rms_norm_in_place: unsafe fn(&mut [f32], &[f32], f32),
    add_scaled: unsafe fn(&mut [f32], &[f32], f32),
    scale: unsafe fn(&mut [f32], f32),
    /// Indexed by [`Activation`].
    gates: [unsafe fn(&[f32], &[f32], &mut [f32]); 4],
    sigmoid: unsafe fn(&mut [f32]),
    soft_cap: unsafe fn(&mut [f32], f32),
    softmax: unsafe fn(&mut [f32]),
    rope_pairs: unsafe fn(&mut [f32], usize, &[f32], &[f32]),
    rope_halves: unsafe fn(&mut [f32], usize, &[f32], &[f32]),
    argmax: unsafe fn(&[f32]) -> usize,
    to_f16: unsafe fn(&[f32], &mut [u16]),
    to_bf16: unsafe fn(&[f32], &mut [u16]),
    /// Indexed by [`KvFormat`]: those of open pages, and the one of sealed pages.
    attend: [unsafe fn(&Attend<'_>, &mut QueryBatch<'_>); KvFormat::ALL.len() + 1],
    seal: unsafe fn(&mut SealPage<'_>),
    hadamard: unsafe fn(&mut [f32]),
    kv_codes_8: unsafe fn(&[f32], &mut [i8], &mut [u16]),
    kv_codes_4: unsafe fn(&[f32], &mut [i8], &mut [u16]),
    merge: unsafe fn(&mut [f32], &[f32]),
}

/// Instantiates the products for `$isa`, with the target features `$features`, as the constant `PRODUCTS`.
macro_rules! products {
    ($isa:expr $(, $features:literal)?) => {
        use crate::kernels::{Product, codes::Plain, tile_product as product, scales::{Float, Half, Super}};

        crate::kernels::kernels! { $isa $(, $features)?;
            fn product_f32(p: &Product<'_>) = product::float::<_, product::F32>;
            fn product_f16(p: &Product<'_>) = product::float::<_, product::F16>;
            fn product_bf16(p: &Product<'_>) = product::float::<_, product::Bf16>;
            fn product_u4(p: &Product<'_>) = product::quant::<_, Plain<4>, Half<false>>;
            fn product_u4_min(p: &Product<'_>) = product::quant::<_, Plain<4>, Half<true>>;
            fn product_u8(p: &Product<'_>) = product::quant::<_, Plain<8>, Half<false>>;
            fn product_u5(p: &Product<'_>) = product::quant::<_, Plain<5>, Half<false>>;
            fn product_u5_min(p: &Product<'_>) = product::quant::<_, Plain<5>, Half<true>>;
            fn product_t4(p: &Product<'_>) = product::named::<_, 4, Half<false>>;
            fn product_u8_float(p: &Product<'_>) = product::quant::<_, Plain<8>, Float<false>>;
            fn product_t4_float(p: &Product<'_>) = product::named::<_, 4, Float<true>>;
            fn product_u4_min_super(p: &Product<'_>) = product::quant::<_, Plain<4>, Super<true, 1>>;
            fn product_u5_min_super(p: &Product<'_>) = product::quant::<_, Plain<5>, Super<true, 1>>;
            fn product_u2_super(p: &Product<'_>) = product::quant::<_, Plain<2>, Super<false, 0>>;
            fn product_t3_super(p: &Product<'_>) = product::named::<_, 3, Super<false, 1>>;
            fn product_t4_super(p: &Product<'_>) = product::named::<_, 4, Super<false, 1>>;
            fn product_u2_min_halves(p: &Product<'_>) = product::quant::<_, Plain<2>, Super<true, 2>>;
            fn product_u3_halves(p: &Product<'_>) = product::quant::<_, Plain<3>, Super<false, 2>>;
            fn product_u6_halves(p: &Product<'_>) = product::quant::<_, Plain<6>, Super<false, 2>>;
            fn product_t3_halves(p: &Product<'_>) = product::named::<_, 3, Super<false, 2>>;
        }

        /// Indexed by [`weft_components::TileLayout::index`].
        const PRODUCTS: [unsafe fn(&Product<'_>); weft_components::TileLayout::ALL.len()] = [
            product_f32,
            product_f16,
            product_bf16,
            product_u4,
            product_u4_min,
            product_u8,
            product_u5,
            product_u5_min,
            product_t4,
            product_u8_float,
            product_t4_float,
            product_u4_min_super,
            product_u5_min_super,
            product_u2_super,
            product_t3_super,
            product_t4_super,
            product_u2_min_halves,
            product_u3_halves,
            product_u6_halves,
            product_t3_halves,
        ];
    };
}

/// Instantiates every kernel for `$isa`, with the target features `$features`, as the table `KERNELS`. `$packs` is the
/// table of the kernels that pack tiles.
macro_rules! instantiate {
    ($name:literal, $packs:path, $isa:expr $(, $features:literal)?) => {
        use crate::kernels::{
            Attend, Kernels, QueryBatch, SealPage, attend, hadamard, kv_codes, kv_element, seal, vector,
        };
        use crate::quant_panel::QuantRow;

        crate::kernels::products! { $isa $(, $features)? }
        crate::kernels::kernels! { $isa $(, $features)?;
            fn quantize(x: &[f32], out: QuantRow<'_>) = vector::quantize;
            fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) = vector::rms_norm;
            fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) = vector::layer_norm;
            fn add(x: &mut [f32], delta: &[f32]) = vector::add;
            fn rms_norm_in_place(x: &mut [f32], weight: &[f32], eps: f32) = vector::rms_norm_in_place;
            fn add_scaled(x: &mut [f32], delta: &[f32], factor: f32) = vector::add_scaled;
            fn scale(x: &mut [f32], factor: f32) = vector::scale;
            fn silu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) = vector::silu_mul;
            fn gelu_mul(gate: &[f32], up: &[f32], out: &mut [f32]) = vector::gelu_mul;
            fn relu2_mul(gate: &[f32], up: &[f32], out: &mut [f32]) = vector::relu2_mul;
            fn gelu_erf_mul(gate: &[f32], up: &[f32], out: &mut [f32]) = vector::gelu_erf_mul;
            fn sigmoid(x: &mut [f32]) = vector::sigmoid;
            fn soft_cap(x: &mut [f32], cap: f32) = vector::soft_cap;
            fn softmax(x: &mut [f32]) = vector::softmax;
            fn rope_pairs(x: &mut [f32], dim: usize, cos: &[f32], sin: &[f32]) = vector::rope_pairs;
            fn rope_halves(x: &mut [f32], dim: usize, cos: &[f32], sin: &[f32]) = vector::rope_halves;
            fn argmax(x: &[f32]) -> usize = vector::argmax;
            fn to_f16(x: &[f32], out: &mut [u16]) = vector::to_f16;
            fn to_bf16(x: &[f32], out: &mut [u16]) = vector::to_bf16;
            fn attend_f16(a: &Attend<'_>, q: &mut QueryBatch<'_>) = attend::attend::<_, kv_element::F16>;
            fn attend_f32(a: &Attend<'_>, q: &mut QueryBatch<'_>) = attend::attend::<_, kv_element::F32>;
            fn attend_bf16(a: &Attend<'_>, q: &mut QueryBatch<'_>) = attend::attend::<_, kv_element::Bf16>;
            fn attend_q8(a: &Attend<'_>, q: &mut QueryBatch<'_>) = attend::attend::<_, kv_element::Q8>;
            fn attend_q4(a: &Attend<'_>, q: &mut QueryBatch<'_>) = attend::attend::<_, kv_element::Q4>;
            fn attend_kivi2(a: &Attend<'_>, q: &mut QueryBatch<'_>) = attend::attend::<_, kv_element::Kivi2>;
            fn seal_page(page: &mut SealPage<'_>) = seal::seal;
            fn rotate(x: &mut [f32]) = hadamard::hadamard;
            fn kv_codes_8(x: &[f32], codes: &mut [i8], scales: &mut [u16]) =
                kv_codes::kv_codes::<_, kv_codes::Bits8>;
            fn kv_codes_4(x: &[f32], codes: &mut [i8], scales: &mut [u16]) =
                kv_codes::kv_codes::<_, kv_codes::Bits4>;
            fn merge(into: &mut [f32], part: &[f32]) = attend::merge;
        }

        pub(in crate::kernels) static KERNELS: Kernels = TABLE;
        pub(super) const TABLE: Kernels = Kernels {
            name: $name,
            packs: &$packs,
            products: PRODUCTS,
            quantize,
            rms_norm,
            layer_norm,
            add,
            rms_norm_in_place,
            add_scaled,
            scale,
            gates: [silu_mul, gelu_mul, relu2_mul, gelu_erf_mul],
            sigmoid,
            soft_cap,
            softmax,
            rope_pairs,
            rope_halves,
            argmax,
            to_f16,
            to_bf16,
            attend: [attend_f16, attend_f32, attend_bf16, attend_q8, attend_q4, attend_kivi2],
            seal: seal_page,
            hadamard: rotate,
            kv_codes_8,
            kv_codes_4,
            merge,
        };
    };
}

/// Defines functions of one instruction set.
macro_rules! kernels {
    ($isa:expr, $features:literal; $(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $path:expr;)*) => {
        $(#[target_feature(enable = $features)]
        fn $name($($arg: $ty),*) $(-> $ret)? { ($path)($isa $(, $arg)*) })*
    };
    ($isa:expr; $(fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)? = $path:expr;)*) => {
        $(fn $name($($arg: $ty),*) $(-> $ret)? { ($path)($isa $(, $arg)*) })*
    };
}
use {instantiate, kernels, products};

/// Calls a kernel of the table.
macro_rules! call {
    ($f:expr, $($arg:expr),*) => {
        // SAFETY: only `Kernels::available` returns tables, and only those whose instructions the machine has.
        unsafe { ($f)($($arg),*) }
    };
}

/// The kernel that packs rows of one format into tiles. Having it proves that the machine can run it.
#[derive(Clone, Copy)]
pub(crate) struct Packing(tile_packing::PackFn);

#[expect(
    unsafe_code,
    reason = "only a table, which is the proof that its kernels can run here, gives it out"
)]
impl Packing {
    /// Fills a tile.
    #[inline]
    pub(crate) fn run(self, tile: &mut PackTile<'_>) {
        call!(self.0, tile);
    }
}

#[expect(unsafe_code, reason = "the table is the proof that its kernels can run here")]
impl Kernels {
    /// The tables that this machine can run, fastest first. The last one is plain Rust.
    pub fn available() -> Vec<&'static Self> {
        let mut tables = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            use crate::simd::{avx2::Avx2, avx512::Avx512};
            if Avx512::<true>::detect() {
                tables.push(&avx512_table::vnni::KERNELS);
            }
            if Avx512::<false>::detect() {
                tables.push(&avx512_table::plain::KERNELS);
            }
            if Avx2::detect() {
                tables.push(&avx2_table::KERNELS);
            }
        }
        tables.push(&scalar_table::KERNELS);
        tables
    }

    /// The fastest table of this machine.
    pub fn detect() -> &'static Self {
        static BEST: std::sync::OnceLock<&'static Kernels> = std::sync::OnceLock::new();
        BEST.get_or_init(|| Self::available().first().copied().unwrap_or(&scalar_table::KERNELS))
    }

    /// The table of this name (`avx512vnni`, `avx512`, `avx2`, `scalar`), if the machine can run it.
    pub fn by_name(name: &str) -> Option<&'static Self> {
        Self::available().into_iter().find(|k| k.name.eq_ignore_ascii_case(name))
    }

    /// Name of the instruction set, as [`Kernels::by_name`] accepts it.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The kernel that packs rows of the format, if the engine can compute with it.
    pub(crate) fn packing(&self, format: TensorFormat) -> Option<Packing> {
        let packs = self.packs.iter().find(|(id, _)| *id == format.ggml_type());
        packs.map(|(_, pack)| Packing(*pack))
    }

    /// Weights times activations.
    #[inline]
    pub(crate) fn product(&self, layout: TileLayout, product: &Product<'_>) {
        call!(self.products[layout.index()], product);
    }

    /// Quantizes one row of activations.
    #[inline]
    pub(crate) fn quantize(&self, x: &[f32], out: QuantRow<'_>) {
        call!(self.quantize, x, out);
    }

    /// `out = x / sqrt(mean(x²) + eps) * weight`, over the shortest of the three.
    #[inline]
    pub fn rms_norm(&self, x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        call!(self.rms_norm, x, weight, eps, out);
    }

    /// LayerNorm in place (arXiv 1607.06450): `x = (x - mean(x)) / sqrt(variance(x) + eps) * weight + bias`, over the
    /// elements of `x`.
    #[inline]
    pub fn layer_norm(&self, x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        call!(self.layer_norm, x, weight, bias, eps);
    }

    /// `x += delta`.
    #[inline]
    pub fn add(&self, x: &mut [f32], delta: &[f32]) {
        call!(self.add, x, delta);
    }

    /// [`Kernels::rms_norm`] of `x` in place.
    #[inline]
    pub fn rms_norm_in_place(&self, x: &mut [f32], weight: &[f32], eps: f32) {
        call!(self.rms_norm_in_place, x, weight, eps);
    }

    /// `x += delta * factor`.
    #[inline]
    pub fn add_scaled(&self, x: &mut [f32], delta: &[f32], factor: f32) {
        call!(self.add_scaled, x, delta, factor);
    }

    /// `x *= factor`.
    #[inline]
    pub fn scale(&self, x: &mut [f32], factor: f32) {
        call!(self.scale, x, factor);
    }

    /// A gate (arXiv 2002.05202): `out = activation(gate) * up`, over the shortest of the three.
    #[inline]
    pub fn gate(&self, activation: Activation, gate: &[f32], up: &[f32], out: &mut [f32]) {
        call!(self.gates[activation as usize], gate, up, out);
    }

    /// `out = activation(x)`, over the shorter of the two.
    #[inline]
    pub fn activate(&self, activation: Activation, x: &[f32], out: &mut [f32]) {
        const ONES: [f32; 256] = [1.0; 256];
        for (x, out) in x.chunks(ONES.len()).zip(out.chunks_mut(ONES.len())) {
            self.gate(activation, x, &ONES, out);
        }
    }

    /// `x = 1 / (1 + e^-x)`.
    #[inline]
    pub fn sigmoid(&self, x: &mut [f32]) {
        call!(self.sigmoid, x);
    }

    /// `x = cap * tanh(x / cap)`.
    #[inline]
    pub fn soft_cap(&self, x: &mut [f32], cap: f32) {
        call!(self.soft_cap, x, cap);
    }

    /// `x = e^x / Σ e^x`, all of `x` together.
    #[inline]
    pub fn softmax(&self, x: &mut [f32]) {
        call!(self.softmax, x);
    }

    /// Rotary embedding of every head of `x`, whose length is a multiple of `head_dim`.
    ///
    /// `cos` and `sin` contain one value per pair, at most `head_dim / 2`. With fewer, only the first elements of a
    /// head are rotated.
    #[inline]
    pub fn rope(&self, style: RopeStyle, x: &mut [f32], head_dim: usize, cos: &[f32], sin: &[f32]) {
        if head_dim == 0 {
            return;
        }
        match style {
            RopeStyle::Adjacent => call!(self.rope_pairs, x, head_dim, cos, sin),
            RopeStyle::Half => call!(self.rope_halves, x, head_dim, cos, sin),
        }
    }

    /// Index of the largest value, the first among equals. NaN is ignored; 0 if nothing else is left.
    #[inline]
    pub fn argmax(&self, x: &[f32]) -> usize {
        call!(self.argmax, x)
    }

    /// f16 bits of `x`, rounded to nearest even, over the shorter of the two.
    #[inline]
    pub fn to_f16(&self, x: &[f32], out: &mut [u16]) {
        call!(self.to_f16, x, out);
    }

    /// bf16 bits of `x`, rounded to nearest even, over the shorter of the two.
    #[inline]
    pub(crate) fn to_bf16(&self, x: &[f32], out: &mut [u16]) {
        call!(self.to_bf16, x, out);
    }

    /// Attention of a batch of queries over a range of pages of the format.
    #[inline]
    pub(crate) fn attend(&self, format: KvFormat, attend: &Attend<'_>, queries: &mut QueryBatch<'_>) {
        call!(self.attend[format as usize], attend, queries);
    }

    /// Converts one head's page from f16 to codes of 2 bits: see `seal`.
    #[inline]
    pub(crate) fn seal(&self, page: &mut SealPage<'_>) {
        call!(self.seal, page);
    }

    /// Rotates a head to spread its large elements, or rotates it back: see `hadamard`.
    #[inline]
    pub(crate) fn hadamard(&self, x: &mut [f32]) {
        call!(self.hadamard, x);
    }

    /// Converts a key or value to codes of 8 bits, with an f16 scale per block of [`crate::kv_arena::KV_BLOCK`]: see
    /// `kv_codes`.
    #[inline]
    pub(crate) fn kv_codes_8(&self, x: &[f32], codes: &mut [i8], scales: &mut [u16]) {
        call!(self.kv_codes_8, x, codes, scales);
    }

    /// The same with codes of 4 bits, -8 to 7, one in each byte.
    #[inline]
    pub(crate) fn kv_codes_4(&self, x: &[f32], codes: &mut [i8], scales: &mut [u16]) {
        call!(self.kv_codes_4, x, codes, scales);
    }

    /// Merges the state of a later segment into that of the earlier segments of one query.
    #[inline]
    pub(crate) fn merge(&self, into: &mut [f32], part: &[f32]) {
        call!(self.merge, into, part);
    }
}

impl fmt::Debug for Kernels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Kernels {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
