//! What nobody should do to an engine: calls in any order, waves held up half way, damaged files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test should stop where it failed")]

mod common;

use common::{golden, golden_json, greedy, ids, told};
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::{Arc, Condvar, LazyLock, Mutex};
use std::time::{Duration, Instant};
use weft::components::{AtLayer, BlockTable, KvPage, KvPool, Wave};
use weft::storage::{Bytes, MemorySource, Source, StorageError};
use weft::{
    Engine, EngineOptions, Error, FinishReason, GenerateOptions, KeepLogits, LoadOptions, ModelId,
    ModelSource, PAGE, Phase, Prompt, SamplerSettings, SessionEvent, SessionEventKind, SessionId,
    SessionOptions, TickOutcome,
};

static TINY: LazyLock<Vec<u8>> = LazyLock::new(|| std::fs::read(golden("tiny/tiny-llama.gguf")).unwrap());
static TOKENS: LazyLock<Vec<u32>> = LazyLock::new(|| ids(&golden_json("tiny/tiny-llama.json")["tokens"]));

/// A file in memory whose last layer does not arrive until the gate is opened.
struct Gate {
    file: MemorySource,
    from: u64,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Source for Gate {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.start >= self.from {
            let open = self.open.lock().unwrap();
            drop(self.opened.wait_while(open, |open| !*open).unwrap());
        }
        self.file.read(range)
    }
}

/// Opens the gate when a test is done with it, so that no loader waits for ever.
struct Gatekeeper(Arc<Gate>);

impl Gatekeeper {
    fn open(&self) {
        *self.0.open.lock().unwrap() = true;
        self.0.opened.notify_all();
    }
}

impl Drop for Gatekeeper {
    fn drop(&mut self) {
        self.open();
    }
}

/// The tiny model behind a gate before its last layer.
fn gated() -> (ModelSource, Gatekeeper) {
    let file = MemorySource::new("tiny", TINY.clone());
    let whole: Vec<Arc<dyn Source>> = vec![Arc::new(file.clone())];
    let from = weft::gguf::Gguf::read(&whole).unwrap().tensor("blk.2.attn_norm.weight").unwrap().range.start;
    let gate = Arc::new(Gate { file, from, open: Mutex::new(false), opened: Condvar::new() });
    (ModelSource::Parts(vec![Arc::clone(&gate) as Arc<dyn Source>]), Gatekeeper(gate))
}

fn asks(max_tokens: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: Some(max_tokens), ignore_end: true, ..GenerateOptions::default() }
}

fn engine(max_rows: usize) -> Engine {
    Engine::new(&EngineOptions { threads: 1, max_rows, ..EngineOptions::default() }).unwrap()
}

fn load(engine: &mut Engine, source: impl Into<ModelSource>, kv_tokens: usize) -> ModelId {
    let options = LoadOptions { kv_tokens: Some(kv_tokens), ..LoadOptions::default() };
    engine.load(source, &options).unwrap()
}

/// An engine whose whole tiny model has a KV cache of `pages`.
fn cramped(pages: usize, max_rows: usize) -> (Engine, ModelId) {
    let mut engine = engine(max_rows);
    let model = load(&mut engine, golden("tiny/tiny-llama.gguf").as_path(), pages * PAGE);
    engine.wait_loaded(model).unwrap();
    (engine, model)
}

/// What the model says after `tokens`, alone and undisturbed.
fn alone(tokens: &[u32], count: usize) -> Vec<u32> {
    let (mut engine, model) = cramped(16, 512);
    greedy(&mut engine, model, tokens, count)
}

/// Where the model's wave stands.
fn standing(engine: &mut Engine) -> AtLayer {
    engine.world_mut().query::<&Wave>().single(engine.world()).unwrap().at
}

/// An engine whose wave carries the first `rows` tokens and waits before the last layer, for `options`' request.
fn held_up(rows: usize, options: &GenerateOptions) -> (Engine, ModelId, SessionId, Gatekeeper) {
    let (source, gate) = gated();
    let mut engine = engine(512);
    let model = load(&mut engine, source, 16 * PAGE);
    let session = told(&mut engine, model, &TOKENS[..rows]);
    engine.generate(session, options).unwrap();
    hold_up(&mut engine);
    (engine, model, session, gate)
}

fn hold_up(engine: &mut Engine) {
    let start = Instant::now();
    while standing(engine) != AtLayer::Layer(2) {
        engine.tick();
        assert!(start.elapsed() < Duration::from_secs(10), "the wave never reached the gate");
    }
}

/// Ticks until the session's request has ended, within bounds.
fn finish(engine: &mut Engine, session: SessionId) -> FinishReason {
    let start = Instant::now();
    loop {
        if let Phase::Finished(reason) = engine.phase(session).unwrap() {
            return reason;
        }
        if engine.tick() != TickOutcome::Advanced {
            std::thread::sleep(Duration::from_micros(50));
        }
        assert!(start.elapsed() < Duration::from_secs(10), "the session never finished");
    }
}

// --- Requests replaced while their rows wait for a layer -----------------------------------------------------------

#[test]
fn rows_under_way_do_not_count_for_another_context() {
    let (mut engine, _, session, gate) = held_up(12, &asks(4));
    engine.cancel(session).unwrap();
    let other: Vec<u32> = TOKENS[..12].iter().map(|token| token / 2 + 3).collect();
    engine.set_context(session, other.clone()).unwrap();
    engine.generate(session, &asks(8)).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.output(session).unwrap().tokens, alone(&other, 8));
}

#[test]
fn rows_under_way_do_not_count_for_a_shorter_context() {
    let (mut engine, _, session, gate) = held_up(20, &asks(4));
    engine.cancel(session).unwrap();
    engine.set_context(session, TOKENS[..5].to_vec()).unwrap();
    engine.generate(session, &asks(8)).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.output(session).unwrap().tokens, alone(&TOKENS[..5], 8));
}

#[test]
fn rows_under_way_do_not_choose_for_a_longer_context() {
    let (mut engine, _, session, gate) = held_up(12, &asks(4));
    engine.cancel(session).unwrap();
    engine.append(session, Prompt::Tokens(TOKENS[12..20].to_vec())).unwrap();
    engine.generate(session, &asks(8)).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.output(session).unwrap().tokens, alone(&TOKENS[..20], 8));
}

#[test]
fn rows_under_way_without_logits_are_not_sampled() {
    let (mut engine, _, session, gate) = held_up(12, &asks(0));
    engine.cancel(session).unwrap();
    engine.generate(session, &asks(8)).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.output(session).unwrap().tokens, alone(&TOKENS[..12], 8));
}

#[test]
fn rows_under_way_do_not_answer_a_later_question() {
    let (mut engine, _, session, gate) = held_up(12, &asks(4));
    engine.cancel(session).unwrap();
    engine.ask_logits(session, vec![0, 5, 11], KeepLogits::Row, 0).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
    assert_eq!(engine.take_logits(session).unwrap().rows.len(), 3);
}

#[test]
fn a_model_can_go_while_its_wave_waits() {
    let (mut engine, model, session, gate) = held_up(12, &asks(4));
    engine.unload(model);
    assert!(matches!(engine.phase(session), Err(Error::NoSession)));
    assert_eq!(engine.tick(), TickOutcome::Idle);
    gate.open();
    let pages = engine.world_mut().query::<&KvPage>().iter(engine.world()).count();
    assert_eq!(pages, 0);
}

#[test]
fn a_session_can_go_while_its_rows_wait() {
    let (mut engine, model, session, gate) = held_up(24, &asks(4));
    engine.close(session);
    let next = told(&mut engine, model, &TOKENS[..9]);
    engine.generate(next, &asks(6)).unwrap();
    gate.open();
    assert_eq!(finish(&mut engine, next), FinishReason::MaxTokens);
    assert_eq!(engine.output(next).unwrap().tokens, alone(&TOKENS[..9], 6));
    engine.close(next);
    check_pages(&mut engine, model);
}

// --- What was asked for comes once, and whole ----------------------------------------------------------------------

#[test]
fn logits_are_kept_once_though_the_context_was_given_up() {
    let (mut engine, model) = cramped(4, 8);
    let tokens: Vec<u32> = TOKENS.iter().cycle().take(3 * PAGE).copied().collect();
    let positions: Vec<usize> = (0..tokens.len()).collect();
    let sessions: Vec<_> = (0..3)
        .map(|_| {
            let session = told(&mut engine, model, &tokens);
            engine.ask_logits(session, positions.clone(), KeepLogits::NextTokenLoss, 4).unwrap_err();
            engine.ask_logits(session, positions.clone(), KeepLogits::Row, 4).unwrap();
            session
        })
        .collect();
    for session in sessions {
        assert_eq!(finish(&mut engine, session), FinishReason::MaxTokens);
        assert_eq!(engine.take_logits(session).unwrap().rows.len(), positions.len());
    }
}

#[test]
fn a_later_request_does_not_answer_an_old_question_again() {
    let (mut engine, model) = cramped(4, 64);
    let session = told(&mut engine, model, &TOKENS[..9]);
    engine.ask_logits(session, vec![3, 8], KeepLogits::Row, 0).unwrap();
    finish(&mut engine, session);
    engine.generate(session, &asks(3)).unwrap();
    finish(&mut engine, session);
    assert_eq!(engine.take_logits(session).unwrap().rows.len(), 2);
}

/// A stop string that the whole answer is the beginning of holds all of it back; it must come out at the end.
fn held_back(end: impl FnOnce(&mut Engine, SessionId)) -> (String, String) {
    let (mut engine, model) = cramped(2, 64);
    let session = told(&mut engine, model, &TOKENS[..24]);
    engine.generate(session, &asks(8)).unwrap();
    finish(&mut engine, session);
    let text = engine.output(session).unwrap().text.clone();
    let session = engine.open_session(model, &SessionOptions { context: Some(31) }).unwrap();
    engine.append(session, Prompt::Tokens(TOKENS[..24].to_vec())).unwrap();
    let stop = vec![format!("{text} and so on and on and on, for ever")];
    engine.generate(session, &GenerateOptions { stop, ..asks(1000) }).unwrap();
    end(&mut engine, session);
    assert_eq!(engine.output(session).unwrap().tokens.len(), 8);
    (engine.output(session).unwrap().text.clone(), text)
}

#[test]
fn a_full_context_gives_out_the_text_held_back() {
    let (found, expected) = held_back(|engine, session| {
        assert_eq!(finish(engine, session), FinishReason::ContextFull);
    });
    assert_eq!(found, expected);
}

#[test]
fn a_cancel_gives_out_the_text_held_back() {
    let (found, expected) = held_back(|engine, session| {
        while engine.output(session).unwrap().tokens.len() < 8 {
            engine.tick();
        }
        engine.cancel(session).unwrap();
    });
    assert_eq!(found, expected);
}

#[test]
fn every_request_ends_with_one_message() {
    use bevy_ecs::message::{MessageCursor, Messages};
    let (mut engine, model) = cramped(4, 64);
    let mut cursor = MessageCursor::<SessionEvent>::default();
    let session = told(&mut engine, model, &TOKENS[..9]);
    engine.generate(session, &asks(100)).unwrap();
    let mut told = Vec::new();
    for turn in 0..6 {
        engine.tick();
        if turn == 3 {
            engine.cancel(session).unwrap();
        }
        told.extend(cursor.read(engine.world().resource::<Messages<SessionEvent>>()).map(|event| event.kind));
    }
    assert_eq!(told.iter().filter(|kind| matches!(kind, SessionEventKind::Token(_))).count(), 4);
    let ends: Vec<_> =
        told.iter().filter(|kind| matches!(kind, SessionEventKind::Finished(_))).copied().collect();
    assert_eq!(ends, [SessionEventKind::Finished(FinishReason::Cancelled)]);
}

// --- Sharing out the cache and the rows -----------------------------------------------------------------------------

#[test]
fn sessions_at_rest_do_not_keep_others_from_sharing_waves() {
    // Twelve pages are held by sessions that have finished; twelve more want one each.
    let (mut engine, model) = cramped(12, 64);
    let round = |engine: &mut Engine| {
        let sessions: Vec<_> = (0..12).map(|n| told(engine, model, &TOKENS[n..n + 5])).collect();
        sessions.iter().for_each(|session| engine.generate(*session, &asks(8)).unwrap());
        let mut ticks = 0;
        while sessions.iter().any(|session| engine.phase(*session).unwrap().is_active()) {
            engine.tick();
            ticks += 1;
        }
        ticks
    };
    let fresh = round(&mut engine);
    let crowded = round(&mut engine);
    assert!(crowded <= 3 * fresh, "{crowded} ticks beside sessions at rest, {fresh} without");
}

#[test]
fn a_victim_is_not_computed_again_and_again() {
    let (mut engine, model) = cramped(12, 512);
    let prompts: [&[u32]; 2] = [&TOKENS[..20], &TOKENS[..21]];
    let sessions = prompts.map(|prompt| told(&mut engine, model, prompt));
    sessions.iter().for_each(|session| engine.generate(*session, &asks(300)).unwrap());
    let mut rows = 0;
    let mut waves = engine.world_mut().query::<&mut Wave>();
    // Rows are counted where they are embedded: the buffer of positions keeps its length through the tick only, so
    // what each session has computed is summed instead.
    let mut before = [0; 2];
    while sessions.iter().any(|session| engine.phase(*session).unwrap().is_active()) {
        engine.tick();
        for (session, before) in sessions.iter().zip(&mut before) {
            let now = engine.world().get::<weft::components::ContextCursor>(session.0).unwrap().computed;
            rows += now.saturating_sub(*before);
            *before = now;
        }
    }
    assert_eq!(waves.iter_mut(engine.world_mut()).count(), 1);
    let useful = 2 * 320;
    assert!(rows <= 3 * useful, "{rows} rows computed, {useful} tokens in all");
}

#[test]
fn a_prompt_gets_its_turn_beside_decoders_that_fill_the_wave() {
    let (mut engine, model) = cramped(64, 2);
    let decoders: Vec<_> = (0..2).map(|n| told(&mut engine, model, &TOKENS[n..n + 4])).collect();
    decoders.iter().for_each(|session| engine.generate(*session, &asks(400)).unwrap());
    for _ in 0..8 {
        engine.tick();
    }
    let short = told(&mut engine, model, &TOKENS[..4]);
    engine.generate(short, &asks(2)).unwrap();
    for _ in 0..100 {
        engine.tick();
    }
    assert_eq!(engine.phase(short).unwrap(), Phase::Finished(FinishReason::MaxTokens));
}

#[test]
fn a_wave_of_one_row_serves_everybody() {
    let (mut engine, model) = cramped(3, 1);
    let sessions: Vec<_> = (0..3).map(|n| told(&mut engine, model, &TOKENS[n..n + 20])).collect();
    sessions.iter().for_each(|session| engine.generate(*session, &asks(40)).unwrap());
    for (n, session) in sessions.iter().enumerate() {
        assert_eq!(finish(&mut engine, *session), FinishReason::MaxTokens);
        assert_eq!(engine.output(*session).unwrap().tokens, alone(&TOKENS[n..n + 20], 40));
    }
}

// --- Several models ---------------------------------------------------------------------------------------------------

#[test]
fn a_tick_tells_what_it_did_whichever_model_moved() {
    for held_first in [true, false] {
        let mut engine = engine(64);
        let (source, gate) = gated();
        let (held, free);
        if held_first {
            held = load(&mut engine, source, 4 * PAGE);
            free = load(&mut engine, golden("tiny/tiny-llama.gguf").as_path(), 4 * PAGE);
        } else {
            free = load(&mut engine, golden("tiny/tiny-llama.gguf").as_path(), 4 * PAGE);
            held = load(&mut engine, source, 4 * PAGE);
        }
        engine.wait_loaded(free).unwrap();
        let waiting = told(&mut engine, held, &TOKENS[..9]);
        engine.generate(waiting, &asks(5)).unwrap();
        let stuck = |engine: &mut Engine| {
            let mut waves = engine.world_mut().query::<&Wave>();
            waves.iter(engine.world()).any(|wave| wave.at == AtLayer::Layer(2))
        };
        while !stuck(&mut engine) {
            engine.tick();
        }
        let session = told(&mut engine, free, &TOKENS[..9]);
        engine.generate(session, &asks(10)).unwrap();
        for _ in 0..8 {
            assert_eq!(engine.tick(), TickOutcome::Advanced, "a token was chosen, held first: {held_first}");
        }
        finish(&mut engine, session);
        assert_eq!(engine.output(session).unwrap().tokens, alone(&TOKENS[..9], 10));
        engine.tick();
        assert_eq!(engine.tick(), TickOutcome::Waiting, "nothing moved, held first: {held_first}");
        gate.open();
        assert_eq!(finish(&mut engine, waiting), FinishReason::MaxTokens);
        assert_eq!(engine.output(waiting).unwrap().tokens, alone(&TOKENS[..9], 5));
    }
}

// --- Numbers out of all proportion ------------------------------------------------------------------------------------

#[test]
fn absurd_options_are_errors_or_harmless() {
    assert!(engine(1).load(ModelSource::Parts(vec![]), &LoadOptions::default()).is_err());
    for kv_tokens in [usize::MAX, usize::MAX / 2, 1 << 52] {
        let options = LoadOptions { kv_tokens: Some(kv_tokens), ..LoadOptions::default() };
        let path = golden("tiny/tiny-llama.gguf");
        assert!(matches!(engine(1).load(path.as_path(), &options), Err(Error::Load(_))), "{kv_tokens}");
    }
    let (mut engine, model) = cramped(0, usize::MAX);
    let session = told(&mut engine, model, &TOKENS[..9]);
    let sampler = SamplerSettings {
        temperature: 1e-30,
        top_k: usize::MAX,
        penalty_last_n: usize::MAX,
        repetition_penalty: 1e30,
        presence_penalty: f32::MAX,
        frequency_penalty: -f32::MAX,
        logprobs: Some(usize::MAX),
        logit_bias: vec![(1, f32::INFINITY), (2, f32::NEG_INFINITY)],
        ..SamplerSettings::default()
    };
    engine.generate(session, &GenerateOptions { sampler, prefill_chunk: usize::MAX, ..asks(5) }).unwrap();
    finish(&mut engine, session);
    let none = engine.open_session(model, &SessionOptions { context: Some(0) }).unwrap();
    assert!(matches!(
        engine.append(none, Prompt::Tokens(vec![1])),
        Err(Error::ContextOverflow { tokens: 1, limit: 0 })
    ));
    assert!(matches!(engine.ask_logits(none, vec![], KeepLogits::NextTokenLoss, 0), Err(Error::EmptyPrompt)));
    assert!(matches!(engine.ask_logits(none, vec![0], KeepLogits::Row, 0), Err(Error::BadPosition { .. })));
}

// --- Damaged files ------------------------------------------------------------------------------------------------------

/// One change to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// A byte of the header.
    Byte(usize, u8),
    /// The value of a metadata key of four bytes.
    Value(usize, u32),
    /// A byte of a tensor's name.
    Name(usize, usize, u8),
    /// A dimension of a tensor.
    Dimension(usize, usize, u64),
    /// The format of a tensor.
    Format(usize, u32),
    /// Where a tensor's bytes are.
    Offset(usize, u64),
    /// Weights that are no numbers.
    Weights(usize, u8),
}

/// Where what can be damaged lies in the tiny model's file.
struct Places {
    /// Of values of metadata keys.
    values: Vec<usize>,
    /// Of tensor names, and their lengths.
    tensors: Vec<(usize, usize)>,
    /// First byte behind the header.
    data: usize,
}

static PLACES: LazyLock<Places> = LazyLock::new(|| {
    let find = |needle: &str| {
        let mut wanted = (needle.len() as u64).to_le_bytes().to_vec();
        wanted.extend(needle.as_bytes());
        TINY.windows(wanted.len()).position(|window| window == wanted).expect(needle) + wanted.len()
    };
    let keys = [
        "llama.context_length",
        "llama.embedding_length",
        "llama.block_count",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.attention.layer_norm_rms_epsilon",
        "llama.rope.freq_base",
        "llama.rope.dimension_count",
        "llama.vocab_size",
        "llama.attention.key_length",
        "llama.attention.value_length",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
    ];
    let whole: Vec<Arc<dyn Source>> = vec![Arc::new(MemorySource::new("tiny", TINY.clone()))];
    let gguf = weft::gguf::Gguf::read(&whole).unwrap();
    Places {
        // Behind the key stands the value's type.
        values: keys.iter().map(|key| find(key) + 4).collect(),
        tensors: gguf.tensors.iter().map(|t| (find(&t.name) - t.name.len(), t.name.len())).collect(),
        data: gguf.tensors.iter().map(|t| t.range.start as usize).min().unwrap(),
    }
});

impl Damage {
    fn apply(&self, file: &mut [u8]) {
        let places = &*PLACES;
        let tensor = |index: usize| places.tensors[index % places.tensors.len()];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        match *self {
            Self::Byte(at, byte) => put(at % places.data, &[byte]),
            Self::Value(key, value) => {
                put(places.values[key % places.values.len()], &value.to_le_bytes());
            }
            Self::Name(index, at, byte) => {
                let (start, len) = tensor(index);
                put(start + at % len, &[byte]);
            }
            Self::Dimension(index, which, size) => {
                let (start, len) = tensor(index);
                put(start + len + 4 + 8 * (which % 2), &size.to_le_bytes());
            }
            Self::Format(index, id) => {
                let (start, len) = tensor(index);
                let dimensions = TINY[start + len] as usize;
                put(start + len + 4 + 8 * dimensions, &id.to_le_bytes());
            }
            Self::Offset(index, offset) => {
                let (start, len) = tensor(index);
                let dimensions = TINY[start + len] as usize;
                put(start + len + 8 + 8 * dimensions, &offset.to_le_bytes());
            }
            Self::Weights(at, byte) => {
                let at = places.data + at % (TINY.len() - places.data - 64);
                put(at, &[byte; 64]);
            }
        }
    }
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 320, 321, 512]),
        (0u32..32).prop_map(|bit| 1 << bit),
        prop::sample::select(
            [0.0, -0.0, 1e-45, 1e-5, 1e38, f32::INFINITY, f32::NAN, -1.0, 1.0].map(f32::to_bits).to_vec()
        ),
        any::<u32>(),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let any_index = || 0usize..1 << 20;
    prop_oneof![
        3 => (any_index(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        6 => (any_index(), number()).prop_map(|(key, value)| Damage::Value(key, value)),
        1 => (any_index(), any_index(), any::<u8>()).prop_map(|(t, at, byte)| Damage::Name(t, at, byte)),
        2 => (any_index(), any_index(), number().prop_map(u64::from))
            .prop_map(|(t, which, size)| Damage::Dimension(t, which, size)),
        2 => (any_index(), 0u32..42).prop_map(|(t, id)| Damage::Format(t, id)),
        1 => (any_index(), (0u64..9000).prop_map(|n| n * 32)).prop_map(|(t, at)| Damage::Offset(t, at)),
        1 => (any_index(), any::<u8>()).prop_map(|(at, byte)| Damage::Weights(at, byte)),
    ]
}

/// Most memory that the process has had, in bytes, where the system tells.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Loads a file and generates three tokens, as far as it goes.
fn use_file(file: Vec<u8>) -> Result<(), Error> {
    let mut engine = engine(512);
    let model = engine.load(ModelSource::memory("damaged", file), &LoadOptions::default())?;
    let session = engine.open_session(model, &SessionOptions::default())?;
    engine.append(session, Prompt::Tokens(vec![1, 2, 3]))?;
    engine.generate(session, &asks(3))?;
    finish(&mut engine, session);
    let _ = engine.output(session)?.text.len();
    let text = Prompt::Text { text: "héllo <s>".into(), special: weft::SpecialTokens::Parse };
    engine.append(session, text)?;
    engine.generate(session, &asks(1))?;
    finish(&mut engine, session);
    engine.progress(model).map(|_| ())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_errors_or_run(damages in prop::collection::vec(damage(), 1..4)) {
        let mut file = TINY.clone();
        damages.iter().for_each(|damage| damage.apply(&mut file));
        if let Err(error) = use_file(file) {
            prop_assert!(!error.to_string().is_empty());
        }
        // Far from what the tests of this file need, far below what a damaged size would ask for.
        prop_assert!(peak_memory() < 1 << 30, "{} bytes of memory", peak_memory());
    }
}

// --- Any calls in any order ---------------------------------------------------------------------------------------------

/// A call of the API; sessions by number, of those open.
#[derive(Clone, Debug)]
enum Call {
    Open(Option<usize>),
    Append(usize, usize),
    SetContext(usize, usize, usize),
    Generate(usize, usize, usize),
    Ask(usize, usize, usize),
    Take(usize),
    Cancel(usize),
    Close(usize),
    Despawn(usize),
    Tick(usize),
    OpenGate,
    Unload,
}

fn call() -> impl Strategy<Value = Call> {
    let which = || 0usize..4;
    prop_oneof![
        4 => prop::option::weighted(0.3, 0usize..150).prop_map(Call::Open),
        6 => (which(), 0usize..40).prop_map(|(s, n)| Call::Append(s, n)),
        5 => (which(), 0usize..40, 0usize..3).prop_map(|(s, n, v)| Call::SetContext(s, n, v)),
        14 => (which(), 0usize..50, prop::sample::select(vec![0, 1, 7, 64]))
            .prop_map(|(s, n, chunk)| Call::Generate(s, n, chunk)),
        3 => (which(), 1usize..20, 0usize..9).prop_map(|(s, step, chunk)| Call::Ask(s, step, chunk)),
        2 => which().prop_map(Call::Take),
        6 => which().prop_map(Call::Cancel),
        1 => which().prop_map(Call::Close),
        1 => which().prop_map(Call::Despawn),
        10 => (1usize..40).prop_map(Call::Tick),
        1 => Just(Call::OpenGate),
        1 => prop::bool::weighted(0.1).prop_map(|gone| if gone { Call::Unload } else { Call::Tick(3) }),
    ]
}

/// What a session should be.
struct Expected {
    id: SessionId,
    history: Vec<u32>,
    request: Option<usize>,
    question: Option<usize>,
}

/// Pages: all are free or held once, and held pages are those in the tables of sessions.
fn check_pages(engine: &mut Engine, model: ModelId) {
    let world = engine.world_mut();
    let held: Vec<u32> = world.query::<&KvPage>().iter(world).map(|page| page.slot).collect();
    let tables: Vec<u32> =
        world.query::<&BlockTable>().iter(world).flat_map(|table| table.0.iter().copied()).collect();
    let Some(pool) = world.get::<KvPool>(model.0) else {
        assert!(held.is_empty() && tables.is_empty(), "pages outlive their model");
        return;
    };
    assert_eq!(pool.free() + held.len(), pool.capacity(), "pages are lost or doubled");
    let distinct: HashSet<u32> = held.iter().copied().collect();
    assert_eq!(distinct.len(), held.len(), "a slot has two pages");
    assert_eq!(tables.len(), held.len(), "tables and pages disagree");
    assert_eq!(tables.into_iter().collect::<HashSet<_>>(), distinct, "tables and pages disagree");
}

/// What the model says after some tokens, found once.
fn reference(tokens: &[u32], count: usize) -> Vec<u32> {
    static KNOWN: LazyLock<Mutex<HashMap<(Vec<u32>, usize), Vec<u32>>>> = LazyLock::new(Mutex::default);
    thread_local! {
        static ALONE: std::cell::RefCell<(Engine, ModelId)> = std::cell::RefCell::new(cramped(16, 512));
    }
    let key = (tokens.to_vec(), count);
    if let Some(found) = KNOWN.lock().unwrap().get(&key) {
        return found.clone();
    }
    let found = ALONE.with_borrow_mut(|(engine, model)| greedy(engine, *model, tokens, count));
    KNOWN.lock().unwrap().insert(key, found.clone());
    found
}

/// Compares a session with what it should be, and learns what it said.
fn check_session(engine: &Engine, session: &mut Expected) {
    let phase = engine.phase(session.id).unwrap();
    let said = engine.output(session.id).unwrap().tokens.clone();
    let Some(max) = session.request else {
        assert_eq!(engine.history(session.id).unwrap(), session.history);
        return;
    };
    let whole: Vec<u32> = session.history.iter().chain(&said).copied().collect();
    assert_eq!(engine.history(session.id).unwrap(), whole, "the history is what was told and said");
    assert!(said.len() <= max);
    if phase.is_active() {
        return;
    }
    assert_eq!(said, reference(&session.history, said.len()), "{phase:?} {:?}", session.history);
    match phase {
        Phase::Finished(FinishReason::MaxTokens) => assert_eq!(said.len(), max),
        Phase::Finished(FinishReason::Cancelled | FinishReason::ContextFull) => {}
        other => panic!("{other:?}"),
    }
    if phase != Phase::Finished(FinishReason::MaxTokens) {
        session.question = None;
    }
    session.history = whole;
    session.request = None;
}

fn run_calls(calls: &[Call], pages: usize, max_rows: usize) {
    let (source, gate) = gated();
    let mut engine = engine(max_rows);
    let mut model = load(&mut engine, source, pages * PAGE);
    let mut sessions: Vec<Expected> = Vec::new();
    let words = |n: usize, variant: usize| -> Vec<u32> {
        TOKENS.iter().cycle().skip(variant).take(n).map(|t| (t + variant as u32 * 5) % 320).collect()
    };
    let start = [Call::Open(None), Call::Append(0, 9), Call::Open(None), Call::Append(1, 20)];
    for call in start.iter().chain(calls) {
        let open = sessions.len().max(1);
        let at = |which: &usize| which % open;
        match call {
            Call::Open(context) => {
                let options = SessionOptions { context: *context };
                if sessions.len() < 4 {
                    let id = engine.open_session(model, &options).unwrap();
                    sessions.push(Expected { id, history: vec![], request: None, question: None });
                }
            }
            Call::Tick(count) => (0..*count).for_each(|_| _ = engine.tick()),
            Call::OpenGate => gate.open(),
            Call::Unload => {
                engine.unload(model);
                check_pages(&mut engine, model);
                sessions.clear();
                model = load(&mut engine, golden("tiny/tiny-llama.gguf").as_path(), pages * PAGE);
            }
            _ if sessions.is_empty() => {}
            Call::Append(which, n) => {
                let session = &mut sessions[at(which)];
                let tokens = words(*n, session.history.len() % 3);
                if engine.append(session.id, Prompt::Tokens(tokens.clone())).is_ok() {
                    session.history.extend(tokens);
                }
            }
            Call::SetContext(which, n, variant) => {
                let session = &mut sessions[at(which)];
                let mut tokens = session.history[..session.history.len() / 2].to_vec();
                tokens.extend(words(*n, *variant));
                if engine.set_context(session.id, tokens.clone()).is_ok() {
                    session.history = tokens;
                }
            }
            Call::Generate(which, max, chunk) => {
                let session = &mut sessions[at(which)];
                let options = GenerateOptions { prefill_chunk: *chunk, ..asks(*max) };
                if engine.generate(session.id, &options).is_ok() {
                    session.request = Some(*max);
                }
            }
            Call::Ask(which, step, chunk) => {
                let session = &mut sessions[at(which)];
                let positions: Vec<usize> = (0..session.history.len()).step_by(*step).collect();
                let count = positions.len();
                if engine.ask_logits(session.id, positions, KeepLogits::Row, *chunk).is_ok() {
                    (session.request, session.question) = (Some(0), Some(count));
                }
            }
            Call::Take(which) => {
                let session = &mut sessions[at(which)];
                let kept = engine.take_logits(session.id).unwrap().rows.len();
                match session.question.take() {
                    Some(count) if session.request.is_none() => assert_eq!(kept, count, "logits asked for"),
                    _ => {}
                }
            }
            Call::Cancel(which) => {
                engine.cancel(sessions[at(which)].id).unwrap();
            }
            Call::Close(which) => {
                let session = sessions.remove(at(which));
                engine.close(session.id);
            }
            Call::Despawn(which) => {
                let session = sessions.remove(at(which));
                engine.world_mut().despawn(session.id.0);
            }
        }
        sessions.iter_mut().for_each(|session| check_session(&engine, session));
        check_pages(&mut engine, model);
    }
    gate.open();
    engine.wait_loaded(model).unwrap();
    let mut ticks = 0;
    while sessions.iter().any(|session| engine.phase(session.id).unwrap().is_active()) {
        engine.tick();
        ticks += 1;
        assert!(ticks < 20_000, "no end in sight");
    }
    for session in &mut sessions {
        check_session(&engine, session);
        engine.close(session.id);
    }
    let pool = engine.world().get::<KvPool>(model.0).unwrap();
    assert_eq!(pool.free(), pool.capacity());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_in_any_order(
        calls in prop::collection::vec(call(), 1..80),
        pages in 1usize..7,
        max_rows in prop::sample::select(vec![1usize, 2, 5, 16, 512]),
    ) {
        run_calls(&calls, pages, max_rows);
    }
}
