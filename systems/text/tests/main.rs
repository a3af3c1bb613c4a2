//! The tests of this crate in one program. Each file of this folder is a module.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a failed test should stop where it failed, and say what it measured"
)]

mod conversation;
mod template;
mod template_table;
mod tokenize;
mod tokenize_golden;
mod tokenize_hostile;
mod tokenize_hugging_face;
mod tokenize_kinds;
mod tokenize_real;
