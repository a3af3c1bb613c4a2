//! Adapters on the CPU: adds low-rank pairs to the products of rows that use an adapter.
//!
//! Rows of one adapter are gathered and multiplied with A and B in floats. The result is added to the product's outputs
//! before anything else is done to them. Invariant: a row's sum does not depend on the other rows of the wave, and rows
//! without an adapter do not change.

use super::adapter_weights::{AdapterWeights, PlannedAdapter};
use super::forward_plan::CpuPlan;
use super::scratch::{AdapterScratch, sized};
use super::steps::{self, row_of};
use bevy_ecs::prelude::*;
use std::sync::Arc;
use weft_components::{AdaptedRows, AdapterSite, Adapters, Model, WaveAdapters};
use weft_formats::adapter::AdapterPair;
use weft_platform::{Activations, Cpu, Need};

/// Updates plans with the adapters of their models. Runs in the set `Load`.
pub fn plan_adapters(
    mut plans: Query<'_, '_, (&mut CpuPlan, Option<&Adapters>), With<Model>>,
    weights: Query<'_, '_, &AdapterWeights>,
) {
    for (mut plan, adapters) in &mut plans {
        let there = adapters.map_or(&[][..], Adapters::entities);
        if plan.adapters.iter().map(|planned| &planned.adapter).eq(there) {
            continue;
        }
        let planned = |adapter: &Entity| {
            let AdapterWeights(matrices) = weights.get(*adapter).ok()?;
            Some(PlannedAdapter { adapter: *adapter, matrices: Arc::clone(matrices) })
        };
        plan.adapters = there.iter().filter_map(planned).collect();
    }
}

/// Adds adapters to the products of a wave at one layer, or at the head.
pub struct Adapting<'a> {
    cpu: &'a Cpu,
    rows: &'a WaveAdapters,
    plan: &'a [PlannedAdapter],
    layer: Option<usize>,
    /// The wave's rows that products have, ascending. `None` for all rows.
    among: Option<&'a [u32]>,
    scratch: &'a mut AdapterScratch,
}

impl<'a> Adapting<'a> {
    /// For a layer, whose products have all rows of the wave. `None` if no row uses an adapter.
    pub fn layer(
        cpu: &'a Cpu,
        rows: &'a WaveAdapters,
        plan: &'a [PlannedAdapter],
        layer: usize,
        scratch: &'a mut AdapterScratch,
    ) -> Option<Self> {
        (!rows.is_empty()).then_some(Self { cpu, rows, plan, layer: Some(layer), among: None, scratch })
    }

    /// For the head, whose product has the rows of the wave whose logits are wanted. `None` if no row uses an adapter.
    pub fn head(
        cpu: &'a Cpu,
        rows: &'a WaveAdapters,
        plan: &'a CpuPlan,
        logit_rows: &'a [u32],
        scratch: &'a mut AdapterScratch,
    ) -> Option<Self> {
        let (plan, among) = (&*plan.adapters, Some(logit_rows));
        (!rows.is_empty()).then_some(Self { cpu, rows, plan, layer: None, among, scratch })
    }

    /// Adds the adapters' sums for the rows of `input`, `width` floats each, to the rows of `out`, `stride` floats
    /// each. The contents of `activations` are overwritten.
    pub fn add(
        &mut self,
        site: AdapterSite,
        (input, width): (&[f32], usize),
        activations: &mut Activations,
        (out, stride): (&mut [f32], usize),
    ) {
        for group in &self.rows.groups {
            let planned = self.plan.iter().find(|planned| planned.adapter == group.adapter);
            let pairs = planned.map_or(&[][..], |planned| planned.matrices.pairs(self.layer, site));
            if pairs.is_empty() {
                continue;
            }
            let _kernel = tracing::trace_span!(target: "weft::kernel", "adapter").entered();
            self.gather(group, input, width);
            for pairs in pairs.chunks(TOGETHER) {
                self.through(pairs, width, activations, out, stride);
            }
        }
    }

    /// Copies the rows of a group side by side.
    fn gather(&mut self, group: &AdaptedRows, input: &[f32], width: usize) {
        let AdapterScratch { places, scales, rows, .. } = &mut *self.scratch;
        places.clear();
        scales.clear();
        rows.clear();
        for at in group.places.clone() {
            let (row, scale) = (self.rows.rows[at], self.rows.scales[at]);
            let place = match self.among {
                None => row as usize,
                Some(among) => match among.binary_search(&row) {
                    Ok(place) => place,
                    Err(_) => continue,
                },
            };
            places.push(place);
            scales.push(scale);
            rows.extend_from_slice(row_of(input, width, place));
        }
    }

    /// Multiplies the gathered rows with some pairs, at most [`TOGETHER`], into `out`.
    fn through(
        &mut self,
        pairs: &[AdapterPair],
        width: usize,
        activations: &mut Activations,
        out: &mut [f32],
        stride: usize,
    ) {
        const FLOATS: Need = Need { quantized: false, floats: true };
        let cpu = self.cpu;
        let AdapterScratch { places, scales, rows, low, sums } = &mut *self.scratch;
        let Some(first) = pairs.first().filter(|_| !places.is_empty()) else { return };
        let mut downs = [&first.down; TOGETHER];
        for (down, pair) in downs.iter_mut().zip(pairs) {
            *down = &pair.down;
        }
        let downs = &downs[..pairs.len().min(TOGETHER)];
        let ranks: usize = downs.iter().map(|down| down.rows()).sum();
        let low = sized(low, places.len() * ranks);
        steps::load(cpu, activations, rows, width, FLOATS);
        steps::product(cpu, downs, activations, low, ranks);
        let mut at = 0;
        for pair in pairs {
            let (rank, outputs) = (pair.down.rows(), pair.up.rows());
            for (low, scale) in low.chunks_exact_mut(ranks).zip(&*scales) {
                cpu.kernels.scale(&mut low[at..at + rank], pair.scale * scale);
            }
            let sums = sized(sums, places.len() * outputs);
            activations.load_strided(cpu, &low[at..], ranks, places.len(), rank, FLOATS);
            steps::product(cpu, &[&pair.up], activations, sums, outputs);
            for (place, sum) in places.iter().zip(sums.chunks_exact(outputs)) {
                cpu.kernels.add(&mut out[place * stride + pair.first..][..outputs], sum);
            }
            at += rank;
        }
    }
}

/// Largest number of pairs whose inputs are multiplied together: queries, keys and values.
const TOGETHER: usize = 3;
