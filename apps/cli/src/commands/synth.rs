//! `weft synth`: makes a model of any shape with random weights.

use crate::args::{ShapeArgs, SynthArgs};
use crate::error::CliError;
use crate::{make, memory, output};
use serde::Serialize;
use std::time::Instant;
use weft::synth::{Synth, SynthExperts, SynthShape};

#[derive(Serialize)]
struct Report<'a> {
    path: &'a str,
    bytes: u64,
    tensors: usize,
    /// Time from planning to renaming the finished file.
    seconds: f64,
}

/// Runs the command.
pub(super) fn run(args: &SynthArgs) -> Result<(), CliError> {
    let start = Instant::now();
    let name = args.out.display().to_string();
    let format = Synth::format(&args.format)?;
    let plan = Synth::new(&name, &args.shape.arch, &shape(&args.shape)?, format, args.seed)?;
    make::write(&args.out, args.force, plan.bytes(), |file, progress| {
        plan.write(file, args.threads, progress)
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let (bytes, tensors) = (plan.bytes(), plan.tensors());
    if args.json {
        return output::json(&Report { path: &name, bytes, tensors, seconds });
    }
    output::line(&name)?;
    output::note(&format!("{}, {tensors} tensors, {seconds:.1} s", memory::human(bytes)));
    Ok(())
}

/// The preset's shape, or the tiny default, with the given options replaced.
fn shape(args: &ShapeArgs) -> Result<SynthShape, CliError> {
    let base = args.preset.as_deref().map(SynthShape::preset).transpose()?.unwrap_or_default();
    Ok(SynthShape {
        layers: args.layers.unwrap_or(base.layers),
        embedding: args.embedding.unwrap_or(base.embedding),
        feed_forward: args.feed_forward.unwrap_or(base.feed_forward),
        heads: args.heads.unwrap_or(base.heads),
        kv_heads: args.kv_heads.unwrap_or(base.kv_heads),
        key_length: args.key_length.or(base.key_length),
        value_length: args.value_length.or(base.value_length),
        vocabulary: args.vocab.unwrap_or(base.vocabulary),
        context: args.context.unwrap_or(base.context),
        tied: args.tied || (base.tied && !args.untied),
        rope_base: args.rope_base.unwrap_or(base.rope_base),
        window: args.window.or(base.window),
        experts: experts(args, base.experts),
    })
}

/// The experts' shape, if an option sets part of it or the base has experts.
fn experts(args: &ShapeArgs, base: Option<SynthExperts>) -> Option<SynthExperts> {
    let given = [args.experts, args.experts_used, args.expert_feed_forward, args.shared_feed_forward];
    if base.is_none() && given.iter().all(Option::is_none) {
        return None;
    }
    let base = base.unwrap_or_default();
    Some(SynthExperts {
        count: args.experts.unwrap_or(base.count),
        used: args.experts_used.unwrap_or(base.used),
        feed_forward: args.expert_feed_forward.unwrap_or(base.feed_forward),
        shared_feed_forward: args.shared_feed_forward.unwrap_or(base.shared_feed_forward),
    })
}
