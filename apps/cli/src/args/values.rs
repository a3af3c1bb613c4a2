//! Value parsers of the options. A value outside its range is wrong usage, reported before any work begins.

use std::hash::{BuildHasher, Hasher};
use weft::GpuLayers;

/// Parses a number for which `good` returns true; `wanted` names the expected range.
fn number(text: &str, good: impl Fn(f32) -> bool, wanted: &str) -> Result<f32, String> {
    let number = text.trim().parse().ok().filter(|number| good(*number));
    number.ok_or_else(|| format!("{wanted} is needed"))
}

/// Parses a probability.
pub(super) fn fraction(text: &str) -> Result<f32, String> {
    number(text, |x| (0.0..=1.0).contains(&x), "a number from 0 to 1")
}

/// Parses a sampling temperature.
pub(super) fn temperature(text: &str) -> Result<f32, String> {
    number(text, |x| x >= 0.0 && x.is_finite(), "a number of at least 0")
}

/// Parses a factor above 0.
pub(super) fn factor(text: &str) -> Result<f32, String> {
    number(text, |x| x > 0.0 && x.is_finite(), "a number above 0")
}

/// Parses a number that is neither NaN nor infinity.
pub(super) fn finite(text: &str) -> Result<f32, String> {
    number(text, f32::is_finite, "a finite number")
}

/// Parses a token id and the value added to its logit; `-inf` forbids the token.
pub(super) fn logit_bias(text: &str) -> Result<(u32, f32), String> {
    let parts = text
        .split_once('=')
        .and_then(|(id, value)| Some((id.trim().parse().ok()?, value.trim().parse::<f32>().ok()?)))
        .filter(|(_, value)| !value.is_nan());
    parts.ok_or_else(|| "write a token id, `=` and a number, such as 42=-1.5".to_owned())
}

/// Parses a seed. -1 draws a random one below 2^32, which every JSON reader holds exactly.
pub(crate) fn seed(text: &str) -> Result<u64, String> {
    match text.trim() {
        "-1" => Ok(random() & u64::from(u32::MAX)),
        number => number
            .parse()
            .map_err(|_| "a whole number of at least 0, or -1 for a random seed, is needed".to_owned()),
    }
}

/// Returns a random number. The standard library seeds its hashers from the operating system.
fn random() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}

/// Parses a token limit; -1 for none.
pub(super) fn token_limit(text: &str) -> Result<u64, String> {
    match text.trim() {
        "-1" => Ok(u64::MAX),
        number => number
            .parse()
            .ok()
            .filter(|limit| *limit > 0)
            .ok_or_else(|| "a whole number of at least 1, or -1 for no limit, is needed".to_owned()),
    }
}

/// Parses the number of latest tokens that penalties consider; -1 for all.
pub(super) fn window(text: &str) -> Result<usize, String> {
    match text.trim() {
        "-1" => Ok(usize::MAX),
        number => number
            .parse()
            .map_err(|_| "a whole number of at least 0, or -1 for all tokens, is needed".to_owned()),
    }
}

fn at_least(text: &str, least: usize) -> Result<usize, String> {
    let number = text.trim().parse().ok().filter(|n| *n >= least);
    number.ok_or_else(|| format!("a whole number of at least {least} is needed"))
}

fn at_most(text: &str, most: usize) -> Result<usize, String> {
    let number = text.trim().parse().ok().filter(|n| *n <= most);
    number.ok_or_else(|| format!("a whole number from 0 to {most} is needed"))
}

/// Parses a count of at least one.
pub(super) fn positive(text: &str) -> Result<usize, String> {
    at_least(text, 1)
}

/// Parses a count of at least two.
pub(super) fn at_least_two(text: &str) -> Result<usize, String> {
    at_least(text, 2)
}

/// Parses a chunk length. The scored half needs at least one token with another one after it.
pub(super) fn chunk_length(text: &str) -> Result<usize, String> {
    at_least(text, 4)
}

/// A sanity limit: more sessions than this only make the run longer.
const MOST_BESIDE: usize = 4096;

/// Parses how many other sessions are in the wave.
pub(super) fn beside(text: &str) -> Result<usize, String> {
    at_most(text, MOST_BESIDE)
}

/// A sanity limit: more threads than any machine has cores.
const MOST_THREADS: usize = 4096;

/// Parses a number of threads; 0 for one per core.
pub(super) fn threads(text: &str) -> Result<usize, String> {
    at_most(text, MOST_THREADS)
}

/// Parses a number of layers, `auto` for as many as fit, or `all`.
pub(super) fn gpu_layers(text: &str) -> Result<GpuLayers, String> {
    match text {
        "auto" => Ok(GpuLayers::Auto),
        "all" => Ok(GpuLayers::Count(usize::MAX)),
        number => number
            .parse()
            .map(GpuLayers::Count)
            .map_err(|_| "a whole number of at least 0, auto or all is needed".to_owned()),
    }
}

/// Numbers separated by commas.
#[derive(Clone, Debug)]
pub(crate) struct IdList(pub(crate) Vec<u32>);

impl std::str::FromStr for IdList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |part: &str| part.trim().parse().map_err(|_| format!("`{part}` is not a number; write 1,2,3"));
        text.split(',').filter(|part| !part.trim().is_empty()).map(number).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_lists_take_commas_and_spaces() {
        let ids = |text: &str| text.parse::<IdList>().map(|list| list.0);
        assert_eq!(ids("1,2, 3"), Ok(vec![1, 2, 3]));
        assert_eq!(ids(""), Ok(vec![]));
        assert!(ids("1,x").is_err());
        assert!(ids("-1").is_err());
    }

    #[test]
    fn biases_are_an_id_and_a_number() {
        assert_eq!(logit_bias("7=-1.5"), Ok((7, -1.5)));
        assert_eq!(logit_bias("7=-inf"), Ok((7, f32::NEG_INFINITY)));
        for wrong in ["7", "x=1", "-7=1", "7=nan", "7="] {
            assert!(logit_bias(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_outside_their_range_are_refused() {
        for wrong in ["-0.1", "1.1", "nan", "inf", "x", ""] {
            assert!(fraction(wrong).is_err(), "{wrong}");
        }
        for wrong in ["-1", "nan", "inf", "warm"] {
            assert!(temperature(wrong).is_err(), "{wrong}");
        }
        assert!(factor("0").is_err() && factor("1.1").is_ok());
        assert!(finite("-inf").is_err() && finite("-2").is_ok());
        assert!(threads("4097").is_err() && threads("0").is_ok());
    }

    #[test]
    fn a_seed_of_minus_one_is_drawn() {
        assert_eq!(seed("18446744073709551615"), Ok(u64::MAX));
        assert!(seed("-2").is_err() && seed("1.5").is_err());
        let drawn: std::collections::HashSet<_> = (0..8).map(|_| seed("-1")).collect();
        assert!(drawn.len() > 4 && drawn.iter().all(|seed| matches!(seed, Ok(0..=0xffff_ffff))));
        assert_eq!(token_limit("-1"), Ok(u64::MAX));
        assert!(token_limit("0").is_err());
        assert_eq!((window("-1"), window("0")), (Ok(usize::MAX), Ok(0)));
        assert!(window("-2").is_err() && window("all").is_err());
    }
}
