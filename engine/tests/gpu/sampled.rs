//! Sampling on a GPU: the tokens equal those of the CPU's sampler, alone and with other sessions, however requests end.

use crate::common::company::{asked, prompts, say_together, says_alone, start_with};
use crate::common::gpu::{PATHS, exact, loaded_on, on_gpu, on_gpu_unharmed, open, run_all};
use crate::common::requests::{self, tiny};
use crate::common::{golden, golden_json, greedy, ids, loaded, told};
use weft::{EngineOptions, FinishReason, GenerateOptions, LoadOptions, SamplerSettings};

/// Every sampling method, including those that are left to the host.
fn settings() -> Vec<SamplerSettings> {
    let drawn = SamplerSettings { temperature: 0.9, ..SamplerSettings::default() };
    let penalties = SamplerSettings {
        repetition_penalty: 1.3,
        presence_penalty: 0.4,
        frequency_penalty: 0.2,
        penalty_last_n: 16,
        ..SamplerSettings::default()
    };
    vec![
        SamplerSettings::default(),
        drawn.clone(),
        SamplerSettings { top_k: 40, top_p: 0.95, ..drawn.clone() },
        SamplerSettings { top_k: 7, min_p: 0.05, temperature: 1.4, ..drawn.clone() },
        SamplerSettings { top_p: 0.9, ..drawn.clone() },
        penalties.clone(),
        SamplerSettings { temperature: 0.8, ..penalties.clone() },
        SamplerSettings { temperature: 0.8, top_k: 20, ..penalties },
        SamplerSettings { logit_bias: vec![(7, 4.0), (65, -3.0)], top_k: 50, ..drawn.clone() },
        SamplerSettings { logit_bias: vec![(9, 2.0)], ..SamplerSettings::default() },
        SamplerSettings { logprobs: Some(3), top_k: 40, ..drawn.clone() },
        SamplerSettings { typical_p: 0.8, ..drawn.clone() },
        SamplerSettings { min_p: 0.02, temperature: 1.2, ..drawn.clone() },
        SamplerSettings { top_k: 128, top_p: 0.5, ..drawn.clone() },
        SamplerSettings { top_k: 200, ..drawn.clone() },
        SamplerSettings { temperature: 2.0, ..drawn },
    ]
}

#[test]
fn the_same_seed_gives_the_cpu_s_tokens_alone_and_in_company() {
    let base = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    let settings = settings();
    let options = |n: usize| GenerateOptions {
        max_tokens: Some(16),
        sampler: SamplerSettings { seed: 11 + n as u64, ..settings[n].clone() },
        prefill_chunk: [0, 1, 5][n % 3],
        ..asked()
    };
    let (mut engine, model) = loaded(&golden("tiny/tiny-llama.gguf"));
    let prompts = prompts(engine.config(model).unwrap().vocabulary, &base);
    // Logits of the two differ by the order of sums, about 1e-6, and a device's draws are accurate to 1e-5 of the
    // distribution (`gpu/tests/sampling.rs`). None of these few hundred draws is that close to a boundary.
    let wanted: Vec<_> = prompts
        .iter()
        .enumerate()
        .map(|(n, prompt)| says_alone(&mut engine, model, prompt, &options(n)))
        .collect();
    for plain in PATHS {
        let file = golden("tiny/tiny-llama.gguf");
        let (mut engine, model) =
            loaded_on(file.as_path(), &on_gpu(plain), vec![open(&exact(plain))], &LoadOptions::default());
        let said = say_together(&mut engine, model, &prompts, options);
        for (n, (said, wanted)) in said.iter().zip(&wanted).enumerate() {
            assert_eq!(said, wanted, "plain {plain}, in company: {:?}", settings[n]);
        }
        for (n, (prompt, wanted)) in prompts.iter().zip(&wanted).enumerate() {
            let alone = says_alone(&mut engine, model, prompt, &options(n));
            assert_eq!(&alone, wanted, "plain {plain}, alone: {:?}", settings[n]);
        }
        on_gpu_unharmed(&engine, model);
    }
}

#[test]
fn sessions_end_in_their_own_ways_beside_one_another() {
    for plain in PATHS {
        let (mut engine, model, tokens) = tiny(&on_gpu(plain));
        let whole = greedy(&mut engine, model, &tokens, 40);
        let sampler = SamplerSettings { temperature: 0.9, top_k: 30, seed: 5, ..SamplerSettings::default() };
        let sampled = GenerateOptions { sampler, ..requests::asks(40) };
        let drawn = says_alone(&mut engine, model, &tokens, &sampled);
        let lengths = [1, 2, 3, 7, 40];
        let short: Vec<_> = lengths
            .iter()
            .map(|count| start_with(&mut engine, model, &tokens, &requests::asks(*count)))
            .collect();
        let cancelled: Vec<_> = [requests::asks(40), sampled.clone()]
            .iter()
            .map(|options| start_with(&mut engine, model, &tokens, options))
            .collect();
        let kept = start_with(&mut engine, model, &tokens, &sampled);
        let mut all = short.clone();
        all.extend(&cancelled);
        all.push(kept);
        let mut preempted = false;
        run_all(&mut engine, &all, |engine, _| {
            let said = |engine: &weft::Engine, at: usize| engine.output(all[at]).unwrap().tokens.len();
            if !preempted && said(engine, lengths.len()) >= 5 {
                cancelled.iter().for_each(|session| engine.cancel(*session).unwrap());
                preempted = true;
            }
        });
        for (session, count) in short.iter().zip(lengths) {
            assert_eq!(engine.wait(*session).unwrap(), FinishReason::MaxTokens);
            assert_eq!(engine.output(*session).unwrap().tokens, whole[..count], "plain {plain}");
        }
        assert_eq!(engine.output(kept).unwrap().tokens, drawn, "plain {plain}");
        for (session, wanted) in cancelled.iter().zip([&whole, &drawn]) {
            assert_eq!(engine.wait(*session).unwrap(), FinishReason::Cancelled);
            let said = engine.output(*session).unwrap().tokens.clone();
            assert_eq!(said, wanted[..said.len()], "plain {plain}");
            // In-flight steps are discarded and generated tokens are kept, so the answer continues after them.
            let context: Vec<u32> = tokens.iter().chain(&said).copied().collect();
            engine.generate(*session, &requests::asks(6)).unwrap();
            engine.wait(*session).unwrap();
            let further = engine.output(*session).unwrap().tokens.clone();
            assert_eq!(further, greedy(&mut engine, model, &context, 6), "plain {plain}");
        }
        on_gpu_unharmed(&engine, model);
    }
}

#[test]
fn a_session_that_dies_in_mid_answer_leaves_the_others_alone() {
    let (mut engine, model, tokens) = tiny(&on_gpu(false));
    let whole = greedy(&mut engine, model, &tokens, 30);
    let sessions: Vec<_> = (0..4).map(|_| told(&mut engine, model, &tokens)).collect();
    for session in &sessions {
        engine.generate(*session, &requests::asks(30)).unwrap();
    }
    while engine.output(sessions[3]).unwrap().tokens.len() < 4 {
        engine.tick();
    }
    engine.close(sessions[0]);
    engine.world_mut().despawn(sessions[2].0);
    // Their pages are reused by another session at once.
    let next = start_with(&mut engine, model, &tokens, &requests::asks(30));
    for session in [sessions[1], sessions[3], next] {
        engine.wait(session).unwrap();
        assert_eq!(engine.output(session).unwrap().tokens, whole);
    }
    on_gpu_unharmed(&engine, model);
}

/// Runs the tests of requests that apply to every engine, on both paths.
fn on_both_paths(test: impl Fn(&EngineOptions)) {
    PATHS.iter().for_each(|plain| test(&on_gpu(*plain)));
}

macro_rules! as_on_the_cpu {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            on_both_paths(requests::$name);
        }
    )*};
}

as_on_the_cpu! {
    a_full_context_is_a_typed_end,
    sessions_that_do_not_fit_together_wait_and_lose_nothing,
    a_session_larger_than_the_cache_ends_with_a_full_context,
    turns_keep_the_context,
    cancel_stops_one_session_and_no_other,
    stop_strings_end_the_text_before_them,
    end_of_generation_ends_unless_ignored,
    the_same_seed_gives_the_same_text_in_any_company,
}

#[test]
fn hundreds_of_sessions_get_their_turn() {
    on_both_paths(|options| requests::more_sessions_than_fit_get_their_turn(options, 200));
}
