//! The stages of the Weft engine as systems, and its backends.
//!
//! A tick runs `load → admit → embed → (attention → ffn) for each layer → head → sample → speculate → reclaim`; the
//! engine crate orders them. The modules `load`, `admit`, `sample` and `reclaim` are shared by all backends; [`on_cpu`] and
//! [`on_gpu`] are one backend each, with its systems for the stages between.

pub mod admit;
pub mod load;
pub mod on_cpu;
pub mod on_gpu;
pub mod reclaim;
pub mod sample;
