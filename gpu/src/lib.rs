//! The wgpu backend. Empty until the GPU plugin arrives: layers are placed on the CPU.
