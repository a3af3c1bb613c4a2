//! What the tests of the GPU backend share: devices, models on them, and the CPU's word on what they say.

use super::reference::{CLEAR, CLEAR_TINY};
use super::{Expanded, expanded, golden, logits, smollm2};
use weft::components::{DeviceEvent, DeviceEventKind, Phase};
use weft::{
    Capabilities, Engine, EngineOptions, GenerateOptions, Gpu, GpuOptions, KvFormat, LoadOptions, ModelId,
    ModelSource, SessionId, TickOutcome,
};

/// With the features that only add speed, and without.
pub const PATHS: [bool; 2] = [false, true];

/// A GPU of the machine; on one without, the software driver is one.
pub fn device(plain: bool) -> GpuOptions {
    GpuOptions { plain, ..GpuOptions::default() }
}

/// An engine on a GPU.
pub fn on_gpu(plain: bool) -> EngineOptions {
    EngineOptions { gpu: Some(device(plain)), ..EngineOptions::default() }
}

/// Opens a GPU.
pub fn open(options: &GpuOptions) -> Gpu {
    pollster::block_on(Gpu::open(options))
        .expect("a GPU; on a machine without one install mesa-vulkan-drivers")
}

/// A greedy answer, a short one: it is a software device that computes it where there is no GPU.
pub fn asked() -> GenerateOptions {
    GenerateOptions { max_tokens: Some(10), ..super::company::asked() }
}

/// A GPU that rounds no activations: for what is held to exact activations, or says the same in any company.
pub fn exact(plain: bool) -> GpuOptions {
    GpuOptions { exact: true, ..device(plain) }
}

/// An engine on such a GPU.
pub fn on_exact_gpu(plain: bool) -> EngineOptions {
    EngineOptions { gpu: Some(exact(plain)), ..EngineOptions::default() }
}

/// An engine on open GPUs with one whole model.
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

/// No GPU of the model has refused anything.
pub fn unharmed(engine: &Engine, model: ModelId) {
    for part in engine.gpu_parts(model) {
        assert_eq!(part.gpu.failure(), None, "GPU {}", part.number);
    }
}

/// The model is on GPUs, and none of them has refused anything.
pub fn on_gpu_unharmed(engine: &Engine, model: ModelId) {
    assert!(!engine.gpu_parts(model).is_empty(), "the model is not on a GPU");
    unharmed(engine, model);
}

/// Ticks once, and rests where there was nothing to do. Gives what has been told of devices since the last time.
pub fn step(engine: &mut Engine, told: &mut DeviceEvents) {
    let outcome = engine.tick();
    told.read(engine);
    if outcome != TickOutcome::Advanced {
        engine.rest();
    }
}

/// What an engine tells of its devices.
#[derive(Default)]
pub struct DeviceEvents {
    cursor: bevy_ecs::message::MessageCursor<DeviceEvent>,
    /// All of it.
    pub kinds: Vec<DeviceEventKind>,
}

impl DeviceEvents {
    fn read(&mut self, engine: &Engine) {
        let messages = engine.world().resource::<bevy_ecs::message::Messages<DeviceEvent>>();
        self.kinds.extend(self.cursor.read(messages).map(|event| event.kind));
    }
}

/// Ticks until all sessions have ended. `each` is called before each tick, with the number of tokens said so far.
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

/// The CPU's word on greedy answers: each token is the best after what came before it, or so near to the best that rounding
/// decides. Unlike a text to compare with, it holds for every step, also behind one that was decided the other way.
///
/// The judge itself rounds nothing: weights are floats, and so are the activations that meet them and the KV cache. Else its
/// rounding would add to that of whom it judges, and how near is near is said of one rounding against none.
pub struct Judge {
    engine: Engine,
    model: ModelId,
    clear: f64,
}

impl Judge {
    /// A judge by a model of float weights; `clear` is how far apart two logits must be for rounding not to matter.
    fn new(source: impl Into<ModelSource>, clear: f64) -> Self {
        Self::with_kv(source, clear, KvFormat::F32)
    }

    /// A judge that keeps keys and values as a device does, in halves: where rounding them chooses another expert, what follows is
    /// no longer near.
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

    /// Of tiny-llama, whose weights are floats as they come.
    pub fn tiny() -> Self {
        Self::new(golden("tiny/tiny-llama.gguf").as_path(), CLEAR_TINY)
    }

    /// Of SmolLM2: half a gigabyte, so after the answers are there and for no longer than needed.
    pub fn smollm2() -> Self {
        Self::new(expanded(&smollm2(), Expanded::F32), CLEAR)
    }

    /// Asserts that an answer is what the model says after `prompt`.
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

/// A device that computes nothing, with these capabilities.
pub fn noop(capabilities: impl FnOnce(Capabilities) -> Capabilities) -> Gpu {
    // Room for every buffer that kernels of any device bind.
    let roomy = |caps: Capabilities| Capabilities { storage_buffers: 16, workgroup_memory: 32 << 10, ..caps };
    Gpu::noop(|caps| capabilities(roomy(caps)))
}

/// With every feature that llvmpipe has.
pub fn featured(caps: Capabilities) -> Capabilities {
    Capabilities { subgroup: Some(8), f16: true, packed_dot: true, ..caps }
}

/// With every feature that a large GPU has.
pub fn cooperative(caps: Capabilities) -> Capabilities {
    Capabilities { subgroup: Some(32), cooperative: true, ..featured(caps) }
}
