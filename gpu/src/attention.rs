//! stub
use crate::error::GpuError;
pub const TILE: usize = 16;
pub const TILED_ROWS: usize = 8;
#[derive(Clone, Copy)]
pub struct AttentionShape;
impl AttentionShape {
    pub fn new(_h: usize, _k: usize, _kl: usize, _v: usize) -> Result<Self, GpuError> {
        Ok(Self)
    }
    pub fn with_scale(self, _s: f32) -> Self {
        self
    }
    pub fn splits(&self, _rows: u32, _longest: u32) -> u32 {
        1
    }
    pub fn partial_bytes(&self, _rows: usize) -> u64 {
        16
    }
}
