//! The engine on the browser's GPU. It opens asynchronously and is driven tick by tick; nothing blocks.

use crate::rest::Turn;
use crate::{ask, load, options};
use wasm_bindgen::prelude::*;
use weft::{Engine, Gpu, GpuLayers, GpuOptions, LoadOptions, ModelId, Phase, SessionId, TickOutcome};

/// An answer, with facts that show where it was computed.
#[wasm_bindgen(getter_with_clone)]
#[derive(Clone, Debug)]
pub struct GpuAnswer {
    /// The answer's tokens.
    pub tokens: Vec<u32>,
    /// The adapter as the browser describes it; some browsers hide it.
    pub adapter: String,
    /// The graphics API that the device was opened through.
    pub backend: String,
    /// Subgroup size, if kernels use subgroup operations.
    pub subgroup: Option<u32>,
    /// Number of layers of the model.
    pub layers: usize,
    /// Number of layers on the GPU.
    #[wasm_bindgen(js_name = layersOnGpu)]
    pub layers_on_gpu: usize,
    /// Number of dispatches for the model since it was last placed on the device.
    pub dispatches: f64,
    /// The compiled kernels: each name with the variants of its parts.
    pub kernels: Vec<String>,
}

/// An engine on the browser's GPU. It stays open between models, and so do its compiled kernels.
#[wasm_bindgen]
pub struct GpuEngine(Engine);

#[wasm_bindgen]
impl GpuEngine {
    /// Opens the GPU. `plain` turns off the features that only add speed.
    ///
    /// # Errors
    /// An `Error` with a remedy if there is no GPU, or if it cannot run the kernels.
    pub async fn open(plain: bool) -> Result<GpuEngine, JsError> {
        Self::opened(plain).await.map_err(thrown)
    }

    /// Returns the `count` most likely tokens after `tokens`, decoded greedily by the model in `gguf`.
    ///
    /// If the GPU fails in the middle of the answer, it is opened again and the answer continues. If that fails too,
    /// the CPU computes the rest and `layersOnGpu` is 0.
    ///
    /// # Errors
    /// Any error of the engine, as an `Error` with its message.
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
        // All layers are requested, so a layer that does not fit is an error instead of moving to the CPU.
        let options = LoadOptions { gpu_layers: GpuLayers::Count(usize::MAX), ..LoadOptions::default() };
        let model = load(engine, gguf, &options)?;
        let answer = finish(engine, model, tokens, count).await;
        engine.unload(model);
        answer
    }
}

/// Requests an answer and drives ticks until it is complete.
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
            // The tick waits for the browser, which can only act when this task yields.
            TickOutcome::Waiting => turn.rest().await,
            TickOutcome::Advanced if turn.is_over() => turn.rest().await,
            TickOutcome::Advanced => {}
        }
    }
    engine.progress(model)?;
    describe(engine, model, session)
}

fn describe(engine: &Engine, model: ModelId, session: SessionId) -> Result<GpuAnswer, weft::Error> {
    let parts = engine.gpu_shards(model);
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
