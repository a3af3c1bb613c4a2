//! The engine on the browser's GPU: opened with a promise, driven tick by tick, and never waited for.

use crate::rest::Turn;
use crate::{ask, load, options};
use wasm_bindgen::prelude::*;
use weft::{Engine, Gpu, GpuLayers, GpuOptions, LoadOptions, ModelId, Phase, SessionId, TickOutcome};

/// An answer, with what shows where it was computed.
#[wasm_bindgen(getter_with_clone)]
#[derive(Clone, Debug)]
pub struct GpuAnswer {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// The adapter, as the browser describes it; some browsers keep it to themselves.
    pub adapter: String,
    /// The API that the device was opened through.
    pub backend: String,
    /// Lanes of a subgroup, where kernels use subgroup operations.
    pub subgroup: Option<u32>,
    /// The model's layers.
    pub layers: usize,
    /// Those of them that are on the GPU.
    #[wasm_bindgen(js_name = layersOnGpu)]
    pub layers_on_gpu: usize,
    /// Dispatches that the device was given for the model since it was last placed there.
    pub dispatches: f64,
    /// Kernels compiled: their names, each with the parts that it is made of.
    pub kernels: Vec<String>,
}

/// An engine on the browser's GPU. It stays open from model to model, and so do the kernels that it has compiled.
#[wasm_bindgen]
pub struct GpuEngine(Engine);

#[wasm_bindgen]
impl GpuEngine {
    /// Opens the GPU. `plain` leaves features unused that only add speed.
    ///
    /// # Errors
    /// There is none, or it cannot run the kernels: an `Error` that says what to do.
    pub async fn open(plain: bool) -> Result<GpuEngine, JsError> {
        Self::opened(plain).await.map_err(thrown)
    }

    /// The `count` most likely tokens after `tokens`, one by one, on the model in `gguf`.
    ///
    /// A GPU that fails in mid-answer is opened again and the answer goes on; where that fails too, the CPU computes the
    /// rest, and `layersOnGpu` is 0.
    ///
    /// # Errors
    /// Whatever the engine refuses, as an `Error` with its message.
    pub async fn greedy(
        &mut self,
        gguf: Vec<u8>,
        tokens: Vec<u32>,
        count: usize,
    ) -> Result<GpuAnswer, JsError> {
        self.answer(gguf, tokens, count).await.map_err(thrown)
    }
}

fn thrown(error: weft::Error) -> JsError {
    JsError::new(&error.to_string())
}

impl GpuEngine {
    async fn opened(plain: bool) -> Result<Self, weft::Error> {
        let gpu = Gpu::open(&GpuOptions { plain, ..GpuOptions::default() }).await?;
        Ok(Self(Engine::with_gpus(&options(), vec![gpu])?))
    }

    async fn answer(
        &mut self,
        gguf: Vec<u8>,
        tokens: Vec<u32>,
        count: usize,
    ) -> Result<GpuAnswer, weft::Error> {
        let engine = &mut self.0;
        // Every layer: one that does not fit is an error, not a layer of the CPU's.
        let options = LoadOptions { gpu_layers: GpuLayers::Count(usize::MAX), ..LoadOptions::default() };
        let model = load(engine, gguf, &options)?;
        let answer = finish(engine, model, tokens, count).await;
        engine.unload(model);
        answer
    }
}

/// Asks for an answer and drives ticks until it is there.
async fn finish(
    engine: &mut Engine,
    model: ModelId,
    tokens: Vec<u32>,
    count: usize,
) -> Result<GpuAnswer, weft::Error> {
    let session = ask(engine, model, tokens, count)?;
    let mut turn = Turn::begin();
    while !matches!(engine.phase(session)?, Phase::Finished(_)) {
        match engine.tick() {
            TickOutcome::Idle => break,
            // What the tick waits for comes from the browser, which needs its turn for it.
            TickOutcome::Waiting => turn.rest().await,
            TickOutcome::Advanced if turn.is_over() => turn.rest().await,
            TickOutcome::Advanced => {}
        }
    }
    engine.progress(model)?;
    describe(engine, model, session)
}

fn describe(engine: &Engine, model: ModelId, session: SessionId) -> Result<GpuAnswer, weft::Error> {
    let parts = engine.gpu_parts(model);
    let gpu = parts.first().map(|part| &part.gpu);
    let kernels = gpu.map_or_else(Vec::new, |gpu| gpu.pipelines.paths());
    Ok(GpuAnswer {
        tokens: engine.output(session)?.tokens.clone(),
        adapter: gpu.map_or_else(String::new, |gpu| gpu.info.name.clone()),
        backend: gpu.map_or_else(String::new, |gpu| gpu.info.backend.to_string()),
        subgroup: gpu.and_then(|gpu| gpu.capabilities.subgroup),
        layers: engine.config(model)?.layers,
        layers_on_gpu: parts.iter().map(|part| part.layers()).sum(),
        dispatches: parts.iter().map(|part| part.counters().dispatches).sum::<u64>() as f64,
        kernels: kernels.into_iter().map(|(name, parts)| format!("{name}: {}", parts.join(" "))).collect(),
    })
}
