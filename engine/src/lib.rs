//! The Weft engine.
