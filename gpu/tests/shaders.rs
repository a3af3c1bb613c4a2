//! Every kernel is valid WGSL for naga, also those whose features this machine lacks.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test should stop where it failed")]

use naga::valid::{Capabilities, ValidationFlags, Validator};
use weft_gpu::shader::{KernelSpec, parts};

fn check(spec: &KernelSpec) {
    let source = spec.source();
    let module = naga::front::wgsl::parse_str(&source)
        .unwrap_or_else(|error| panic!("{}: {}", spec.name, error.emit_to_string(&source)));
    if let Err(error) = Validator::new(ValidationFlags::all(), Capabilities::all()).validate(&module) {
        panic!("{}: {}", spec.name, error.emit_to_string(&source));
    }
}

#[test]
fn products_on_cooperative_matrices() {
    let layouts = [
        parts::DECODE_F32,
        parts::DECODE_F16,
        parts::DECODE_BF16,
        parts::DECODE_U8,
        parts::DECODE_U4,
        parts::DECODE_U4MIN,
    ];
    for decode in layouts {
        for kernel in [parts::MATMUL_COOPERATIVE, parts::MATMUL_SKINNY] {
            for add in [0u32, 1] {
                let spec = KernelSpec::new("matmul", [parts::WAVE, decode, kernel])
                    .with("ROW_COUNT", 0u32)
                    .with("GRID_X", 32_768u32)
                    .with("GRID_Y", 32_768u32)
                    .with("BANDS", 4u32)
                    .with("K", 256u32)
                    .with("N", 256u32)
                    .with("ROW_BASE", 0u32)
                    .with("ADD", add)
                    .with("OUT_STRIDE", 256u32);
                check(&spec);
            }
        }
    }
}
