//! Rotary embedding and the write of the KV cache, after a projection and fused into it, compared with a rotation in
//! `f64` by the whole angle.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::kv::{KvCache, rotate};
use crate::common::product::{KINDS, exact, fit, matrix, product};
use crate::common::twins::EPSILON;
use crate::common::{
    Random, buffer, devices, is_untouched, largest, output, read, reduce, run, wave, within,
};
use weft_gpu::shader::{KernelSpec, parts};
use weft_gpu::{Gpu, KvLayout, PAGE, WaveData, wgpu};

/// Rows of the angle table beyond the 256 lower parts.
const UPPER: usize = 130;
/// Slots of the cache.
const SLOTS: usize = 5;

#[derive(Clone, Copy, Debug)]
struct Shape {
    heads: usize,
    kv_heads: usize,
    key: usize,
    value: usize,
    /// Dimensions of a head that are rotated.
    rope: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { heads: 4, kv_heads: 2, key: 64, value: 64, rope: 64 },
    Shape { heads: 3, kv_heads: 1, key: 40, value: 24, rope: 16 },
    Shape { heads: 6, kv_heads: 3, key: 24, value: 48, rope: 20 },
];

impl Shape {
    /// Elements of a row of a projection.
    fn stride(&self) -> usize {
        self.values() + self.kv_heads * self.value
    }

    /// Index of the first value.
    fn values(&self) -> usize {
        (self.heads + self.kv_heads) * self.key
    }

    fn constants(&self) -> [(&'static str, u32); 7] {
        [
            ("HEADS", self.heads as u32),
            ("KV_HEADS", self.kv_heads as u32),
            ("KEY", self.key as u32),
            ("VALUE", self.value as u32),
            ("ROPE", self.rope as u32),
            ("PAGE", PAGE as u32),
            ("KV_CLASS", 0),
        ]
    }

    /// Angle by which a pair of dimensions is rotated per position.
    fn turn(&self, pair: usize) -> f64 {
        10_000f64.powf(-2.0 * pair as f64 / self.rope as f64)
    }

    /// Cosines and sines as the host writes them: for positions up to 256, then for multiples of 256.
    fn angles(&self) -> Vec<[f32; 2]> {
        let positions = (0..256).chain((0..UPPER).map(|upper| upper * 256));
        let angle = |position: usize, pair| {
            let (sin, cos) = (position as f64 * self.turn(pair)).sin_cos();
            [cos as f32, sin as f32]
        };
        positions.flat_map(|position| (0..self.rope / 2).map(move |pair| angle(position, pair))).collect()
    }

    /// A row with its queries and keys rotated.
    fn turned(&self, row: &[f64], position: u32, halves: bool) -> Vec<f64> {
        let mut row = row.to_vec();
        let (turning, _) = row.split_at_mut((self.heads + self.kv_heads) * self.key);
        for head in turning.chunks_exact_mut(self.key) {
            for pair in 0..self.rope / 2 {
                let (a, b) = if halves { (pair, pair + self.rope / 2) } else { (2 * pair, 2 * pair + 1) };
                let (sin, cos) = (f64::from(position) * self.turn(pair)).sin_cos();
                (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[b] * cos + head[a] * sin);
            }
        }
        row
    }
}

/// The cache slots of rows, and the buffers that are written.
struct Scene {
    shape: Shape,
    kv: KvLayout,
    rows: usize,
    positions: Vec<u32>,
    /// Page slot times page length plus offset.
    places: Vec<u32>,
    wave: wgpu::Buffer,
    angles: wgpu::Buffer,
    queries: wgpu::Buffer,
    keys: wgpu::Buffer,
    values: wgpu::Buffer,
}

impl Scene {
    fn new(gpu: &Gpu, random: &mut Random, shape: Shape, kv: KvLayout, rows: usize) -> Self {
        // Both ends of the lower part, and the last position in the angle table.
        let most = 256 * UPPER;
        let mut positions: Vec<u32> = (0..rows).map(|_| random.below(most) as u32).collect();
        positions.iter_mut().zip([most as u32 - 1, 255, 256, 0]).for_each(|(to, position)| *to = position);
        // All rows have different slots.
        let mut places: Vec<u32> = (0..(SLOTS * PAGE) as u32).collect();
        (1..places.len()).for_each(|i| places.swap(i, random.below(i + 1)));
        places.truncate(rows);
        let cache = |width| buffer(gpu, &KvCache::new(kv, SLOTS, shape.kv_heads, width).bytes);
        let data = WaveData {
            tokens: &positions,
            positions: &positions,
            kv: [&places, &[], &[], &[]],
            ..WaveData::default()
        };
        Self {
            shape,
            kv,
            rows,
            wave: wave(gpu, &data),
            angles: buffer(gpu, &shape.angles()),
            queries: output(gpu, (rows + 1) * shape.heads * shape.key),
            keys: cache(shape.key),
            values: cache(shape.value),
            positions,
            places,
        }
    }

    fn buffers(&self) -> [(u32, &wgpu::Buffer); 5] {
        [(0, &self.wave), (5, &self.angles), (6, &self.queries), (7, &self.keys), (8, &self.values)]
    }

    /// Compares what was written with rows of a projection, whose elements have an error of at most `error`.
    fn check(&self, gpu: &Gpu, projected: &[f64], halves: bool, error: f64, what: &str) {
        let shape = &self.shape;
        let (queries, keys) = (shape.heads * shape.key, shape.kv_heads * shape.key);
        // Cosines and sines are rounded to 2^-24, as are the two products and the sum that combine upper and lower
        // part, and those of the rotation: less than ten rounding errors of a number no larger than the largest pair.
        let allowed = error + 1e-6 * largest(projected);
        let rows: Vec<Vec<f64>> = projected
            .chunks_exact(shape.stride())
            .zip(&self.positions)
            .map(|(row, position)| shape.turned(row, *position, halves))
            .collect();
        let mut wanted: Vec<f64> = rows.iter().flat_map(|row| &row[..queries]).copied().collect();
        let allowed_query = if self.kv.rotates(shape.key) {
            wanted.chunks_exact_mut(shape.key).for_each(rotate);
            // Sums of a head's elements, over the root of their number.
            16.0 * allowed
        } else {
            allowed
        };
        let found = read::<f32>(gpu, &self.queries, wanted.len() + queries);
        let (found, behind) = found.split_at(wanted.len());
        within(found, &wanted, &vec![allowed_query; wanted.len()], &format!("{what}: queries"));
        assert!(behind.iter().all(|x| is_untouched(&x.to_bits())), "{what}: queries of no row");
        for (name, memory, first, width) in
            [("keys", &self.keys, queries, shape.key), ("values", &self.values, queries + keys, shape.value)]
        {
            let mut found = KvCache::new(self.kv, SLOTS, shape.kv_heads, width);
            found.bytes = read::<u8>(gpu, memory, found.bytes.len());
            for (row, place) in rows.iter().zip(&self.places) {
                let (slot, offset) = (*place as usize / PAGE, *place as usize % PAGE);
                for head in 0..shape.kv_heads {
                    let at = (slot * shape.kv_heads + head) * PAGE + offset;
                    let wanted = &row[first + head * width..][..width];
                    found.check(at, wanted, allowed, &format!("{what}: {name} of head {head} at {place}"));
                    found.clear(at);
                }
            }
            assert!(found.bytes.iter().all(|byte| *byte == 0xff), "{what}: {name} elsewhere");
        }
    }
}

/// The formats whose pairs of elements are stored by themselves.
const PAIRS: [KvLayout; 3] = [KvLayout::F16, KvLayout::F32, KvLayout::BF16];

#[test]
fn after_a_projection() {
    for gpu in devices() {
        let mut random = Random(1);
        for (shape, kv) in SHAPES.into_iter().zip(PAIRS) {
            for halves in [true, false] {
                let scene = Scene::new(&gpu, &mut random, shape, kv, 7);
                let projected = random.floats(scene.rows * shape.stride());
                let qkv = buffer(&gpu, &projected);
                let mut list = vec![parts::WAVE, parts::ROPE];
                list.extend(kv.pairs().unwrap());
                list.push(parts::ROPE_KV);
                let spec =
                    KernelSpec::new("rope_kv", list).with("WG", 64u32).with("HALVES", u32::from(halves));
                let constants = shape.constants();
                let spec = constants.into_iter().fold(spec, |spec, (name, value)| spec.with(name, value));
                let buffers: Vec<_> = scene.buffers().into_iter().chain([(1, &qkv)]).collect();
                let across = (shape.stride() as u32).div_ceil(2 * 64);
                run(&gpu, &spec, &buffers, [across, scene.rows as u32, 1]);
                scene.check(&gpu, &exact(&projected), halves, 0.0, &format!("{shape:?}, halves {halves}"));
            }
        }
    }
}

#[test]
fn within_a_projection() {
    for gpu in devices() {
        let mut random = Random(2);
        // All of one format, and values in a format other than that of queries and keys: two matrices side by side.
        for (shape, formats, kind) in [
            (SHAPES[0], ["Q4_0", "Q4_0"], KINDS[3]),
            (SHAPES[1], ["F16", "F16"], KINDS[4]),
            (SHAPES[2], ["Q8_0", "Q8_0"], KINDS[2]),
            (SHAPES[2], ["Q4_K", "Q6_K"], KINDS[3]),
        ] {
            let kv = if formats[0] == "F16" { KvLayout::F32 } else { KvLayout::F16 };
            let scene = Scene::new(&gpu, &mut random, shape, kv, kind.rows);
            let columns = fit(formats[1], 32 * (1 + random.below(20)));
            let mut x = random.floats(kind.rows * columns);
            let exact_x = exact(&x);
            x.resize(kind.most * columns, 1.0);
            let x = buffer(&gpu, &x);
            let buffers: Vec<_> = scene.buffers().into_iter().chain([(1, &x)]).collect();
            let mut kernel = vec![parts::DOT_F32, parts::ROPE];
            kernel.extend(kv.pairs().unwrap());
            kernel.push(parts::OUT_ROPE);
            let first = if formats[0] == formats[1] { shape.stride() } else { shape.values() };
            let mut weights = Vec::new();
            for (format, rows) in [(formats[0], 0..first), (formats[1], first..shape.stride())] {
                if !rows.is_empty() {
                    let (mut w, exact) = matrix(&gpu, &mut random, format, rows.len(), columns);
                    w.segments[0].rows = rows;
                    weights.extend(exact);
                    kind.run(&gpu, &w, &kernel, 1, &shape.constants(), &buffers);
                }
            }
            let projected = product(&weights, &exact_x, columns);
            // The errors of the sums are as in `products.rs`, and both elements of a pair are rotated.
            let error = 2e-5 * largest(&projected);
            scene.check(&gpu, &projected, false, error, &format!("{shape:?} {formats:?} {kind:?}"));
        }
    }
}

/// What a layer does to its heads before the rotation.
#[derive(Clone, Copy, Debug)]
struct Before {
    bias: bool,
    /// `None` without a norm of queries and keys; true if it is over all heads together.
    norm: Option<bool>,
    scaled: bool,
    halves: bool,
}

const BEFORE: [Before; 5] = [
    Before { bias: true, norm: None, scaled: false, halves: true },
    Before { bias: false, norm: Some(false), scaled: false, halves: true },
    Before { bias: false, norm: Some(true), scaled: false, halves: true },
    Before { bias: false, norm: None, scaled: true, halves: false },
    Before { bias: true, norm: Some(false), scaled: true, halves: false },
];

#[test]
fn after_bias_norm_and_scale() {
    for gpu in devices() {
        let mut random = Random(3);
        let halves = BEFORE.map(|before| (KvLayout::F16, before));
        let others = [
            (KvLayout::F32, BEFORE[1]),
            (KvLayout::Q8_0, BEFORE[2]),
            (KvLayout::Q8_0, BEFORE[1]),
            (KvLayout::BF16, BEFORE[2]),
            (KvLayout::Q4_0, BEFORE[4]),
            (KvLayout::Q4_0, BEFORE[0]),
            (KvLayout::Q8_0, BEFORE[3]),
        ];
        let cases = halves.into_iter().chain(others);
        for (i, (kv, before)) in cases.enumerate() {
            // Includes a layer that rotates nothing.
            let shape = Shape { rope: if i % 5 == 4 { 0 } else { SHAPES[i % 3].rope }, ..SHAPES[i % 3] };
            let scene = Scene::new(&gpu, &mut random, shape, kv, 7);
            let projected = random.floats(scene.rows * shape.stride());
            let (queries, keys) = (shape.heads * shape.key, shape.kv_heads * shape.key);
            let spans = match before.norm {
                Some(true) => [queries, keys, shape.kv_heads * shape.value],
                _ => [shape.key, shape.key, shape.value],
            };
            let bias = if before.bias { random.floats(shape.stride()) } else { Vec::new() };
            let count = if before.norm.is_some() { spans[0] + spans[1] } else { 0 };
            let norms: Vec<f32> = random.floats(count).iter().map(|w| 1.0 + w).collect();
            let scales = if before.scaled { vec![0.5, 1.25, 2.0] } else { Vec::new() };
            let wanted: Vec<f64> = projected
                .chunks_exact(shape.stride())
                .flat_map(|row| {
                    let kind = |e: usize| usize::from(e >= queries) + usize::from(e >= queries + keys);
                    let mut row: Vec<f64> = exact(row);
                    for (e, x) in row.iter_mut().enumerate() {
                        *x *= scales.get(kind(e)).copied().map_or(1.0, f64::from);
                        *x += bias.get(e).copied().map_or(0.0, f64::from);
                    }
                    if before.norm.is_some() {
                        let (of_queries, of_keys) = norms.split_at(spans[0]);
                        let (q, rest) = row.split_at_mut(queries);
                        for (part, span, weights) in
                            [(q, spans[0], of_queries), (&mut rest[..keys], spans[1], of_keys)]
                        {
                            for head in part.chunks_exact_mut(span) {
                                let squares: f64 = head.iter().map(|x| x * x).sum();
                                let by = (squares / span as f64 + f64::from(EPSILON)).sqrt().recip();
                                head.iter_mut().zip(weights).for_each(|(x, w)| *x *= by * f64::from(*w));
                            }
                        }
                    }
                    row
                })
                .collect();
            let (reduce, lanes) = reduce(&gpu);
            let list = [parts::WAVE, reduce, parts::ROPE, parts::ROPE_HEADS].into_iter().chain(kv.heads());
            let spec = KernelSpec::new("rope_heads", list)
                .with("WG", 64u32)
                .with("LANES", lanes)
                .with("HALVES", u32::from(before.halves))
                .with("SPAN_QUERY", spans[0] as u32)
                .with("SPAN_KEY", spans[1] as u32)
                .with("SPAN_VALUE", spans[2] as u32)
                .with("BIAS", u32::from(before.bias))
                .with("NORM", u32::from(before.norm.is_some()))
                .with("SCALED", u32::from(before.scaled))
                .with("EPSILON", EPSILON);
            let spec = shape.constants().into_iter().fold(spec, |spec, (name, value)| spec.with(name, value));
            let extra: Vec<f32> = bias.into_iter().chain(norms).chain(scales).collect();
            let (qkv, extra) = (buffer(&gpu, &projected), buffer(&gpu, &extra));
            let buffers: Vec<_> = scene.buffers().into_iter().chain([(1, &qkv), (2, &extra)]).collect();
            let across = queries / spans[0] + keys / spans[1] + shape.kv_heads * shape.value / spans[2];
            run(&gpu, &spec, &buffers, [across as u32, scene.rows as u32, 1]);
            // Some ten rounding errors of a norm.
            let error = 2e-6 * largest(&wanted);
            scene.check(&gpu, &wanted, before.halves, error, &format!("{kv:?} {shape:?}, {before:?}"));
        }
    }
}
