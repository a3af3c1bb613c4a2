//! Distribution: which layers of a model go to which place. A plan and a load follow the same rules.
//!
//! The last layers and the head go to places other than the first. If they do not hold the whole model, a wave crosses
//! from the first place to the others once, and its hidden state never comes back. Several places share the layers in
//! order, in proportion to their memory.

use crate::place::{Backend, Backends, EndsWanted, GpuLayers, PlaceErrorKind};
use bevy_ecs::world::World;
use core::ops::Range;
use std::sync::Arc;
use weft_components::{Ends, Place};

/// The places of a model's layers and ends.
pub(super) struct Distribution {
    /// The place of each layer.
    pub(super) layers: Vec<Place>,
    /// The places of the ends.
    pub(super) ends: Ends,
    first: Place,
}

impl Distribution {
    /// All layers and ends on the first place.
    pub(super) fn on(first: Place, layers: usize) -> Self {
        Self { layers: vec![first; layers], ends: Ends { embed: first, head: first }, first }
    }

    /// Offers the last layers to the places other than the first, in proportion to their `memory`. `take` gets a place,
    /// its backend and a range of layers, and returns the last layers of the range, which the place takes. The first
    /// place keeps what no other takes.
    ///
    /// With [`GpuLayers::Auto`], a place that cannot compute the model leaves all of it to the first place, and its
    /// refusal is returned in `Ok`. `kind` returns the kind of an error of `take`.
    pub(super) fn offload<E>(
        &mut self,
        backends: &Backends,
        memory: &[Option<u64>],
        wanted: GpuLayers,
        mut take: impl FnMut(Place, &Arc<dyn Backend>, Range<usize>) -> Result<Range<usize>, E>,
        kind: impl Fn(&E) -> Option<PlaceErrorKind>,
    ) -> Result<Option<E>, E> {
        let layers = self.layers.len();
        let count = match wanted {
            GpuLayers::Auto => layers,
            GpuLayers::Count(count) => count.min(layers),
        };
        let ranges = shares(memory, layers - count..layers);
        // From the last layers on. What a place does not take is offered to the one before it.
        let mut end = layers;
        let others: Vec<_> = backends.places().skip(1).collect();
        for ((place, backend), range) in others.into_iter().zip(ranges).rev() {
            if range.start >= end {
                continue;
            }
            match take(place, backend, range.start..end) {
                Ok(taken) if taken.is_empty() => {}
                Ok(taken) => {
                    end = taken.start;
                    self.layers[taken].fill(place);
                }
                Err(error) if wanted == GpuLayers::Auto && kind(&error) == Some(PlaceErrorKind::Model) => {
                    *self = Self::on(self.first, layers);
                    return Ok(Some(error));
                }
                Err(error) => return Err(error),
            }
        }
        let takes_ends = |place: &Place| backends.at(*place).is_some_and(|backend| backend.takes_ends());
        let end = |layer: Option<&Place>| layer.copied().filter(takes_ends).unwrap_or(self.first);
        self.ends = Ends { embed: end(self.layers.first()), head: end(self.layers.last()) };
        Ok(None)
    }

    /// The first layers and the ends that stay on the first place. `None` if nothing does.
    pub(super) fn kept(&self) -> Option<(Range<usize>, EndsWanted)> {
        let layers = self.layers.iter().take_while(|place| **place == self.first).count();
        let (embed, head) = (self.ends.embed == self.first, self.ends.head == self.first);
        let kept = layers > 0 || self.layers.is_empty() || embed || head;
        kept.then_some((0..layers, EndsWanted::Exactly { embed, head }))
    }
}

/// Bytes that each place other than the first may use.
pub(super) fn memory_of_others(world: &World, backends: &Backends) -> Vec<Option<u64>> {
    backends.places().skip(1).map(|(_, backend)| backend.memory(world)).collect()
}

/// Splits layers over places in proportion to the memory that each may use, or evenly if the memory of one is unknown.
fn shares(memory: &[Option<u64>], layers: Range<usize>) -> Vec<Range<usize>> {
    let known = memory.iter().all(Option::is_some) && memory.iter().flatten().any(|bytes| *bytes > 0);
    let weight = |bytes: &Option<u64>| bytes.filter(|_| known).map_or(1.0, |bytes| bytes as f64);
    let total: f64 = memory.iter().map(weight).sum();
    let (mut first, mut mass) = (layers.start, 0.0);
    memory
        .iter()
        .map(|bytes| {
            mass += weight(bytes);
            let end = layers.start + (layers.len() as f64 * mass / total).round() as usize;
            let range = first..end.clamp(first, layers.end);
            first = range.end;
            range
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_shared_by_memory() {
        for (memory, wanted) in [
            (vec![Some(1), Some(1)], vec![0..5, 5..10]),
            (vec![Some(1), Some(4)], vec![0..2, 2..10]),
            (vec![Some(0), Some(4)], vec![0..0, 0..10]),
            (vec![Some(0), Some(0)], vec![0..5, 5..10]),
            (vec![None, Some(4)], vec![0..5, 5..10]),
        ] {
            assert_eq!(shares(&memory, 0..10), wanted, "{memory:?}");
        }
    }
}
