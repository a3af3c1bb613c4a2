//! Choosing tokens.
