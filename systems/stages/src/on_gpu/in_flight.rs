//! In-flight steps: submits whose results are not read back yet, what they read back, and taking it once it has
//! arrived.

use super::scratch::{MOST_LOGIT_ROWS, id_words};
use crate::on_cpu;
use bevy_ecs::prelude::*;
use core::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;
use web_time::Instant;
use weft_components::{AtLayer, Chosen, ModelConfig, Wave, WaveSpan};
use weft_gpu::sampling::NO_TOKEN;
use weft_gpu::{Gpu, GpuError, wgpu};
use weft_platform::Cpu;

/// A buffer for readbacks that the host maps. Buffers are reused.
pub(super) struct Staging {
    pub(super) buffer: wgpu::Buffer,
    pub(super) bytes: u64,
}

/// What a submit reads back.
pub(super) enum Readback {
    /// One token for each row of logits; then the rows of logits, if they are wanted; then the hidden state of all
    /// rows, if it is wanted.
    Rows {
        /// The wave's turn.
        turn: u64,
        /// For each row of logits, its row of the wave.
        rows: Vec<u32>,
        /// For each span, true if the device chose its token.
        chosen: Vec<bool>,
        /// True if the logits are read back too.
        logits: bool,
        /// Rows whose final hidden state is wanted. The hidden state is read back if there are any.
        states: Vec<u32>,
    },
    /// The hidden state of a wave that continues on another device.
    Hidden {
        /// The wave.
        wave: Entity,
    },
}

/// Steps that may be in flight with their tokens unread, if everything is on one GPU. Two are enough that the device
/// never waits for the host.
pub(super) const AHEAD: usize = 2;

const WAITING: u8 = 0;
const MAPPED: u8 = 1;
const FAILED: u8 = 2;

/// A submit whose results are not read back yet.
pub(super) struct InFlight {
    pub(super) readback: Readback,
    pub(super) spans: Vec<WaveSpan>,
    #[cfg_attr(target_family = "wasm", expect(dead_code, reason = "a browser never waits for a submit"))]
    pub(super) index: wgpu::SubmissionIndex,
    /// Rows of the wave, and when the device got the first of them. `None` if the device was busy with an earlier wave.
    pub(super) started: Option<(usize, Instant)>,
    pub(super) staging: Staging,
    state: Arc<AtomicU8>,
}

impl InFlight {
    /// Starts to map what a submit wrote into `staging`.
    pub(super) fn new(
        gpu: &Gpu,
        readback: Readback,
        spans: Vec<WaveSpan>,
        index: wgpu::SubmissionIndex,
        staging: Staging,
        started: Option<(usize, Instant)>,
    ) -> Self {
        let state = Arc::new(AtomicU8::new(WAITING));
        let result = Arc::clone(&state);
        gpu.map_read(&staging.buffer, staging.bytes, move |mapped| {
            result.store(if mapped { MAPPED } else { FAILED }, Ordering::Release);
        });
        Self { readback, spans, index, started, staging, state }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) != WAITING
    }

    /// The bytes read back. `None` if the mapping failed.
    pub(super) fn words(&self) -> Option<wgpu::BufferView> {
        (self.state.load(Ordering::Acquire) == MAPPED)
            .then(|| self.staging.buffer.slice(..self.staging.bytes).get_mapped_range().ok())
            .flatten()
    }

    /// The memory of the spans and the staging buffer, for reuse.
    pub(super) fn into_buffers(self) -> (Vec<WaveSpan>, Staging) {
        self.staging.buffer.unmap();
        (self.spans, self.staging)
    }
}

/// Bytes that the tokens of a wave take at most. Token buffers have this one size, and there is one for each step that
/// may be in flight: a decode step allocates nothing, however late the step before it is read.
pub(super) const TOKEN_BYTES: u64 = 4 * id_words(MOST_LOGIT_ROWS) as u64;

/// Number of free staging buffers larger than [`TOKEN_BYTES`] that are kept.
pub(super) const LARGE_KEPT: usize = AHEAD + 2;

/// Size in bytes of the buffer allocated for `bytes`. It is rounded up, so that a size that grows row by row does not
/// allocate a buffer each time.
fn rounded(bytes: u64) -> u64 {
    bytes.next_multiple_of((bytes.next_power_of_two() / 8).max(16))
}

/// A staging buffer of at least `bytes`: a free one, or a new one.
pub(super) fn staging(gpu: &Gpu, free: &mut Vec<Staging>, bytes: u64) -> Result<Staging, GpuError> {
    let bytes = bytes.next_multiple_of(16);
    let fits = |staging: &Staging| {
        let size = staging.buffer.size();
        size >= bytes && size <= (4 * bytes).max(TOKEN_BYTES)
    };
    if let Some(at) = free.iter().position(fits) {
        return Ok(Staging { bytes, ..free.remove(at) });
    }
    if bytes > TOKEN_BYTES {
        let size = rounded(bytes).min(gpu.capabilities.max_buffer.max(bytes));
        return Ok(Staging { buffer: gpu.readback("readback", size)?, bytes });
    }
    for _ in 0..AHEAD {
        free.push(Staging { buffer: gpu.readback("readback", TOKEN_BYTES)?, bytes: TOKEN_BYTES });
    }
    Ok(Staging { buffer: gpu.readback("readback", TOKEN_BYTES)?, bytes })
}

/// Takes a buffer back. Only the latest [`LARGE_KEPT`] large ones are kept, so memory does not grow with the number of
/// sizes used.
pub(super) fn return_staging(free: &mut Vec<Staging>, staging: Staging) {
    let large = |staging: &Staging| staging.buffer.size() > TOKEN_BYTES;
    if large(&staging)
        && free.iter().filter(|staging| large(staging)).count() >= LARGE_KEPT
        && let Some(oldest) = free.iter().position(large)
    {
        free.remove(oldest);
    }
    free.push(staging);
}

/// Appends the final hidden state of `rows` to `states`, normed if the model ends with a norm.
fn final_states(
    cpu: &Cpu,
    config: &ModelConfig,
    norm: Option<&[f32]>,
    hidden: &[f32],
    rows: &[u32],
    states: &mut Vec<f32>,
) {
    let width = config.embedding;
    rows.iter().for_each(|row| states.extend_from_slice(&hidden[*row as usize * width..][..width]));
    if let Some(norm) = norm {
        on_cpu::norm_in_place(cpu, states, norm, config.norm_epsilon);
    }
}

impl InFlight {
    /// Moves the rows read back into a wave at the stage `Sample`. Returns `None` if the mapping failed, or if the step
    /// reads back no rows.
    pub(super) fn rows_into<'a>(
        &mut self,
        wave: &mut Wave,
        cpu: &Cpu,
        config: &ModelConfig,
        norm: impl FnOnce() -> Option<&'a [f32]>,
    ) -> Option<()> {
        let bytes = self.words()?;
        let words: &[u32] = bytemuck::cast_slice(&bytes);
        let Readback::Rows { turn, rows, chosen, logits, states } = &mut self.readback else { return None };
        let (ids, rest) = words.split_at(id_words(rows.len()));
        let count = if *logits { rows.len() * config.vocabulary } else { 0 };
        let (logits, hidden) = rest.split_at(count);
        wave.clear();
        wave.at = AtLayer::Sample;
        wave.turn = *turn;
        wave.logits.clear();
        wave.logits.extend_from_slice(bytemuck::cast_slice(logits));
        wave.states.clear();
        if !states.is_empty() {
            final_states(cpu, config, norm(), bytemuck::cast_slice(hidden), states, &mut wave.states);
        }
        let token = |id: &u32| (*id != NO_TOKEN).then_some(*id);
        if self.spans.iter().any(|span| span.drafts > 0) {
            wave.picked.extend(ids.iter().take(rows.len()).map(token));
        }
        let of_device = |(span, chosen): (&WaveSpan, &bool)| {
            let first = span.logits.end.checked_sub(1 + span.drafts);
            let id = first.filter(|_| *chosen).and_then(|row| ids.get(row));
            id.map_or(Chosen::Sampler, |id| Chosen::Device(token(id)))
        };
        wave.chosen.extend(self.spans.iter().zip(chosen.iter()).map(of_device));
        core::mem::swap(&mut wave.spans, &mut self.spans);
        core::mem::swap(&mut wave.logit_rows, rows);
        core::mem::swap(&mut wave.state_rows, states);
        Some(())
    }
}
