//! The stages of the Weft engine, one module a stage.

pub mod load;
pub mod sample;
pub mod tokenize;
