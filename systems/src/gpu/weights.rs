//! A layer's and a model's weights on a GPU, in the groupings that kernels read: projections that share their input are one
//! product, so that one dispatch computes them all where their formats allow it.

use std::sync::Arc;
use weft_components::{ModelConfig, TensorRole as Role, WeightShard};
use weft_gpu::{Encoding, Gpu, GpuError, GpuMatrix, wgpu};

/// Matrices that are multiplied with the same activations; their outputs lie side by side.
pub(super) struct Product {
    /// Output features in all.
    pub(super) rows: usize,
    /// The matrices with their first output column. Neighbours of one encoding are one matrix.
    pub(super) matrices: Vec<(usize, Arc<GpuMatrix>)>,
    roles: Vec<(Role, usize, usize)>,
}

impl Product {
    /// Takes memory for the shards of these roles, in this order.
    fn new(gpu: &Gpu, what: &str, shards: &[&WeightShard]) -> Result<Self, GpuError> {
        let mut groups: Vec<(Encoding, usize)> = Vec::new();
        let mut roles = Vec::new();
        for shard in shards {
            let encoding = Encoding::of(&shard.name, shard.format, shard.cols)?;
            let last = groups.len().wrapping_sub(1);
            match groups.last_mut() {
                Some((found, rows)) if *found == encoding => {
                    roles.push((shard.role, last, *rows));
                    *rows += shard.rows;
                }
                _ => {
                    roles.push((shard.role, groups.len(), 0));
                    groups.push((encoding, shard.rows));
                }
            }
        }
        let columns = shards.first().map_or(0, |shard| shard.cols);
        let mut matrices = Vec::with_capacity(groups.len());
        let mut rows = 0;
        for (encoding, count) in groups {
            matrices.push((rows, Arc::new(GpuMatrix::new(gpu, what, encoding, count, columns)?)));
            rows += count;
        }
        Ok(Self { rows, matrices, roles })
    }

    /// The matrix that a role's shard is part of, and its first row there.
    fn target(&self, role: Role) -> Option<(Arc<GpuMatrix>, usize)> {
        let (_, group, row) = self.roles.iter().find(|(found, ..)| *found == role)?;
        Some((Arc::clone(&self.matrices.get(*group)?.1), *row))
    }

    /// Whether one matrix in one segment holds it all.
    pub(super) fn is_whole(&self) -> bool {
        matches!(&self.matrices[..], [(_, matrix)] if matrix.segments.len() == 1)
    }

    /// Whether every matrix is of codes, which meet activations of 8 bits.
    pub(super) fn is_quantized(&self) -> bool {
        self.matrices.iter().all(|(_, matrix)| matrix.encoding.layout.is_quantized())
    }

    /// Whether it has the matrix of a role.
    pub(super) fn has(&self, role: Role) -> bool {
        self.roles.iter().any(|(found, ..)| *found == role)
    }

    /// Bytes that one pass reads.
    pub(super) fn bytes(&self) -> u64 {
        let each = |m: &Arc<GpuMatrix>| weft_gpu::device_bytes(m.encoding.layout, m.rows, m.columns);
        self.matrices.iter().map(|(_, matrix)| each(matrix)).sum()
    }
}

/// Where a shard's bytes go.
pub(super) enum Target {
    /// Rows of a matrix.
    Matrix(Arc<GpuMatrix>, usize),
    /// Floats.
    Vector(wgpu::Buffer),
}

/// The weights and the KV cache of one layer.
pub(super) struct LayerWeights {
    pub(super) attention_norm: wgpu::Buffer,
    pub(super) qkv: Product,
    pub(super) output: Product,
    pub(super) ffn_norm: wgpu::Buffer,
    pub(super) gate_up: Product,
    pub(super) down: Product,
    pub(super) keys: wgpu::Buffer,
    pub(super) values: wgpu::Buffer,
}

/// The shard of a role.
fn shard<'a>(shards: &[&'a WeightShard], role: Role) -> Result<&'a WeightShard, GpuError> {
    shards.iter().find(|shard| shard.role == role).copied().ok_or(GpuError::Shape {
        what: "number of tensors",
        value: shards.len(),
        allowed: "layers with all of their tensors",
    })
}

fn vector(gpu: &Gpu, shard: &WeightShard) -> Result<wgpu::Buffer, GpuError> {
    gpu.storage(&shard.name, 4 * shard.cols as u64)
}

impl LayerWeights {
    /// Takes memory for a layer's tensors and for `tokens` of its KV cache.
    pub(super) fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        shards: &[&WeightShard],
        tokens: usize,
    ) -> Result<Self, GpuError> {
        let of = |role| shard(shards, role);
        let product = |what, roles: &[Role]| {
            let shards = roles.iter().map(|role| of(*role)).collect::<Result<Vec<_>, _>>()?;
            Product::new(gpu, what, &shards)
        };
        let cache = |what, dimensions: usize| {
            gpu.storage(what, 2 * tokens as u64 * (config.kv_heads * dimensions) as u64)
        };
        Ok(Self {
            attention_norm: vector(gpu, of(Role::AttentionNorm)?)?,
            qkv: product("attn_qkv", &[Role::Query, Role::Key, Role::Value])?,
            output: product("attn_output", &[Role::AttentionOutput])?,
            ffn_norm: vector(gpu, of(Role::FfnNorm)?)?,
            gate_up: product("ffn_gate_up", &[Role::FfnGate, Role::FfnUp])?,
            down: product("ffn_down", &[Role::FfnDown])?,
            keys: cache("kv_keys", config.key_length)?,
            values: cache("kv_values", config.value_length)?,
        })
    }

    /// Where the shard of a role goes.
    pub(super) fn target(&self, role: Role) -> Option<Target> {
        match role {
            Role::AttentionNorm => return Some(Target::Vector(self.attention_norm.clone())),
            Role::FfnNorm => return Some(Target::Vector(self.ffn_norm.clone())),
            _ => {}
        }
        let products = [&self.qkv, &self.output, &self.gate_up, &self.down];
        let (matrix, row) = products.into_iter().find_map(|product| product.target(role))?;
        Some(Target::Matrix(matrix, row))
    }

    /// Bytes of weights that one pass reads.
    pub(super) fn bytes(&self) -> u64 {
        self.qkv.bytes() + self.output.bytes() + self.gate_up.bytes() + self.down.bytes()
    }
}

/// The weights of a model's ends, as far as they are on this device.
pub(super) struct EndWeights {
    pub(super) embedding: Option<Product>,
    pub(super) norm: Option<wgpu::Buffer>,
    /// `None` where the embedding is the head too, or the head is elsewhere.
    pub(super) head: Option<Product>,
    tied: bool,
}

impl EndWeights {
    /// Takes memory for what the ends on this device need. `shards` are the model's own.
    pub(super) fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        shards: &[&WeightShard],
        embed: bool,
        head: bool,
    ) -> Result<Self, GpuError> {
        let product = |what, role| Product::new(gpu, what, &[shard(shards, role)?]);
        let wanted = embed || (head && config.tied);
        Ok(Self {
            embedding: wanted.then(|| product("token_embd", Role::TokenEmbedding)).transpose()?,
            norm: head.then(|| vector(gpu, shard(shards, Role::OutputNorm)?)).transpose()?,
            head: (head && !config.tied).then(|| product("output", Role::Output)).transpose()?,
            tied: config.tied,
        })
    }

    /// The head's product, if it is here.
    pub(super) fn head(&self) -> Option<&Product> {
        if self.tied { self.embedding.as_ref().filter(|_| self.norm.is_some()) } else { self.head.as_ref() }
    }

    /// Where the shard of a role goes.
    pub(super) fn target(&self, role: Role) -> Option<Target> {
        if role == Role::OutputNorm {
            return self.norm.clone().map(Target::Vector);
        }
        let products = [self.embedding.as_ref(), self.head.as_ref()];
        let (matrix, row) = products.into_iter().flatten().find_map(|product| product.target(role))?;
        Some(Target::Matrix(matrix, row))
    }
}
