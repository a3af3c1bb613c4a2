//! Plain Rust.

crate::kernels::instantiate! { "scalar", crate::simd::scalar::Scalar }
