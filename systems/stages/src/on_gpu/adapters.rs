//! Adapters on a GPU: their matrices, in a buffer for each product that some adapter adds to, and which row uses which
//! adapter.
//!
//! Waves in which no row uses an adapter run the plain plan. The others run a plan of their own, whose products are
//! stored as floats, so that low-rank sums can be added before anything else is done to them.

use super::layer_weights::{EndWeights, LayerMap};
use bevy_ecs::prelude::*;
use std::collections::HashMap;
use std::sync::Arc;
use weft_components::{AdapterSite, Wave};
use weft_formats::adapter::{AdapterMatrices, AdapterPair};
use weft_gpu::{Gpu, GpuError, wgpu};

/// Pairs of an adapter at one product. No product has more projections.
pub(super) const PAIRS: usize = 3;
/// Words of a pair in a site's table.
const PAIR_WORDS: usize = 6;
/// Stands for an adapter's number in rows without an adapter.
const NO_ADAPTER: u32 = u32::MAX;

/// An adapter and its matrices.
pub(super) type Listed = (Entity, Arc<AdapterMatrices>);

/// The matrices of all adapters at one product.
pub(super) struct SiteBuffer {
    /// What `adapter.wgsl` reads.
    pub(super) buffer: wgpu::Buffer,
    /// Largest sum of ranks of a row.
    pub(super) ranks: usize,
    /// Inputs of the product.
    pub(super) inputs: usize,
}

/// The buffers that the kernels of a model's adapters are bound to.
pub(super) struct AdapterBuffers {
    /// The adapters by number.
    list: Vec<Entity>,
    sites: HashMap<(Option<usize>, AdapterSite), SiteBuffer>,
    /// Adapter and scale of each row of the wave, then of each row of logits.
    pub(super) used: wgpu::Buffer,
    /// `[rows, ranks]`.
    pub(super) low: wgpu::Buffer,
    /// Index of the first row of logits in `used`.
    pub(super) logits_at: usize,
}

/// The words of a site's buffer, its ranks and inputs. `None` if no adapter adds to the site.
fn site_words(list: &[Listed], layer: Option<usize>, site: AdapterSite) -> Option<(Vec<u32>, usize, usize)> {
    let of =
        |listed: &'_ Listed| listed.1.pairs(layer, site).iter().map(|pair| pair.down.rows()).sum::<usize>();
    let ranks = list.iter().map(of).max().filter(|ranks| *ranks > 0)?;
    let mut words = vec![0; 1 + list.len() * PAIRS * PAIR_WORDS];
    words[0] = ranks as u32;
    let mut inputs = 0;
    for (number, (_, matrices)) in list.iter().enumerate() {
        for (place, pair) in matrices.pairs(layer, site).iter().take(PAIRS).enumerate() {
            let AdapterPair { first, scale, down, up } = pair;
            let (rank, outputs) = (down.rows(), up.rows());
            inputs = down.cols();
            let down_at = words.len();
            let mut row = vec![0.0; inputs.max(rank)];
            for k in 0..rank {
                down.row(k, &mut row[..inputs]);
                words.extend(row[..inputs].iter().map(|value| value.to_bits()));
            }
            let up_at = words.len();
            words.resize(up_at + rank * outputs, 0);
            for output in 0..outputs {
                up.row(output, &mut row[..rank]);
                for (k, value) in row[..rank].iter().enumerate() {
                    words[up_at + k * outputs + output] = value.to_bits();
                }
            }
            let at = 1 + (number * PAIRS + place) * PAIR_WORDS;
            let table = [down_at, up_at, rank, *first, outputs].map(|n| n as u32);
            words[at..at + 5].copy_from_slice(&table);
            words[at + 5] = scale.to_bits();
        }
    }
    Some((words, ranks, inputs))
}

impl AdapterBuffers {
    /// Allocates memory for the matrices of `list` at the layers and ends that a device holds, and for waves of up to
    /// `rows` rows and `logit_rows` rows of logits.
    pub(super) fn new(
        gpu: &Gpu,
        list: &[Listed],
        layers: &LayerMap,
        ends: &EndWeights,
        [rows, logit_rows]: [usize; 2],
    ) -> Result<Self, GpuError> {
        let of_layers = layers.keys().flat_map(|layer| {
            let sites =
                [AdapterSite::Qkv, AdapterSite::AttentionOutput, AdapterSite::GateUp, AdapterSite::Down];
            sites.map(|site| (Some(*layer), site))
        });
        let of_head = ends.head().map(|_| (None, AdapterSite::Head));
        let mut sites = HashMap::new();
        for (layer, site) in of_layers.chain(of_head) {
            let Some((words, ranks, inputs)) = site_words(list, layer, site) else { continue };
            let buffer = gpu.storage("adapters", 4 * words.len() as u64)?;
            gpu.write(&buffer, 0, bytemuck::cast_slice(&words));
            // Written bytes wait in host memory for a submit.
            gpu.watch(|| gpu.queue.submit([]));
            sites.insert((layer, site), SiteBuffer { buffer, ranks, inputs });
        }
        let ranks = sites.values().map(|site| site.ranks).max().unwrap_or(0);
        Ok(Self {
            list: list.iter().map(|(entity, _)| *entity).collect(),
            sites,
            used: gpu.storage("adapters_used", 8 * (rows + logit_rows) as u64)?,
            low: gpu.storage("adapters_low", 4 * (rows.max(logit_rows) * ranks) as u64)?,
            logits_at: rows,
        })
    }

    /// The matrices at a product. `None` if no adapter adds to it.
    pub(super) fn site(&self, layer: Option<usize>, site: AdapterSite) -> Option<&SiteBuffer> {
        self.sites.get(&(layer, site))
    }

    /// Uploads which adapter each row of a wave uses. `words` is scratch memory.
    pub(super) fn write(&self, gpu: &Gpu, wave: &Wave, words: &mut Vec<[u32; 2]>) {
        let Wave { adapters, logit_rows, .. } = wave;
        let rows = wave.rows();
        words.clear();
        words.resize(rows, [NO_ADAPTER, 0]);
        for group in &adapters.groups {
            let Some(number) = self.list.iter().position(|found| *found == group.adapter) else { continue };
            for place in group.places.clone() {
                let (row, scale) = (adapters.rows[place] as usize, adapters.scales[place]);
                words[row] = [number as u32, scale.to_bits()];
            }
        }
        gpu.write(&self.used, 0, bytemuck::cast_slice(words));
        for row in logit_rows {
            words.push(words[*row as usize]);
        }
        let of_logits = bytemuck::cast_slice(&words[rows..]);
        gpu.write(&self.used, 8 * self.logits_at as u64, of_logits);
    }
}
