//! Attention on the GPU compared with attention in `f64` over the same rounded keys and values, in every format of the
//! KV cache. Slots that were never written, and positions that a row must not see, contain NaN, so that reading one into
//! a result shows.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::act::Act;
use crate::common::kv::{KvCache, rotate};
use crate::common::{Random, buffer, devices, largest, output, run, wave};
use weft_gpu::{ActFormat, AttentionKernels, AttentionShape, Gpu, KvLayout, PAGE, TILE, WaveData, wgpu};

const PLAIN: AttentionShape = AttentionShape {
    heads: 8,
    kv_heads: 2,
    key: 64,
    value: 64,
    scale: 0.3,
    cap: 0.0,
    window: 0,
    tables: 0,
    recent: None,
    kv: KvLayout::F16,
};

/// A session. Its rows are the last of its positions.
struct Session {
    length: usize,
    rows: usize,
}

/// Sessions with their memory, and the rows of a wave.
struct Scene {
    shape: AttentionShape,
    queries: Vec<f32>,
    keys: KvCache,
    values: KvCache,
    tables: Vec<u32>,
    /// Start of each row's block table, and its position.
    rows: Vec<(u32, u32)>,
    /// First row and number of rows of each tile.
    tiles: Vec<(usize, usize)>,
    /// Last position that each row attends to, if it is not its own.
    seen: Vec<u32>,
}

impl Scene {
    fn new(random: &mut Random, shape: AttentionShape, sessions: &[Session]) -> Self {
        let pages: usize = sessions.iter().map(|session| session.length.div_ceil(PAGE)).sum();
        let slots = pages + 3;
        // A random order of the slots.
        let mut order: Vec<u32> = (0..slots as u32).collect();
        (1..slots).for_each(|i| order.swap(i, random.below(i + 1)));
        let nobody = order.pop().unwrap();
        let mut scene = Self {
            shape,
            queries: Vec::new(),
            keys: KvCache::new(shape.kv, slots, shape.kv_heads, shape.key),
            values: KvCache::new(shape.kv, slots, shape.kv_heads, shape.value),
            tables: vec![u32::MAX; random.below(4)],
            rows: Vec::new(),
            tiles: Vec::new(),
            seen: Vec::new(),
        };
        for session in sessions {
            let table = scene.tables.len();
            let first_row = session.length - session.rows;
            let seen = scene.first_visible(first_row);
            // Pages that no row's window reaches have been freed. A slot that no session uses stands for them.
            scene.tables.extend(vec![nobody; seen / PAGE]);
            scene.tables.extend(order.drain(..session.length.div_ceil(PAGE) - seen / PAGE));
            for position in seen..session.length {
                for head in 0..shape.kv_heads {
                    let at = place(&scene.tables[table..], shape.kv_heads, position, head);
                    scene.keys.fill(random, at);
                    scene.values.fill(random, at);
                }
            }
            let base = scene.rows.len();
            scene.rows.extend((first_row..session.length).map(|position| (table as u32, position as u32)));
            // Tiles of uneven size, as at the end of a wave's rows.
            let mut start = 0;
            while start < session.rows {
                let count =
                    (session.rows - start).min(if start == 0 { TILE } else { 1 + random.below(TILE) });
                scene.tiles.push((base + start, count));
                start += count;
            }
        }
        scene.queries = random.floats(scene.rows.len() * shape.heads * shape.key);
        scene
    }

    /// The same scene, with every row attending to all of its session, whose rows are all in the wave.
    fn whole(mut self, sessions: &[Session]) -> Self {
        let last = |session: &Session| vec![session.length as u32 - 1; session.rows];
        self.seen = sessions.iter().flat_map(last).collect();
        self
    }

    fn first_visible(&self, position: usize) -> usize {
        if self.shape.window == 0 { 0 } else { (position + 1).saturating_sub(self.shape.window) }
    }

    /// The twin. If values are rotated, so is its output.
    fn attend(&self) -> Vec<f64> {
        let shape = &self.shape;
        let mut out = Vec::new();
        for (row, (table, position)) in self.rows.iter().enumerate() {
            let table = &self.tables[*table as usize..];
            let last = self.seen.get(row).unwrap_or(position);
            let seen = self.first_visible(*last as usize)..=*last as usize;
            for head in 0..shape.heads {
                let kv = head / (shape.heads / shape.kv_heads);
                let query = &self.queries[(row * shape.heads + head) * shape.key..][..shape.key];
                let scores: Vec<f64> = seen
                    .clone()
                    .map(|p| {
                        let key = self.keys.get(place(table, shape.kv_heads, p, kv));
                        let score: f64 = query.iter().zip(key).map(|(q, k)| f64::from(*q) * k).sum();
                        let (score, cap) = (score * f64::from(shape.scale), f64::from(shape.cap));
                        if cap > 0.0 { cap * (score / cap).tanh() } else { score }
                    })
                    .collect();
                let most = scores.iter().fold(f64::MIN, |most, score| most.max(*score));
                let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
                let mut sums = vec![0.0; shape.value];
                for (p, score) in seen.clone().zip(&scores) {
                    let value = self.values.get(place(table, shape.kv_heads, p, kv));
                    let weight = (score - most).exp() / total;
                    sums.iter_mut().zip(value).for_each(|(sum, v)| *sum += weight * v);
                }
                out.extend(sums);
            }
        }
        out
    }

    /// The wave of the rows, with `splits` splits.
    fn wave(&self, gpu: &Gpu, splits: u32) -> wgpu::Buffer {
        let (tables, positions): (Vec<u32>, Vec<u32>) = self.rows.iter().copied().unzip();
        let tiles: Vec<u32> = self.tiles.iter().map(|(first, count)| (first * 256 + count) as u32).collect();
        let data = WaveData {
            tokens: &positions,
            positions: &positions,
            tables: &tables,
            tiles: &tiles,
            seen: &self.seen,
            splits,
            ..WaveData::default()
        };
        wave(gpu, &data)
    }
}

/// Index of a key or value in the cache.
fn place(table: &[u32], kv_heads: usize, position: usize, head: usize) -> usize {
    (table[position / PAGE] as usize * kv_heads + head) * PAGE + position % PAGE
}

/// The kernels that compute a scene.
#[derive(Clone, Copy, Debug)]
enum Way {
    Short,
    Direct,
    Split(u32),
    Tiled,
}

/// Runs a scene on a device and compares it with the twin.
fn check(gpu: &Gpu, scene: &Scene, format: ActFormat, ways: &[Way]) {
    let shape = &scene.shape;
    let kernels = shape.kernels(&gpu.capabilities, format).unwrap();
    let wanted = scene.attend();
    let (queries, keys, values) =
        (buffer(gpu, &scene.queries), buffer(gpu, &scene.keys.bytes), buffer(gpu, &scene.values.bytes));
    let tables = buffer(gpu, &scene.tables);
    for way in ways {
        let splits = if let Way::Split(splits) = way { *splits } else { 1 };
        let rows = scene.rows.len();
        let bytes = kernels.partials_bytes(rows, splits);
        let act = Act::new(gpu, format, wanted.len());
        let partials = output(gpu, bytes as usize / 4);
        let wave = scene.wave(gpu, splits);
        let buffers = [(0, &wave), (1, &queries), (2, &keys), (3, &values), (4, &tables), (5, &partials)];
        let buffers: Vec<_> = buffers.into_iter().chain(act.bindings()).collect();
        launch(gpu, &kernels, *way, rows, scene.tiles.len(), &buffers);
        let what = format!("{shape:?} {format:?} {way:?} of {}", gpu.info.name);
        // Keys and values are exact. Sums are in 32-bit floats.
        act.check(gpu, &wanted, &vec![2e-5 * largest(&wanted); wanted.len()], &what);
    }
}

fn launch(
    gpu: &Gpu,
    kernels: &AttentionKernels,
    way: Way,
    rows: usize,
    tiles: usize,
    buffers: &[(u32, &wgpu::Buffer)],
) {
    match way {
        Way::Short => run(gpu, &kernels.short, buffers, kernels.short_grid(rows)),
        Way::Direct => run(gpu, &kernels.direct, buffers, kernels.direct_grid(rows)),
        Way::Split(splits) => {
            run(gpu, &kernels.split, buffers, kernels.split_grid(rows, splits));
            run(gpu, &kernels.combine, buffers, kernels.combine_grid(rows));
        }
        Way::Tiled => run(gpu, &kernels.tiled, buffers, kernels.tiled_grid(tiles)),
    }
}

/// Sessions whose last rows are a wave: some decode, some prefill. Contexts end around the ends of pages, and are up to
/// some pages long.
fn sessions(random: &mut Random, decoding: usize, prefilling: &[usize]) -> Vec<Session> {
    let mut sessions = vec![Session { length: 1, rows: 1 }, Session { length: 2 * PAGE, rows: 1 }];
    sessions.extend((0..decoding).map(|_| Session { length: 1 + random.below(12 * PAGE), rows: 1 }));
    sessions
        .extend(prefilling.iter().map(|rows| Session { length: rows + random.below(3 * PAGE), rows: *rows }));
    sessions
}

const SHAPES: [(AttentionShape, ActFormat); 8] = [
    (PLAIN, ActFormat::Q8),
    (AttentionShape { heads: 4, kv_heads: 2, key: 16, value: 16, scale: 1.0, ..PLAIN }, ActFormat::Q8),
    (AttentionShape { heads: 7, kv_heads: 1, window: 40, ..PLAIN }, ActFormat::F16),
    (AttentionShape { heads: 6, kv_heads: 3, key: 128, value: 64, cap: 3.0, ..PLAIN }, ActFormat::F32),
    (AttentionShape { heads: 3, kv_heads: 3, key: 64, value: 128, scale: 1.0, ..PLAIN }, ActFormat::F32),
    (AttentionShape { heads: 20, kv_heads: 2, key: 32, value: 16, window: 70, ..PLAIN }, ActFormat::Q8),
    (AttentionShape { heads: 2, kv_heads: 2, key: 256, value: 256, ..PLAIN }, ActFormat::F32),
    (
        AttentionShape { heads: 10, kv_heads: 2, key: 40, value: 24, cap: 2.0, window: 33, ..PLAIN },
        ActFormat::F32,
    ),
];

#[test]
fn few_rows() {
    for gpu in devices() {
        let mut random = Random(1);
        for (shape, format) in SHAPES {
            let sessions = sessions(&mut random, 4, &[5]);
            let scene = Scene::new(&mut random, shape, &sessions);
            check(&gpu, &scene, format, &[Way::Short, Way::Direct]);
        }
    }
}

#[test]
fn few_rows_in_splits() {
    for gpu in devices() {
        let mut random = Random(2);
        for (shape, format) in [SHAPES[0], SHAPES[2], SHAPES[3], SHAPES[7]] {
            let mut sessions = sessions(&mut random, 2, &[3]);
            sessions.push(Session { length: 70 * PAGE + 5, rows: 1 });
            let scene = Scene::new(&mut random, shape, &sessions);
            check(&gpu, &scene, format, &[1, 2, 5, 33, 64].map(Way::Split));
        }
    }
}

#[test]
fn many_rows() {
    for gpu in devices() {
        let mut random = Random(3);
        for (shape, format) in SHAPES {
            let sessions = sessions(&mut random, 1, &[45, 7, 32]);
            let scene = Scene::new(&mut random, shape, &sessions);
            check(&gpu, &scene, format, &[Way::Tiled]);
        }
    }
}

#[test]
fn rows_may_see_their_whole_text() {
    for gpu in devices() {
        let mut random = Random(5);
        for (shape, format) in [SHAPES[0], SHAPES[3], SHAPES[4]] {
            let sessions = [1, 3, 31, 32, 33, 70].map(|length| Session { length, rows: length });
            let scene = Scene::new(&mut random, shape, &sessions).whole(&sessions);
            check(&gpu, &scene, format, &[Way::Short, Way::Direct, Way::Split(3), Way::Tiled]);
        }
    }
}

#[test]
fn scores_may_be_large() {
    // Only differences of scores matter, at any scale: the softmax's maximum changes a lot, and terms vanish.
    let shape = AttentionShape { scale: 40.0, key: 32, value: 32, ..PLAIN };
    for gpu in devices() {
        let mut random = Random(4);
        let sessions = sessions(&mut random, 2, &[40]);
        let scene = Scene::new(&mut random, shape, &sessions);
        check(&gpu, &scene, ActFormat::F32, &[Way::Short, Way::Direct, Way::Split(3), Way::Tiled]);
    }
}

/// The formats besides the default one, each with some shapes: odd numbers of blocks, heads that are not rotated, and
/// the longest ones.
fn others() -> impl Iterator<Item = (AttentionShape, ActFormat)> {
    let cases = [
        (KvLayout::F32, 6),
        (KvLayout::F32, 7),
        (KvLayout::BF16, 0),
        (KvLayout::Q8_0, 0),
        (KvLayout::Q8_0, 6),
        (KvLayout::Q8_0, 7),
        (KvLayout::Q4_0, 3),
        (KvLayout::Q4_0, 5),
    ];
    cases.into_iter().map(|(kv, i)| (AttentionShape { kv, ..SHAPES[i].0 }, SHAPES[i].1))
}

#[test]
fn few_rows_in_every_format() {
    for gpu in devices() {
        let mut random = Random(6);
        for (shape, format) in others() {
            let sessions = sessions(&mut random, 2, &[3]);
            let scene = Scene::new(&mut random, shape, &sessions);
            check(&gpu, &scene, format, &[Way::Direct, Way::Split(3)]);
        }
    }
}

#[test]
fn many_rows_in_every_format() {
    for gpu in devices() {
        let mut random = Random(7);
        for (shape, format) in others() {
            let sessions = sessions(&mut random, 0, &[37, 6]);
            let scene = Scene::new(&mut random, shape, &sessions);
            check(&gpu, &scene, format, &[Way::Tiled]);
        }
    }
}

#[test]
fn rotated_outputs_are_turned_back() {
    for gpu in devices() {
        let mut random = Random(8);
        for (shape, format) in SHAPES {
            let shape = AttentionShape { kv: KvLayout::Q8_0, ..shape };
            let Some((spec, grid)) = shape.rotate_back(&gpu.capabilities, format, 3) else {
                assert_eq!(shape.value % 16, 8);
                continue;
            };
            let rows = random.floats(3 * shape.heads * shape.value);
            let mut wanted: Vec<f64> = rows.iter().copied().map(f64::from).collect();
            wanted.chunks_exact_mut(shape.value).for_each(rotate);
            let act = Act::new(&gpu, format, wanted.len());
            let (wave, rows) = (wave(&gpu, &WaveData::default()), buffer(&gpu, &rows));
            let buffers: Vec<_> = [(0, &wave), (1, &rows)].into_iter().chain(act.bindings()).collect();
            run(&gpu, &spec, &buffers, grid);
            let what = format!("{shape:?} {format:?} of {}", gpu.info.name);
            act.check(&gpu, &wanted, &vec![2e-6 * largest(&wanted); wanted.len()], &what);
        }
    }
}
