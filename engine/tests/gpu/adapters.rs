//! LoRA adapters on a GPU: logits equal those of PEFT, with rows of several adapters and of none in one wave, in every
//! class of waves.

use crate::common::adapters::{ADAPTERS, Base, adapter_difference};
use crate::common::company::asked;
use crate::common::gpu::{PATHS, on_gpu, on_gpu_unharmed};
use crate::common::reference::{MOST_DIFFERENCE, MOST_DIVERGENCE, golden_model};
use crate::common::{divergence, greedy};
use weft::{EngineOptions, GpuLayers, LoadOptions};

fn base(name: &str, options: &EngineOptions, load: &LoadOptions) -> Base {
    let mut base = Base::load(name, golden_model(&format!("hf/{name}.gguf")), options, load);
    base.engine.wait_loaded(base.model).unwrap();
    base
}

/// The distance that the 16-bit KV cache causes on the CPU; a GPU may be as far off, since it has no other cache.
fn allowed(base_name: &str, name: &str, key: &str) -> f64 {
    let mut base = base(base_name, &EngineOptions::default(), &LoadOptions::default());
    let adapter = base.adapter(&format!("{name}.gguf"));
    let scale = if key == "half" { 0.5 } else { 1.0 };
    let halves = adapter_difference(name, key, &base.logits(Some((adapter, scale))));
    MOST_DIFFERENCE.max(1.1 * halves)
}

#[test]
fn logits_are_those_of_peft_whatever_the_chunks() {
    for (base_name, name) in ADAPTERS {
        let allowed = allowed(base_name, name, "logits");
        // The plain path differs in the parts of kernels, not in their order, so two adapters are enough.
        let paths = PATHS.into_iter().filter(|plain| !plain || name.ends_with("-all"));
        for plain in paths {
            let mut base = base(base_name, &on_gpu(plain), &LoadOptions::default());
            let adapter = base.adapter(&format!("{name}.gguf"));
            // One row, some rows, many rows: each class of waves has its own kernels.
            for chunk in [0, 1, 5] {
                base.chunk = chunk;
                let found = adapter_difference(name, "logits", &base.logits(Some((adapter, 1.0))));
                println!("{name}, plain {plain}, chunks of {chunk}: {found:.1e}, allowed {allowed:.1e}");
                assert!(found <= allowed, "{name}, plain {plain}, {chunk}: {found:.1e}");
            }
            on_gpu_unharmed(&base.engine, base.model);
        }
    }
}

#[test]
fn rows_of_several_adapters_and_of_none_share_a_wave() {
    let wanted = [("llama-all", "logits"), ("llama-qv", "logits"), ("llama-all", "half")];
    let allowed = wanted.map(|(name, key)| allowed("llama", name, key));
    for plain in PATHS {
        let mut base = base("llama", &on_gpu(plain), &LoadOptions::default());
        let never = base.plain();
        // Cooperative matrices round activations to 16 bits; waves with adapters do not use them.
        let rounds = base.engine.gpu_shards(base.model).iter().any(|part| part.gpu.capabilities.cooperative);
        let near = if rounds { MOST_DIVERGENCE } else { 1e-6 };
        let (all, some) = (base.adapter("llama-all.gguf"), base.adapter("llama-qv.gguf"));
        let kinds = [None, Some((all, 1.0)), Some((some, 1.0)), Some((all, 0.5)), None];
        let sessions = kinds.map(|kind| base.ask(kind));
        let [first, of_all, of_some, half, last] = sessions.map(|session| base.answer(session));
        for (((name, key), allowed), rows) in wanted.into_iter().zip(allowed).zip([of_all, of_some, half]) {
            let found = adapter_difference(name, key, &rows);
            assert!(found <= allowed, "{name}, {key}, plain {plain}: {found:.1e}");
        }
        // In one wave with adapters, and after them.
        for rows in [first, last, base.plain()] {
            for (row, never) in rows.iter().zip(&never) {
                let found = divergence(never, row);
                assert!(found < near, "plain {plain}: KL {found:.1e} from the plain model");
            }
        }
        on_gpu_unharmed(&base.engine, base.model);
    }
}

#[test]
fn adapters_are_swapped_and_removed_while_sessions_answer() {
    let mut base = base("phi3", &on_gpu(false), &LoadOptions::default());
    let adapter = base.adapter("phi3-all.gguf");
    let (tokens, model) = (base.tokens.clone(), base.model);
    let plain = greedy(&mut base.engine, model, &tokens, 8);
    let session = base.start(Some((adapter, 1.0)), &asked());
    base.engine.wait(session).unwrap();
    let adapted = base.engine.output(session).unwrap().tokens.clone();
    assert_ne!(adapted[..8], plain);
    let again = base.start(Some((adapter, 1.0)), &asked());
    for _ in 0..20 {
        base.engine.tick();
    }
    base.engine.remove_adapter(adapter);
    base.engine.wait(again).unwrap();
    let (history, said) = (base.engine.history(again).unwrap().to_vec(), tokens.len());
    // The last tokens are those of the plain model, whatever was generated before.
    let rest = greedy(&mut base.engine, model, &history[..history.len() - 2], 2);
    assert!(history.len() > said + 2);
    assert_eq!(history[history.len() - 2..], rest);
    assert_eq!(greedy(&mut base.engine, model, &tokens, 8), plain);
    on_gpu_unharmed(&base.engine, base.model);
}

#[test]
fn layers_shared_with_the_cpu_have_their_adapters() {
    let load = LoadOptions { gpu_layers: GpuLayers::Count(1), ..LoadOptions::default() };
    for (base_name, name) in ADAPTERS.into_iter().filter(|(_, name)| name.ends_with("-all")) {
        let allowed = allowed(base_name, name, "logits");
        let mut base = base(base_name, &on_gpu(false), &load);
        let adapter = base.adapter(&format!("{name}.gguf"));
        let found = adapter_difference(name, "logits", &base.logits(Some((adapter, 1.0))));
        assert!(found <= allowed, "{name}: {found:.1e}");
        on_gpu_unharmed(&base.engine, base.model);
    }
}
