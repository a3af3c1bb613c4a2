//! Models with LoRA adapters, and the distance of their logits from those of transformers with PEFT
//! (`assets/golden/lora`).

use super::reference::floats;
use super::{golden, golden_json, ids, logits, told};
use weft::{
    AdapterId, Engine, EngineOptions, GenerateOptions, KeepLogits, LoadOptions, ModelId, ModelSource,
    SessionId,
};

/// Adapters, and the models of `assets/golden/hf` that they are for.
pub const ADAPTERS: [(&str, &str); 4] =
    [("llama", "llama-all"), ("llama", "llama-qv"), ("qwen2", "qwen2-some"), ("phi3", "phi3-all")];

/// A model and the prompt of its reference.
pub struct Base {
    pub engine: Engine,
    pub model: ModelId,
    pub tokens: Vec<u32>,
    pub positions: Vec<usize>,
    /// Rows of the prompt per wave; 0 for as many as fit.
    pub chunk: usize,
}

impl Base {
    /// Begins to load a model.
    pub fn load(name: &str, source: ModelSource, options: &EngineOptions, load: &LoadOptions) -> Self {
        let mut engine = Engine::new(options).unwrap();
        let model = engine.load(source, load).unwrap();
        let reference = golden_json(&format!("hf/{name}.json"));
        let positions = ids(&reference["logit_positions"]).into_iter().map(|n| n as usize).collect();
        Self { engine, model, tokens: ids(&reference["tokens"]), positions, chunk: 0 }
    }

    pub fn adapter(&mut self, file: &str) -> AdapterId {
        self.engine.load_adapter(self.model, &*golden(&format!("lora/{file}"))).unwrap()
    }

    /// Opens a session with the prompt.
    pub fn told(&mut self, adapter: Option<(AdapterId, f32)>) -> SessionId {
        let session = told(&mut self.engine, self.model, &self.tokens);
        if let Some((adapter, scale)) = adapter {
            self.engine.set_adapter(session, Some(adapter), scale).unwrap();
        }
        session
    }

    /// Opens a session with the prompt and requests its logits, without a tick.
    pub fn ask(&mut self, adapter: Option<(AdapterId, f32)>) -> SessionId {
        let session = self.told(adapter);
        self.engine.ask_logits(session, self.positions.clone(), KeepLogits::Row, self.chunk).unwrap();
        session
    }

    pub fn answer(&mut self, session: SessionId) -> Vec<Vec<f32>> {
        self.engine.wait(session).unwrap();
        let rows = self.engine.take_logits(session).unwrap().rows;
        self.engine.close(session);
        assert_eq!(rows.len(), self.positions.len());
        rows
    }

    pub fn logits(&mut self, adapter: Option<(AdapterId, f32)>) -> Vec<Vec<f32>> {
        let session = self.ask(adapter);
        self.answer(session)
    }

    /// The logits of the model without an adapter.
    pub fn plain(&mut self) -> Vec<Vec<f32>> {
        let (tokens, positions) = (self.tokens.clone(), self.positions.clone());
        logits(&mut self.engine, self.model, &tokens, &positions, self.chunk)
    }

    /// Starts a session that answers the prompt.
    pub fn start(&mut self, adapter: Option<(AdapterId, f32)>, options: &GenerateOptions) -> SessionId {
        let session = self.told(adapter);
        self.engine.generate(session, options).unwrap();
        session
    }
}

pub fn bits(rows: &[Vec<f32>]) -> Vec<u32> {
    rows.iter().flatten().map(|logit| logit.to_bits()).collect()
}

/// The maximum distance of rows from those of PEFT under `key`, relative to the largest logit.
pub fn adapter_difference(name: &str, key: &str, rows: &[Vec<f32>]) -> f64 {
    let reference = golden_json(&format!("lora/{name}.json"));
    let largest = reference["largest"].as_f64().unwrap();
    let wanted = reference[key].as_array().unwrap();
    assert_eq!(rows.len(), wanted.len());
    let mut most: f64 = 0.0;
    for (row, wanted) in rows.iter().zip(wanted) {
        let wanted = floats(wanted);
        assert_eq!(row.len(), wanted.len());
        for (found, wanted) in row.iter().zip(wanted) {
            let difference = f64::from((found - wanted).abs()) / largest;
            most = if difference > most || difference.is_nan() { difference } else { most };
        }
    }
    most
}
