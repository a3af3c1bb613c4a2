//! Damaged files: whatever a header says, the result is an error or three tokens.

use super::support::{TINY, TOKENS, asks, engine, finish, peak_memory};
use crate::common::{greedy, told};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use weft::storage::{MemorySource, Source};
use weft::{Error, KeepLogits, LoadOptions, ModelSource, Prompt, SessionOptions};

/// One change to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// Changes a byte of the header.
    Byte(usize, u8),
    /// Changes a four-byte value of a metadata key.
    Value(usize, u32),
    /// Changes a byte of a tensor's name.
    Name(usize, usize, u8),
    /// Changes a dimension of a tensor.
    Dimension(usize, usize, u64),
    /// Changes the format of a tensor.
    Format(usize, u32),
    /// Changes the offset of a tensor's data.
    Offset(usize, u64),
    /// Makes weights NaN or infinity.
    Weights(usize, u8),
}

/// Offsets in the tiny model's file of the parts that can be damaged.
struct Places {
    /// Offsets of metadata values.
    values: Vec<usize>,
    /// Offsets and lengths of tensor names.
    tensors: Vec<(usize, usize)>,
    /// Offset of the first byte after the header.
    data: usize,
}

static PLACES: LazyLock<Places> = LazyLock::new(|| {
    let find = |needle: &str| {
        let mut wanted = (needle.len() as u64).to_le_bytes().to_vec();
        wanted.extend(needle.as_bytes());
        TINY.windows(wanted.len()).position(|window| window == wanted).expect(needle) + wanted.len()
    };
    let keys = [
        "llama.context_length",
        "llama.embedding_length",
        "llama.block_count",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.head_count_kv",
        "llama.attention.layer_norm_rms_epsilon",
        "llama.rope.freq_base",
        "llama.rope.dimension_count",
        "llama.vocab_size",
        "llama.attention.key_length",
        "llama.attention.value_length",
        "tokenizer.ggml.bos_token_id",
        "tokenizer.ggml.eos_token_id",
    ];
    let whole: Vec<Arc<dyn Source>> = vec![Arc::new(MemorySource::new("tiny", TINY.clone()))];
    let gguf = weft::gguf::Gguf::read(&whole).unwrap();
    Places {
        // The value's type follows the key.
        values: keys.iter().map(|key| find(key) + 4).collect(),
        tensors: gguf.tensors.iter().map(|t| (find(&t.name) - t.name.len(), t.name.len())).collect(),
        data: gguf.tensors.iter().map(|t| t.range.start as usize).min().unwrap(),
    }
});

impl Damage {
    fn apply(&self, file: &mut [u8]) {
        let places = &*PLACES;
        let tensor = |index: usize| places.tensors[index % places.tensors.len()];
        let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
        match *self {
            Self::Byte(at, byte) => put(at % places.data, &[byte]),
            Self::Value(key, value) => {
                put(places.values[key % places.values.len()], &value.to_le_bytes());
            }
            Self::Name(index, at, byte) => {
                let (start, len) = tensor(index);
                put(start + at % len, &[byte]);
            }
            Self::Dimension(index, which, size) => {
                let (start, len) = tensor(index);
                put(start + len + 4 + 8 * (which % 2), &size.to_le_bytes());
            }
            Self::Format(index, id) => {
                let (start, len) = tensor(index);
                let dimensions = TINY[start + len] as usize;
                put(start + len + 4 + 8 * dimensions, &id.to_le_bytes());
            }
            Self::Offset(index, offset) => {
                let (start, len) = tensor(index);
                let dimensions = TINY[start + len] as usize;
                put(start + len + 8 + 8 * dimensions, &offset.to_le_bytes());
            }
            Self::Weights(at, byte) => {
                let at = places.data + at % (TINY.len() - places.data - 64);
                put(at, &[byte; 64]);
            }
        }
    }
}

fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        prop::sample::select(vec![0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 24, 32, 48, 64, 96, 320, 321, 512]),
        (0u32..32).prop_map(|bit| 1 << bit),
        prop::sample::select(
            [0.0, -0.0, 1e-45, 1e-5, 1e38, f32::INFINITY, f32::NAN, -1.0, 1.0].map(f32::to_bits).to_vec()
        ),
        any::<u32>(),
    ]
}

fn damage() -> impl Strategy<Value = Damage> {
    let any_index = || 0usize..1 << 20;
    prop_oneof![
        3 => (any_index(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        6 => (any_index(), number()).prop_map(|(key, value)| Damage::Value(key, value)),
        1 => (any_index(), any_index(), any::<u8>()).prop_map(|(t, at, byte)| Damage::Name(t, at, byte)),
        2 => (any_index(), any_index(), number().prop_map(u64::from))
            .prop_map(|(t, which, size)| Damage::Dimension(t, which, size)),
        2 => (any_index(), 0u32..42).prop_map(|(t, id)| Damage::Format(t, id)),
        1 => (any_index(), (0u64..9000).prop_map(|n| n * 32)).prop_map(|(t, at)| Damage::Offset(t, at)),
        1 => (any_index(), any::<u8>()).prop_map(|(at, byte)| Damage::Weights(at, byte)),
    ]
}

/// Loads a file and generates three tokens, as far as it allows.
fn use_file(file: Vec<u8>) -> Result<(), Error> {
    let mut engine = engine(512);
    let model = engine.load(ModelSource::memory("damaged", file), &LoadOptions::default())?;
    let session = engine.open_session(model, &SessionOptions::default())?;
    engine.append(session, Prompt::Tokens(vec![1, 2, 3]))?;
    engine.generate(session, &asks(3))?;
    finish(&mut engine, session);
    let _ = engine.output(session)?.text.len();
    let text = Prompt::Text { text: "héllo <s>".into(), special: weft::SpecialTokens::Parse };
    engine.append(session, text)?;
    engine.generate(session, &asks(1))?;
    finish(&mut engine, session);
    engine.progress(model).map(|_| ())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_are_errors_or_run(damages in prop::collection::vec(damage(), 1..4)) {
        let mut file = TINY.clone();
        damages.iter().for_each(|damage| damage.apply(&mut file));
        if let Err(error) = use_file(file) {
            prop_assert!(!error.to_string().is_empty());
        }
        // Far more than the tests of this file need, and far less than a damaged size would ask for.
        prop_assert!(peak_memory() < 1 << 30, "{} bytes of memory", peak_memory());
    }
}

// --- Valid files that need much memory, or have little metadata -----------------------------------------------------

/// A metadata entry from the value's type id and bytes.
fn entry(key: &str, id: u32, value: &[u8]) -> Vec<u8> {
    [&(key.len() as u64).to_le_bytes(), key.as_bytes(), &id.to_le_bytes(), value].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// The tiny model with additional metadata.
fn with_entries(entries: &[Vec<u8>]) -> Vec<u8> {
    const COUNT: Range<usize> = 16..24;
    let mut file = TINY.clone();
    let mut added = entries.concat();
    // Padding keeps the tensor data aligned.
    let pad = 32 - (added.len() + entry("pad", 8, &string("")).len()) % 32;
    added.extend(entry("pad", 8, &string(&"x".repeat(pad))));
    let count = u64::from_le_bytes(file[COUNT].try_into().unwrap()) + entries.len() as u64 + 1;
    file[COUNT].copy_from_slice(&count.to_le_bytes());
    file.splice(COUNT.end..COUNT.end, added);
    file
}

/// The first token after the reference's prompt.
fn next_token(file: Vec<u8>) -> u32 {
    let mut engine = engine(512);
    let model = engine.load(ModelSource::memory("tiny", file), &LoadOptions::default()).unwrap();
    engine.wait_loaded(model).unwrap();
    greedy(&mut engine, model, &TOKENS, 1)[0]
}

/// Expected tokens are those of llama.cpp (llama-cpp-python 0.3.36) on files with the same keys. There, a factor
/// without a type scales linearly, and the type `none` turns scaling off whatever else is set.
#[test]
fn rope_scaling_means_what_it_means_elsewhere() {
    let factor = |key: &str| entry(key, 6, &4f32.to_le_bytes());
    let kind = |name: &str| entry("llama.rope.scaling.type", 8, &string(name));
    const FACTOR: &str = "llama.rope.scaling.factor";
    const OLD: &str = "llama.rope.scale_linear";
    let cases = [
        ("no scaling", vec![], 234),
        ("linear", vec![factor(FACTOR), kind("linear")], 298),
        ("a factor alone", vec![factor(FACTOR)], 298),
        ("an old factor alone", vec![factor(OLD)], 298),
        ("none", vec![factor(FACTOR), kind("none")], 234),
        ("none with an old factor", vec![factor(OLD), kind("none")], 234),
    ];
    let wrong: Vec<_> = cases
        .into_iter()
        .map(|(name, entries, expected)| (name, next_token(with_entries(&entries)), expected))
        .filter(|(_, found, expected)| found != expected)
        .collect();
    assert!(wrong.is_empty(), "(case, found, expected): {wrong:?}");
}

/// A model in F16 with one layer, an embedding of width 2 and a feed-forward network of width `inner`.
fn lopsided(inner: u64) -> Vec<u8> {
    let count = |key: &str, value: u64| entry(key, 4, &(value as u32).to_le_bytes());
    let entries = [
        entry("general.architecture", 8, &string("llama")),
        count("llama.context_length", 4096),
        count("llama.embedding_length", 2),
        count("llama.block_count", 1),
        count("llama.feed_forward_length", inner),
        count("llama.attention.head_count", 1),
    ];
    let tensors: [(&str, &[u64], u32); 12] = [
        ("token_embd.weight", &[2, 32], 1),
        ("output_norm.weight", &[2], 0),
        ("blk.0.attn_norm.weight", &[2], 0),
        ("blk.0.attn_q.weight", &[2, 2], 1),
        ("blk.0.attn_k.weight", &[2, 2], 1),
        ("blk.0.attn_v.weight", &[2, 2], 1),
        ("blk.0.attn_output.weight", &[2, 2], 1),
        ("blk.0.ffn_norm.weight", &[2], 0),
        ("blk.0.ffn_gate.weight", &[2, inner], 1),
        ("blk.0.ffn_up.weight", &[2, inner], 1),
        ("blk.0.ffn_down.weight", &[inner, 2], 1),
        ("output.weight", &[2, 32], 1),
    ];
    let mut file = [&b"GGUF"[..], &3u32.to_le_bytes()].concat();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend((entries.len() as u64).to_le_bytes());
    file.extend(entries.concat());
    let mut at = 0u64;
    for (name, shape, id) in tensors {
        file.extend(string(name));
        file.extend((shape.len() as u32).to_le_bytes());
        shape.iter().for_each(|size| file.extend(size.to_le_bytes()));
        file.extend(id.to_le_bytes());
        file.extend(at.to_le_bytes());
        let bytes = shape.iter().product::<u64>() * if id == 0 { 4 } else { 2 };
        at = (at + bytes).next_multiple_of(32);
    }
    file.resize(file.len().next_multiple_of(32), 0);
    // Every value is 0.47 as a half float; read as 32-bit floats, the norms are small floats.
    file.extend([0x80, 0x37].repeat(at as usize / 2));
    file
}

/// Rows of a wave are as wide as the file says. Their memory must stay in proportion to the file.
#[test]
fn a_small_file_takes_little_memory() {
    const MOST: u64 = 256 << 20;
    let file = lopsided(1 << 16);
    assert!(file.len() < 1 << 20);
    let before = peak_memory();
    let mut engine = engine(512);
    let model = engine.load(ModelSource::memory("lopsided", file), &LoadOptions::default()).unwrap();
    let session = told(&mut engine, model, &[7; 512]);
    engine.ask_logits(session, vec![511], KeepLogits::Row, 0).unwrap();
    finish(&mut engine, session);
    assert_eq!(engine.take_logits(session).unwrap().rows.len(), 1);
    let taken = peak_memory() - before;
    assert!(taken < MOST, "{} MiB for a file below 1 MiB", taken >> 20);
}
