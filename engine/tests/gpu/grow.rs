//! Buffers of waves: small at first, larger once a wave has more rows, with the same results.

use crate::common::gpu::{PATHS, exact, loaded_on, on_gpu_unharmed, open};
use crate::common::{golden, golden_json, greedy, ids, logits};
use weft::{Engine, EngineOptions, GpuOptions, LoadOptions, ModelId};

/// An engine on a GPU. If a memory budget is given, its buffers are made for the largest wave at once.
fn engine(plain: bool, memory: Option<u64>) -> (Engine, ModelId) {
    let gpu = open(&GpuOptions { memory, ..exact(plain) });
    let path = golden("tiny/tiny-llama.gguf");
    loaded_on(path.as_path(), &EngineOptions::default(), vec![gpu], &LoadOptions::default())
}

#[test]
fn a_model_takes_what_its_waves_need() {
    let tokens = ids(&golden_json("tiny/tiny-llama.json")["tokens"]);
    let long = tokens.repeat(14);
    let positions: Vec<usize> = (0..long.len()).step_by(23).collect();
    for plain in PATHS {
        let (mut whole, whole_model) = engine(plain, Some(1 << 30));
        let (mut grown, model) = engine(plain, None);
        let part = |engine: &Engine, model: ModelId| {
            let part = &engine.gpu_shards(model)[0];
            (part.rows(), part.wave_bytes())
        };
        let (most_rows, most_bytes) = part(&whole, whole_model);
        let (first_rows, first_bytes) = part(&grown, model);
        println!("{first_rows} rows in {first_bytes} bytes, {most_rows} in {most_bytes}");
        assert_eq!((first_rows, most_rows), (128, 2048));
        // In either case more than a megabyte does not depend on rows: the sums of split contexts, and one word per
        // token of the KV cache. The buffers hold a sixteenth as many rows.
        assert!(first_bytes < most_bytes / 4, "{first_bytes} of {most_bytes}");
        // A short prompt and its answer.
        let said = greedy(&mut grown, model, &tokens, 24);
        assert_eq!(said, greedy(&mut whole, whole_model, &tokens, 24));
        assert_eq!(part(&grown, model), (first_rows, first_bytes), "small waves take no more");
        // A prompt of 336 tokens in one wave.
        let wanted = logits(&mut whole, whole_model, &long, &positions, 0);
        assert!(logits(&mut grown, model, &long, &positions, 0) == wanted, "plain {plain}");
        let (rows, bytes) = part(&grown, model);
        assert_eq!(rows, 512, "plain {plain}");
        assert!(bytes < most_bytes / 2, "{bytes} of {most_bytes}");
        // The following requests need no larger buffers.
        assert_eq!(greedy(&mut grown, model, &tokens, 24), said);
        assert_eq!(part(&grown, model), (rows, bytes));
        on_gpu_unharmed(&grown, model);
        on_gpu_unharmed(&whole, whole_model);
    }
}
