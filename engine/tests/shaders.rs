//! Every kernel in a model's plan is valid WGSL for naga, including kernels for features that this machine lacks: plans
//! are made for a device that computes nothing and claims any feature.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop where it failed")]

use crate::common::adapters::ADAPTERS;
use crate::common::gpu::{cooperative, featured, loaded_on, noop};
use crate::common::reference::golden_model;
use crate::common::{golden, synthetic, synthetic_of};
use naga::valid::{Capabilities as NagaCapabilities, ValidationFlags, Validator};
use std::collections::{BTreeSet, HashSet};
use std::sync::{LazyLock, Mutex};
use weft::synth::{SynthExperts, SynthShape};
use weft::{
    ARCHITECTURES, Architecture, Capabilities, EmbedOptions, EngineOptions, GenerateOptions, Gpu, KvFormat,
    LoadOptions, ModelSource,
};
use weft_components::formats::FORMATS;
use weft_gpu::shader::KernelSpec;

/// A shape whose rows are whole cooperative tiles. It is narrow, since the weights are random and not used.
fn whole() -> SynthShape {
    SynthShape { feed_forward: 256, context: 512, ..SynthShape::default() }
}

/// Shapes that differ in the properties that kernels are chosen by.
fn shapes() -> Vec<SynthShape> {
    let heads = |embedding: usize, heads, kv_heads, key| SynthShape {
        embedding,
        heads,
        kv_heads,
        key_length: Some(key),
        ..whole()
    };
    vec![
        whole(),
        SynthShape { tied: false, vocabulary: 500, ..whole() },
        // Rows that are not whole tiles, and a norm too large for workgroup memory.
        SynthShape {
            layers: 1,
            embedding: 4128,
            heads: 4,
            kv_heads: 1,
            key_length: Some(64),
            feed_forward: 96,
            ..whole()
        },
        heads(256, 8, 8, 32),
        heads(256, 9, 3, 64),
        heads(256, 4, 1, 128),
        heads(256, 2, 1, 256),
        heads(256, 12, 2, 16),
        // One query head per KV head, with a head length that is no multiple of the block of 32.
        heads(256, 16, 16, 16),
        heads(256, 2, 2, 80),
        SynthShape { value_length: Some(32), ..heads(256, 4, 2, 64) },
    ]
}

/// Kernels that were found valid. Models share most of them.
static VALID: LazyLock<Mutex<HashSet<String>>> = LazyLock::new(Mutex::default);

fn check(spec: &KernelSpec) {
    let source = spec.source();
    if !VALID.lock().unwrap().insert(source.clone()) {
        return;
    }
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{}: {}", spec.name, error.emit_to_string(&source)));
    if let Err(error) = Validator::new(ValidationFlags::all(), NagaCapabilities::all()).validate(&module) {
        panic!("{}: {}", spec.name, error.emit_to_string(&source));
    }
}

/// Checks the kernels in the plan of a synthetic model; returns the names of their parts.
fn plan(gpu: Gpu, shape: &SynthShape, format: &str) -> BTreeSet<&'static str> {
    plan_of(gpu, synthetic(shape, format), &format!("{format} {shape:?}"))
}

/// Checks the kernels in the plan of a model; returns the names of their parts.
fn plan_of(gpu: Gpu, source: impl Into<ModelSource>, what: &str) -> BTreeSet<&'static str> {
    plan_in(KvFormat::F16, gpu, source, what)
}

/// The same, with a format of the KV cache.
fn plan_in(
    kv_format: KvFormat,
    gpu: Gpu,
    source: impl Into<ModelSource>,
    what: &str,
) -> BTreeSet<&'static str> {
    let load = LoadOptions { kv_format, kv_tokens: Some(512), ..LoadOptions::default() };
    let options = EngineOptions { max_rows: Some(128), ..EngineOptions::default() };
    let (mut engine, model) = loaded_on(source, &options, vec![gpu], &load);
    // One step ensures that the plan exists. Its results are meaningless on a device that computes nothing.
    if engine.config(model).unwrap().causal {
        crate::common::greedy(&mut engine, model, &[1, 2, 3], 2);
    } else {
        let session = crate::common::told(&mut engine, model, &[1, 2, 3]);
        engine.ask_embedding(session, &EmbedOptions::default()).unwrap();
        engine.wait(session).unwrap();
    }
    let [part] = engine.gpu_shards(model) else { panic!("{what}: the model moved to the CPU") };
    assert_eq!(part.gpu.failure(), None, "{what}");
    let specs = part.gpu.pipelines.specs();
    specs.iter().for_each(check);
    specs.iter().flat_map(KernelSpec::part_names).collect()
}

/// Checks the kernels in the plan of a model whose sessions use an adapter; returns the names of their parts.
fn plan_adapted(gpu: Gpu, (base, adapter): (&str, &str)) -> BTreeSet<&'static str> {
    let load = LoadOptions { kv_tokens: Some(512), ..LoadOptions::default() };
    let source = golden_model(&format!("hf/{base}.gguf"));
    let (mut engine, model) = loaded_on(source, &EngineOptions::default(), vec![gpu], &load);
    let adapter = engine.load_adapter(model, &*golden(&format!("lora/{adapter}.gguf"))).unwrap();
    let session = crate::common::told(&mut engine, model, &[1, 2, 3]);
    engine.set_adapter(session, Some(adapter), 1.0).unwrap();
    engine.generate(session, &GenerateOptions { max_tokens: Some(2), ..GenerateOptions::default() }).unwrap();
    engine.wait(session).unwrap();
    let [part] = engine.gpu_shards(model) else { panic!("{base}: the model moved to the CPU") };
    assert_eq!(part.gpu.failure(), None, "{base}");
    let specs = part.gpu.pipelines.specs();
    specs.iter().for_each(check);
    specs.iter().flat_map(KernelSpec::part_names).collect()
}

#[test]
fn every_kernel_of_every_layout_and_device_is_valid() {
    let devices: [(&str, fn(Capabilities) -> Capabilities); 3] =
        [("plain", |caps| caps), ("featured", featured), ("cooperative", cooperative)];
    let mut seen = BTreeSet::new();
    for (name, capabilities) in devices {
        for format in FORMATS.iter().filter(|info| info.codec.is_some()).map(|info| info.name) {
            let parts = plan(noop(capabilities), &whole(), format);
            println!("{name}, {format}: {parts:?}");
            seen.extend(parts);
        }
        for shape in shapes() {
            seen.extend(plan(noop(capabilities), &shape, "q8_0"));
        }
        for kv_format in [KvFormat::F32, KvFormat::Bf16, KvFormat::Q8_0, KvFormat::Q4_0, KvFormat::Kivi2] {
            for shape in shapes() {
                let what = format!("{kv_format:?} {shape:?}");
                seen.extend(plan_in(kv_format, noop(capabilities), synthetic(&shape, "q8_0"), &what));
            }
            for arch in ["qwen3", "bitnet", "olmo2"] {
                let source = synthetic_of(arch, &whole(), "q8_0");
                let gpu = noop(|caps| Capabilities { storage_buffers: 8, ..capabilities(caps) });
                seen.extend(plan_in(kv_format, gpu, source, &format!("{kv_format:?} {arch}")));
            }
        }
        // Llama with experts is Mixtral.
        let mixtral = ("llama", SynthShape { experts: Some(SynthExperts::default()), ..whole() });
        let windows = |arch: &Architecture| SynthShape { window: arch.windows.map(|_| 64), ..whole() };
        let shapes = ARCHITECTURES.iter().map(|arch| (arch.name, windows(arch))).chain([mixtral]);
        for (arch, shape) in shapes {
            for (format, storage_buffers) in [("f16", 16), ("q8_0", 8), ("q4_k_m", 16)] {
                let gpu = noop(|caps| Capabilities { storage_buffers, ..capabilities(caps) });
                seen.extend(plan_of(gpu, synthetic_of(arch, &shape, format), &format!("{format} {arch}")));
            }
        }
        for names in ADAPTERS {
            seen.extend(plan_adapted(noop(capabilities), names));
        }
        // The minimum that WebGPU guarantees.
        for format in ["q4_1", "q6_k"] {
            let gpu = noop(|caps| Capabilities { storage_buffers: 8, ..capabilities(caps) });
            seen.extend(plan(gpu, &whole(), format));
        }
    }
    // The parts that no plan uses are those that measure a device.
    let all: BTreeSet<_> = weft_gpu::shader::part_names().collect();
    let unseen: Vec<_> = all.difference(&seen).collect();
    assert_eq!(unseen, ["dispatch_chain", "read_bandwidth"].each_ref(), "parts that no kernel is made of");
}
