//! Files that want to harm: truncated, flipped, mutated. Nothing panics, hangs or asks for more memory than a small
//! multiple of the file.
#![expect(clippy::unwrap_used, reason = "helpers of tests may fail as tests do")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::gguf_support::{File, array, entry, entry_u32, golden_bytes, memory, string, tensor, walk};
use proptest::prelude::*;
use weft_formats::gguf::{Gguf, GgufError};
use weft_platform::storage::{Bytes, Source, StorageError};

/// The system's allocator, counting what each thread holds and the most it has held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(change: isize) {
    // A thread that is ending has no counters any more.
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[expect(unsafe_code, reason = "an allocator cannot be written without")]
// SAFETY: every call is passed on as it came to the system's allocator, which keeps the contract. `realloc` is the
// trait's own: an allocation, a copy and a release, so that its peak counts both.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `f` gives, and the most bytes that it held at once beyond what was held before.
fn peak_of<T>(f: impl FnOnce() -> T) -> (T, u64) {
    let before = HELD.get();
    PEAK.set(before);
    let result = f();
    (result, u64::try_from(PEAK.get() - before).unwrap())
}

/// Bytes of memory per byte of file that a reader may take, and bytes that it may take besides.
const FACTOR: u64 = 8;
const BESIDES: u64 = 1 << 20;

/// Reads a file that may hold anything; checks memory, time and, where it is read, all that was promised of it.
fn feed(bytes: Vec<u8>) -> Result<Gguf, GgufError> {
    let len = bytes.len() as u64;
    let sources = [memory("test.gguf", bytes)];
    let start = Instant::now();
    let (result, peak) = peak_of(|| Gguf::read(&sources));
    assert!(peak <= FACTOR * len + BESIDES, "{peak} bytes for a file of {len}");
    // Files here take microseconds; the limit is for a reader that loops.
    assert!(start.elapsed() < Duration::from_secs(10));
    match &result {
        Ok(gguf) => walk(gguf, &sources),
        Err(error) => assert!(error.to_string().contains("test.gguf"), "{error}"),
    }
    result
}

/// A file with something of everything and the length of its header.
fn everything() -> (Vec<u8>, usize) {
    let bytes = golden_bytes("gguf/types-v3.gguf");
    let gguf = feed(bytes.clone()).unwrap();
    let header = gguf.tensors.iter().map(|info| info.range.start).min().unwrap() as usize;
    (bytes, header)
}

#[test]
fn truncated_at_every_byte() {
    for name in ["gguf/types-v3.gguf", "gguf/align-4096.gguf", "tiny/tiny-llama.gguf"] {
        let bytes = golden_bytes(name);
        let gguf = feed(bytes.clone()).unwrap();
        let header = gguf.tensors.iter().map(|info| info.range.start).min().unwrap() as usize;
        // What follows the last tensor is padding, which a file may lack.
        let end = gguf.tensors.iter().map(|info| info.range.end).max().unwrap() as usize;
        // Of the data, every page and both ends.
        for len in (0..=header).chain((header..end).step_by(4096)).chain([end - 1]) {
            assert!(feed(bytes[..len].to_vec()).is_err(), "{name} cut at {len}");
        }
        assert!(feed(bytes[..end].to_vec()).is_ok(), "{name} cut at {end}");
    }
}

#[test]
fn every_header_byte_changed() {
    let (bytes, header) = everything();
    for at in 0..header {
        for change in [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= change;
            let _ = feed(bytes);
        }
    }
}

#[test]
fn every_eight_header_bytes_made_a_large_number() {
    let (bytes, header) = everything();
    for at in 0..header - 8 {
        for number in [0, 1 << 31, 1 << 32, (1 << 60) + 1, i64::MAX as u64, 1 << 63, u64::MAX] {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            let _ = feed(bytes);
        }
    }
}

/// The dearest valid files: as many small things as the file has room for.
#[test]
fn what_costs_most_memory_for_its_bytes() {
    const LEN: usize = 4 << 20;
    let with = |entries| File { entries, ..File::default() };
    let list = |id, each: &[u8]| {
        with(vec![entry("list", 9, &array(id, (LEN / each.len()) as u64, &each.repeat(LEN / each.len())))])
    };
    let keys =
        |bytes: u32| (0..bytes).map(|i| [&string(format!("{i:x}"))[..], &[0, 0, 0, 0, 1]].concat()).collect();
    let tensors: Vec<_> = (0..100_000).map(|i| tensor(&format!("{i:x}"), &[1], 24, i * 32)).collect();
    for (what, file) in [
        ("empty strings", list(8, &string(""))),
        ("short strings", list(8, &string("a"))),
        ("text that is not UTF-8", list(8, &string([0xff]))),
        ("empty arrays", list(9, &array(0, 0, &[]))),
        ("short arrays", list(9, &array(0, 1, &[1]))),
        ("arrays of strings", list(9, &array(8, 1, &string("a")))),
        ("bools", list(7, &[1])),
        ("bytes", list(0, &[1])),
        ("one long text that is not UTF-8", with(vec![entry("text", 8, &string(vec![0xff; LEN]))])),
        ("keys", with(keys(200_000))),
        ("tensors", File { tensors, data: vec![0; 3_200_000], ..File::default() }),
    ] {
        let bytes = file.bytes();
        let len = bytes.len();
        let sources = [memory("test.gguf", bytes)];
        let (result, peak) = peak_of(|| Gguf::read(&sources));
        assert!(result.is_ok(), "{what}: {:?}", result.err());
        assert!(peak <= FACTOR * len as u64, "{what}: {peak} bytes for a file of {len}");
        println!("{what}: {:.1} bytes of memory for a byte of file", peak as f64 / len as f64);
    }
}

/// A source of any length that holds a header and zeros.
struct Sparse {
    header: Vec<u8>,
    len: u64,
}

impl Source for Sparse {
    fn name(&self) -> &str {
        "sparse.gguf"
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn poll_read(
        &self,
        _: &mut Context<'_>,
        offset: u64,
        to: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        to.copy_from_slice(&self.read(offset..offset.saturating_add(to.len() as u64))?);
        Poll::Ready(Ok(to.len()))
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        if range.start > range.end || range.end > self.len {
            return Err(StorageError::out_of_range(self.name(), range, self.len));
        }
        let (start, end) = (range.start as usize, range.end as usize);
        let mut bytes = self.header.get(start..end.min(self.header.len())).unwrap_or_default().to_vec();
        bytes.resize(end - start, 0);
        Ok(bytes.into())
    }
}

/// A sparse file of terabytes costs a disk nothing, so its length is no measure of what a header may claim.
#[test]
fn a_long_file_does_not_vouch_for_a_long_header() {
    const LEN: u64 = 1 << 42;
    let mut headers = vec![
        File { entry_count: Some(1 << 36), ..File::default() }.header(),
        File { tensor_count: Some(1 << 36), ..File::default() }.header(),
        File { entries: vec![entry("text", 8, &(1_u64 << 40).to_le_bytes())], ..File::default() }.header(),
        File { entry_count: Some(2), entries: vec![(1_u64 << 40).to_le_bytes().to_vec()], ..File::default() }
            .header(),
    ];
    for id in 0..=12 {
        let list = array(id, 1 << 36, &[]);
        headers.push(File { entries: vec![entry("list", 9, &list)], ..File::default() }.header());
    }
    for header in headers {
        let sources: [Arc<dyn Source>; 1] = [Arc::new(Sparse { header, len: LEN })];
        let (result, peak) = peak_of(|| Gguf::read(&sources));
        let error = result.unwrap_err();
        assert!(matches!(error, GgufError::HeaderTooLarge { .. } | GgufError::NameTooLong { .. }), "{error}");
        assert!(peak < BESIDES, "{peak} bytes: {error}");
    }
    // And a tensor of terabytes is fine: its data are not read here.
    let header = File { tensors: vec![tensor("big", &[1 << 39], 0, 0)], ..File::default() }.header();
    let sources: [Arc<dyn Source>; 1] = [Arc::new(Sparse { header, len: LEN })];
    assert_eq!(Gguf::read(&sources).unwrap().tensors[0].bytes(), 1 << 41);
}

/// A source that breaks its promises.
struct Broken {
    len: u64,
    gives: Option<usize>,
}

impl Source for Broken {
    fn name(&self) -> &str {
        "broken.gguf"
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn poll_read(
        &self,
        _: &mut Context<'_>,
        offset: u64,
        to: &mut [u8],
    ) -> Poll<Result<usize, StorageError>> {
        self.read(offset..offset.saturating_add(to.len() as u64))?;
        Poll::Ready(Ok(to.len()))
    }

    fn read(&self, range: Range<u64>) -> Result<Bytes, StorageError> {
        let error = StorageError::read("broken.gguf", range, std::io::Error::other("gone"));
        self.gives.map(|len| vec![b'G'; len].into()).ok_or(error)
    }
}

#[test]
fn a_source_that_fails_or_gives_too_little_or_too_much() {
    for gives in [None, Some(0), Some(3), Some(100), Some(5000)] {
        for len in [10, 1000, u64::MAX] {
            let error = Gguf::read(&[Arc::new(Broken { len, gives })]).unwrap_err();
            assert!(matches!(error, GgufError::Storage(_)), "{error:?}");
            assert!(error.to_string().contains("broken.gguf"), "{error}");
        }
    }
}

/// Reading the header of a model with a large vocabulary: 128,000 tokens, scores, types and 280,000 merges.
#[test]
fn large_vocabulary() {
    let strings = |count: u64, text: fn(u64) -> String| {
        array(8, count, &(0..count).flat_map(|i| string(text(i))).collect::<Vec<_>>())
    };
    let numbers = |id| array(id, 128_000, &vec![1; 4 * 128_000]);
    let file = File {
        entries: vec![
            entry("tokenizer.ggml.tokens", 9, &strings(128_000, |i| format!("Ġtok{i}"))),
            entry("tokenizer.ggml.merges", 9, &strings(280_000, |i| format!("Ġa{i} b{i}"))),
            entry("tokenizer.ggml.scores", 9, &numbers(6)),
            entry("tokenizer.ggml.token_type", 9, &numbers(5)),
            entry_u32("last", 1),
        ],
        ..File::default()
    };
    let sources = [memory("vocabulary.gguf", file.bytes())];
    let mut best = Duration::MAX;
    for _ in 0..3 {
        let start = Instant::now();
        let (gguf, peak) = peak_of(|| Gguf::read(&sources).unwrap());
        best = best.min(start.elapsed());
        assert_eq!(gguf.metadata.strings("tokenizer.ggml.tokens").unwrap().len(), 128_000);
        assert!(peak < 4 * sources[0].len(), "{peak} bytes");
    }
    println!("{} bytes of header in {best:?}", sources[0].len());
    // Tens of milliseconds where nothing else runs; the limit leaves room for a busy machine.
    assert!(best < Duration::from_secs(1), "{best:?}");
}

/// A number where a count, length, dimension or offset goes: small, near a power of two, or anything.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0..9_u64,
        4 => Just(32_u64),
        2 => (0..64_u32, -2..3_i64).prop_map(|(shift, by)| (1_u64 << shift).wrapping_add_signed(by)),
        1 => any::<u64>(),
    ]
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[a-d]{1,2}",
        1 => Just("general.alignment".to_owned()),
        1 => Just("split.count".to_owned()),
        1 => Just("split.no".to_owned()),
        1 => any::<String>(),
    ]
}

/// An array's type, count and contents: as stated, or not.
fn any_array() -> impl Strategy<Value = Vec<u8>> {
    let leaf = (0..15_u32, number(), prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(id, count, payload)| array(id, count, &payload));
    leaf.prop_recursive(12, 24, 3, |inner| {
        (prop::collection::vec(inner, 0..4), prop::option::weighted(0.1, number()))
            .prop_map(|(inner, count)| array(9, count.unwrap_or(inner.len() as u64), &inner.concat()))
    })
}

fn any_entry() -> impl Strategy<Value = Vec<u8>> {
    let payload = prop_oneof![
        (0..14_u32, prop::collection::vec(any::<u8>(), 0..12)),
        (0..14_u32, number().prop_map(|n| n.to_le_bytes().to_vec())),
        (Just(8), prop::collection::vec(any::<u8>(), 0..20).prop_map(string)),
        (Just(4), (0..40_u32).prop_map(|n| n.to_le_bytes().to_vec())),
        (Just(9), any_array()),
    ];
    (name(), payload).prop_map(|(key, (id, payload))| entry(&key, id, &payload))
}

fn any_tensor() -> impl Strategy<Value = Vec<u8>> {
    let offset = prop_oneof![(0..8_u64).prop_map(|n| n * 32), number()];
    let id = prop_oneof![4 => 0..3_u32, 2 => 0..45_u32, 1 => any::<u32>()];
    (name(), prop::collection::vec(number(), 0..6), id, offset)
        .prop_map(|(name, shape, id, offset)| tensor(&name, &shape, id, offset))
}

prop_compose! {
    fn any_file()(
        version in prop_oneof![8 => Just(3_u32), 2 => Just(2), 1 => any::<u32>()],
        entry_count in prop::option::weighted(0.1, number()),
        tensor_count in prop::option::weighted(0.1, number()),
        entries in prop::collection::vec(any_entry(), 0..5),
        tensors in prop::collection::vec(any_tensor(), 0..5),
        data in prop::collection::vec(any::<u8>(), 0..600),
    ) -> File {
        File { version, entry_count, tensor_count, entries, tensors, data, ..File::default() }
    }
}

/// What happens to a valid file's bytes.
#[derive(Clone, Debug)]
enum Mutation {
    Set(usize, u8),
    SetNumber(usize, u64),
    Remove(usize, usize),
    Insert(usize, Vec<u8>),
    Repeat(usize, usize),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = || any::<prop::sample::Index>().prop_map(|index| index.index(1 << 20));
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set(at, byte)),
        (at(), number()).prop_map(|(at, number)| Mutation::SetNumber(at, number)),
        (at(), 1..40_usize).prop_map(|(at, len)| Mutation::Remove(at, len)),
        (at(), prop::collection::vec(any::<u8>(), 1..40)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        (at(), 1..100_usize).prop_map(|(at, len)| Mutation::Repeat(at, len)),
    ]
}

/// Applies a mutation within the first `header` bytes.
fn mutate(bytes: &mut Vec<u8>, header: usize, mutation: Mutation) {
    let place = |at: usize| at % header.min(bytes.len()).max(1);
    let end = |at: usize, len: usize| (at + len).min(bytes.len());
    match mutation {
        Mutation::Set(at, byte) => {
            let at = place(at);
            bytes[at] = byte;
        }
        Mutation::SetNumber(at, number) => {
            let at = place(at);
            let end = end(at, 8);
            bytes[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
        }
        Mutation::Remove(at, len) => {
            let at = place(at);
            let end = end(at, len);
            bytes.drain(at..end);
        }
        Mutation::Insert(at, new) => {
            let at = place(at);
            bytes.splice(at..at, new);
        }
        Mutation::Repeat(at, len) => {
            let at = place(at);
            let copy = bytes[at..end(at, len)].to_vec();
            bytes.splice(at..at, copy);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn files_made_at_random(file in any_file()) {
        let _ = feed(file.bytes());
    }

    #[test]
    fn valid_files_mutated(
        which in 0..3_usize,
        mutations in prop::collection::vec(mutation(), 1..5),
    ) {
        let mut bytes = golden_bytes(["gguf/types-v3.gguf", "gguf/align-64.gguf", "gguf/vocab-only.gguf"][which]);
        let header = bytes.len();
        for mutation in mutations {
            if !bytes.is_empty() {
                mutate(&mut bytes, header, mutation);
            }
        }
        let _ = feed(bytes);
    }

    #[test]
    fn split_models_mutated(
        order in prop::sample::subsequence(vec![1, 2, 3, 1, 3], 1..=4),
        part in any::<prop::sample::Index>(),
        mutations in prop::collection::vec(mutation(), 0..3),
    ) {
        let mut parts: Vec<_> =
            order.iter().map(|part| golden_bytes(&format!("gguf/split-{part:05}-of-00003.gguf"))).collect();
        let part = part.get(&parts).as_ptr();
        for bytes in &mut parts {
            if bytes.as_ptr() == part {
                for mutation in mutations.clone() {
                    mutate(bytes, 400, mutation);
                }
            }
        }
        let len: usize = parts.iter().map(Vec::len).sum();
        let sources: Vec<_> = parts.into_iter().map(|bytes| memory("part.gguf", bytes)).collect();
        let (result, peak) = peak_of(|| Gguf::read(&sources));
        prop_assert!(peak <= FACTOR * len as u64 + BESIDES);
        if let Ok(gguf) = result {
            walk(&gguf, &sources);
        }
    }
}
