//! Tests of the sampler: against llama.cpp's chain, of its draws against its distribution, and of its edge cases.

mod edges;

use std::io::Read;

use super::{SampleScratch, Sampler, argmax};
use flate2::read::GzDecoder;
use serde::Deserialize;
use weft_components::SamplerSettings;

#[derive(Deserialize)]
struct Golden {
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    name: String,
    logits_65536ths: Vec<i32>,
    cases: Vec<Case>,
}

#[derive(Deserialize, Debug)]
struct Case {
    bias: Vec<(u32, Bias)>,
    history: Vec<u32>,
    last_n: usize,
    repetition: f32,
    presence: f32,
    frequency: f32,
    top_k: usize,
    typical: f32,
    top_p: f32,
    min_p: f32,
    temperature: f32,
    /// How many tokens survive, the sum of their ids and of the squares of their ids.
    count: usize,
    sum: u64,
    squares: u64,
    /// The survivors with the lowest ids.
    tokens: Vec<u32>,
    probabilities: Vec<f64>,
}

/// A number, or `"-inf"`, which JSON numbers cannot express.
#[derive(Deserialize, Debug, Clone)]
#[serde(untagged)]
enum Bias {
    Number(f32),
    Text(String),
}

impl Case {
    fn settings(&self) -> SamplerSettings {
        let bias = |bias: &Bias| match bias {
            Bias::Number(number) => *number,
            Bias::Text(text) => text.parse().unwrap(),
        };
        SamplerSettings {
            logit_bias: self.bias.iter().map(|(token, value)| (*token, bias(value))).collect(),
            penalty_last_n: self.last_n,
            repetition_penalty: self.repetition,
            presence_penalty: self.presence,
            frequency_penalty: self.frequency,
            top_k: self.top_k,
            typical_p: self.typical,
            top_p: self.top_p,
            min_p: self.min_p,
            temperature: self.temperature,
            ..SamplerSettings::default()
        }
    }
}

fn golden() -> Golden {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/golden/sampling/cases.json.gz");
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_string(&mut text).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Relative difference allowed. llama.cpp divides logits by the temperature and subtracts their maximum in f32, whose
/// rounding at logits of 30 is 2e-6 each.
const TOLERANCE: f64 = 1e-5;

#[test]
fn chain_leaves_what_llama_cpp_leaves() {
    let mut wrong = Vec::new();
    let (mut cases, mut worst) = (0, 0.0f64);
    let mut scratch = SampleScratch::default();
    for vector in golden().vectors {
        let logits: Vec<f32> = vector.logits_65536ths.iter().map(|&x| x as f32 / 65536.0).collect();
        for case in &vector.cases {
            cases += 1;
            let mut sampler = Sampler::new(case.settings(), logits.len()).unwrap();
            for &token in &case.history {
                sampler.accept(token);
            }
            let mut got = sampler.distribution(&logits, &mut scratch);
            got.sort_unstable_by_key(|&(token, _)| token);
            let told = || format!("{}: {:?}", vector.name, case.settings());
            let ids = || got.iter().map(|&(token, _)| u64::from(token));
            let shown = ids().take(case.tokens.len()).eq(case.tokens.iter().copied().map(u64::from));
            let (sum, squares) = (ids().sum::<u64>(), ids().map(|id| id * id).sum::<u64>());
            if !shown || (got.len(), sum, squares) != (case.count, case.sum, case.squares) {
                wrong.push(format!("{} left {}, not {}", told(), got.len(), case.count));
                continue;
            }
            for (&(token, p), &expected) in got.iter().zip(&case.probabilities) {
                // Below 1e-30 a weight is no longer a normal f32.
                let difference = (f64::from(p) - expected).abs() / expected.max(1e-30);
                worst = worst.max(difference);
                if difference > TOLERANCE {
                    wrong.push(format!("{} token {token}: {p}, not {expected}", told()));
                    break;
                }
            }
        }
    }
    println!("{cases} cases, worst relative difference {worst:.2e}");
    assert!(cases > 200, "the golden file has only {cases} cases");
    assert!(wrong.is_empty(), "{} of {cases} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn row(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * 12.9898).sin() * 4.0).collect()
}

/// Settings that cover each path through the chain.
fn ways() -> Vec<SamplerSettings> {
    let base = SamplerSettings { temperature: 0.8, seed: 7, ..SamplerSettings::default() };
    vec![
        SamplerSettings::default(),
        base.clone(),
        SamplerSettings { top_k: 20, ..base.clone() },
        SamplerSettings { top_p: 0.9, ..base.clone() },
        SamplerSettings { min_p: 0.1, ..base.clone() },
        SamplerSettings { typical_p: 0.8, ..base.clone() },
        SamplerSettings { typical_p: 0.8, temperature: 0.0, ..base.clone() },
        SamplerSettings { repetition_penalty: 1.2, top_k: 30, top_p: 0.95, min_p: 0.02, ..base.clone() },
        SamplerSettings { logit_bias: vec![(1, f32::INFINITY), (2, f32::NEG_INFINITY)], ..base.clone() },
        SamplerSettings { logit_bias: vec![(1, f32::INFINITY)], top_p: 0.5, ..base.clone() },
        SamplerSettings { logit_bias: vec![(1, f32::INFINITY)], top_k: 5, min_p: 0.5, ..base },
    ]
}

#[test]
fn draws_follow_the_distribution() {
    let logits = row(300);
    let mut scratch = SampleScratch::new(300);
    for settings in ways() {
        let mut sampler = Sampler::new(settings.clone(), logits.len()).unwrap();
        let distribution = sampler.distribution(&logits, &mut scratch);
        let total: f64 = distribution.iter().map(|&(_, p)| f64::from(p)).sum();
        assert!((total - 1.0).abs() < 1e-5, "{settings:?} {total}");
        let draws = 50_000;
        let mut counts = vec![0u32; logits.len()];
        for _ in 0..draws {
            counts[sampler.sample(&logits, &mut scratch).token as usize] += 1;
        }
        let mut outside: u32 = counts.iter().sum();
        let (mut chi, mut freedom) = (0.0, 0.0);
        for &(token, p) in &distribution {
            let (seen, expected) = (f64::from(counts[token as usize]), f64::from(p) * f64::from(draws));
            outside -= counts[token as usize];
            if expected >= 5.0 {
                chi += (seen - expected).powi(2) / expected;
                freedom += 1.0;
            }
        }
        assert_eq!(outside, 0, "{settings:?} drew tokens outside its distribution");
        // The mean of chi² is its degrees of freedom, its variance twice that. Five deviations are allowed, for a fixed
        // seed.
        assert!(chi < freedom + 5.0 * f64::sqrt(2.0 * freedom) + 1.0, "{settings:?} {chi} {freedom}");
    }
}

fn sequence(sampler: &mut Sampler, logits: &[f32], len: usize) -> Vec<u32> {
    let mut scratch = SampleScratch::default();
    (0..len)
        .map(|_| {
            let token = sampler.sample(logits, &mut scratch).token;
            sampler.accept(token);
            token
        })
        .collect()
}

#[test]
fn a_seed_is_a_text_and_sessions_are_independent() {
    let logits = row(1000);
    for settings in ways() {
        let alone = sequence(&mut Sampler::new(settings.clone(), 1000).unwrap(), &logits, 50);
        // Alternating with another session.
        let mut first = Sampler::new(settings.clone(), 1000).unwrap();
        let mut other = Sampler::new(SamplerSettings { seed: 8, ..settings.clone() }, 1000).unwrap();
        let mut beside = Vec::new();
        for _ in 0..50 {
            beside.extend(sequence(&mut first, &logits, 1));
            sequence(&mut other, &logits, 1);
        }
        assert_eq!(alone, beside, "{settings:?}");
        // A clone continues as the original.
        let mut clone = first.clone();
        assert_eq!(sequence(&mut clone, &logits, 20), sequence(&mut first, &logits, 20));
    }
    let free = SamplerSettings { temperature: 1.5, ..SamplerSettings::default() };
    let one = sequence(&mut Sampler::new(free.clone(), 1000).unwrap(), &logits, 50);
    let two = sequence(&mut Sampler::new(SamplerSettings { seed: 1, ..free }, 1000).unwrap(), &logits, 50);
    assert_ne!(one, two);
}

/// Seeds give the same result on every machine and in every release: a change here changes users' texts.
#[test]
fn a_seed_is_the_same_text_forever() {
    let settings = SamplerSettings { temperature: 1.0, seed: 42, ..SamplerSettings::default() };
    let got = sequence(&mut Sampler::new(settings, 1000).unwrap(), &row(1000), 12);
    assert_eq!(got, PINNED);
}

const PINNED: [u32; 12] = [686, 953, 432, 627, 286, 151, 302, 805, 775, 240, 508, 908];

#[test]
fn draws_can_be_taken_back() {
    let logits = row(500);
    let settings = SamplerSettings { temperature: 1.0, seed: 3, ..SamplerSettings::default() };
    let mut sampler = Sampler::new(settings.clone(), 500).unwrap();
    sequence(&mut sampler, &logits, 13);
    let at = sampler.draws();
    let ahead = sequence(&mut sampler, &logits, 9);
    sampler.set_draws(at);
    assert_eq!(sequence(&mut sampler, &logits, 9), ahead);
    let mut restored = Sampler::new(settings, 500).unwrap();
    restored.set_draws(at);
    assert_eq!(sequence(&mut restored, &logits, 9), ahead);
}

#[test]
fn rows_without_a_choice_are_told() {
    let mut scratch = SampleScratch::default();
    for settings in ways() {
        if !settings.logit_bias.is_empty() {
            continue;
        }
        let mut sampler = Sampler::new(settings.clone(), 64).unwrap();
        for logits in [&[][..], &[f32::NAN; 64], &[f32::NEG_INFINITY; 64]] {
            let choice = sampler.sample(logits, &mut scratch);
            assert!(choice.degenerate && choice.token == 0, "{settings:?} {choice:?}");
            assert!(sampler.distribution(logits, &mut scratch).is_empty());
        }
        let mut logits = [f32::NAN; 64];
        logits[40] = -3e38;
        let choice = sampler.sample(&logits, &mut scratch);
        assert!(!choice.degenerate && choice.token == 40, "{settings:?} {choice:?}");
        logits[41] = f32::INFINITY;
        assert_eq!(sampler.sample(&logits, &mut scratch).token, 41, "{settings:?}");
    }
}

#[test]
fn padding_past_the_vocabulary_is_never_chosen() {
    let mut scratch = SampleScratch::default();
    for settings in ways() {
        let mut sampler = Sampler::new(settings, 8).unwrap();
        let mut logits = [0.0; 16];
        logits[12] = 1e9;
        assert!(sampler.sample(&logits, &mut scratch).token < 8);
    }
}

#[test]
fn reports_are_of_the_raw_logits() {
    let logits = row(200);
    let best = argmax(&logits).unwrap();
    let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
    let mut scratch = SampleScratch::default();
    let settings = SamplerSettings {
        logit_bias: vec![(best, f32::NEG_INFINITY)],
        temperature: 2.0,
        top_k: 3,
        logprobs: Some(5),
        ..SamplerSettings::default()
    };
    let mut sampler = Sampler::new(settings, 200).unwrap();
    let choice = sampler.sample(&logits, &mut scratch);
    let report = choice.logprob.unwrap();
    assert_eq!(report.token, choice.token);
    assert_ne!(choice.token, best);
    assert_eq!(report.top.len(), 5);
    assert_eq!(report.top[0].0, best);
    for (token, logprob) in report.top.into_iter().chain([(report.token, report.logprob)]) {
        let exact = f64::from(logits[token as usize]) - sum.ln();
        assert!((f64::from(logprob) - exact).abs() < 2e-6, "{token} {logprob} {exact}");
    }
    let none = SamplerSettings { logprobs: Some(usize::MAX), ..SamplerSettings::default() };
    let all = Sampler::new(none, 200).unwrap().sample(&logits, &mut scratch).logprob.unwrap();
    assert_eq!(all.top.len(), 200);
}
