//! The tests of this crate, in one program: a file here is a module of it.

mod formats;
