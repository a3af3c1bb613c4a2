//! Memory of a load: each weight is held once, in the form it is computed with, and of the KV cache only what holds
//! tokens.

use crate::support::{Files, keys, weft};

/// Memory of the process itself in bytes: the program, its threads' stacks, and the scratch buffers of one short wave.
const PROCESS: f64 = 20e6;

/// Shape of a model of about 100 MB, much larger than the process itself.
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
