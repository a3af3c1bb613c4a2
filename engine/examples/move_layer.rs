//! A layer that moves in mid-answer: to the first GPU if the machine has one, and back. The answer does not change.
//!
//! `cargo run --release -p weft --example move_layer -- MODEL.gguf`

#![allow(clippy::print_stdout, reason = "the answer is for the terminal")]

use std::error::Error;
use std::path::{Path, PathBuf};
use weft::components::{Layers, PlacedOn};
use weft::{
    Backends, Engine, EngineOptions, GenerateOptions, GpuLayers, GpuOptions, LoadOptions, Message,
    SessionOptions, TickOutcome,
};

/// Without an argument: a tiny model of random weights, whose answers mean nothing.
const TINY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/golden/tiny/tiny-llama.gguf");

/// Moves the last layer to a GPU and back while the model in a file answers. Returns the answer.
pub fn run(model: &Path) -> Result<String, Box<dyn Error>> {
    // `exact` leaves activations as they are, so that no rounding depends on where a layer is.
    let gpu = Some(GpuOptions { exact: true, ..GpuOptions::default() });
    let on_gpu = Engine::new(&EngineOptions { gpu, ..EngineOptions::default() });
    // A machine without a GPU has no place to move the layer to. The model answers all the same.
    let mut engine = on_gpu.or_else(|_| Engine::new(&EngineOptions::default()))?;
    // Places are listed as their backends were registered: the CPU first, then the GPUs.
    let backends = Backends::of(engine.world());
    let cpu = backends.places().next().map(|(place, _)| place).ok_or("no backend")?;
    let other = backends.places().nth(1).map(|(place, backend)| (place, backend.name(engine.world())));
    // All layers start on the CPU.
    let options = LoadOptions { gpu_layers: GpuLayers::Count(0), ..LoadOptions::default() };
    let model = engine.load(model, &options)?;
    engine.wait_loaded(model)?;
    let session = engine.open_session(model, &SessionOptions::default())?;
    engine.set_messages(session, &[Message::new("user", "Name three fruits.")])?;
    engine.generate(session, &GenerateOptions { max_tokens: Some(32), ..GenerateOptions::default() })?;

    // A layer is an entity of the model, and where it is wanted is a component of it.
    let layers = engine.world().get::<Layers>(model.0).ok_or("no layers")?;
    let layer = *layers.entities().last().ok_or("no layers")?;
    // Moves to come, the next one last: after how many tokens, and where to.
    let mut moves =
        other.map_or_else(Vec::new, |(gpu, name)| vec![(16, cpu, "CPU".to_owned()), (8, gpu, name)]);
    while engine.phase(session)?.is_active() {
        let said = engine.output(session)?.tokens.len();
        if let Some((tokens, place, name)) = moves.pop_if(|(tokens, ..)| said >= *tokens) {
            println!("after {tokens} tokens the last layer moves to {name}");
            // In the next tick the layer asks for its weights there. The wave waits until they have arrived, and the session's
            // context is computed again, since the layer's keys and values do not move.
            engine.world_mut().entity_mut(layer).insert(PlacedOn(place));
        }
        if engine.tick() != TickOutcome::Advanced {
            engine.rest();
        }
    }
    engine.progress(model)?;
    let said = engine.output(session)?.text.clone();
    println!("{said}");
    Ok(said)
}

fn main() -> Result<(), Box<dyn Error>> {
    let model = std::env::args_os().nth(1).map_or_else(|| TINY.into(), PathBuf::from);
    run(&model).map(|_| ())
}
