//! Reads rotary embedding from the metadata: bases, scaling, factors, and the variant for layers with a window.

use super::keys::Keys;
use super::{Architecture, LocalRope};
use crate::error::ModelError;
use weft_components::{RopeConfig, RopeFactors, TensorRole as Role, Yarn};

/// How positions or frequencies are scaled, by the value of `rope.scaling.type`.
const KINDS: &[(&str, Scaling)] = &[
    ("none", Scaling { positions: false, yarn: false }),
    ("linear", Scaling { positions: true, yarn: false }),
    ("yarn", Scaling { positions: true, yarn: true }),
    ("longrope", Scaling { positions: true, yarn: false }),
];

#[derive(Clone, Copy)]
struct Scaling {
    /// True if positions are divided by `rope.scaling.factor`.
    positions: bool,
    /// True if fast pairs keep some of their frequency, as in YaRN.
    yarn: bool,
}

/// Reads the rotary embedding of the model, or of its layers without a window.
pub(super) fn rope(
    keys: &Keys<'_>,
    arch: &Architecture,
    dimensions: usize,
    context: usize,
) -> Result<RopeConfig, ModelError> {
    let original = keys.count_or("rope.scaling.original_context_length", u64::from(u32::MAX), context)?;
    // A factor without a type scales positions. So does the old key.
    let kind = keys.opt_str("rope.scaling.type")?.unwrap_or("linear");
    let scaling = KINDS.iter().find(|(name, _)| *name == kind).map(|(_, scaling)| *scaling);
    let scaling =
        scaling.ok_or_else(|| keys.bad("rope.scaling.type", kind, "none, linear, yarn or longrope"))?;
    let factor = match keys.opt_float("rope.scaling.factor")? {
        Some(factor) => factor,
        None => keys.float_or("rope.scale_linear", 1.0)?,
    };
    let factor = if scaling.positions && factor > 0.0 { factor } else { 1.0 };
    let yarn = scaling.yarn.then(|| yarn(keys, original)).transpose()?;
    Ok(RopeConfig {
        style: arch.rope,
        base: keys.float_or("rope.freq_base", 10_000.0)?,
        dimensions,
        position_scale: 1.0 / factor,
        factors: factors(keys, arch, original)?,
        magnitude: magnitude(keys, yarn.as_ref(), factor)?,
        yarn,
    })
}

fn yarn(keys: &Keys<'_>, original: usize) -> Result<Yarn, ModelError> {
    const EXTRAPOLATION: &str = "rope.scaling.yarn_ext_factor";
    // Some converters write -1 for "not set".
    let extrapolation = keys.opt_f32(EXTRAPOLATION)?.filter(|value| *value >= 0.0);
    if extrapolation.is_some_and(|value| value > 1.0) {
        return Err(keys.bad(EXTRAPOLATION, extrapolation.unwrap_or_default(), "a number from 0 to 1"));
    }
    Ok(Yarn {
        original_context: original as f32,
        extrapolation: extrapolation.unwrap_or(1.0),
        beta_fast: keys.float_or("rope.scaling.yarn_beta_fast", 32.0)?,
        beta_slow: keys.float_or("rope.scaling.yarn_beta_slow", 1.0)?,
    })
}

/// Returns the factor of cosines and sines. YaRN's default is `0.1 ln(factor) + 1` (arXiv 2309.00071, section 3.4),
/// which the file may override. It is multiplied by the factor that converters compute for longrope.
fn magnitude(keys: &Keys<'_>, yarn: Option<&Yarn>, factor: f32) -> Result<f32, ModelError> {
    let stated = keys.positive("rope.scaling.yarn_attn_factor")?;
    let own = match yarn {
        Some(yarn) if yarn.extrapolation > 0.0 => stated.unwrap_or(0.1 * factor.max(1.0).ln() + 1.0),
        _ => 1.0,
    };
    Ok(own * keys.positive("rope.scaling.attn_factor")?.unwrap_or(1.0))
}

/// Determines which tensors of rotary factors the file has.
fn factors(keys: &Keys<'_>, arch: &Architecture, original: usize) -> Result<RopeFactors, ModelError> {
    let (short, long) =
        (keys.has(arch.before, Role::RopeFactors), keys.has(arch.before, Role::RopeFactorsLong));
    match (short, long) {
        (false, false) => Ok(RopeFactors::None),
        (true, false) => Ok(RopeFactors::One),
        (true, true) => Ok(RopeFactors::ShortUpTo(original)),
        (false, true) => Err(ModelError::MissingTensor {
            file: keys.file.to_owned(),
            name: "rope_factors_short.weight".to_owned(),
        }),
    }
}

/// Returns the rotary embedding of layers with a window, or `None` if it equals `global`.
pub(super) fn local_rope(
    keys: &Keys<'_>,
    rope: LocalRope,
    global: &RopeConfig,
) -> Result<Option<RopeConfig>, ModelError> {
    let LocalRope::Plain(base) = rope else { return Ok(None) };
    let local = RopeConfig {
        base: keys.float_or("rope.freq_base_swa", base.unwrap_or(global.base))?,
        position_scale: 1.0,
        factors: RopeFactors::None,
        yarn: None,
        magnitude: 1.0,
        ..global.clone()
    };
    Ok((local != *global).then_some(local))
}
