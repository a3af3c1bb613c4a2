//! Uploading a wave to a GPU: its tokens, positions, block tables and the shape of its attention.

use super::gpu_shard::{AdaptedPlan, GpuShard};
use super::plan_builder::PendingPlan;
use super::shape::{Attend, WaveShape, shape_of};
use super::upload::RowWords;
use bevy_ecs::prelude::*;
use weft_components::{AtLayer, LayerConfig, ModelConfig, Wave, WaveSpan};
use weft_gpu::{GpuError, TILE, WaveData};
use weft_platform::PAGE;

/// Rows of one session from which attention in tiles of rows is faster.
const TILED_ROWS: usize = 8;
/// Rows whose contexts can all be split into the largest number of splits. With more rows, each context gets fewer
/// splits.
pub(super) const SPLIT_ROWS: usize = 16;
/// Workgroups that keep a large GPU busy.
const WORKGROUPS: usize = 396;

impl GpuShard {
    /// Uploads a wave's rows, and its hidden state if the host has it. Returns `false` if the device cannot take the
    /// wave yet.
    pub(crate) fn enter(&mut self, entity: Entity, wave: &mut Wave, config: &ModelConfig) -> bool {
        if self.failed || self.plan().is_none() || !self.may_take(wave) {
            return false;
        }
        if wave.pages() > self.scratch.table_words {
            // Admission keeps to `WaveLimits::pages`, so this is a bug of the engine. The context must not be truncated
            // silently.
            let (pages, limit) = (wave.pages(), self.scratch.table_words);
            self.gpu.mark_failed(&GpuError::BlockTables { pages, limit });
            return false;
        }
        match self.occupied {
            Some(found) if found == entity => return true,
            Some(_) => return false,
            None => {}
        }
        if !self.holds(wave.rows()) {
            return false;
        }
        self.copy_pages(wave, config);
        self.write_wave(wave, config.causal);
        self.entered = self.in_flight.is_empty().then(|| (wave.rows(), web_time::Instant::now()));
        if !wave.hidden.is_empty() && wave.at != AtLayer::Embed {
            let bytes = bytemuck::cast_slice(&wave.hidden[..wave.rows() * config.embedding]);
            self.gpu.write(&self.scratch.hidden, 0, bytes);
        }
        wave.place = Some(self.place);
        self.occupied = Some(entity);
        true
    }

    /// Copies the pages that sessions of the wave diverge within, in each layer. The commands of earlier waves are
    /// recorded before. A buffer cannot be copied to itself, so the partial sums of attention, which no wave uses now, are
    /// between.
    fn copy_pages(&mut self, wave: &Wave, config: &ModelConfig) {
        // A wave that comes back from another place has copied the pages of the layers that it has passed.
        let next = match wave.at {
            AtLayer::Layer(next) => next,
            AtLayer::Ffn(layer) => layer + 1,
            _ => 0,
        };
        let between = &self.scratch.partials;
        for (index, layer) in self.kv.range(next..) {
            let LayerConfig { kv_class, recent, .. } = config.layer.get(*index).copied().unwrap_or_default();
            let class = recent.map_or(kv_class, |recent| recent.class);
            let pages = layer.open_pages(config);
            for (from, to) in wave.kv.get(class).into_iter().flat_map(|kv| &kv.copies) {
                for (buffer, (bytes, before)) in [&layer.keys, &layer.values].into_iter().zip(pages) {
                    let (mut done, most) = (0, between.size());
                    while done < bytes {
                        let part = most.min(bytes - done);
                        let [from, to] = [*from, *to].map(|slot| before + u64::from(slot) * bytes + done);
                        self.commands.copy(buffer, from, between, 0, part);
                        self.commands.copy(between, 0, buffer, to, part);
                        done += part;
                    }
                }
            }
        }
    }

    /// Number of splits of each context: as many as keep the device busy and fit the buffer of partial sums.
    fn splits(&self, rows: u32, longest: usize) -> u32 {
        let most = (SPLIT_ROWS * weft_gpu::SPLITS_MAX as usize) / (rows as usize).max(1);
        self.attention.splits(rows as usize, longest, WORKGROUPS).min(most.max(1) as u32)
    }

    /// Uploads a wave's rows, positions and block tables. With `causal`, rows attend to the positions up to their own;
    /// otherwise to all of their text.
    fn write_wave(&mut self, wave: &Wave, causal: bool) {
        let mut arrays = core::mem::take(&mut self.rows);
        let RowWords { kv, tables, tiles, seen } = &mut arrays;
        kv.iter_mut().for_each(Vec::clear);
        tables.clear();
        tiles.clear();
        seen.clear();
        let tiled = wave.spans.iter().any(|span| span.rows.len() > TILED_ROWS);
        let aligned = self.kv.values().any(|kv| kv.layout.is_sealed());
        let mut longest = 0;
        for span in &wave.spans {
            longest = longest.max(span.start + span.rows.len());
            for row in span.rows.clone() {
                for (kv, class) in kv.iter_mut().zip(&wave.kv) {
                    kv.push(class.slots[row] * PAGE as u32 + wave.positions[row] % PAGE as u32);
                }
                tables.push(span.table.start as u32);
            }
            if !causal {
                let last = span.start + span.rows.len() - 1;
                seen.extend(span.rows.clone().map(|_| last as u32));
            }
            if tiled {
                add_tiles(span, aligned, tiles);
            }
        }
        let rows = wave.rows() as u32;
        let splits = if tiled { 1 } else { self.splits(rows, longest) };
        self.shape = WaveShape {
            rows,
            logit_rows: wave.logit_rows.len() as u32,
            splits,
            tiles: tiles.len() as u32,
            attend: match splits {
                _ if tiled => Attend::Tiled,
                1 if self.attention.is_short(rows as usize, WORKGROUPS) => Attend::Short,
                1 => Attend::Direct,
                _ => Attend::Split,
            },
        };
        self.commands.describe(shape_of(wave));
        let data = WaveData {
            tokens: &wave.tokens,
            positions: &wave.positions,
            kv: kv.each_ref().map(|kv| &kv[..]),
            tables,
            logit_rows: &wave.logit_rows,
            tiles,
            seen,
            splits: self.shape.splits,
        };
        data.encode(&mut self.words);
        let Self { gpu, scratch, words, uploads, .. } = self;
        uploads.wave.write(gpu, &scratch.wave, words);
        for (class, (upload, kv)) in uploads.tables.iter_mut().zip(&wave.kv).enumerate() {
            upload.write_at(gpu, &scratch.tables, class * scratch.table_words, &kv.tables);
        }
        self.rows = arrays;
        self.adapting = false;
        let Self { gpu, adapted, used, adapting, .. } = self;
        if let Some(AdaptedPlan { plan: PendingPlan::Ready(plan), .. }) = adapted
            && let Some(buffers) = plan.adapters.as_ref().filter(|_| !wave.adapters.is_empty())
        {
            *adapting = true;
            buffers.write(gpu, wave, used);
        }
    }
}

/// Adds the tiles of a span: the first row times 256 plus the number of rows. If `aligned`, the rows of a tile have the
/// same pages of newest tokens, which change where a page is complete.
fn add_tiles(span: &WaveSpan, aligned: bool, tiles: &mut Vec<u32>) {
    let mut first = span.rows.start;
    while first < span.rows.end {
        let position = span.start + first - span.rows.start;
        let most = if aligned { TILE - (position + 1) % TILE } else { TILE };
        let rows = (span.rows.end - first).min(most);
        tiles.push((first as u32) << 8 | rows as u32);
        first += rows;
    }
}
