//! All tests of this crate in one program; each file is a module.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed test should stop where it failed, and say what it measured"
)]

mod adapters;
mod architectures;
mod backend;
mod batch;
mod budget;
mod common;
mod embedding;
mod encoder_folders;
mod examples;
mod fit;
mod folders;
mod gpu;
mod handle;
mod hooks;
mod hostile;
mod kivi;
mod kv_formats;
mod modules;
mod moving;
mod placement;
mod plugins;
mod polled;
mod prefix;
mod prepare;
mod progressive;
mod schedule;
mod sessions;
mod shaders;
mod smollm2;
mod snapshot;
mod soak;
mod speculate;
mod swap;
mod tiny;
