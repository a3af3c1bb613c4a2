//! All tests of this crate in one program. Each file is a module of it.

mod formats;
