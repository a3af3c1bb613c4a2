//! All tests of this crate in one program. Each file here is a module of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed test should stop where it failed, and say what it measured"
)]

mod adapter;
mod gguf_errors;
mod gguf_golden;
mod gguf_hostile;
mod gguf_support;
mod gguf_write;
mod hugging_face;
mod per_layer;
mod polled;
mod quantize;
mod quantize_files;
mod synth;
