//! The KV cache in 2 bits: pages are sealed once they are complete, and the newest tokens stay in 16 bits. What a session
//! says depends neither on its company, nor on how its context came about.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::embedding::encoder;
use crate::common::requests::asks;
use crate::common::{greedy, logits, synthetic_of, told};
use crate::prefix::{self, accounts, tokens};
use crate::snapshot::going_on;
use weft::components::{KvPage, KvPools};
use weft::synth::SynthShape;
use weft::{
    Engine, EngineOptions, GenerateOptions, Kernels, KvFormat, LoadOptions, ModelId, ModelSource, PAGE,
    Prompt, SamplerSettings,
};
use weft_systems::on_cpu::CpuKv;

/// Newest tokens in 16 bits.
const RECENT: usize = 128;

/// The source of a model of two layers with weights of a format.
pub(crate) fn small(architecture: &str, weights: &str) -> ModelSource {
    let shape = SynthShape { context: 8192, ..prefix::small() };
    synthetic_of(architecture, &shape, weights)
}

fn engine_of(
    architecture: &str,
    kv_format: KvFormat,
    options: &EngineOptions,
    kv_tokens: usize,
) -> (Engine, ModelId) {
    let mut engine = Engine::new(options).unwrap();
    let load = LoadOptions { kv_tokens: Some(kv_tokens), kv_format, ..LoadOptions::default() };
    let model = engine.load(small(architecture, "Q8_0"), &load).unwrap();
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

fn sealed(options: &EngineOptions) -> (Engine, ModelId) {
    engine_of("llama", KvFormat::Kivi2, options, 4096)
}

#[test]
fn short_contexts_are_those_of_16_bits() {
    let text = tokens(400, 1);
    let positions: Vec<usize> = (0..400).collect();
    let rows = |format| {
        let (mut engine, model) = engine_of("llama", format, &EngineOptions::default(), 4096);
        logits(&mut engine, model, &text, &positions, 0)
    };
    let (exact, found) = (rows(KvFormat::F16), rows(KvFormat::Kivi2));
    // The first query that sees a page in 2 bits.
    let first = PAGE + RECENT - 1;
    assert!(exact[..first] == found[..first], "a page was sealed too early");
    assert!((first..400).all(|row| exact[row] != found[row]), "a page was not sealed");
}

#[test]
fn chunks_and_instruction_sets_give_the_same_bits() {
    let text = tokens(500, 2);
    let positions: Vec<usize> = (0..500).collect();
    let mut first: Option<Vec<Vec<f32>>> = None;
    for kernels in Kernels::available() {
        let options =
            EngineOptions { isa: Some(kernels.name().to_owned()), threads: 2, ..EngineOptions::default() };
        let (mut engine, model) = sealed(&options);
        for chunk in [0, 1, 7, 100] {
            if chunk == 1 && kernels.name() == "scalar" {
                continue;
            }
            let rows = logits(&mut engine, model, &text, &positions, chunk);
            let first = first.get_or_insert_with(|| rows.clone());
            assert!(*first == rows, "{} in chunks of {chunk}", kernels.name());
        }
    }
}

#[test]
fn shared_beginnings_forks_and_drafts_change_nothing() {
    let (mut engine, model) = sealed(&EngineOptions::default());
    let prefix = tokens(600, 3);
    let prompts: Vec<Vec<u32>> =
        (0..8).map(|n| [&prefix[..n * 75 + 20], &tokens(10 + 30 * n, 50 + n)].concat()).collect();
    let wanted: Vec<_> = prompts.iter().map(|prompt| greedy(&mut engine, model, prompt, 60)).collect();
    for drafts in [0, 6] {
        let options = GenerateOptions { draft: drafts, ..asks(60) };
        let sessions: Vec<_> = prompts.iter().map(|prompt| told(&mut engine, model, prompt)).collect();
        sessions.iter().for_each(|session| engine.generate(*session, &options).unwrap());
        for (session, wanted) in sessions.iter().zip(&wanted) {
            engine.wait(*session).unwrap();
            assert_eq!(&engine.output(*session).unwrap().tokens, wanted, "{drafts} drafts");
        }
        for session in sessions {
            let whole = engine.history(session).unwrap().to_vec();
            let fork = engine.fork(session).unwrap();
            engine.append(fork, Prompt::Tokens(tokens(3, 9))).unwrap();
            engine.append(session, Prompt::Tokens(tokens(40, 8))).unwrap();
            for (session, tail) in [(fork, tokens(3, 9)), (session, tokens(40, 8))] {
                engine.generate(session, &options).unwrap();
                engine.wait(session).unwrap();
                let said = engine.output(session).unwrap().tokens.clone();
                assert_eq!(said, greedy(&mut engine, model, &[&whole[..], &tail].concat(), 60));
                engine.close(session);
            }
        }
    }
    assert!(engine.prefix_stats(model).unwrap().reused_tokens > 600);
}

#[test]
fn contexts_that_are_cut_go_on() {
    let (mut engine, model) = sealed(&EngineOptions::default());
    let whole = tokens(500, 4);
    let session = told(&mut engine, model, &whole);
    engine.generate(session, &asks(5)).unwrap();
    engine.wait(session).unwrap();
    for cut in [499, 481, 470, 300, 160, 31] {
        let edited = [&whole[..cut], &tokens(20, cut)].concat();
        engine.set_context(session, edited.clone()).unwrap();
        engine.generate(session, &asks(30)).unwrap();
        engine.wait(session).unwrap();
        let said = engine.output(session).unwrap().tokens.clone();
        assert_eq!(said, greedy(&mut engine, model, &edited, 30), "cut to {cut}");
    }
}

#[test]
fn windowed_layers_seal_what_is_older_than_the_newest() {
    // Windows of 512 in some layers: pages leave them after they have been sealed.
    for architecture in ["gemma3", "gemma2"] {
        let (mut engine, model) = engine_of(architecture, KvFormat::Kivi2, &EngineOptions::default(), 4096);
        let classes = engine.config(model).unwrap().kv_classes.clone();
        assert!(classes.iter().any(|class| class.recent_of.is_some()), "{classes:?}");
        let text = tokens(1400, 5);
        let positions: Vec<usize> = (1300..1400).collect();
        let rows = logits(&mut engine, model, &text, &positions, 0);
        assert!(rows == logits(&mut engine, model, &text, &positions, 333), "{architecture}");
        assert!(rows == logits(&mut engine, model, &text, &positions, 50), "{architecture}");
        let session = told(&mut engine, model, &text);
        engine.generate(session, &asks(40)).unwrap();
        engine.wait(session).unwrap();
        let said = engine.output(session).unwrap().tokens.clone();
        assert_eq!(said, greedy(&mut engine, model, &text, 40), "{architecture}");
    }
}

#[test]
fn a_context_takes_three_bits_a_number_and_its_newest_tokens() {
    let (mut engine, model) = sealed(&EngineOptions::default());
    let session = told(&mut engine, model, &tokens(2000, 6));
    engine.generate(session, &asks(1)).unwrap();
    engine.wait(session).unwrap();
    let formats: Vec<KvFormat> = {
        let arenas = &engine.world().get::<CpuKv>(model.0).unwrap().0;
        arenas.iter().map(|arena| arena.shape().format).collect()
    };
    assert_eq!(formats, [KvFormat::Kivi2, KvFormat::F16]);
    let capacity: Vec<usize> = {
        let pools = &engine.world().get::<KvPools>(model.0).unwrap().0;
        pools.iter().map(|pool| pool.capacity()).collect()
    };
    assert_eq!(capacity[0], 4096 / PAGE);
    assert!(capacity[1] < capacity[0], "{capacity:?}");
    // A page more than the window, and two that a context may be cut by.
    let world = engine.world_mut();
    let mut pages = [0; 2];
    world.query::<&KvPage>().iter(world).for_each(|page| pages[page.class] += 1);
    assert_eq!(pages[0], 2000_usize.div_ceil(PAGE));
    assert!(pages[1] <= (RECENT + 512) / PAGE + 4, "{pages:?}");
    engine.append(session, Prompt::Tokens(tokens(2, 7))).unwrap();
    engine.generate(session, &asks(40)).unwrap();
    engine.wait(session).unwrap();
    let world = engine.world_mut();
    let mut pages = [0; 2];
    world.query::<&KvPage>().iter(world).for_each(|page| pages[page.class] += 1);
    assert!(pages[1] <= RECENT / PAGE + 5, "{pages:?}");
}

#[test]
fn snapshots_go_on_with_the_same_text() {
    let (mut engine, model) = sealed(&EngineOptions::default());
    let prompt = tokens(300, 7);
    let sampler = SamplerSettings { temperature: 0.8, seed: 5, ..SamplerSettings::default() };
    let options = GenerateOptions { sampler, ..asks(60) };
    let stops = [(0, true), (7, true), (20, false), (21, true), (50, true)];
    let another = || sealed(&EngineOptions::default());
    for bytes in going_on((&mut engine, model), &prompt, &options, &stops, another) {
        // Pages of another format are not taken over, the context is computed again.
        let (mut other, model) = engine_of("llama", KvFormat::F16, &EngineOptions::default(), 4096);
        let session = other.restore(model, &bytes).unwrap();
        other.wait(session).unwrap();
        assert_eq!(other.output(session).unwrap().tokens.len(), 60);
    }
}

#[test]
fn a_prefix_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut engine, model) = sealed(&EngineOptions::default());
    let prompt = tokens(500, 8);
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &asks(30)).unwrap();
    engine.wait(session).unwrap();
    let wanted = engine.output(session).unwrap().tokens.clone();
    engine.close(session);
    engine.save_prefixes(model, folder.path(), None).unwrap();
    let (mut other, model) = sealed(&EngineOptions::default());
    let loaded = other.load_prefixes(model, folder.path()).unwrap();
    assert!(loaded.pages >= 500 / PAGE && loaded.skipped.is_empty(), "{loaded:?}");
    let session = told(&mut other, model, &prompt);
    other.generate(session, &asks(30)).unwrap();
    other.wait(session).unwrap();
    assert_eq!(other.output(session).unwrap().tokens, wanted);
    assert!(other.prefix_stats(model).unwrap().prefilled_tokens < 100);
    // The newest tokens' pages are not those of another format.
    let (mut other, model) = engine_of("llama", KvFormat::F16, &EngineOptions::default(), 4096);
    assert_eq!(other.load_prefixes(model, folder.path()).unwrap().pages, 0);
}

#[test]
fn every_page_is_accounted_for() {
    for seed in 1..=2 {
        accounts::run_in(Engine::new(&accounts::options()).unwrap(), KvFormat::Kivi2, 3000, seed * 0x51_7CC1);
    }
}

#[test]
fn encoders_keep_16_bits() {
    let (engine, model) = encoder("bert", &EngineOptions::default(), KvFormat::Kivi2);
    let arenas = &engine.world().get::<CpuKv>(model.0).unwrap().0;
    assert!(arenas.iter().all(|arena| arena.shape().format == KvFormat::F16));
}
