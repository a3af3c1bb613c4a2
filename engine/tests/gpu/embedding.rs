//! Embeddings on a GPU: those of encoders equal transformers', those of decoders equal the CPU's.

use crate::common::embedding::{
    ENCODERS, difference, encoder, pooled, prompts, reference_states, texts, together,
};
use crate::common::gpu::{PATHS, exact, loaded_on, on_gpu, on_gpu_unharmed, open};
use crate::common::reference::MOST_DIFFERENCE;
use crate::common::{golden, loaded};
use weft::{EmbedOptions, Engine, EngineOptions, GpuLayers, KvFormat, LoadOptions, ModelId, Pooling};

const POOLINGS: [Pooling; 4] = [Pooling::None, Pooling::Mean, Pooling::Cls, Pooling::Last];

fn of(pooling: Pooling) -> EmbedOptions {
    EmbedOptions { pooling: Some(pooling), normalize: false, prefill_chunk: 0 }
}

/// The distance of an encoder's final hidden states from those of transformers, with each text alone and with all
/// together.
fn encoder_difference(name: &str, engine: &mut Engine, model: ModelId) -> f64 {
    let texts = texts(name);
    let states = reference_states(name, &texts, engine.config(model).unwrap().embedding);
    let wanted: Vec<_> = states.iter().map(|rows| pooled(rows, Pooling::None)).collect();
    let alone: Vec<_> = texts
        .iter()
        .flat_map(|text| {
            engine.embed(model, &prompts(std::slice::from_ref(text)), &of(Pooling::None)).unwrap()
        })
        .collect();
    let (together, _) = together(engine, model, &texts, &of(Pooling::None));
    difference(&alone, &wanted).max(difference(&together, &wanted))
}

#[test]
fn encoders_agree_with_transformers() {
    for name in ENCODERS {
        let (mut engine, model) = encoder(name, &EngineOptions::default(), KvFormat::F16);
        // A GPU may be as far off as the CPU with keys and values in 16 bits.
        let halves = encoder_difference(name, &mut engine, model);
        for plain in PATHS {
            let (mut engine, model) = encoder(name, &on_gpu(plain), KvFormat::F16);
            let found = encoder_difference(name, &mut engine, model);
            println!("{name}, plain {plain}: {found:.2e} of the largest component, the CPU {halves:.2e}");
            on_gpu_unharmed(&engine, model);
            assert!(found <= MOST_DIFFERENCE.max(1.1 * halves), "{name}, plain {plain}: {found:.2e}");
        }
    }
}

#[test]
fn an_encoder_s_layers_are_shared_with_the_cpu() {
    for name in ENCODERS {
        let mut engine = Engine::new(&on_gpu(false)).unwrap();
        let load = LoadOptions { gpu_layers: GpuLayers::Count(1), ..LoadOptions::default() };
        let file = crate::common::reference::golden_model(&format!("embed/{name}.gguf"));
        let model = engine.load(file, &load).unwrap();
        engine.wait_loaded(model).unwrap();
        let found = encoder_difference(name, &mut engine, model);
        println!("{name}, one layer: {found:.2e} of the largest component");
        on_gpu_unharmed(&engine, model);
        assert!(found <= MOST_DIFFERENCE, "{name}: {found:.2e}");
    }
}

#[test]
fn decoders_give_what_the_cpu_gives() {
    let texts = texts("bert");
    let (mut cpu, on_cpu) = loaded(&golden("tiny/tiny-llama-f32.gguf"));
    for plain in PATHS {
        let file = golden("tiny/tiny-llama-f32.gguf");
        let (mut engine, model) =
            loaded_on(file.as_path(), &on_gpu(plain), vec![open(&exact(plain))], &LoadOptions::default());
        for pooling in POOLINGS {
            let wanted = cpu.embed(on_cpu, &prompts(&texts), &of(pooling)).unwrap();
            let wanted: Vec<_> = wanted.into_iter().map(|embedding| embedding.vectors).collect();
            for prefill_chunk in [0, 7] {
                let options = EmbedOptions { prefill_chunk, ..of(pooling) };
                let (found, _) = together(&mut engine, model, &texts, &options);
                let difference = difference(&found, &wanted);
                println!(
                    "{pooling:?}, plain {plain}, chunks of {prefill_chunk}: {difference:.2e} of the largest"
                );
                assert!(difference < MOST_DIFFERENCE, "{pooling:?}, plain {plain}: {difference:.2e}");
            }
        }
        on_gpu_unharmed(&engine, model);
    }
}
