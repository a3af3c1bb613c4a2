//! The KV cache in 2 bits on a GPU: logits are the CPU's, and what a session says depends neither on its company nor on how its
//! context came about.

use crate::common::gpu::{PATHS, device, exact, loaded_on, on_gpu_unharmed, open};
use crate::common::requests::asks;
use crate::common::{divergence, greedy, logits, told};
use crate::kivi::small;
use crate::prefix::tokens;
use weft::{EngineOptions, Gpu, KvFormat, LoadOptions, Prompt};

/// Numbers in the middle between two codes are rounded the other way now and then, a whole step. So the difference is held to
/// the one that the format itself makes.
const MOST_OF_THE_FORMATS: f64 = 1e-3;

fn load(kv_format: KvFormat) -> LoadOptions {
    LoadOptions { kv_format, kv_tokens: Some(4096), ..LoadOptions::default() }
}

fn rows(architecture: &str, kv_format: KvFormat, gpus: Vec<Gpu>, chunk: usize) -> Vec<Vec<f32>> {
    let text = tokens(if architecture == "llama" { 400 } else { 700 }, 1);
    let positions: Vec<usize> = (text.len() - 300..text.len()).collect();
    let on_gpu = !gpus.is_empty();
    let (mut engine, model) =
        loaded_on(small(architecture, "F32"), &EngineOptions::default(), gpus, &load(kv_format));
    let rows = logits(&mut engine, model, &text, &positions, chunk);
    if on_gpu {
        on_gpu_unharmed(&engine, model);
    }
    rows
}

#[test]
fn it_says_what_it_says_on_the_cpu() {
    // A plain layer, norms of heads, and windows.
    for architecture in ["llama", "qwen3", "gemma3"] {
        let wanted = rows(architecture, KvFormat::Kivi2, Vec::new(), 0);
        let halves = rows(architecture, KvFormat::F16, Vec::new(), 0);
        let mean = |wanted: &[Vec<f32>], found: &[Vec<f32>]| {
            let sum: f64 = wanted.iter().zip(found).map(|(wanted, found)| divergence(wanted, found)).sum();
            sum / wanted.len() as f64
        };
        let apart = mean(&halves, &wanted);
        for plain in PATHS {
            // Rows one by one take the kernels of decoding, and most of the time.
            let chunks = if architecture == "llama" { &[1, 0, 77][..] } else { &[77] };
            for chunk in chunks.iter().copied() {
                let found = rows(architecture, KvFormat::Kivi2, vec![open(&device(plain))], chunk);
                let mean = mean(&wanted, &found);
                println!(
                    "{architecture}, plain {plain}, chunks of {chunk}: mean KL from the CPU {mean:.2e}; the CPU's f16 is \
                     {apart:.2e} from it"
                );
                assert!(
                    mean < MOST_OF_THE_FORMATS * apart,
                    "{architecture}, plain {plain}, {chunk}: {mean:.2e}, f16 {apart:.2e}"
                );
            }
        }
    }
}

#[test]
fn shared_beginnings_and_forks_change_nothing() {
    let options = EngineOptions::default();
    let gpus = vec![open(&exact(false))];
    let (mut engine, model) = loaded_on(small("llama", "Q8_0"), &options, gpus, &load(KvFormat::Kivi2));
    let prefix = tokens(300, 3);
    let prompts: Vec<Vec<u32>> =
        (0..4).map(|n| [&prefix[..n * 75 + 20], &tokens(10 + 30 * n, 50 + n)].concat()).collect();
    let wanted: Vec<_> = prompts.iter().map(|prompt| greedy(&mut engine, model, prompt, 40)).collect();
    let sessions: Vec<_> = prompts.iter().map(|prompt| told(&mut engine, model, prompt)).collect();
    sessions.iter().for_each(|session| engine.generate(*session, &asks(40)).unwrap());
    for (session, wanted) in sessions.iter().zip(&wanted) {
        engine.wait(*session).unwrap();
        assert_eq!(&engine.output(*session).unwrap().tokens, wanted);
    }
    for session in sessions {
        let whole = engine.history(session).unwrap().to_vec();
        let fork = engine.fork(session).unwrap();
        engine.append(fork, Prompt::Tokens(tokens(3, 9))).unwrap();
        engine.generate(fork, &asks(20)).unwrap();
        engine.wait(fork).unwrap();
        let said = engine.output(fork).unwrap().tokens.clone();
        assert_eq!(said, greedy(&mut engine, model, &[&whole[..], &tokens(3, 9)].concat(), 20));
        engine.close(session);
    }
    on_gpu_unharmed(&engine, model);
}
