//! The weights of a layer, and of a model's ends, on a GPU, grouped as kernels read them.

use super::product::Product;
use super::vectors::{Slot, Vectors};
use std::collections::BTreeMap;
use std::sync::Arc;
use weft_components::{ModelConfig, TensorRole as Role, WeightShard};
use weft_gpu::{Gpu, GpuError, GpuMatrix, KvLayout, wgpu};
use weft_platform::PAGE;

/// The destination of a shard's bytes.
#[derive(Clone)]
pub(super) enum Target {
    /// A matrix, and the first row of the shard in it.
    Matrix(Arc<GpuMatrix>, usize),
    /// A buffer of floats, and the first float of the shard in it.
    Vector(wgpu::Buffer, usize),
}

/// What a layer does to its heads between their projection and rotary embedding.
pub(super) struct Heads {
    /// Vectors that `rope_heads.wgsl` reads.
    pub(super) extra: Vectors,
    pub(super) bias: bool,
    pub(super) scaled: bool,
    pub(super) norm: bool,
    /// Elements of queries and of keys that share a norm.
    pub(super) spans: [usize; 2],
}

/// What is applied to a block's output before it is added to the residual.
pub(super) struct Residual {
    /// Vectors that `residual.wgsl` reads.
    pub(super) extra: Vectors,
    pub(super) norm: bool,
}

/// A gated network whose gate and up are scaled or have biases, or which has a norm after the gate.
pub(super) struct Gated {
    /// Vectors that `gate_norm.wgsl` reads.
    pub(super) extra: Vectors,
    pub(super) norm: bool,
    pub(super) bias: bool,
}

/// A feed-forward network that every row uses.
pub(super) struct Dense {
    /// Gate and up. Only up if there is no gate.
    pub(super) gate_up: Product,
    /// The bias of a network without a gate.
    pub(super) ungated: Option<Vectors>,
    pub(super) gated: Option<Gated>,
    pub(super) down: Product,
}

/// Expert feed-forward networks, of which each row uses some.
pub(super) struct Experts {
    /// Scores of experts, then of the shared one.
    pub(super) router: Product,
    pub(super) gate_up: Product,
    pub(super) down: Product,
    /// The shared expert, which every row uses.
    pub(super) shared: Option<Dense>,
}

/// A layer's feed-forward network.
pub(super) enum Ffn {
    Dense(Box<Dense>),
    Experts(Box<Experts>),
}

/// The weights and the KV cache of one layer.
pub(super) struct LayerWeights {
    pub(super) attention_norm: Option<Vectors>,
    pub(super) qkv: Product,
    pub(super) heads: Option<Heads>,
    pub(super) sub_norm: Option<Vectors>,
    pub(super) output: Product,
    /// `None` if attention's output is added to the residual unchanged.
    pub(super) attention_residual: Option<Residual>,
    /// LayerNorm of the residual after attention.
    pub(super) attention_layer_norm: Option<Vectors>,
    pub(super) ffn_norm: Option<Vectors>,
    pub(super) ffn: Ffn,
    /// `None` if the network's output is added to the residual unchanged.
    pub(super) ffn_residual: Option<Residual>,
    /// LayerNorm of the residual after the network.
    pub(super) ffn_layer_norm: Option<Vectors>,
    pub(super) kv: LayerKv,
}

/// The layers of a model on one device, by index.
pub(super) type LayerMap = BTreeMap<usize, Arc<LayerWeights>>;

/// The KV cache of one layer. It is kept when the layer's weights are evicted.
#[derive(Clone)]
pub(super) struct LayerKv {
    pub(super) keys: wgpu::Buffer,
    pub(super) values: wgpu::Buffer,
    pub(super) layout: KvLayout,
    /// Slots of sealed pages. The pages of the newest tokens are behind them. 0 if no pages are sealed.
    pub(super) sealed_slots: usize,
}

/// The size of a layer's KV cache.
#[derive(Clone, Copy)]
pub(super) struct KvSize {
    pub(super) layout: KvLayout,
    /// Pages.
    pub(super) slots: usize,
    /// Pages of newest tokens, behind the others; 0 unless these are sealed.
    pub(super) recent_slots: usize,
}

impl KvSize {
    /// Bytes of keys and of values.
    pub(super) fn bytes(&self, config: &ModelConfig) -> [u64; 2] {
        let (pages, recent) = (page_bytes(self.layout, config), page_bytes(open_layout(self.layout), config));
        [0, 1].map(|i| self.slots as u64 * pages[i] + self.recent_slots as u64 * recent[i])
    }
}

/// Bytes of a page's keys and of its values.
fn page_bytes(layout: KvLayout, config: &ModelConfig) -> [u64; 2] {
    [config.key_length, config.value_length]
        .map(|length| PAGE as u64 * (config.kv_heads * layout.head_bytes(length)) as u64)
}

/// The layout of pages that tokens are stored in.
const fn open_layout(layout: KvLayout) -> KvLayout {
    if layout.is_sealed() { KvLayout::F16 } else { layout }
}

impl LayerKv {
    /// Allocates memory.
    pub(super) fn new(gpu: &Gpu, config: &ModelConfig, size: KvSize) -> Result<Self, GpuError> {
        let [keys, values] = size.bytes(config);
        let sealed_slots = if size.layout.is_sealed() { size.slots } else { 0 };
        Ok(Self {
            keys: gpu.storage("kv_keys", keys)?,
            values: gpu.storage("kv_values", values)?,
            layout: size.layout,
            sealed_slots,
        })
    }

    /// Bytes of a page that tokens are stored in, and of what is before all of these: of keys and of values.
    pub(super) fn open_pages(&self, config: &ModelConfig) -> [(u64, u64); 2] {
        let sealed = page_bytes(self.layout, config).map(|bytes| self.sealed_slots as u64 * bytes);
        let page = page_bytes(open_layout(self.layout), config);
        [(page[0], sealed[0]), (page[1], sealed[1])]
    }
}

/// Allocates memory for the shards of a layer or of a model.
struct Taker<'a> {
    gpu: &'a Gpu,
    config: &'a ModelConfig,
    shards: &'a [&'a WeightShard],
}

impl<'a> Taker<'a> {
    fn has(&self, role: Role) -> bool {
        self.shards.iter().any(|shard| shard.role == role)
    }

    fn shard(&self, role: Role) -> Result<&'a WeightShard, GpuError> {
        self.shards.iter().find(|shard| shard.role == role).copied().ok_or(GpuError::Shape {
            what: "number of tensors",
            value: self.shards.len(),
            allowed: "layers with all of their tensors",
        })
    }

    fn product(&self, what: &str, roles: &[Role]) -> Result<Product, GpuError> {
        let shards = roles.iter().map(|role| self.shard(*role)).collect::<Result<Vec<_>, _>>()?;
        Product::new(self.gpu, what, &shards)
    }

    /// The stacked matrices of experts.
    fn stack(&self, what: &str, roles: &[Role], count: usize) -> Result<Product, GpuError> {
        let shards = roles.iter().map(|role| self.shard(*role)).collect::<Result<Vec<_>, _>>()?;
        let alike = |shard: &&&WeightShard| {
            let first = shards.iter().find(|first| first.role == shard.role);
            first.is_none_or(|first| shard.format == first.format)
        };
        if let Some(other) = self.shards.iter().find(|shard| !alike(shard)) {
            return Err(GpuError::Experts { what: other.name.clone() });
        }
        Product::stack(self.gpu, what, &shards, count)
    }

    /// The vector of a role. `None` if the file has none.
    fn vector(&self, role: Role) -> Result<Option<Vectors>, GpuError> {
        let Ok(shard) = self.shard(role) else { return Ok(None) };
        Vectors::new(self.gpu, &shard.name, &[Slot::new(role, shard.cols, 0.0)]).map(Some)
    }

    /// Weight and bias of a LayerNorm. `None` if the file has none.
    fn layer_norm(&self, [weight, bias]: [Role; 2]) -> Result<Option<Vectors>, GpuError> {
        let Ok(shard) = self.shard(weight) else { return Ok(None) };
        let slots = [Slot::new(weight, shard.cols, 1.0), Slot::new(bias, shard.cols, 0.0)];
        Vectors::new(self.gpu, &shard.name, &slots).map(Some)
    }

    /// A matrix of the model. `None` if the file has none.
    fn optional(&self, what: &str, role: Role) -> Result<Option<Product>, GpuError> {
        self.has(role).then(|| self.product(what, &[role])).transpose()
    }

    fn heads(&self) -> Result<Option<Heads>, GpuError> {
        let config = self.config;
        let any = |roles: &[Role]| roles.iter().any(|role| self.has(*role));
        let [bias, scaled, norm] = [
            any(&[Role::QueryBias, Role::KeyBias, Role::ValueBias]),
            any(&[Role::QueryScale, Role::KeyScale, Role::ValueScale]),
            any(&[Role::QueryNorm, Role::KeyNorm]),
        ];
        if !(bias || scaled || norm) {
            return Ok(None);
        }
        let spans = if norm {
            [self.shard(Role::QueryNorm)?.cols, self.shard(Role::KeyNorm)?.cols]
        } else {
            [config.key_length; 2]
        };
        let (keys, values) = (config.kv_heads * config.key_length, config.kv_heads * config.value_length);
        let mut slots = Vec::new();
        if bias {
            slots.extend([
                Slot::new(Role::QueryBias, config.heads * config.key_length, 0.0),
                Slot::new(Role::KeyBias, keys, 0.0),
                Slot::new(Role::ValueBias, values, 0.0),
            ]);
        }
        if norm {
            slots
                .extend([Slot::new(Role::QueryNorm, spans[0], 1.0), Slot::new(Role::KeyNorm, spans[1], 1.0)]);
        }
        if scaled {
            slots.extend([Role::QueryScale, Role::KeyScale, Role::ValueScale].map(|r| Slot::new(r, 1, 1.0)));
        }
        let extra = Vectors::new(self.gpu, "attn_heads", &slots)?;
        Ok(Some(Heads { extra, bias, scaled, norm, spans }))
    }

    /// What is applied to the output of a block with these tensors before the residual. With `always`, the kernel is
    /// needed even without any of them.
    fn residual(
        &self,
        what: &str,
        [norm, bias, scale]: [Option<Role>; 3],
        always: bool,
    ) -> Result<Option<Residual>, GpuError> {
        let there = |role: Option<Role>| role.filter(|role| self.has(*role));
        let scaled = (self.config.residual_scale - 1.0).abs() > 0.0;
        if !always && !scaled && [norm, bias, scale].into_iter().all(|role| there(role).is_none()) {
            return Ok(None);
        }
        let width = self.config.embedding;
        let slot = |role: Option<Role>, count, fill| Slot { role: there(role), count, fill };
        let slots = [slot(norm, width, 1.0), slot(bias, width, 0.0), slot(scale, 1, 1.0)];
        let extra = Vectors::new(self.gpu, what, &slots)?;
        Ok(Some(Residual { extra, norm: there(norm).is_some() }))
    }

    fn gated(&self, width: usize) -> Result<Option<Gated>, GpuError> {
        let (norm, scales) = (Role::FfnSubNorm, [Role::FfnGateScale, Role::FfnUpScale]);
        let biases = [Role::FfnGateBias, Role::FfnUpBias];
        let bias = biases.iter().any(|role| self.has(*role));
        if !bias && ![norm].iter().chain(&scales).any(|role| self.has(*role)) {
            return Ok(None);
        }
        let mut slots = vec![Slot::new(norm, width, 1.0)];
        slots.extend(scales.map(|role| Slot::new(role, 1, 1.0)));
        if bias {
            // Biases begin at a whole vector of four.
            slots.push(Slot { role: None, count: 2, fill: 0.0 });
            slots.extend(biases.map(|role| Slot::new(role, width, 0.0)));
        }
        Ok(Some(Gated { extra: Vectors::new(self.gpu, "ffn_gated", &slots)?, norm: self.has(norm), bias }))
    }

    fn ffn(&self) -> Result<Ffn, GpuError> {
        let config = self.config;
        let Some(experts) = config.experts.filter(|_| self.has(Role::Router)) else {
            let ungated = !self.has(Role::FfnGate);
            let bias = [Slot::new(Role::FfnUpBias, config.feed_forward, 0.0)];
            let roles: &[Role] = if ungated { &[Role::FfnUp] } else { &[Role::FfnGate, Role::FfnUp] };
            return Ok(Ffn::Dense(Box::new(Dense {
                gate_up: self.product("ffn_gate_up", roles)?,
                ungated: ungated.then(|| Vectors::new(self.gpu, "ffn_up_bias", &bias)).transpose()?,
                gated: if ungated { None } else { self.gated(config.feed_forward)? },
                down: self.product("ffn_down", &[Role::FfnDown])?,
            })));
        };
        let mut router = vec![Role::Router];
        router.extend(Some(Role::SharedRouter).filter(|role| self.has(*role)));
        let shared = self.has(Role::SharedGate).then(|| {
            Ok::<_, GpuError>(Dense {
                gate_up: self.product("shared_gate_up", &[Role::SharedGate, Role::SharedUp])?,
                ungated: None,
                gated: None,
                down: self.product("shared_down", &[Role::SharedDown])?,
            })
        });
        Ok(Ffn::Experts(Box::new(Experts {
            router: self.product("router", &router)?,
            gate_up: self.stack("expert_gate_up", &[Role::ExpertGate, Role::ExpertUp], experts.count)?,
            down: self.stack("expert_down", &[Role::ExpertDown], experts.count)?,
            shared: shared.transpose()?,
        })))
    }
}

impl LayerWeights {
    /// Allocates memory for a layer's tensors.
    pub(super) fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        shards: &[&WeightShard],
        kv: LayerKv,
    ) -> Result<Self, GpuError> {
        let take = Taker { gpu, config, shards };
        let attention = [Role::AttentionPostNorm, Role::AttentionOutputBias, Role::AttentionOutputScale];
        let ffn = take.ffn()?;
        let of_ffn = [Role::FfnPostNorm, Role::FfnDownBias, Role::FfnDownScale].map(Some);
        let [behind_attention, behind_ffn] = [
            [Role::AttentionResidualNorm, Role::AttentionResidualNormBias],
            [Role::FfnResidualNorm, Role::FfnResidualNormBias],
        ];
        Ok(Self {
            attention_norm: take.vector(Role::AttentionNorm)?,
            qkv: take.product("attn_qkv", &[Role::Query, Role::Key, Role::Value])?,
            heads: take.heads()?,
            sub_norm: take.vector(Role::AttentionSubNorm)?,
            output: take.product("attn_output", &[Role::AttentionOutput])?,
            attention_residual: take.residual("attn_residual", attention.map(Some), false)?,
            attention_layer_norm: take.layer_norm(behind_attention)?,
            ffn_norm: take.vector(Role::FfnNorm)?,
            ffn_residual: take.residual("ffn_residual", of_ffn, matches!(ffn, Ffn::Experts(_)))?,
            ffn_layer_norm: take.layer_norm(behind_ffn)?,
            ffn,
            kv,
        })
    }

    fn vectors(&self) -> impl Iterator<Item = &Vectors> {
        let (gated, ungated) = match &self.ffn {
            Ffn::Dense(dense) => (dense.gated.as_ref(), dense.ungated.as_ref()),
            Ffn::Experts(_) => (None, None),
        };
        let norms = [
            &self.attention_norm,
            &self.sub_norm,
            &self.attention_layer_norm,
            &self.ffn_norm,
            &self.ffn_layer_norm,
        ];
        let residuals = [&self.attention_residual, &self.ffn_residual];
        let extras =
            [self.heads.as_ref().map(|heads| &heads.extra), gated.map(|gated| &gated.extra), ungated];
        let residuals = residuals.map(|residual| residual.as_ref().map(|residual| &residual.extra));
        norms.map(Option::as_ref).into_iter().chain(extras).chain(residuals).flatten()
    }

    fn products(&self) -> impl Iterator<Item = &Product> {
        let ffn: Vec<&Product> = match &self.ffn {
            Ffn::Dense(dense) => vec![&dense.gate_up, &dense.down],
            Ffn::Experts(experts) => {
                let Experts { router, gate_up, down, shared } = &**experts;
                let shared = shared.as_ref().map(|dense| [&dense.gate_up, &dense.down]);
                [router, gate_up, down].into_iter().chain(shared.into_iter().flatten()).collect()
            }
        };
        [&self.qkv, &self.output].into_iter().chain(ffn)
    }

    /// The destination of a shard.
    pub(super) fn target(&self, shard: &WeightShard) -> Option<Target> {
        if let Some((buffer, at)) = self.vectors().find_map(|vectors| vectors.target(shard.role)) {
            return Some(Target::Vector(buffer, at));
        }
        let found = self.products().find_map(|product| product.target(shard.role, shard.expert));
        found.map(|(matrix, row)| Target::Matrix(matrix, row))
    }

    /// Bytes of all matrices.
    pub(super) fn bytes(&self) -> u64 {
        self.products().map(Product::bytes).sum()
    }
}

/// The weights of a model's ends that are on this device.
pub(super) struct EndWeights {
    pub(super) embedding: Option<Product>,
    /// Position embeddings, added to token embeddings.
    pub(super) positions: Option<Product>,
    /// Embeddings of token types. Only the first row is used; it is added to token embeddings.
    pub(super) types: Option<Product>,
    /// LayerNorm of embeddings.
    pub(super) embedding_norm: Option<Vectors>,
    pub(super) norm: Option<Vectors>,
    /// `None` if the head uses the embedding's matrix, or is on another device.
    pub(super) head: Option<Product>,
    tied: bool,
    /// True if embeddings are looked up here.
    embed: bool,
    /// True if logits are computed here.
    heads: bool,
}

impl EndWeights {
    /// Allocates memory for the ends on this device. `shards` are the model's own.
    pub(super) fn new(
        gpu: &Gpu,
        config: &ModelConfig,
        shards: &[&WeightShard],
        embed: bool,
        head: bool,
    ) -> Result<Self, GpuError> {
        let take = Taker { gpu, config, shards };
        let wanted = embed || (head && config.tied);
        let (mut positions, mut types, mut embedding_norm) = (None, None, None);
        if embed {
            positions = take.optional("position_embd", Role::PositionEmbedding)?;
            types = take.optional("token_types", Role::TokenTypes)?;
            embedding_norm = take.layer_norm([Role::EmbeddingNorm, Role::EmbeddingNormBias])?;
        }
        Ok(Self {
            embedding: wanted.then(|| take.product("token_embd", &[Role::TokenEmbedding])).transpose()?,
            positions,
            types,
            embedding_norm,
            norm: head.then(|| take.vector(Role::OutputNorm)).transpose()?.flatten(),
            head: (head && !config.tied).then(|| take.product("output", &[Role::Output])).transpose()?,
            tied: config.tied,
            embed,
            heads: head,
        })
    }

    /// The head's product, if it is on this device.
    pub(super) fn head(&self) -> Option<&Product> {
        if self.tied { self.embedding.as_ref().filter(|_| self.heads) } else { self.head.as_ref() }
    }

    /// The ends on this device: the embedding, the head.
    pub(super) fn held(&self) -> (bool, bool) {
        (self.embed, self.heads)
    }

    /// The destination of the shard of a role.
    pub(super) fn target(&self, role: Role) -> Option<Target> {
        let norms = [self.norm.as_ref(), self.embedding_norm.as_ref()];
        if let Some((buffer, at)) = norms.into_iter().flatten().find_map(|norm| norm.target(role)) {
            return Some(Target::Vector(buffer, at));
        }
        let products = [&self.embedding, &self.positions, &self.types, &self.head].map(Option::as_ref);
        let (matrix, row) = products.into_iter().flatten().find_map(|product| product.target(role, 0))?;
        Some(Target::Matrix(matrix, row))
    }
}
