//! The stages of the Weft engine, one module a stage, and what its CPU backend keeps.
//!
//! A tick runs `load → admit → embed → (attention → ffn) for each layer → head → sample → speculate → reclaim`; the
//! engine crate orders them. Nothing here knows an architecture by name but the files under `load/architecture/`.

pub mod admit;
pub mod attention;
pub mod cpu;
pub mod embed;
pub mod ffn;
pub mod gpu;
pub mod head;
pub mod load;
pub mod reclaim;
pub mod sample;
pub mod tokenize;
