//! All tests of this crate in one program; each file is a module.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed test should stop where it failed, and say what it measured"
)]

mod chat;
mod chat_commands;
mod chat_context;
mod chat_lines;
mod chat_sampling;
#[cfg(target_os = "linux")]
mod chat_terminal;
mod contract;
mod convert;
mod failures;
mod gpu;
mod lora;
mod manners;
mod memory;
mod pull;
mod quantize;
mod support;
mod synth;
