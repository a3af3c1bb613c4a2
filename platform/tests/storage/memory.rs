//! Bytes in memory as a source.

use super::check_contract;
use weft_platform::storage::MemorySource;

#[test]
fn keeps_the_contract() {
    for content in [&b""[..], b"x", b"some bytes of a file that is longer than forty"] {
        check_contract(&MemorySource::new("memory", content.to_vec()), content);
    }
}
