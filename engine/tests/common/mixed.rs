//! Models whose matrices have several formats, as in K-quant files. Random blocks replace the floats of a synthetic
//! model.

use std::ops::ControlFlow;
use std::slice;
use std::sync::Arc;
use weft::gguf::{Gguf, GgufHeader, GgufWriter};
use weft::storage::{MemorySource, Source};
use weft::synth::{Synth, SynthShape};
use weft::{ModelSource, TensorFormat};

/// Formats of matrices by a word in their names. The first match counts; the last entry matches all.
pub type Mix = &'static [(&'static str, &'static str)];

/// As in llama.cpp's Q4_K_M: in some layers, values and down projections have more bits.
pub const Q4_K_M: Mix = &[
    ("token_embd", "Q6_K"),
    ("blk.0.attn_v", "Q4_K"),
    ("blk.0.ffn_down", "Q4_K"),
    ("attn_v", "Q6_K"),
    ("ffn_down", "Q6_K"),
    ("", "Q4_K"),
];

/// A Llama model with random blocks.
pub fn mixed(shape: &SynthShape, mix: Mix) -> ModelSource {
    let float = Synth::format("F32").expect("a format");
    let synth = Synth::new("mixed", "llama", shape, float, 1).expect("a model");
    let bytes = synth.write(Vec::new(), 1, |_| ControlFlow::Continue(())).expect("a file");
    let source: Arc<dyn Source> = Arc::new(MemorySource::new("mixed.gguf", bytes));
    let gguf = Gguf::read(slice::from_ref(&source)).expect("a file");
    let mut header = GgufHeader::new(&gguf.metadata).expect("a header");
    let mut data = Vec::new();
    let mut state = 1;
    for tensor in &gguf.tensors {
        let is_matrix = tensor.shape.len() > 1;
        let (_, name) = mix.iter().find(|(word, _)| tensor.name.contains(word)).expect("a mix for all");
        let format = if is_matrix { TensorFormat::from_name(name).expect("a format") } else { tensor.format };
        header.tensor(&tensor.name, format, &tensor.shape).expect("a tensor");
        data.push(if is_matrix {
            let weights: u64 = tensor.shape.iter().product();
            blocks(&mut state, format, weights as usize / format.block())
        } else {
            source.read(tensor.range.clone()).expect("floats").to_vec()
        });
    }
    let mut writer = GgufWriter::new(Vec::new(), &header).expect("a file");
    data.iter().for_each(|data| writer.data(data).expect("a tensor"));
    ModelSource::memory("mixed.gguf", writer.finish().expect("a file"))
}

/// Random blocks. Any bytes are a valid block, but the scale may have any size, so only blocks whose largest weight is
/// in a fixed range are kept.
fn blocks(state: &mut u64, format: TensorFormat, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * format.block_bytes()];
    let mut values = vec![0.0f32; format.block()];
    for block in bytes.chunks_exact_mut(format.block_bytes()) {
        loop {
            block.fill_with(|| random(state));
            assert!(format.dequantize(block, &mut values), "{format}");
            let largest = values.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            if values.iter().all(|x| x.is_finite()) && (0.02..0.2).contains(&largest) {
                break;
            }
        }
    }
    bytes
}

/// The upper bits of a linear congruential generator (Knuth's MMIX).
fn random(state: &mut u64) -> u8 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 56) as u8
}
