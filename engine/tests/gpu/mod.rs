//! Models on GPUs compared with the references and the CPU, on the featured path and on the plain one.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failed test should stop where it failed")]

mod adapters;
mod company;
mod embedding;
mod figures;
mod formats;
mod grow;
mod kivi;
mod kv_formats;
mod limits;
mod loss;
mod moving;
mod places;
mod prefix;
mod reference;
mod sampled;
mod several;
mod snapshot;
