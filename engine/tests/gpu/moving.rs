//! Layers and ends that move between the CPU, GPUs and a thread, and are evicted on a GPU, in mid-answer.

use crate::backend::{ThreadPlugin, Worker, held};
use crate::common::adapters::Base;
use crate::common::gpu::{PATHS, device, exact, loaded_on, open, unharmed};
use crate::common::reference::golden_model;
use crate::common::requests::asks;
use crate::common::{golden, golden_json, ids};
use crate::moving::{evicted_layers_come_back, place, says_the_reference};
use weft::components::{Ends, Place, Shards, TensorRole, WeightShard};
use weft::stages::on_cpu::CpuWeights;
use weft::{Engine, EngineOptions, Gpu, GpuLayers, LoadOptions, ModelId, TickOutcome};

const CPU: Place = Place::new(0);
const GPU: Place = Place::new(1);

/// tiny-llama with its last layers on a GPU.
fn tiny_on(gpu: Gpu, gpu_layers: usize) -> (Engine, ModelId) {
    let load = LoadOptions { gpu_layers: GpuLayers::Count(gpu_layers), ..LoadOptions::default() };
    loaded_on(golden("tiny/tiny-llama.gguf").as_path(), &EngineOptions::default(), vec![gpu], &load)
}

fn put_ends(engine: &mut Engine, model: ModelId, embed: Place, head: Place) {
    engine.world_mut().entity_mut(model.0).insert(Ends { embed, head });
}

#[test]
fn a_layer_moves_to_a_gpu_and_back() {
    for plain in PATHS {
        let (mut engine, model) = tiny_on(open(&exact(plain)), 0);
        says_the_reference(&mut engine, model, |engine, said| match said {
            2 => place(engine, model, 1, GPU),
            5 => {
                assert_eq!(held(engine, model), [CPU, GPU, CPU]);
                place(engine, model, 1, CPU);
            }
            _ => {}
        });
        assert_eq!(held(&engine, model), [CPU; 3]);
        unharmed(&engine, model);
        assert!(engine.gpu_shards(model).is_empty(), "nothing of the model is left there");
    }
}

#[test]
fn every_layer_and_both_ends_move_one_after_another() {
    let (mut engine, model) = tiny_on(open(&exact(false)), 0);
    says_the_reference(&mut engine, model, |engine, said| match said {
        1..=3 => place(engine, model, said - 1, GPU),
        4 => put_ends(engine, model, CPU, GPU),
        5 => put_ends(engine, model, GPU, GPU),
        _ => {}
    });
    assert_eq!(held(&engine, model), [GPU; 3]);
    // What the CPU held of the ends has been freed; the final norm is read by the host for embeddings.
    assert_eq!(ends_on_cpu(&engine, model), [TensorRole::OutputNorm]);
    says_the_reference(&mut engine, model, |engine, said| match said {
        1 => put_ends(engine, model, GPU, CPU),
        2..=4 => place(engine, model, 4 - said, CPU),
        5 => put_ends(engine, model, CPU, CPU),
        _ => {}
    });
    assert_eq!(held(&engine, model), [CPU; 3]);
    assert!(ends_on_cpu(&engine, model).contains(&TensorRole::TokenEmbedding));
    unharmed(&engine, model);
}

/// Roles of the tensors of the model itself that the CPU holds.
fn ends_on_cpu(engine: &Engine, model: ModelId) -> Vec<TensorRole> {
    let world = engine.world();
    let shards = world.get::<Shards>(model.0).unwrap().entities().iter();
    let held = shards.filter(|shard| world.get::<CpuWeights>(**shard).is_some());
    held.map(|shard| world.get::<WeightShard>(*shard).unwrap().role).collect()
}

#[test]
fn layers_move_under_a_session_with_an_adapter() {
    let options = EngineOptions { gpu: Some(exact(false)), ..EngineOptions::default() };
    let load = LoadOptions { gpu_layers: GpuLayers::Count(1), ..LoadOptions::default() };
    let mut base = Base::load("llama", golden_model("hf/llama.gguf"), &options, &load);
    base.engine.wait_loaded(base.model).unwrap();
    let adapter = base.adapter("llama-all.gguf");
    let mut say = |moves: bool| {
        let session = base.told(Some((adapter, 1.0)));
        base.engine.generate(session, &asks(12)).unwrap();
        let (mut before, mut moved, mut was) = (0, 0, held(&base.engine, base.model));
        while base.engine.phase(session).unwrap().is_active() {
            let said = base.engine.output(session).unwrap().tokens.len();
            if moves && said > before {
                let to = if said.is_multiple_of(2) { CPU } else { GPU };
                place(&mut base.engine, base.model, 0, to);
            }
            before = said;
            let now = held(&base.engine, base.model);
            moved += usize::from(now != was);
            was = now;
            if base.engine.tick() != TickOutcome::Advanced {
                base.engine.rest();
            }
        }
        assert_eq!(moved >= 5, moves, "{moved}");
        base.engine.output(session).unwrap().tokens.clone()
    };
    let wanted = say(false);
    assert_eq!(wanted.len(), 12);
    assert_eq!(say(true), wanted);
}

#[test]
fn an_evicted_layer_comes_back_on_a_gpu() {
    for gpu_layers in [1, 3] {
        let (mut engine, model) = tiny_on(open(&exact(false)), gpu_layers);
        evicted_layers_come_back(&mut engine, model);
        unharmed(&engine, model);
    }
}

#[test]
fn a_layer_goes_round_the_cpu_a_gpu_and_a_thread() {
    let (mut engine, model) = tiny_on(open(&device(false)), 1);
    engine.add_plugin(&ThreadPlugin { half: false });
    let thread = engine.world().resource::<Worker>().place;
    assert!(ids(&golden_json("tiny/tiny-llama.json")["greedy"]).len() > 6);
    let places = [CPU, GPU, thread];
    says_the_reference(&mut engine, model, |engine, said| {
        place(engine, model, said % 3, places[(said / 2) % 3]);
    });
    unharmed(&engine, model);
}
