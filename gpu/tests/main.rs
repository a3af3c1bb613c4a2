//! All tests of this crate in one program. Each file is a module of it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed test should stop where it failed, and say what it measured"
)]

mod adapter;
mod attention;
mod cache;
mod common;
mod embed_norm;
mod experts;
mod figures;
mod fused;
mod gates;
mod host_device;
mod logits;
mod products;
mod residual;
mod rope;
mod sampling;
