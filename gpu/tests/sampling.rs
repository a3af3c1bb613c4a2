//! Sampling on the GPU compared with a twin in `f64`: adjusted logits, greedy tokens, candidates, draws.
//!
//! A draw is correct if its random number lies in the token's part of the distribution, within [`MARGIN`].

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::{Random, buffer, devices, read, run, wave};
use weft_components::SamplerSettings;
use weft_gpu::sampling::{NO_PLACE, NO_TOKEN, SampleBatch, SampleKind, SampleStep, Sampling};
use weft_gpu::{Gpu, WaveData};

/// Tolerance of a boundary of a cumulative distribution. Sums are of up to a million `f32` weights, whose exponentials
/// have errors of some units in the last place.
const MARGIN: f64 = 1e-5;

/// A row of logits and its sampling parameters.
#[derive(Clone)]
struct Row {
    logits: Vec<f32>,
    settings: SamplerSettings,
    counts: Vec<(u32, u32)>,
    uniform: f64,
}

impl Row {
    fn new(logits: Vec<f32>, settings: SamplerSettings, uniform: f64) -> Self {
        Self { logits, settings, counts: Vec::new(), uniform }
    }
}

/// Results of sampling rows.
struct Sampled {
    ids: Vec<u32>,
    /// By row. Row `i` has place `(5 * i) % 7 + 7 * (i / 7)`.
    tokens: Vec<u32>,
    /// After the adjustments.
    logits: Vec<Vec<f32>>,
}

fn place(row: usize) -> usize {
    (5 * row) % 7 + 7 * (row / 7)
}

/// Runs the steps that rows need.
fn sample(gpu: &Gpu, rows: &[Row], read_logits: bool) -> Sampled {
    let vocabulary = rows[0].logits.len();
    let mut batch = SampleBatch::default();
    for (i, row) in rows.iter().enumerate() {
        batch.push(&row.settings, vocabulary, &row.counts, || row.uniform, place(i) as u32);
    }
    let sampling = Sampling { vocabulary: vocabulary as u32 };
    let logit_rows: Vec<u32> = (0..rows.len() as u32).collect();
    let wave = wave(gpu, &WaveData { logit_rows: &logit_rows, ..WaveData::default() });
    let logits: Vec<f32> = rows.iter().flat_map(|row| row.logits.iter().copied()).collect();
    let logits = buffer(gpu, &logits);
    let records = buffer(gpu, batch.rows());
    let adjustments = buffer(gpu, batch.adjustments());
    let ids = buffer(gpu, &vec![0xdead_u32; rows.len()]);
    let places = rows.len().next_multiple_of(7);
    let tokens = buffer(gpu, &vec![0xdead_u32; places]);
    let partials = gpu.storage("partials", sampling.partial_bytes(rows.len() as u32)).unwrap();
    let buffers =
        [(0, &wave), (1, &logits), (2, &records), (3, &adjustments), (4, &ids), (5, &tokens), (6, &partials)];
    for step in batch.steps() {
        let spec = sampling.spec(&gpu.capabilities, step);
        run(gpu, &spec, &buffers, sampling.grid(step, rows.len() as u32));
    }
    let tokens: Vec<u32> = read(gpu, &tokens, places);
    let after: Vec<f32> = if read_logits { read(gpu, &logits, rows.len() * vocabulary) } else { Vec::new() };
    Sampled {
        ids: read(gpu, &ids, rows.len()),
        tokens: (0..rows.len()).map(|i| tokens[place(i)]).collect(),
        logits: after.chunks_exact(vocabulary).map(<[f32]>::to_vec).collect(),
    }
}

/// Kinds of rows that models, or hostile callers, can produce.
fn logits(random: &mut Random, vocabulary: usize, kind: usize) -> Vec<f32> {
    let mut normal = || (0..4).map(|_| random.unit()).sum::<f32>();
    let mut row: Vec<f32> = match kind % 7 {
        0 => (0..vocabulary).map(|_| normal() * 5.0).collect(),
        // Many ties.
        1 => (0..vocabulary).map(|_| (normal() * 4.0).round() * 0.5).collect(),
        2 => vec![0.25; vocabulary],
        // Both zeros, and smaller numbers.
        3 => (0..vocabulary).map(|i| [-0.0, 0.0, -1.0, -1e-40][(i + 1) % 4]).collect(),
        4 => (0..vocabulary).map(|i| i as f32 * 1e-3).collect(),
        // The largest is last, and all are negative.
        5 => (0..vocabulary).rev().map(|i| -3.0 - i as f32 * 0.5).collect(),
        _ => (0..vocabulary).map(|_| normal() * 3.0).collect(),
    };
    if kind % 7 >= 5 {
        for _ in 0..vocabulary / 8 {
            let values = [f32::NAN, -f32::NAN, f32::NEG_INFINITY, f32::MIN];
            row[random.below(vocabulary)] = values[random.below(4)];
        }
    }
    row
}

/// Tokens by descending logit, then by id, without those that cannot be chosen.
fn sorted(logits: &[f32]) -> Vec<(u32, f32)> {
    let mut found: Vec<(u32, f32)> =
        (0u32..).zip(logits.iter().copied()).filter(|(_, logit)| *logit > f32::NEG_INFINITY).collect();
    found.sort_by(|a, b| b.1.partial_cmp(&a.1).unwrap().then(a.0.cmp(&b.0)));
    found
}

fn weights(tokens: &[(u32, f32)], top: f32, temperature: f32) -> Vec<f64> {
    let weight = |logit: f32| {
        let x = (f64::from(logit) - f64::from(top)) / f64::from(temperature);
        if logit == top {
            1.0
        } else if x >= -87.0 {
            x.exp()
        } else {
            0.0
        }
    };
    tokens.iter().map(|(_, logit)| weight(*logit)).collect()
}

/// Tokens that may be drawn, in the order of the draw; `None` if top-p's cut is too close to a boundary.
fn candidates(logits: &[f32], settings: &SamplerSettings) -> Option<Vec<(u32, f32)>> {
    let mut tokens = sorted(logits);
    let Some(&(_, top)) = tokens.first() else { return Some(tokens) };
    if settings.top_k == 0 || settings.top_k >= logits.len() {
        tokens.sort_by_key(|(token, _)| *token);
        return Some(tokens);
    }
    tokens.truncate(settings.top_k);
    if settings.top_p < 1.0 {
        let weights = weights(&tokens, top, 1.0);
        let total: f64 = weights.iter().sum();
        let mut mass = 0.0;
        let mut kept = tokens.len();
        for (i, weight) in weights.iter().enumerate() {
            mass += weight / total;
            if (mass - f64::from(settings.top_p)).abs() < MARGIN {
                return None;
            }
            if mass >= f64::from(settings.top_p) {
                kept = i + 1;
                break;
            }
        }
        tokens.truncate(kept);
    }
    if settings.min_p > 0.0 {
        tokens.retain(|(_, logit)| *logit >= top + settings.min_p.ln());
    }
    Some(tokens)
}

/// Asserts that the drawn token is correct.
fn check_draw(row: &Row, tokens: &[(u32, f32)], id: u32, what: &str) {
    let top = tokens.iter().fold(f32::NEG_INFINITY, |top, (_, logit)| top.max(*logit));
    if tokens.is_empty() {
        assert_eq!(id, NO_TOKEN, "{what}");
        return;
    }
    let weights = weights(tokens, top, row.settings.temperature);
    let total: f64 = weights.iter().sum();
    let at = tokens.iter().position(|(token, _)| *token == id);
    let at = at.unwrap_or_else(|| panic!("{what}: {id} is no candidate"));
    assert!(weights[at] > 0.0, "{what}: {id} has no weight");
    let before: f64 = weights[..at].iter().sum::<f64>() / total;
    let part = before - MARGIN..=before + weights[at] / total + MARGIN;
    assert!(part.contains(&row.uniform), "{what}: {id} has {part:?}, drawn {}", row.uniform);
}

fn drawing(temperature: f32, top_k: usize, top_p: f32, min_p: f32) -> SamplerSettings {
    SamplerSettings { temperature, top_k, top_p, min_p, ..SamplerSettings::default() }
}

fn uniform(random: &mut Random) -> f64 {
    (random.word() >> 11) as f64 / (1u64 << 53) as f64
}

#[test]
fn bias_and_penalties() {
    for gpu in devices() {
        let mut random = Random(1);
        for vocabulary in [257, 1000] {
            let rows: Vec<Row> = (0..14)
                .map(|kind| {
                    let mut row = logits(&mut random, vocabulary, kind);
                    row[3] = f32::INFINITY;
                    row[5] = f32::NAN;
                    row[7] = f32::NEG_INFINITY;
                    let mut counts: Vec<(u32, u32)> =
                        (0..vocabulary as u32).map(|token| (token, random.below(5) as u32)).collect();
                    counts.retain(|(_, count)| *count > 0);
                    // A token beyond the vocabulary must not change the next row.
                    counts.push((vocabulary as u32 + 1, 2));
                    let bias = [f32::INFINITY, f32::NEG_INFINITY, 1.5, -30.0, 0.125];
                    let settings = SamplerSettings {
                        logit_bias: (0..40)
                            .map(|i| (random.below(vocabulary) as u32, bias[i % 5]))
                            .filter(|(token, _)| *token != 3)
                            .collect(),
                        repetition_penalty: [1.0, 1.3, 0.5][kind % 3],
                        presence_penalty: 0.25,
                        frequency_penalty: [0.0, 0.1][kind % 2],
                        ..SamplerSettings::default()
                    };
                    let counts = if kind == 4 { Vec::new() } else { counts };
                    Row { counts, ..Row::new(row, settings, 0.0) }
                })
                .collect();
            let found = sample(&gpu, &rows, true);
            for (i, row) in rows.iter().enumerate() {
                let mut wanted: Vec<f64> = row.logits.iter().map(|x| f64::from(*x)).collect();
                let settings = &row.settings;
                for (token, bias) in &settings.logit_bias {
                    wanted[*token as usize] += f64::from(*bias);
                }
                for (token, count) in &row.counts {
                    let Some(logit) = wanted.get_mut(*token as usize) else { continue };
                    let repetition = f64::from(settings.repetition_penalty);
                    *logit = if *logit <= 0.0 { *logit * repetition } else { *logit / repetition };
                    *logit -= f64::from(*count) * f64::from(settings.frequency_penalty)
                        + f64::from(settings.presence_penalty);
                }
                for (token, (found, wanted)) in found.logits[i].iter().zip(&wanted).enumerate() {
                    let what = format!("{vocabulary} row {i} token {token}: {found}, wanted {wanted}");
                    if wanted.is_nan() || *wanted == f64::NEG_INFINITY {
                        assert!(found.is_nan() || *found == f32::NEG_INFINITY, "{what}");
                    } else if *wanted == f64::INFINITY || *wanted < f64::from(f32::MIN) {
                        assert_eq!(*found, *wanted as f32, "{what}");
                    } else {
                        // Four roundings of numbers up to the size of the logit before the penalties.
                        let size = wanted.abs().max(f64::from(row.logits[token].abs())).max(32.0);
                        assert!((f64::from(*found) - wanted).abs() <= 4e-7 * size, "{what}");
                    }
                }
                // Rounding may create or break ties, so the token is compared with the logits that it was chosen from.
                let best = sorted(&found.logits[i]).first().map_or(NO_TOKEN, |(token, _)| *token);
                assert_eq!(found.ids[i], best, "{vocabulary} row {i}");
            }
        }
    }
}

#[test]
fn greedy() {
    for gpu in devices() {
        let mut random = Random(2);
        for vocabulary in [1, 257, 1000, 4099, 49_152, 128_256] {
            let mut rows: Vec<Row> = (0..17)
                .map(|kind| {
                    let mut row = logits(&mut random, vocabulary, kind);
                    if kind > 6 {
                        // The maximum three times.
                        for _ in 0..3 {
                            row[random.below(vocabulary)] = if kind % 2 == 0 { 1e30 } else { f32::INFINITY };
                        }
                    }
                    Row::new(row, SamplerSettings::default(), 0.0)
                })
                .collect();
            let nothing = |value| Row::new(vec![value; vocabulary], SamplerSettings::default(), 0.0);
            rows.extend([nothing(f32::NAN), nothing(f32::NEG_INFINITY)]);
            let found = sample(&gpu, &rows, false);
            for (i, row) in rows.iter().enumerate() {
                let wanted = sorted(&row.logits).first().map_or(NO_TOKEN, |(token, _)| *token);
                assert_eq!(found.ids[i], wanted, "{vocabulary} row {i}");
                let embedded = if wanted == NO_TOKEN { 0 } else { wanted };
                assert_eq!(found.tokens[i], embedded, "{vocabulary} row {i}");
            }
        }
    }
}

#[test]
fn draws_from_the_top_k() {
    for gpu in devices() {
        let mut random = Random(3);
        let mut skipped = 0;
        let mut drawn = 0;
        for (vocabulary, count) in
            [(257, 36), (1000, 36), (4099, 27), (49_152, 9), (128_256, 9), (262_145, 3)]
        {
            let mut rows: Vec<Row> = (0..count)
                .map(|i| {
                    let settings = drawing(
                        [0.7, 1.0, 1e-30, 30.0][random.below(4)],
                        [1, 2, 40, 64, 127, 128][random.below(6)],
                        [1.0, 0.95, 0.9, 0.5, 0.0][random.below(5)],
                        [0.0, 0.05, 1e-30, 1.0][random.below(4)],
                    );
                    let mut row = logits(&mut random, vocabulary, i);
                    match i % 9 {
                        7 => row[random.below(vocabulary)] = f32::INFINITY,
                        // Fewer than k.
                        8 => row.iter_mut().skip(50).for_each(|logit| *logit = f32::NAN),
                        _ => {}
                    }
                    Row::new(row, settings, uniform(&mut random))
                })
                .collect();
            rows.push(Row::new(vec![f32::NAN; vocabulary], drawing(1.0, 40, 0.9, 0.1), 0.5));
            let found = sample(&gpu, &rows, false);
            for (i, row) in rows.iter().enumerate() {
                drawn += 1;
                let Some(tokens) = candidates(&row.logits, &row.settings) else {
                    skipped += 1;
                    continue;
                };
                check_draw(row, &tokens, found.ids[i], &format!("{vocabulary} row {i} {:?}", row.settings));
            }
        }
        assert!(skipped * 20 < drawn, "{skipped} of {drawn} on a boundary");
    }
}

/// Draws each candidate in turn, at a temperature that makes them nearly equally likely, and compares them and their
/// order with the twin's.
#[test]
fn candidates_are_exact() {
    for gpu in devices() {
        let mut random = Random(4);
        for (vocabulary, kind, k, top_p, min_p) in [
            (257, 0, 128, 1.0, 0.0),
            (1000, 1, 100, 1.0, 0.0),
            (257, 1, 40, 0.9, 0.0),
            (1000, 2, 60, 0.503, 0.0),
            (1000, 3, 50, 1.0, 0.5),
            (257, 4, 64, 0.8, 0.97),
            (1000, 6, 40, 1.0, 0.1),
        ] {
            let row = logits(&mut random, vocabulary, kind);
            let settings = drawing(1e4, k, top_p, min_p);
            let tokens = candidates(&row, &settings).unwrap();
            let middles = (0..tokens.len()).map(|i| (i as f64 + 0.5) / tokens.len() as f64);
            let rows: Vec<Row> =
                middles.map(|uniform| Row::new(row.clone(), settings.clone(), uniform)).collect();
            let found = sample(&gpu, &rows, false);
            let wanted: Vec<u32> = tokens.iter().map(|(token, _)| *token).collect();
            assert_eq!(found.ids, wanted, "{vocabulary} kind {kind} k {k} p {top_p} min {min_p}");
        }
    }
}

#[test]
fn draws_from_the_whole_row() {
    for gpu in devices() {
        let mut random = Random(5);
        for (vocabulary, count) in
            [(1, 2), (257, 64), (1000, 64), (4099, 32), (49_152, 14), (128_256, 14), (1_100_003, 2)]
        {
            let mut rows: Vec<Row> = (0..count)
                .map(|i| {
                    let temperature = [0.7, 1.0, 0.2, 3.0, 1e-30][random.below(5)];
                    let mut row = logits(&mut random, vocabulary, i);
                    if i % 9 == 7 {
                        row[random.below(vocabulary)] = f32::INFINITY;
                        row[random.below(vocabulary)] = f32::INFINITY;
                    }
                    let uniform = [0.0, 1.0 - f64::EPSILON, uniform(&mut random)][(i % 5).min(2)];
                    Row::new(row, drawing(temperature, 0, 1.0, 0.0), uniform)
                })
                .collect();
            rows.push(Row::new(vec![f32::NEG_INFINITY; vocabulary], drawing(1.0, 0, 1.0, 0.0), 0.5));
            let found = sample(&gpu, &rows, false);
            for (i, row) in rows.iter().enumerate() {
                let tokens = candidates(&row.logits, &row.settings).unwrap();
                check_draw(row, &tokens, found.ids[i], &format!("{vocabulary} row {i} {:?}", row.settings));
            }
        }
    }
}

#[test]
fn rows_of_all_kinds_share_a_wave() {
    for gpu in devices() {
        let mut random = Random(6);
        let vocabulary = 1000;
        let rows: Vec<Row> = (0..20)
            .map(|i| {
                let mut settings = match i % 4 {
                    0 => SamplerSettings::default(),
                    1 => drawing(0.8, 40, 0.953, 0.05),
                    2 => drawing(0.8, 0, 1.0, 0.0),
                    _ => drawing(0.8, 0, 0.9, 0.0),
                };
                if i > 10 {
                    settings.logit_bias = vec![(17, f32::INFINITY)];
                }
                Row::new(logits(&mut random, vocabulary, 0), settings, uniform(&mut random))
            })
            .collect();
        let found = sample(&gpu, &rows, true);
        for (i, row) in rows.iter().enumerate() {
            let what = format!("row {i}");
            match SampleKind::of(&row.settings, vocabulary) {
                SampleKind::Host => {
                    assert_eq!((found.ids[i], found.tokens[i]), (0xdead, 0xdead), "{what}");
                    assert_eq!(found.logits[i], row.logits, "{what}");
                }
                _ if i > 10 => assert_eq!(found.ids[i], 17, "{what}"),
                SampleKind::Greedy => assert_eq!(found.ids[i], sorted(&row.logits)[0].0, "{what}"),
                _ => check_draw(row, &candidates(&row.logits, &row.settings).unwrap(), found.ids[i], &what),
            }
        }
    }
}

/// Grids may have workgroups for rows past the wave's. Those rows, and tokens without a place, must write nothing.
#[test]
fn nothing_is_written_past_the_rows() {
    for gpu in devices() {
        let sampling = Sampling { vocabulary: 257 };
        let mut batch = SampleBatch::default();
        for settings in [SamplerSettings::default(), drawing(1.0, 4, 1.0, 0.0), drawing(1.0, 0, 1.0, 0.0)] {
            for place in [NO_PLACE, 1] {
                batch.push(&settings, 257, &[(1, 1)], || 0.5, place);
            }
        }
        let wave = wave(&gpu, &WaveData { logit_rows: &[0], ..WaveData::default() });
        let before: Vec<f32> = (0..6 * 257).map(|i| i as f32).collect();
        let logits = buffer(&gpu, &before);
        let (records, adjustments) = (buffer(&gpu, batch.rows()), buffer(&gpu, batch.adjustments()));
        let (ids, tokens) = (buffer(&gpu, &[9u32; 6]), buffer(&gpu, &[9u32; 4]));
        let partials = gpu.storage("partials", sampling.partial_bytes(6)).unwrap();
        let buffers = [
            (0, &wave),
            (1, &logits),
            (2, &records),
            (3, &adjustments),
            (4, &ids),
            (5, &tokens),
            (6, &partials),
        ];
        for step in SampleStep::ALL {
            run(&gpu, &sampling.spec(&gpu.capabilities, step), &buffers, sampling.grid(step, 6));
        }
        assert_eq!(read::<u32>(&gpu, &ids, 6), [256, 9, 9, 9, 9, 9]);
        assert_eq!(read::<u32>(&gpu, &tokens, 4), [9; 4]);
        assert_eq!(read::<f32>(&gpu, &logits, before.len())[257..], before[257..]);
    }
}
