//! Systems of a program's own that change logits and choose tokens, on the CPU and on a GPU, beside sessions that they do not
//! concern.

use crate::common::gpu::{PATHS, on_exact_gpu};
use crate::common::reference::CLEAR_TINY;
use crate::common::requests::{asks, tiny};
use crate::common::{logits, told};
use bevy_ecs::prelude::*;
use weft::components::{AtLayer, Chosen, ModelConfig, ReadsLogits, SessionOf, TokenMask, Wave};
use weft::stages::on_gpu::{GpuLogits, GpuLogitsFailed, LogitsProcessor};
use weft::{
    Engine, EngineOptions, FinishReason, GenerateOptions, LogitsShader, ModelId, SampleSet, SamplerSettings,
    SessionId,
};

const TOKENS: usize = 12;

/// Chooses the token of this rank: 0 is the most likely. A component of a session.
#[derive(Component)]
struct Rank(usize);

/// Chooses these tokens, in order. A component of a session.
#[derive(Component)]
struct Script(Vec<u32>);

/// Tokens that a processor forbids. A component of a session.
#[derive(Component)]
struct Forbidden(Vec<u32>);

/// Index, session and range of logits of each span from which a token is to be chosen.
fn rows<'a>(
    wave: &'a Wave,
    width: usize,
) -> impl Iterator<Item = (usize, Entity, core::ops::Range<usize>)> + 'a {
    let spans = wave.spans.iter().enumerate().filter(|(_, span)| span.complete && !span.logits.is_empty());
    spans.map(move |(at, span)| (at, span.session, (span.logits.end - 1) * width..span.logits.end * width))
}

fn forbid(
    mut waves: Query<'_, '_, &mut Wave>,
    sessions: Query<'_, '_, (&Forbidden, &SessionOf)>,
    models: Query<'_, '_, &ModelConfig>,
) {
    for mut wave in waves.iter_mut().filter(|wave| wave.at == AtLayer::Sample) {
        for at in 0..wave.spans.len() {
            let Ok((forbidden, of)) = sessions.get(wave.spans[at].session) else { continue };
            let width = models.get(of.0).unwrap().vocabulary;
            let Some((_, _, row)) = rows(&wave, width).find(|(span, ..)| *span == at) else { continue };
            let row = &mut wave.logits[row];
            forbidden.0.iter().for_each(|token| row[*token as usize] = f32::NEG_INFINITY);
        }
    }
}

/// The token of this rank in a row of logits.
fn ranked(row: &[f32], rank: usize) -> u32 {
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    order[rank] as u32
}

fn choose(
    mut waves: Query<'_, '_, &mut Wave>,
    mut sessions: Query<'_, '_, (Option<&Rank>, Option<&mut Script>, &SessionOf), With<ReadsLogits>>,
    models: Query<'_, '_, &ModelConfig>,
) {
    for mut wave in waves.iter_mut().filter(|wave| wave.at == AtLayer::Sample) {
        let spans = wave.spans.len();
        wave.chosen.resize(spans, Chosen::Sampler);
        for at in 0..spans {
            let Ok((rank, script, of)) = sessions.get_mut(wave.spans[at].session) else { continue };
            let width = models.get(of.0).unwrap().vocabulary;
            let Some((_, _, row)) = rows(&wave, width).find(|(span, ..)| *span == at) else { continue };
            if let Some(rank) = rank {
                wave.chosen[at] = Chosen::System(ranked(&wave.logits[row], rank.0));
            } else if let Some(mut script) = script {
                wave.chosen[at] = Chosen::System(script.0.remove(0));
            }
        }
    }
}

/// tiny-llama in an engine with both systems, and its golden prompt.
fn hooked(options: &EngineOptions) -> (Engine, ModelId, Vec<u32>) {
    let (mut engine, model, tokens) = tiny(options);
    engine.add_systems(SampleSet::Process, forbid).add_systems(SampleSet::Choose, choose);
    (engine, model, tokens)
}

/// The CPU, and a GPU with and without the features that only add speed. A GPU's answers do not depend on other sessions here.
fn backends() -> impl Iterator<Item = EngineOptions> {
    core::iter::once(EngineOptions::default()).chain(PATHS.map(on_exact_gpu))
}

fn plain(engine: &mut Engine, model: ModelId, prompt: &[u32], options: &GenerateOptions) -> SessionId {
    let session = told(engine, model, prompt);
    engine.generate(session, options).unwrap();
    session
}

/// Starts a session with a component for one of the systems.
fn with(
    engine: &mut Engine,
    model: ModelId,
    prompt: &[u32],
    options: &GenerateOptions,
    component: impl Bundle,
) -> SessionId {
    let session = told(engine, model, prompt);
    engine.world_mut().entity_mut(session.0).insert((ReadsLogits, component));
    engine.generate(session, options).unwrap();
    session
}

/// The tokens of a session at its end.
fn said(engine: &mut Engine, session: SessionId) -> Vec<u32> {
    assert_eq!(engine.wait(session).unwrap(), FinishReason::MaxTokens);
    engine.output(session).unwrap().tokens.clone()
}

#[test]
fn a_sampler_chooses_by_its_own_rule() {
    let (mut judge, judged, _) = tiny(&EngineOptions::default());
    for backend in backends() {
        let (mut engine, model, prompt) = hooked(&backend);
        let session = plain(&mut engine, model, &prompt, &asks(TOKENS));
        let alone = said(&mut engine, session);
        let chunks = GenerateOptions { prefill_chunk: 5, ..asks(TOKENS) };
        let second = with(&mut engine, model, &prompt, &chunks, Rank(1));
        let other = plain(&mut engine, model, &prompt, &asks(TOKENS));
        let third = with(&mut engine, model, &prompt, &asks(TOKENS), Rank(2));
        for (session, rank) in [(second, 1), (third, 2)] {
            let found = said(&mut engine, session);
            let whole: Vec<u32> = prompt.iter().chain(&found).copied().collect();
            let steps: Vec<usize> = (0..TOKENS).map(|step| prompt.len() - 1 + step).collect();
            for (row, token) in logits(&mut judge, judged, &whole, &steps, 0).iter().zip(&found) {
                let wanted = ranked(row, rank);
                // Rounding on a GPU may exchange two tokens that are this close.
                let behind = (f64::from(row[wanted as usize]) - f64::from(row[*token as usize])).abs();
                let allowed = if backend.gpu.is_some() { CLEAR_TINY } else { 0.0 };
                assert!(behind <= allowed, "{token} instead of {wanted}, {behind} away");
            }
        }
        assert_eq!(said(&mut engine, other), alone, "a session without a sampler of its own");
    }
}

#[test]
fn forbidden_tokens_are_those_of_an_infinite_bias() {
    for backend in backends() {
        let (mut engine, model, prompt) = hooked(&backend);
        // A device draws with other rounding than the host, so only the CPU's draws can be compared.
        let temperatures: &[f32] = if backend.gpu.is_some() { &[0.0] } else { &[0.0, 0.9] };
        for temperature in temperatures {
            let sampler =
                SamplerSettings { temperature: *temperature, seed: 7, ..SamplerSettings::default() };
            let options = GenerateOptions { sampler: sampler.clone(), ..asks(TOKENS) };
            let session = plain(&mut engine, model, &prompt, &options);
            let alone = said(&mut engine, session);
            let forbidden = alone[..2].to_vec();
            let logit_bias = forbidden.iter().map(|token| (*token, f32::NEG_INFINITY)).collect();
            let bias = SamplerSettings { logit_bias, ..sampler };
            let biased = GenerateOptions { sampler: bias, ..options.clone() };
            let processed = with(&mut engine, model, &prompt, &options, Forbidden(forbidden.clone()));
            let both =
                with(&mut engine, model, &prompt, &asks(TOKENS), (Forbidden(forbidden.clone()), Rank(0)));
            let biased = plain(&mut engine, model, &prompt, &biased);
            let other = plain(&mut engine, model, &prompt, &options);
            let wanted = said(&mut engine, biased);
            assert!(wanted != alone && !wanted.iter().any(|token| forbidden.contains(token)));
            assert_eq!(said(&mut engine, processed), wanted);
            assert_eq!(engine.output(processed).unwrap().text, engine.output(biased).unwrap().text);
            assert_eq!(said(&mut engine, other), alone, "a session that nothing is forbidden");
            let found = said(&mut engine, both);
            assert!(!found.iter().any(|token| forbidden.contains(token)), "samplers run after processors");
            assert!(*temperature != 0.0 || found == wanted, "the best that is left is what greedy takes");
        }
    }
}

#[test]
fn tokens_of_a_script_are_the_answer_and_end_it() {
    for backend in backends() {
        let (mut engine, model, prompt) = hooked(&backend);
        let tokenizer = engine.tokenizer(model).unwrap();
        let end = tokenizer.end_of_generation()[0];
        let mut script: Vec<u32> = (40..50).collect();
        let text = tokenizer.decode(&script, false).unwrap();
        script.push(end);
        let options = GenerateOptions { ignore_end: false, ..asks(100) };
        let scripted = with(&mut engine, model, &prompt, &options, Script(script.clone()));
        let unknown = with(&mut engine, model, &prompt, &options, Script(vec![41, u32::MAX]));
        let other = plain(&mut engine, model, &prompt, &asks(TOKENS));
        assert_eq!(engine.wait(scripted).unwrap(), FinishReason::EndOfGeneration);
        let output = engine.output(scripted).unwrap();
        assert_eq!(output.tokens, script);
        assert_eq!(output.text.trim_start(), text.trim_start());
        // A token that does not exist ends its own session alone.
        assert_eq!(engine.wait(unknown).unwrap(), FinishReason::InvalidLogits);
        assert_eq!(engine.output(unknown).unwrap().tokens, [41]);
        assert_eq!(said(&mut engine, other).len(), TOKENS);
    }
}

/// The two tokens that a session says first, and its answer if an infinite bias forbids them.
fn without_its_first_two(engine: &mut Engine, model: ModelId, prompt: &[u32]) -> ([u32; 2], Vec<u32>) {
    let session = plain(engine, model, prompt, &asks(TOKENS));
    let answer = said(engine, session);
    let forbidden = [answer[0], answer[1]];
    let logit_bias = forbidden.map(|token| (token, f32::NEG_INFINITY)).to_vec();
    let sampler = SamplerSettings { logit_bias, ..SamplerSettings::default() };
    let session = plain(engine, model, prompt, &GenerateOptions { sampler, ..asks(TOKENS) });
    let wanted = said(engine, session);
    assert_ne!(wanted, answer);
    (forbidden, wanted)
}

#[test]
fn a_mask_forbids_what_a_bias_forbids() {
    for options in backends() {
        let (mut engine, model, tokens) = tiny(&options);
        let vocabulary = engine.config(model).unwrap().vocabulary;
        let (forbidden, wanted) = without_its_first_two(&mut engine, model, &tokens);
        let beside = plain(&mut engine, model, &tokens, &asks(TOKENS));
        let mask = TokenMask::new(vocabulary, |token| !forbidden.contains(&token));
        let masked = told(&mut engine, model, &tokens);
        engine.world_mut().entity_mut(masked.0).insert(mask);
        engine.generate(masked, &asks(TOKENS)).unwrap();
        assert_eq!(said(&mut engine, masked), wanted);
        // Another session is not touched, and the mask goes when its component does.
        let other = said(&mut engine, beside);
        assert_eq!(other[..2], forbidden);
        engine.world_mut().entity_mut(masked.0).remove::<TokenMask>();
        engine.set_context(masked, tokens.clone()).unwrap();
        engine.generate(masked, &asks(TOKENS)).unwrap();
        assert_eq!(said(&mut engine, masked), other);
        // A mask that allows one token leaves no choice; tokens beyond its last word are forbidden.
        let only = told(&mut engine, model, &tokens);
        engine.world_mut().entity_mut(only.0).insert(TokenMask(vec![1 << 7]));
        engine.generate(only, &asks(TOKENS)).unwrap();
        assert_eq!(said(&mut engine, only), [7; TOKENS]);
    }
}

#[test]
fn a_processor_in_wgsl_forbids_what_a_bias_forbids() {
    const FORBID: &str = "fn process(row: u32, token: u32, logit: f32) -> f32 {
        return select(logit, FORBIDDEN, token == data(0u) || token == data(1u));
    }";
    for plain_path in PATHS {
        let (mut engine, model, tokens) = tiny(&on_exact_gpu(plain_path));
        let (forbidden, wanted) = without_its_first_two(&mut engine, model, &tokens);
        let processor = |wgsl: &str| {
            let shader = LogitsShader { wgsl: wgsl.to_owned(), row_words: 0 };
            GpuLogits(vec![LogitsProcessor { shader, data: forbidden.to_vec() }])
        };
        let answer = |engine: &mut Engine| {
            let session = plain(engine, model, &tokens, &asks(TOKENS));
            said(engine, session)
        };
        let before = answer(&mut engine);
        engine.world_mut().entity_mut(model.0).insert(processor(FORBID));
        assert_eq!(answer(&mut engine), wanted, "plain {plain_path}");
        // Also where the host chooses, because a system reads the logits.
        let read = with(&mut engine, model, &tokens, &asks(TOKENS), ());
        assert_eq!(said(&mut engine, read), wanted);
        engine.world_mut().entity_mut(model.0).remove::<GpuLogits>();
        assert_eq!(answer(&mut engine), before);
        // One that does not compile is named, and the model goes on without it.
        engine.world_mut().entity_mut(model.0).insert(processor("fn process() {}"));
        assert_eq!(answer(&mut engine), before);
        assert!(engine.world().get::<GpuLogitsFailed>(model.0).is_some());
        // The failure is forgotten once others compile.
        engine.world_mut().entity_mut(model.0).insert(processor(FORBID));
        assert_eq!(answer(&mut engine), wanted);
        assert!(engine.world().get::<GpuLogitsFailed>(model.0).is_none());
    }
}

/// The mask that a session has from the moment its logits are there.
#[derive(Component)]
struct Later(TokenMask);

fn replace_masks(mut sessions: Query<'_, '_, (&Later, &mut TokenMask)>) {
    for (later, mut mask) in &mut sessions {
        mask.clone_from(&later.0);
    }
}

#[test]
fn a_mask_that_comes_with_the_logits_is_the_only_one() {
    for options in backends() {
        let (mut engine, model, tokens) = tiny(&options);
        engine.add_systems(SampleSet::Process, replace_masks.before(weft::systems::mask_logits));
        // What the first mask alone allows, the second forbids.
        let [first, later] = [7, 9].map(|token| TokenMask(vec![1 << token]));
        let session = with(&mut engine, model, &tokens, &asks(2), (first, Later(later)));
        assert_eq!(said(&mut engine, session), [9, 9]);
    }
}
