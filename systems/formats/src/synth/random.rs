//! Random numbers that depend only on their position.
//!
//! Each chunk of each tensor has its own stream, so the file does not depend on the number of threads.

/// SplitMix64: a counter with an odd step, whose values are mixed. It generates about 8 GB/s on a core; a cryptographic
/// generator would dominate the run time. Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number
/// Generators", 2014.
#[derive(Clone, Debug)]
pub(super) struct SplitMix64(u64);

/// The step: 2^64 divided by the golden ratio, rounded to an odd number.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl SplitMix64 {
    /// Returns the stream of a chunk of a tensor. Streams are sections of one cycle of 2^64 values, starting at
    /// scattered positions. A file has far too few and too short streams for them to overlap.
    pub(super) fn new(seed: u64, tensor: u64, chunk: u64) -> Self {
        let key = mix(seed.wrapping_add(GAMMA));
        let key = mix(key.wrapping_add(tensor).wrapping_add(GAMMA));
        Self(mix(key.wrapping_add(chunk).wrapping_add(GAMMA)))
    }

    /// Returns the next 64 random bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }
}

/// A bijection in which each bit of the input affects all bits of the output.
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
        // From state 0, computed with the authors' Java class `SplittableRandom(0)`.
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
