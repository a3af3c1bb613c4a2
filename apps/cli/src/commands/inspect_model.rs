//! The hyperparameters that `weft inspect` prints, as the engine read them from metadata and tensors.

use serde::Serialize;
use weft::components::Activation;
use weft::{ModelConfig, Pooling};

/// A model's hyperparameters.
#[derive(Serialize)]
pub(super) struct ModelFacts {
    layers: usize,
    embedding: usize,
    feed_forward: usize,
    activation: &'static str,
    vocabulary: usize,
    context: usize,
    heads: usize,
    kv_heads: usize,
    key_length: usize,
    value_length: usize,
    /// True if a token attends only to itself and the tokens before it.
    causal: bool,
    /// The default pooling of embeddings.
    pooling: &'static str,
    window: Option<Window>,
    ropes: Vec<Rope>,
    experts: Option<Experts>,
    attention_cap: Option<f32>,
    logit_cap: Option<f32>,
}

#[derive(Serialize)]
struct Window {
    tokens: usize,
    /// Number of layers with this window.
    layers: usize,
}

#[derive(Serialize)]
struct Rope {
    base: f32,
    dimensions: usize,
    /// Divisor of positions.
    factor: f32,
    yarn: bool,
    /// True if each frequency has a divisor of its own.
    factors: bool,
    /// Number of layers that use this RoPE.
    layers: usize,
}

#[derive(Serialize)]
struct Experts {
    count: usize,
    used: usize,
    feed_forward: usize,
    shared_feed_forward: usize,
}

impl ModelFacts {
    pub(super) fn new(config: &ModelConfig) -> Self {
        let window = config.layer.iter().find_map(|layer| layer.window).map(|tokens| Window {
            tokens,
            layers: config.layer.iter().filter(|layer| layer.window.is_some()).count(),
        });
        let ropes = config.ropes.iter().enumerate().map(|(index, rope)| Rope {
            base: rope.base,
            dimensions: rope.dimensions,
            factor: 1.0 / rope.position_scale,
            yarn: rope.yarn.is_some(),
            factors: rope.factors.role().is_some(),
            layers: config.layer.iter().filter(|layer| layer.rope == Some(index)).count(),
        });
        Self {
            layers: config.layers,
            embedding: config.embedding,
            feed_forward: config.feed_forward,
            activation: match config.activation {
                Activation::Silu => "silu",
                Activation::Gelu => "gelu",
                Activation::ReluSquared => "relu2",
                Activation::GeluErf => "gelu_erf",
            },
            vocabulary: config.vocabulary,
            context: config.context,
            heads: config.heads,
            kv_heads: config.kv_heads,
            key_length: config.key_length,
            value_length: config.value_length,
            causal: config.causal,
            pooling: match config.default_pooling() {
                Pooling::None => "none",
                Pooling::Mean => "mean",
                Pooling::Cls => "cls",
                Pooling::Last => "last",
            },
            window,
            // Encoders with position embeddings use no RoPE.
            ropes: ropes.filter(|rope| rope.layers > 0).collect(),
            experts: config.experts.map(|experts| Experts {
                count: experts.count,
                used: experts.used,
                feed_forward: experts.feed_forward,
                shared_feed_forward: experts.shared_feed_forward,
            }),
            attention_cap: config.attention_cap,
            logit_cap: config.logit_cap,
        }
    }

    /// The same as text: names and values of lines.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("layers", format!("{} of width {}, context {}", self.layers, self.embedding, self.context)),
            (
                "attention",
                format!("{} heads of {}, {} for keys and values", self.heads, self.key_length, self.kv_heads),
            ),
        ];
        if !self.causal {
            lines.push(("", "an encoder: every token attends to the whole text".to_owned()));
            lines.push(("pooling", self.pooling.to_owned()));
        }
        if let Some(window) = &self.window {
            lines.push((
                "",
                format!("{} of the layers attend to the last {} tokens", window.layers, window.tokens),
            ));
        }
        for rope in &self.ropes {
            let mut text = format!("{} dimensions, base {}", rope.dimensions, rope.base);
            let scaled = format!(", positions / {}", rope.factor);
            let parts = [
                (rope.factor != 1.0, scaled.as_str()),
                (rope.yarn, ", YaRN"),
                (rope.factors, ", per-frequency factors"),
            ];
            text.extend(parts.iter().filter(|(there, _)| *there).map(|(_, part)| *part));
            lines.push(("RoPE", format!("{text}, in {} of the layers", rope.layers)));
        }
        match &self.experts {
            Some(experts) => {
                let Experts { count, used, feed_forward, shared_feed_forward } = experts;
                lines.push(("experts", format!("{count} of width {feed_forward}, {used} per token")));
                if *shared_feed_forward > 0 {
                    lines.push(("", format!("one shared expert of width {shared_feed_forward}")));
                }
            }
            None => lines.push(("feed-forward", format!("width {}, {}", self.feed_forward, self.activation))),
        }
        let caps = [("scores", self.attention_cap), ("logits", self.logit_cap)];
        for (what, cap) in caps {
            lines.extend(cap.map(|cap| ("caps", format!("{what} at {cap}"))));
        }
        lines
    }
}
