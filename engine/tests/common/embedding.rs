//! Embeddings and their recorded references in `assets/golden/embed`.

use super::reference::golden_model;
use super::{golden_floats, golden_json, ids, told};
use weft::{
    EmbedOptions, Embedding, Engine, EngineOptions, KvFormat, LoadOptions, ModelId, Pooling, Prompt,
    SessionId, TickOutcome,
};

/// Encoders with recorded hidden states.
pub const ENCODERS: [&str; 2] = ["bert", "nomic-bert"];

/// Maximum difference of an encoder's values from those of transformers, relative to the largest. Both compute in 32
/// bits from the same weights. The smallest error that has to be noticed, a GELU computed with tanh, changes them by
/// 1.9e-4.
pub const MOST_DIFFERENCE: f64 = 5e-5;

/// The texts of a file, as token ids.
pub fn texts(name: &str) -> Vec<Vec<u32>> {
    let reference = golden_json(&format!("embed/{name}.json"));
    reference["texts"].as_array().expect("texts").iter().map(ids).collect()
}

/// The same texts as prompts of the engine.
pub fn prompts(texts: &[Vec<u32>]) -> Vec<Prompt> {
    texts.iter().cloned().map(Prompt::Tokens).collect()
}

/// The recorded hidden states of texts, `width` floats per token.
pub fn reference_states(name: &str, texts: &[Vec<u32>], width: usize) -> Vec<Vec<Vec<f32>>> {
    let floats = golden_floats(&format!("embed/{name}.f32.gz"));
    let mut rows = floats.chunks_exact(width).map(<[f32]>::to_vec);
    let states: Vec<Vec<_>> = texts.iter().map(|text| rows.by_ref().take(text.len()).collect()).collect();
    assert!(rows.next().is_none() && states.iter().zip(texts).all(|(rows, text)| rows.len() == text.len()));
    states
}

/// Pools recorded states by the definition of the method.
pub fn pooled(rows: &[Vec<f32>], pooling: Pooling) -> Vec<Vec<f32>> {
    let mean = |at: usize| rows.iter().map(|row| f64::from(row[at])).sum::<f64>() / rows.len() as f64;
    match pooling {
        Pooling::None => rows.to_vec(),
        Pooling::Mean => vec![(0..rows[0].len()).map(|at| mean(at) as f32).collect()],
        Pooling::Cls => vec![rows[0].clone()],
        Pooling::Last => vec![rows[rows.len() - 1].clone()],
    }
}

/// The largest difference of embeddings, relative to the largest component.
pub fn difference(found: &[Embedding], wanted: &[Vec<Vec<f32>>]) -> f64 {
    let largest = wanted.iter().flatten().flatten().fold(0.0f32, |most, x| most.max(x.abs()));
    assert_eq!(found.len(), wanted.len());
    let mut most: f64 = 0.0;
    for (found, wanted) in found.iter().zip(wanted) {
        assert_eq!(found.vectors.len(), wanted.len());
        for (found, wanted) in found.vectors.iter().flatten().zip(wanted.iter().flatten()) {
            let difference = f64::from((found - wanted).abs() / largest);
            most = if difference > most || difference.is_nan() { difference } else { most };
        }
    }
    most
}

/// An engine with an encoder of the golden data.
pub fn encoder(name: &str, options: &EngineOptions, kv_format: KvFormat) -> (Engine, ModelId) {
    let mut engine = Engine::new(options).expect("an engine");
    let load = LoadOptions { kv_format, ..LoadOptions::default() };
    let model = engine.load(golden_model(&format!("embed/{name}.gguf")), &load).expect(name);
    engine.wait_loaded(model).expect(name);
    (engine, model)
}

/// Embeds texts whose sessions are all requested before the first tick. Returns the embeddings, and the number of ticks
/// that advanced any of them.
pub fn together(
    engine: &mut Engine,
    model: ModelId,
    texts: &[Vec<u32>],
    options: &EmbedOptions,
) -> (Vec<Embedding>, usize) {
    let sessions: Vec<SessionId> = texts.iter().map(|text| told(engine, model, text)).collect();
    for session in &sessions {
        engine.ask_embedding(*session, options).expect("a question");
    }
    let mut found = vec![None; texts.len()];
    let mut ticks = 0;
    while found.iter().any(Option::is_none) {
        match engine.tick() {
            TickOutcome::Advanced => ticks += 1,
            TickOutcome::Waiting | TickOutcome::Idle => engine.rest(),
        }
        for (session, found) in sessions.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            *found = engine.take_embedding(*session).expect("an embedding");
        }
    }
    sessions.into_iter().for_each(|session| engine.close(session));
    (found.into_iter().flatten().collect(), ticks)
}
