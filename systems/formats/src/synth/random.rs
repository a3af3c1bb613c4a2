//! Random numbers that depend on a place, not on who asked before.
//!
//! Each chunk of each tensor has a stream of its own, so that any number of threads makes the same file.

/// SplitMix64: a counter in odd steps, each value of it mixed. Some 8 GB/s a core, where cryptographic generators
/// would be what takes the time. Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
#[derive(Clone, Debug)]
pub(super) struct SplitMix64(u64);

/// The step: 2^64 divided by the golden ratio, made odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl SplitMix64 {
    /// The stream of a chunk of a tensor. Streams are stretches of one cycle of 2^64 values that begin at places
    /// without order; those of a file are far too few and short to meet.
    pub(super) fn new(seed: u64, tensor: u64, chunk: u64) -> Self {
        let key = mix(seed.wrapping_add(GAMMA));
        let key = mix(key.wrapping_add(tensor).wrapping_add(GAMMA));
        Self(mix(key.wrapping_add(chunk).wrapping_add(GAMMA)))
    }

    /// The next 64 random bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }
}

/// Spreads each bit over all others; one to one.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_published_generator() {
        // From state 0, by the authors' Java class `SplittableRandom(0)`.
        let mut stream = SplitMix64(0);
        let values = [stream.next(), stream.next(), stream.next()];
        assert_eq!(values, [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f]);
    }

    #[test]
    fn places_have_streams_of_their_own() {
        let mut seen = std::collections::HashSet::new();
        for (seed, tensor, chunk) in (0..512u64).map(|i| (i & 7, i >> 3 & 7, i >> 6)) {
            let mut stream = SplitMix64::new(seed, tensor, chunk);
            (0..64).for_each(|_| assert!(seen.insert(stream.next())));
        }
    }
}
