//! Pages of the KV cache between a GPU and the host, in the layout of the CPU's cache (`weft_platform::kv_arena`). So what
//! was computed on one backend is read on the other: both store the same numbers, and rotate heads in the same way.
//!
//! | | CPU, for a KV head of a page | GPU, for a KV head of a page |
//! |---|---|---|
//! | elements of keys | `[dimension][token]` | `[token][dimension]` |
//! | elements of values | `[token][dimension, padded to 16]` | `[token][dimension]` |
//! | scales | `[block of 32 dimensions][token]` | `[token][block]`, whole words for each token |
//! | codes of 4 bits | element or token `i` and `i + 8` in a byte | element `i` and `i + 4` in a byte |

use super::capacity::kv_layout;
use super::gpu_shard::GpuShard;
use crate::place::kv_shape;
#[cfg(not(target_family = "wasm"))]
use core::time::Duration;
use weft_components::ModelConfig;
#[cfg(not(target_family = "wasm"))]
use weft_gpu::wgpu;
use weft_platform::{KV_BLOCK, KvFormat, KvShape, PAGE};

/// Longest time to wait for a device to copy pages. A device that takes longer has been lost.
#[cfg(not(target_family = "wasm"))]
const LONGEST: Duration = Duration::from_secs(30);

impl GpuShard {
    /// Returns true if the shard has the KV cache of a layer, its device works, and no command is recorded that has not been
    /// submitted.
    pub fn has_kv(&self, layer: usize) -> bool {
        !self.failed && self.commands.is_empty() && self.kv.contains_key(&layer)
    }

    /// The shape that the pages of `layers` layers have on the host. `None` if pages are sealed on the device, which are not
    /// copied.
    pub fn host_shape(&self, config: &ModelConfig, layers: usize) -> Option<KvShape> {
        let layout = self.plan_builder.attention.kv;
        let format = KvFormat::ALL.into_iter().find(|format| kv_layout(*format) == layout)?;
        Some(kv_shape(config, format, 0, layers, 1))
    }

    /// Reads pages of a layer, one after another, as they are on the host. Blocks until the device has copied them, after
    /// all that has been submitted to it. `None` if the device fails, or has no memory for the copy.
    #[cfg(not(target_family = "wasm"))]
    pub fn read_pages(&self, config: &ModelConfig, layer: usize, slots: &[u32]) -> Option<Vec<u8>> {
        let (kv, shape) = (self.kv.get(&layer)?, self.host_shape(config, 1)?);
        let sizes = kv.open_pages(config).map(|(bytes, _)| bytes);
        let each: u64 = sizes.iter().sum();
        let bytes = each * slots.len() as u64;
        let page = shape.bytes().ok()?;
        if slots.is_empty() {
            return Some(Vec::new());
        }
        let staging = self.gpu.readback("kv_pages", bytes).ok()?;
        let mut encoder = self.gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let mut to = 0;
        for slot in slots {
            for (buffer, bytes) in [&kv.keys, &kv.values].into_iter().zip(sizes) {
                encoder.copy_buffer_to_buffer(buffer, u64::from(*slot) * bytes, &staging, to, bytes);
                to += bytes;
            }
        }
        let index = self.gpu.watch(|| self.gpu.queue.submit([encoder.finish()]));
        let (done, mapped) = std::sync::mpsc::channel();
        self.gpu.map_read(&staging, bytes, move |mapped| {
            // The receiver waits below, or has given up.
            let _ = done.send(mapped);
        });
        let wait = wgpu::PollType::Wait { submission_index: Some(index), timeout: Some(LONGEST) };
        self.gpu.device.poll(wait).ok()?;
        if !mapped.try_recv().is_ok_and(|mapped| mapped) {
            return None;
        }
        let mut out = vec![0; page * slots.len()];
        let view = staging.slice(..bytes).get_mapped_range().ok()?;
        let mut device = view.to_vec();
        for (host, device) in out.chunks_exact_mut(page).zip(device.chunks_exact_mut(each as usize)) {
            convert(&shape, host, device, true)?;
        }
        drop(view);
        staging.unmap();
        Some(out)
    }

    /// Writes pages of a layer, which are as on the host, before all that is submitted from now on. Does not wait.
    /// `None` if the bytes are not those of as many pages.
    pub fn write_pages(&self, config: &ModelConfig, layer: usize, slots: &[u32], host: &[u8]) -> Option<()> {
        let (kv, shape) = (self.kv.get(&layer)?, self.host_shape(config, 1)?);
        let sizes = kv.open_pages(config).map(|(bytes, _)| bytes);
        let page = shape.bytes().ok()?;
        if host.len() != page * slots.len() {
            return None;
        }
        let mut device = vec![0; sizes.iter().sum::<u64>() as usize];
        let mut host = host.to_vec();
        for (slot, host) in slots.iter().zip(host.chunks_exact_mut(page)) {
            convert(&shape, host, &mut device, false)?;
            let (keys, values) = device.split_at(sizes[0] as usize);
            for ((buffer, bytes), size) in [(&kv.keys, keys), (&kv.values, values)].into_iter().zip(sizes) {
                self.gpu.write(buffer, u64::from(*slot) * size, bytes);
            }
        }
        Some(())
    }
}

/// Copies one page of one layer: from `device`, which has the keys of all heads and then their values, to `host`, or with
/// `to_host` false the other way. `None` if the sizes are not those of the shape.
fn convert(shape: &KvShape, host: &mut [u8], device: &mut [u8], to_host: bool) -> Option<()> {
    let KvShape { kv_heads, k_dim, v_dim, format, .. } = *shape;
    let (head, [keys_here, values_here]) = (shape.page_bytes(), shape.halves());
    let layout = kv_layout(format);
    let on_device = [k_dim, v_dim].map(|dim| PAGE * layout.head_bytes(dim));
    if host.len() != head * kv_heads || device.len() != on_device.iter().sum::<usize>() * kv_heads {
        return None;
    }
    let (keys, values) = device.split_at_mut(on_device[0] * kv_heads);
    let heads = host.chunks_exact_mut(head.max(1));
    let devices =
        keys.chunks_exact_mut(on_device[0].max(1)).zip(values.chunks_exact_mut(on_device[1].max(1)));
    for (host, (keys, values)) in heads.zip(devices) {
        let key = Head { format, dim: k_dim, values_pad: None };
        let value = Head { format, dim: v_dim, values_pad: Some(shape.v_pad()) };
        for (of, half, device) in [(key, &keys_here, keys), (value, &values_here, values)] {
            // Scales are behind all elements.
            let (elements, scales) = host.split_at_mut(half.scales.start);
            let scales = &mut scales[..half.scales.len()];
            of.convert(&mut elements[half.elements.clone()], scales, device, to_host);
        }
    }
    Some(())
}

/// The keys, or the values, of one KV head of a page.
struct Head {
    format: KvFormat,
    /// Elements of a key or value.
    dim: usize,
    /// For values, elements of a value with padding on the host.
    values_pad: Option<usize>,
}

impl Head {
    /// Position of an element on the host, in elements.
    fn on_host(&self, token: usize, element: usize) -> usize {
        match self.values_pad {
            Some(pad) => token * pad + element,
            None => element * PAGE + token,
        }
    }

    fn convert(&self, elements: &mut [u8], scales: &mut [u8], device: &mut [u8], to_host: bool) {
        let bits = self.format.bits();
        for token in 0..PAGE {
            for element in 0..self.dim {
                let (host, on_device) = (self.on_host(token, element), token * self.dim + element);
                if bits == 4 {
                    // Groups of 16 on the host, of 8 on a GPU. The lower half of a group is in the low halves of its bytes.
                    let (host, on_device) = (nibble(host, 16), nibble(on_device, 8));
                    copy_nibble(elements, host, device, on_device, to_host);
                } else {
                    copy(elements, host, device, on_device, bits / 8, to_host);
                }
            }
        }
        if scales.is_empty() {
            return;
        }
        let scale_words = self.dim.div_ceil(2 * KV_BLOCK);
        let device = &mut device[PAGE * self.dim * bits / 8..];
        for token in 0..PAGE {
            for block in 0..self.dim.div_ceil(KV_BLOCK) {
                copy(scales, block * PAGE + token, device, token * 2 * scale_words + block, 2, to_host);
            }
        }
    }
}

/// The byte of a code of 4 bits in groups of `group` codes, and how far it is shifted.
fn nibble(at: usize, group: usize) -> (usize, u32) {
    let (group_at, lane) = (at / group, at % group);
    let half = group / 2;
    (group_at * half + lane % half, if lane < half { 0 } else { 4 })
}

/// Copies item `host` of `size` bytes to item `device`, or back.
fn copy(hosts: &mut [u8], host: usize, devices: &mut [u8], device: usize, size: usize, to_host: bool) {
    let (host, device) = (&mut hosts[host * size..][..size], &mut devices[device * size..][..size]);
    if to_host { host.copy_from_slice(device) } else { device.copy_from_slice(host) }
}

fn copy_nibble(
    hosts: &mut [u8],
    (host, host_shift): (usize, u32),
    devices: &mut [u8],
    (device, device_shift): (usize, u32),
    to_host: bool,
) {
    let set = |byte: &mut u8, shift: u32, code: u8| *byte = *byte & !(15 << shift) | code << shift;
    if to_host {
        set(&mut hosts[host], host_shift, devices[device] >> device_shift & 15);
    } else {
        set(&mut devices[device], device_shift, hosts[host] >> host_shift & 15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_platform::{Kernels, KvArena};

    /// Keys and values of small whole numbers, which every format but those of few bits stores exactly.
    fn number(token: usize, element: usize, head: usize, value: bool) -> f32 {
        ((token * 31 + element * 7 + head * 3 + usize::from(value)) % 100) as f32
    }

    #[test]
    fn a_page_of_the_cpu_comes_back_the_same() {
        for format in KvFormat::ALL {
            for (k_dim, v_dim) in [(16, 16), (24, 40), (64, 64), (96, 128), (8, 16)] {
                let shape = KvShape { layers: 1, slots: 1, kv_heads: 2, k_dim, v_dim, format };
                let mut arena = KvArena::new(shape).unwrap();
                for token in 0..PAGE {
                    let row = |dim: usize, value: bool| -> Vec<f32> {
                        let item = |i: usize| number(token, i % dim, i / dim, value);
                        (0..2 * dim).map(item).collect()
                    };
                    arena.write(Kernels::detect(), 0, 0, token, &row(k_dim, false), &row(v_dim, true));
                }
                let layout = kv_layout(format);
                let size = 2 * PAGE * (layout.head_bytes(k_dim) + layout.head_bytes(v_dim));
                let mut device = vec![0; size];
                let mut host = arena.slot(0, 0).to_vec();
                convert(&shape, &mut host, &mut device, false).unwrap();
                if format == KvFormat::F32 {
                    // [slot][KV head][token][dimension]
                    let at = |head: usize, token: usize, i: usize| 4 * ((head * PAGE + token) * k_dim + i);
                    let found = f32::from_le_bytes(device[at(1, 5, 3)..][..4].try_into().unwrap());
                    assert_eq!(found, number(5, 3, 1, false));
                }
                let mut back = host.clone();
                // The padding of values is not on the device.
                convert(&shape, &mut back, &mut device, true).unwrap();
                assert_eq!(back, host, "{format:?} {k_dim} {v_dim}");
                let (mut empty, mut again) = (vec![0; host.len()], vec![0; size]);
                convert(&shape, &mut empty, &mut device, true).unwrap();
                convert(&shape, &mut empty, &mut again, false).unwrap();
                assert_eq!(again, device, "{format:?} {k_dim} {v_dim}");
                assert!(convert(&shape, &mut host, &mut device[1..], true).is_none());
            }
        }
    }
}
