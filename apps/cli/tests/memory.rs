//! What a load takes: weights once, as they are computed with, and of the KV cache what holds tokens.

use crate::support::{Files, keys, weft};

/// What the process itself takes: the program, its threads' stacks, and the scratch of one short wave.
const PROCESS: f64 = 20e6;

/// A model of some 100 MB, larger by far than the process.
const SHAPE: &str = "--layers 6 --embedding 1024 --feed-forward 4096 --heads 16 --kv-heads 4 --vocab 8000";

#[cfg(target_os = "linux")]
#[test]
fn file_and_tiles_are_never_in_memory_together() {
    let files = Files::new();
    for format in ["q8_0", "q4_k_m"] {
        let path = files.path("large.gguf").display().to_string();
        weft(format!("synth '{path}' --force --json --type {format} {SHAPE}")).done();
        let started = weft(format!("bench --first-token --threads 2 --model '{path}'")).done();
        assert_eq!(keys(&started), ["peak_rss", "weights", "kv"]);
        let bytes = |key: &str| started[key].as_f64().expect("a number");
        assert!(bytes("weights") > 50e6 && bytes("kv") > 0.0, "{started}");
        let most = 1.1 * (bytes("weights") + bytes("kv")) + PROCESS;
        assert!(bytes("peak_rss") <= most, "{format}: {started}, at most {most}");
    }
}
