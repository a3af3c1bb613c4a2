//! The sums that adapters add to the outputs of products.

use super::{Lowering, UnboundStep, WG};
use crate::on_gpu::adapters::PAIRS;
use crate::on_gpu::shape::Extent;
use weft_components::AdapterSite;
use weft_gpu::shader::{KernelSpec, parts};
use weft_gpu::{Count, wgpu};

/// A product that adapters may add to, in a plan for waves that use adapters.
#[derive(Clone, Copy)]
pub(super) struct Adapted {
    /// The layer; `None` for the head.
    pub(super) layer: Option<usize>,
    /// The product.
    pub(super) site: AdapterSite,
}

impl Lowering<'_> {
    /// The kernels that add an adapter's sums. `x` are the product's inputs in floats, `out` its outputs, each with the
    /// width of its rows. Empty if the plan is for waves without adapters, or no adapter changes the product.
    pub(super) fn adapt(
        &self,
        Adapted { layer, site }: Adapted,
        (x, width): (&wgpu::Buffer, usize),
        (out, stride): (&wgpu::Buffer, usize),
        count: Count,
    ) -> Vec<UnboundStep> {
        let Some((buffers, here)) = self.adapters.and_then(|all| Some((all, all.site(layer, site)?))) else {
            return Vec::new();
        };
        let (rows_at, rows) = match count {
            Count::Rows => (0, Extent::Rows),
            Count::LogitRows => (buffers.logits_at, Extent::LogitRows),
        };
        let shaped = |spec: KernelSpec| spec.with("PAIRS", PAIRS as u32).with("ROWS_AT", rows_at as u32);
        let shared = [(2, buffers.used.clone()), (3, here.buffer.clone()), (4, buffers.low.clone())];
        let (reduce, lanes) = self.reduce();
        let down = KernelSpec::new("adapter_down", [reduce, parts::ADAPTER, parts::ADAPTER_DOWN])
            .with("WG", LANES)
            .with("LANES", lanes)
            .with("K", here.inputs as u32)
            .with("X_STRIDE", width as u32);
        let up = KernelSpec::new("adapter_up", [parts::ADAPTER, parts::ADAPTER_UP])
            .with("WG", WG)
            .with("N", stride as u32)
            .with("OUT_STRIDE", stride as u32);
        let one = Extent::Fixed(1);
        vec![
            UnboundStep {
                spec: shaped(down),
                buffers: shared.iter().cloned().chain([(1, x.clone())]).collect(),
                grid: [Extent::Fixed(here.ranks as u32), rows, one],
            },
            UnboundStep {
                spec: shaped(up),
                buffers: shared.into_iter().chain([(30, out.clone())]).collect(),
                grid: [Extent::Fixed((stride as u32).div_ceil(WG)), rows, one],
            },
        ]
    }
}

/// Lanes that compute one sum.
const LANES: u32 = 64;
