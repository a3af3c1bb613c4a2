//! The stages of the Weft engine as systems, and its backends.
//!
//! A tick runs `load → admit → embed → (attention → ffn) for each layer → head → sample → speculate → reclaim`; the
//! engine crate orders them. The modules `load`, `kv`, `admit`, `layers`, `sample`, `speculate` and
//! `reclaim` are shared by all backends.
//! [`place`] defines what a backend is. [`on_cpu`] and [`on_gpu`] are one backend each, with systems for the stages
//! from embed to head.

pub mod admit;
pub mod fail;
pub mod host;
pub mod kv;
pub mod layers;
pub mod load;
pub mod on_cpu;
pub mod on_gpu;
pub mod place;
pub mod reclaim;
mod related;
pub mod sample;
pub mod speculate;
pub mod text;

pub use related::related;
