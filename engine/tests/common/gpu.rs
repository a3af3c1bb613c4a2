//! Shared by the GPU tests: devices, models on them, and the CPU as a judge of their answers.

use super::reference::{CLEAR, CLEAR_TINY};
use super::{Expanded, expanded, golden, logits, smollm2};
use weft::components::{DeviceEvent, DeviceEventKind, Phase};
use weft::{
    Capabilities, Engine, EngineOptions, GenerateOptions, Gpu, GpuOptions, KvFormat, LoadOptions, ModelId,
    ModelSource, SessionId, TickOutcome,
};

/// Both paths: with the features that only add speed, and without.
pub const PATHS: [bool; 2] = [false, true];

/// Options for a GPU of this machine; without one, a software driver is used.
pub fn device(plain: bool) -> GpuOptions {
    GpuOptions { plain, ..GpuOptions::default() }
}

/// Options for an engine on a GPU.
pub fn on_gpu(plain: bool) -> EngineOptions {
    EngineOptions { gpu: Some(device(plain)), ..EngineOptions::default() }
}

/// Opens a GPU.
pub fn open(options: &GpuOptions) -> Gpu {
    pollster::block_on(Gpu::open(options))
        .expect("a GPU; on a machine without one install mesa-vulkan-drivers")
}

/// A short greedy answer, since a software device computes it on machines without a GPU.
pub fn asked() -> GenerateOptions {
    GenerateOptions { max_tokens: Some(10), ..super::company::asked() }
}

/// Options for a GPU that does not round activations: for comparisons with exact activations, and for answers that do
/// not depend on other sessions.
pub fn exact(plain: bool) -> GpuOptions {
    GpuOptions { exact: true, ..device(plain) }
}

/// Options for an engine on such a GPU.
pub fn on_exact_gpu(plain: bool) -> EngineOptions {
    EngineOptions { gpu: Some(exact(plain)), ..EngineOptions::default() }
}

/// An engine on opened GPUs with one completely loaded model.
pub fn loaded_on(
    source: impl Into<ModelSource>,
    options: &EngineOptions,
    gpus: Vec<Gpu>,
    load: &LoadOptions,
) -> (Engine, ModelId) {
    let mut engine = Engine::with_gpus(options, gpus).expect("an engine");
    let model = engine.load(source, load).expect("a model");
    engine.wait_loaded(model).expect("a whole model");
    (engine, model)
}

/// Asserts that no GPU of the model has reported an error.
pub fn unharmed(engine: &Engine, model: ModelId) {
    for part in engine.gpu_shards(model) {
        assert_eq!(part.gpu.failure(), None, "GPU {}", part.number);
    }
}

/// Asserts that the model is on GPUs and that none of them has reported an error.
pub fn on_gpu_unharmed(engine: &Engine, model: ModelId) {
    assert!(!engine.gpu_shards(model).is_empty(), "the model is not on a GPU");
    unharmed(engine, model);
}

/// Ticks once, and rests if there was nothing to do. Appends the new device events to `told`.
pub fn step(engine: &mut Engine, told: &mut DeviceEvents) {
    let outcome = engine.tick();
    told.read(engine);
    if outcome != TickOutcome::Advanced {
        engine.rest();
    }
}

/// The device events of an engine.
#[derive(Default)]
pub struct DeviceEvents {
    cursor: bevy_ecs::message::MessageCursor<DeviceEvent>,
    /// All events so far.
    pub kinds: Vec<DeviceEventKind>,
}

impl DeviceEvents {
    fn read(&mut self, engine: &Engine) {
        let messages = engine.world().resource::<bevy_ecs::message::Messages<DeviceEvent>>();
        self.kinds.extend(self.cursor.read(messages).map(|event| event.kind));
    }
}

/// Ticks until all sessions have ended. Calls `each` before each tick with the number of tokens generated so far.
pub fn run_all(
    engine: &mut Engine,
    sessions: &[SessionId],
    mut each: impl FnMut(&mut Engine, usize),
) -> DeviceEvents {
    let mut told = DeviceEvents::default();
    let ended = |engine: &Engine, session: &SessionId| {
        matches!(engine.phase(*session).expect("a session"), Phase::Finished(_))
    };
    while !sessions.iter().all(|session| ended(engine, session)) {
        let said = sessions.iter().map(|session| engine.output(*session).expect("output").tokens.len()).sum();
        each(engine, said);
        step(engine, &mut told);
    }
    told
}

/// The CPU's judgement of greedy answers: each token has to be the best after the tokens before it, or so close to the
/// best that rounding decides. Unlike a comparison with a text, this holds for every step, including those behind a
/// step that was decided the other way.
///
/// The judge itself rounds nothing: weights are floats, and so are activations and the KV cache. Otherwise its rounding
/// would add to that of the answer, while the tolerance is meant for one rounding compared with none.
pub struct Judge {
    engine: Engine,
    model: ModelId,
    clear: f64,
}

impl Judge {
    /// A judge by a model with float weights; `clear` is the gap between two logits above which rounding cannot decide.
    fn new(source: impl Into<ModelSource>, clear: f64) -> Self {
        Self::with_kv(source, clear, KvFormat::F32)
    }

    /// A judge that keeps keys and values in 16 bits, as a device does. Otherwise, where rounding them selects another
    /// expert, the results are no longer close.
    pub fn in_halves(source: impl Into<ModelSource>, clear: f64) -> Self {
        Self::with_kv(source, clear, KvFormat::F16)
    }

    fn with_kv(source: impl Into<ModelSource>, clear: f64, kv_format: KvFormat) -> Self {
        let mut engine = Engine::new(&EngineOptions::default()).expect("an engine");
        let load = LoadOptions { kv_format, ..LoadOptions::default() };
        let model = engine.load(source, &load).expect("a model");
        engine.wait_loaded(model).expect("a whole model");
        Self { engine, model, clear }
    }

    /// A judge by tiny-llama, whose weights are floats in its file.
    pub fn tiny() -> Self {
        Self::new(golden("tiny/tiny-llama.gguf").as_path(), CLEAR_TINY)
    }

    /// A judge by SmolLM2. It takes half a gigabyte, so make it after the answers and drop it early.
    pub fn smollm2() -> Self {
        Self::new(expanded(&smollm2(), Expanded::F32), CLEAR)
    }

    /// Asserts that an answer is what the model generates after `prompt`.
    pub fn check(&mut self, prompt: &[u32], answer: &[u32], what: &str) {
        let whole: Vec<u32> = prompt.iter().chain(answer).copied().collect();
        let positions: Vec<usize> = (0..answer.len()).map(|step| prompt.len() - 1 + step).collect();
        let rows = logits(&mut self.engine, self.model, &whole, &positions, 0);
        let mut most: f64 = 0.0;
        for (step, (row, token)) in rows.iter().zip(answer).enumerate() {
            let best = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let behind = f64::from(best - row[*token as usize]);
            assert!(
                behind < self.clear,
                "{what}, step {step}: {token} is {behind} behind {}",
                super::argmax(row)
            );
            most = most.max(behind);
        }
        println!("{what}: at most {most:.4} behind");
    }
}

/// A device with these capabilities that computes nothing.
pub fn noop(capabilities: impl FnOnce(Capabilities) -> Capabilities) -> Gpu {
    // As many bindings as the kernels of any device need.
    let roomy = |caps: Capabilities| Capabilities { storage_buffers: 16, workgroup_memory: 32 << 10, ..caps };
    Gpu::noop(|caps| capabilities(roomy(caps)))
}

/// Adds every feature that llvmpipe has.
pub fn featured(caps: Capabilities) -> Capabilities {
    Capabilities { subgroup: Some(8), f16: true, packed_dot: true, ..caps }
}

/// Adds every feature that a large GPU has.
pub fn cooperative(caps: Capabilities) -> Capabilities {
    Capabilities { subgroup: Some(32), cooperative: true, ..featured(caps) }
}
