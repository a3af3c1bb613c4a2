//! Tests of refused settings, and of any settings over any logits.

use super::super::{SampleError, SampleScratch, Sampler};
use proptest::prelude::*;
use weft_components::SamplerSettings;

#[test]
fn bad_settings_are_refused() {
    let base = SamplerSettings::default();
    let bad: Vec<(&str, SamplerSettings)> = vec![
        ("temperature", SamplerSettings { temperature: -0.1, ..base.clone() }),
        ("temperature", SamplerSettings { temperature: f32::NAN, ..base.clone() }),
        ("temperature", SamplerSettings { temperature: f32::INFINITY, ..base.clone() }),
        ("top_p", SamplerSettings { top_p: 1.1, ..base.clone() }),
        ("top_p", SamplerSettings { top_p: f32::NAN, ..base.clone() }),
        ("min_p", SamplerSettings { min_p: -0.5, ..base.clone() }),
        ("typical_p", SamplerSettings { typical_p: 2.0, ..base.clone() }),
        ("repetition_penalty", SamplerSettings { repetition_penalty: 0.0, ..base.clone() }),
        ("repetition_penalty", SamplerSettings { repetition_penalty: f32::NAN, ..base.clone() }),
        ("presence_penalty", SamplerSettings { presence_penalty: f32::INFINITY, ..base.clone() }),
        ("frequency_penalty", SamplerSettings { frequency_penalty: f32::NAN, ..base.clone() }),
    ];
    for (name, settings) in bad {
        let error = Sampler::new(settings, 10).unwrap_err();
        assert!(
            matches!(error, SampleError::OutOfRange { field, .. } if field == name)
                && error.to_string().contains(name),
            "{error}"
        );
    }
    let bias = |token, value| SamplerSettings { logit_bias: vec![(token, value)], ..base.clone() };
    assert_eq!(Sampler::new(bias(10, 1.0), 10).unwrap_err(), SampleError::BiasToken { token: 10, vocab: 10 });
    assert_eq!(Sampler::new(bias(9, f32::NAN), 10).unwrap_err(), SampleError::BiasNotANumber { token: 9 });
    assert!(Sampler::new(bias(9, f32::NEG_INFINITY), 10).is_ok());
    assert_eq!(Sampler::new(base, 0).unwrap_err(), SampleError::Vocabulary { vocab: 0 });
}

/// Logits of every kind, special values often.
fn any_logit() -> impl Strategy<Value = f32> {
    prop_oneof![
        4 => -30.0f32..30.0,
        1 => Just(f32::NAN),
        1 => Just(f32::NEG_INFINITY),
        1 => Just(0.0),
        1 => prop_oneof![Just(f32::INFINITY), Just(f32::MAX), Just(f32::MIN), Just(f32::MIN_POSITIVE), Just(-0.0)],
    ]
}

fn any_settings() -> impl Strategy<Value = SamplerSettings> {
    let fraction = || prop_oneof![Just(0.0f32), Just(1.0), 0.0f32..1.0];
    let bias = prop::collection::vec((0u32..700, any_logit().prop_filter("NaN", |x| !x.is_nan())), 0..4);
    let temperature = prop_oneof![Just(0.0f32), Just(f32::from_bits(1)), Just(f32::MAX), 0.0f32..3.0];
    (
        (bias, 0usize..5, prop_oneof![Just(1.0f32), 1e-30f32..1e30], -2.0f32..2.0, -2.0f32..2.0),
        (0usize..400, fraction(), fraction(), fraction(), temperature, any::<u64>()),
    )
        .prop_map(
            |(
                (logit_bias, penalty_last_n, repetition, presence, frequency),
                (k, typical, p, min, t, seed),
            )| {
                SamplerSettings {
                    logit_bias,
                    penalty_last_n,
                    repetition_penalty: repetition,
                    presence_penalty: presence,
                    frequency_penalty: frequency,
                    top_k: k,
                    typical_p: typical,
                    top_p: p,
                    min_p: min,
                    temperature: t,
                    seed,
                    logprobs: Some(3),
                }
            },
        )
}

proptest! {
    #[test]
    fn no_logits_and_no_settings_break_it(
        logits in prop::collection::vec(any_logit(), 0..700),
        settings in any_settings(),
        history in prop::collection::vec(0u32..800, 0..8),
    ) {
        let mut sampler = Sampler::new(settings, 700).unwrap();
        let mut scratch = SampleScratch::default();
        for token in history {
            sampler.accept(token);
        }
        let distribution = sampler.distribution(&logits, &mut scratch);
        let choice = sampler.sample(&logits, &mut scratch);
        prop_assert_eq!(choice.degenerate, distribution.is_empty());
        if !choice.degenerate {
            let total: f64 = distribution.iter().map(|&(_, p)| f64::from(p)).sum();
            prop_assert!((total - 1.0).abs() < 1e-5, "{}", total);
            let chosen = distribution.iter().find(|&&(token, _)| token == choice.token);
            prop_assert!(chosen.is_some_and(|&(_, p)| p > 0.0), "{:?} of {:?}", choice, distribution);
        }
    }
}
