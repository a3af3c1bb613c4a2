//! The tests of this crate, in one program: a file here is a module of it.

mod chat;
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
