//! `--backend gpu`: the output forms that scripts rely on, on whatever GPU is present, including a software driver.

#![allow(clippy::panic, reason = "a test fails by panicking")]

use crate::support::{Files, ON, TINY, divergence, floats, id_list, items, keys, weft};
use serde_json::{Value, json};

/// Options that select different ways to compute: the device's features, the layers' placement, the number of devices.
const WAYS: [&str; 8] = [
    "",
    "--gpu-plain",
    "--gpu-exact",
    "--gpu-layers 1",
    "--gpu-layers 0",
    "--gpu-layers 99",
    "--gpus 2",
    // Too little for one layer, so all layers stay on the CPU.
    "--gpu-memory 1",
];

#[test]
fn run_says_what_it_says_on_the_cpu() {
    let ask = format!("run --model '{TINY}' --raw --max-tokens 12 {ON} --json Hello");
    let run = format!("{ask} --temperature 0");
    let on_cpu = weft(&run).done();
    let sampled = format!("{ask} --temperature 0.9 --top-k 40 --seed 7");
    let sampled_on_cpu = weft(&sampled).done();
    for way in WAYS {
        let answer = weft(format!("{run} --backend gpu {way}")).done();
        for key in ["text", "tokens", "prompt_tokens", "finish"] {
            assert_eq!(answer[key], on_cpu[key], "{way}: {key}");
        }
        assert_eq!(keys(&answer), keys(&on_cpu));
        let some = !["--gpu-layers 0", "--gpu-memory 1"].contains(&way);
        assert_eq!(answer["backend"], if some { "gpu" } else { "cpu" }, "{way}");
    }
    assert_eq!(weft(format!("{sampled} --backend gpu")).done()["tokens"], sampled_on_cpu["tokens"]);
}

#[test]
fn logits_are_the_references() {
    let golden = std::fs::read_to_string(TINY.replace(".gguf", ".json")).unwrap_or_default();
    let golden: Value = serde_json::from_str(&golden).unwrap_or_default();
    let (tokens, positions) = (id_list(&golden["tokens"]), id_list(&golden["logit_positions"]));
    let ask = format!("logits --model '{TINY}' --tokens {tokens} --positions {positions} --json");
    for way in ["", "--gpu-plain", "--chunk 5", "--beside 3", "--gpu-layers 2 --chunk 7 --beside 6"] {
        let logits = weft(format!("{ask} --backend gpu {way}")).done();
        let rows = items(&logits["logits"]);
        assert_eq!(rows.len(), items(&golden["logits"]).len());
        for (row, reference) in rows.iter().zip(items(&golden["logits"])) {
            // llama.cpp rounds activations; the notes of the reference data allow a divergence of 1e-4.
            let divergence = divergence(&floats(reference), &floats(row));
            assert!(divergence < 1e-4, "{way}: {divergence}");
        }
    }
}

#[test]
fn perplexity_is_that_of_the_cpu() {
    let files = Files::new();
    let file = files.write("text.txt", "The quick brown fox jumps over the lazy dog. ".repeat(6));
    let ask = format!("perplexity --model '{TINY}' --file '{file}' --context 64 --json");
    let on_cpu = weft(&ask).done();
    for way in ["", "--gpu-plain", "--gpu-layers 1"] {
        let found = weft(format!("{ask} --backend gpu {way}")).done();
        assert_eq!((keys(&found), &found["tokens"]), (keys(&on_cpu), &on_cpu["tokens"]));
        let value = |of: &Value| of["perplexity"].as_f64().unwrap_or(f64::NAN);
        // The losses differ at most by the square root of a divergence of 1e-8, which comes from the order of sums.
        let off = (value(&found) / value(&on_cpu) - 1.0).abs();
        assert!(off < 1e-4, "{way}: {off}");
    }
}

#[test]
fn what_a_gpu_cannot_do_is_refused_with_its_facts() {
    let run = format!("run --model '{TINY}' --raw --json --backend gpu Hello");
    let error = weft(format!("{run} --gpu-layers 3 --gpu-memory 1")).failed();
    assert_eq!((&error["kind"], &error["layers"]), (&json!("does_not_fit"), &json!(3)));
    assert_eq!((&error["budget"], &error["fit"]), (&json!(1 << 20), &json!(0)));
    assert!(error["message"].as_str().is_some_and(|text| text.contains("--gpu-layers 0")), "{error}");
    let error = weft(format!("{run} --gpu 'no such thing'")).failed();
    assert_eq!((&error["kind"], &error["wanted"]), (&json!("no_adapter"), &json!("no such thing")));
}

#[test]
fn wrong_values_are_wrong_usage() {
    let run = format!("run --model '{TINY}' --raw");
    for wrong in [
        "--backend tpu",
        "--backend ''",
        "--backend gpu --gpu-layers x",
        "--backend gpu --gpu-layers -1",
        "--backend gpu --gpu-memory much",
        "--backend gpu --gpus two",
    ] {
        let run = weft(format!("{run} {wrong} Hello"));
        assert_eq!((run.code, run.text()), (Some(2), ""), "{wrong}: {}", run.stderr);
        assert!(!run.stderr.is_empty(), "{wrong}");
    }
}

/// Checks that the object has these keys and that their values are above 0.
fn positive(object: &Value, names: &[&str]) {
    for name in names {
        assert!(object[name].as_f64().is_some_and(|value| value > 0.0), "{name} of {object}");
    }
}

#[test]
fn bench_says_what_a_gpu_is_and_did() {
    let bench =
        format!("bench --model '{TINY}' --backend gpu --prompt 24 --generate 8 --sessions 1 --repeat 1");
    let figures = weft(format!("{bench} --json")).done();
    let gpu = &figures["gpu"];
    let names = [
        "devices",
        "layers",
        "layers_of",
        "dispatches_per_token",
        "submits_per_token",
        "bytes_per_token",
        "weight_bytes_per_token",
        "kv_bytes_per_token",
        "buffers_per_token",
        "decode_gb_s",
        "decode_share_of_peak",
        "prompt_tflop_s",
    ];
    assert_eq!(keys(gpu), names);
    positive(gpu, &["layers", "dispatches_per_token", "submits_per_token", "weight_bytes_per_token"]);
    positive(gpu, &["kv_bytes_per_token", "decode_gb_s", "decode_share_of_peak", "prompt_tflop_s"]);
    assert_eq!(gpu["layers"], gpu["layers_of"]);
    assert_eq!(gpu["buffers_per_token"], 0.0, "decoding allocates no buffers: {gpu}");
    let sum = ["weight_bytes_per_token", "kv_bytes_per_token"].map(|key| gpu[key].as_f64().unwrap_or(0.0));
    assert_eq!(gpu["bytes_per_token"].as_f64(), Some(sum[0] + sum[1]));
    let [device] = items(&gpu["devices"]) else { panic!("one device: {gpu}") };
    positive(device, &["layers", "weight_bytes", "buffers", "buffer_bytes"]);
    positive(&device["peak"], &["gb_s", "bytes", "dispatch_us"]);
    assert_eq!(device["peak"]["by"], "timestamps");
    assert!(device["adapter"].as_str().is_some_and(|name| !name.is_empty()), "{device}");
    // A step reads each weight of the layers and the output head once.
    let (read, held) = (sum[0], device["weight_bytes"].as_f64().unwrap_or(0.0));
    assert!(read >= held * 0.99 && read <= held * 1.5, "{read} of {held}");
    let path = |name: &str| items(&device["kernels"]).iter().find(|kernel| kernel["name"] == name);
    let qkv = path("qkv").map(|kernel| kernel["parts"].to_string()).unwrap_or_default();
    assert!(qkv.contains("decode_"), "{device}");

    let plain = weft(format!("{bench} --gpu-plain"));
    assert_eq!(plain.code, Some(0), "{}", plain.stderr);
    for wanted in ["no optional features", "dispatches", "GB/s at most"] {
        assert!(plain.text().contains(wanted), "{wanted}: {}", plain.text());
    }
}

#[test]
fn bench_profiles_the_kernels_of_a_gpu() {
    let bench = "bench --profile --backend gpu --prompt 24 --generate 8 --json";
    let profile = weft(format!("{bench} --model '{TINY}'")).done();
    assert_eq!(profile["ecs_share"], Value::Null, "spans do not cover GPU kernels: {profile}");
    let gpu = &profile["gpu"];
    assert_eq!(gpu["timed"], "dispatches");
    for what in ["decode", "prompt"] {
        let [steps] = items(&gpu[what]) else { panic!("one device: {gpu}") };
        positive(steps, &["steps", "us_per_step"]);
        let (mut share, mut rated) = (0.0, 0);
        for kernel in items(&steps["kernels"]) {
            positive(kernel, &["calls_per_step"]);
            share += kernel["share"].as_f64().unwrap_or(0.0);
            rated += usize::from(kernel["gb_s"].as_f64().is_some_and(|rate| rate > 0.0));
        }
        assert!(share > 0.5 && share < 1.01, "kernels add up to the step: {share} of {steps}");
        assert!(rated >= 5, "four products and attention: {steps}");
        let head = items(&steps["kernels"]).iter().find(|kernel| kernel["name"] == "head");
        assert_eq!(head.map(|head| &head["calls_per_step"]), Some(&Value::from(1.0)), "{steps}");
    }
    let steps = &gpu["decode"][0];
    let counted = steps["steps"].as_u64().zip(steps["missed"].as_u64());
    assert!(counted.is_some_and(|(steps, missed)| (8..=11).contains(&(steps + missed))), "{steps}");
}
