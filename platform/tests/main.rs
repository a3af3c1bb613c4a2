//! All tests of this crate in one program. Each file is a module of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed test should stop where it failed, and say what it measured"
)]

mod attention;
mod buffer;
mod common;
mod kivi;
mod kv_formats;
mod kv_write;
mod packing;
mod products;
mod storage;
mod threads;
mod vectors;
mod wake;
