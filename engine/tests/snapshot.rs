//! Snapshots: a session that goes on from one gives the text of never having stopped, on another engine, backend or KV
//! format; what is damaged, foreign or newer is refused with the reason.

#![allow(clippy::unwrap_used, reason = "a failed test should stop where it failed")]

use crate::common::requests::{asks, tiny};
use crate::common::{golden, greedy, synthetic_of, told};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use weft::components::TurnStarts;
use weft::synth::SynthShape;
use weft::{
    Engine, EngineOptions, Error, GenerateOptions, KvFormat, LoadOptions, ModelId, Phase, Prompt,
    SamplerSettings, SessionOptions, Snapshot, SnapshotError, WhenFull,
};

fn another(kv_format: KvFormat) -> (Engine, ModelId) {
    let mut engine = Engine::new(&EngineOptions::default()).unwrap();
    let load = LoadOptions { kv_format, ..LoadOptions::default() };
    let model = engine.load(golden("tiny/tiny-llama.gguf").as_path(), &load).unwrap();
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

fn ways() -> Vec<GenerateOptions> {
    let drawn = SamplerSettings { temperature: 0.8, seed: 11, ..SamplerSettings::default() };
    vec![
        asks(60),
        GenerateOptions { sampler: drawn.clone(), ..asks(60) },
        GenerateOptions {
            sampler: SamplerSettings {
                repetition_penalty: 1.2,
                top_k: 20,
                logit_bias: vec![(7, f32::NEG_INFINITY)],
                ..drawn
            },
            stop: vec!["never said".to_owned()],
            draft: 4,
            ..asks(60)
        },
    ]
}

/// Snapshots an answer after the tokens of each of `stops`, with pages or without. Asserts that another engine goes on from
/// each with the text of never having stopped, and computes the context only if there are no pages. Returns the snapshots.
pub(crate) fn going_on(
    (engine, model): (&mut Engine, ModelId),
    prompt: &[u32],
    options: &GenerateOptions,
    stops: &[(usize, bool)],
    another: impl Fn() -> (Engine, ModelId),
) -> Vec<Vec<u8>> {
    let whole = told(engine, model, prompt);
    engine.generate(whole, options).unwrap();
    engine.wait(whole).unwrap();
    let wanted = engine.output(whole).unwrap().clone();
    let mut snapshots = Vec::new();
    for (stops_at, pages) in stops.iter().copied() {
        let session = told(engine, model, prompt);
        engine.generate(session, options).unwrap();
        while engine.output(session).unwrap().tokens.len() < stops_at {
            engine.tick();
        }
        let bytes = engine.snapshot(session, pages).unwrap();
        engine.close(session);
        let (mut other, model) = another();
        let session = other.restore(model, &bytes).unwrap();
        let before = other.prefix_stats(model).unwrap().prefilled_tokens;
        other.wait(session).unwrap();
        let found = other.output(session).unwrap();
        assert_eq!((&found.tokens, &found.text), (&wanted.tokens, &wanted.text), "stopped at {stops_at}");
        let prefilled = other.prefix_stats(model).unwrap().prefilled_tokens - before;
        assert_eq!(prefilled > 0, !pages || stops_at == 0, "{prefilled} tokens, stopped at {stops_at}");
        snapshots.push(bytes);
    }
    snapshots
}

#[test]
fn going_on_is_never_having_stopped() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let stops = [(0, true), (1, false), (17, true), (18, false), (40, true)];
    for options in ways() {
        going_on((&mut engine, model), &prompt, &options, &stops, || another(KvFormat::F16));
    }
}

#[test]
fn other_formats_compute_the_context_again() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &asks(20)).unwrap();
    engine.wait(session).unwrap();
    let bytes = engine.snapshot(session, true).unwrap();
    let whole = engine.history(session).unwrap().to_vec();
    for format in [KvFormat::F32, KvFormat::F16, KvFormat::Q8_0] {
        let (mut other, model) = another(format);
        let restored = other.restore(model, &bytes).unwrap();
        assert_eq!(other.history(restored).unwrap(), whole);
        assert_eq!(other.phase(restored).unwrap(), Phase::Idle);
        other.generate(restored, &asks(9)).unwrap();
        other.wait(restored).unwrap();
        let found = other.output(restored).unwrap().tokens.clone();
        assert_eq!(found, greedy(&mut other, model, &whole, 9), "{format:?}");
    }
}

#[test]
fn paused_sessions_stay_paused() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let wanted = greedy(&mut engine, model, &prompt, 20);
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &asks(20)).unwrap();
    while engine.output(session).unwrap().tokens.len() < 7 {
        engine.tick();
    }
    engine.pause(session).unwrap();
    let bytes = engine.snapshot(session, true).unwrap();
    let restored = engine.restore(model, &bytes).unwrap();
    assert_eq!(engine.phase(restored).unwrap(), Phase::Paused);
    engine.resume(restored).unwrap();
    engine.wait(restored).unwrap();
    assert_eq!(engine.output(restored).unwrap().tokens, wanted);
}

#[test]
fn a_context_that_has_shifted_goes_on() {
    let small = SessionOptions { context: Some(64), ..SessionOptions::default() };
    let options = GenerateOptions { when_full: WhenFull::Shift { keep: 5 }, ..asks(150) };
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let start = |engine: &mut Engine| {
        let session = engine.open_session(model, &small).unwrap();
        engine.append(session, Prompt::Tokens(prompt.clone())).unwrap();
        engine.generate(session, &options).unwrap();
        session
    };
    let session = start(&mut engine);
    engine.wait(session).unwrap();
    let wanted = engine.output(session).unwrap().clone();
    for stops_at in [10, 60, 100, 140] {
        let session = start(&mut engine);
        while engine.output(session).unwrap().tokens.len() < stops_at {
            engine.tick();
        }
        let bytes = engine.snapshot(session, false).unwrap();
        let restored = engine.restore(model, &bytes).unwrap();
        engine.wait(restored).unwrap();
        let found = engine.output(restored).unwrap();
        assert_eq!((&found.tokens, &found.text), (&wanted.tokens, &wanted.text), "stopped at {stops_at}");
    }
}

/// Six layers, some with a window of 128, with four heads of a quarter of `embedding`.
pub(crate) fn windowed(embedding: usize) -> SynthShape {
    SynthShape {
        layers: 6,
        embedding,
        heads: 4,
        kv_heads: 2,
        feed_forward: 128,
        vocabulary: 320,
        context: 4096,
        window: Some(128),
        ..SynthShape::default()
    }
}

#[test]
fn a_window_is_all_that_a_windowed_layer_saves() {
    let shape = windowed(64);
    let open = || {
        let mut engine = Engine::new(&EngineOptions::default()).unwrap();
        let load = LoadOptions { kv_tokens: Some(4096), ..LoadOptions::default() };
        let model = engine.load(synthetic_of("gemma3", &shape, "Q8_0"), &load).unwrap();
        engine.wait_loaded(model).unwrap();
        (engine, model)
    };
    let (mut engine, model) = open();
    let prompt: Vec<u32> = (0..1500).map(|at| (at * 37 % 300) as u32).collect();
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &asks(30)).unwrap();
    while engine.output(session).unwrap().tokens.len() < 10 {
        engine.tick();
    }
    let bytes = engine.snapshot(session, true).unwrap();
    engine.wait(session).unwrap();
    let wanted = engine.output(session).unwrap().tokens.clone();
    let (mut other, model) = open();
    let restored = other.restore(model, &bytes).unwrap();
    other.wait(restored).unwrap();
    assert_eq!(other.output(restored).unwrap().tokens, wanted);
    assert_eq!(other.prefix_stats(model).unwrap().prefilled_tokens, 0);
}

/// The bytes of a snapshot whose header was changed by `edit`, with lengths and checksum that agree.
fn with_header(bytes: &[u8], edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) -> Vec<u8> {
    // Mark and version; the lengths of header, tokens and pages; the checksum; the header.
    let length = u64::from_le_bytes(bytes[12..20].try_into().unwrap()) as usize;
    let (header, rest) = bytes[68..].split_at(length);
    let mut fields = serde_json::from_slice(header).unwrap();
    edit(&mut fields);
    let header = serde_json::to_vec(&fields).unwrap();
    let start = [&bytes[..12], &(header.len() as u64).to_le_bytes(), &bytes[20..36]].concat();
    let digest = Sha256::new().chain_update(&start).chain_update(&header).chain_update(rest).finalize();
    [&start[..], &digest[..], &header, rest].concat()
}

#[test]
fn snapshots_with_fields_less_or_more_are_read() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let session = told(&mut engine, model, &prompt);
    engine.append(session, Prompt::Tokens(vec![1, 2, 3])).unwrap();
    let bytes = engine.snapshot(session, false).unwrap();
    assert_eq!(with_header(&bytes, |_| {}).len(), bytes.len());
    let turns = |engine: &mut Engine, bytes: &[u8]| {
        let restored = engine.restore(model, bytes).unwrap();
        assert_eq!(engine.history(restored).unwrap(), [&prompt[..], &[1, 2, 3]].concat());
        engine.world().get::<TurnStarts>(restored.0).unwrap().0.clone()
    };
    assert_eq!(turns(&mut engine, &bytes), [0, prompt.len()]);
    // The first snapshots knew no turns.
    let older = with_header(&bytes, |fields| assert!(fields.remove("turns").is_some()));
    assert!(turns(&mut engine, &older).is_empty());
    let newer = with_header(&bytes, |fields| drop(fields.insert("mood".into(), "calm".into())));
    assert_eq!(turns(&mut engine, &newer), [0, prompt.len()]);
    // Others are needed.
    let damaged = with_header(&bytes, |fields| assert!(fields.remove("context").is_some()));
    let error = engine.restore(model, &damaged).unwrap_err();
    assert!(matches!(error, Error::Snapshot(SnapshotError::Header { .. })), "{error}");
}

#[test]
fn what_cannot_be_restored_says_why() {
    let (mut engine, model, prompt) = tiny(&EngineOptions::default());
    let session = told(&mut engine, model, &prompt);
    engine.generate(session, &asks(9)).unwrap();
    engine.wait(session).unwrap();
    let bytes = engine.snapshot(session, true).unwrap();
    let refused = |engine: &mut Engine, bytes: &[u8]| match engine.restore(model, bytes).unwrap_err() {
        Error::Snapshot(error) => error,
        error => panic!("{error}"),
    };
    assert_eq!(refused(&mut engine, b"GGUF and so on"), SnapshotError::Mark);
    let mut newer = bytes.clone();
    newer[8] = 9;
    assert_eq!(refused(&mut engine, &newer), SnapshotError::Newer { version: 9 });
    assert!(matches!(refused(&mut engine, &bytes[..bytes.len() - 1]), SnapshotError::Length { .. }));
    assert!(matches!(refused(&mut engine, &bytes[..20]), SnapshotError::Length { .. }));
    for at in [13, 40, 80, 400, bytes.len() - 1] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 4;
        let error = refused(&mut engine, &damaged);
        assert!(matches!(error, SnapshotError::Checksum | SnapshotError::Length { .. }), "{at}: {error}");
    }
    let foreign = engine.load(golden("tiny/tiny-mistral.gguf").as_path(), &LoadOptions::default()).unwrap();
    engine.wait_loaded(foreign).unwrap();
    let error = engine.restore(foreign, &bytes).unwrap_err();
    assert!(matches!(error, Error::Snapshot(SnapshotError::OtherModel { .. })), "{error}");
    assert_eq!(engine.config(model).unwrap().vocabulary, 320);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..300), marked in any::<bool>()) {
        if marked {
            bytes.splice(0..0, *b"WEFTSNAP\x01\0\0\0");
        }
        if let Ok(snapshot) = Snapshot::decode(&bytes) {
            prop_assert_eq!(snapshot.encode(), bytes);
        }
    }
}
