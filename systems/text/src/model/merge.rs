//! Byte-pair merging: the best pair of neighbours is merged until none can be merged, the leftmost first among equals.
//! Source: Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", 2016.
//!
//! Time is n log n in the symbols of a word. Short words are scanned for the best pair; long words keep a heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Words of at most this many symbols are scanned.
const SCANNED: usize = 48;
/// Stands for "no neighbour".
const END: u32 = u32::MAX;

/// A span of the word with its token id, or with a number that the caller chooses if the span is not a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Symbol {
    pub id: u32,
    /// Byte range in the word.
    pub start: u32,
    pub end: u32,
}

/// The result of merging two neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Merge {
    /// Lower ranks are merged first.
    pub rank: u32,
    /// The id of the merged symbol.
    pub id: u32,
}

/// The merges of a vocabulary.
pub(super) trait Merges {
    /// Returns the merge of `left` and its right neighbour `right` in `word`, if there is one.
    fn merge(&self, word: &str, left: Symbol, right: Symbol) -> Option<Merge>;
}

/// Working memory, reused between words.
#[derive(Debug, Default)]
pub(super) struct Merger {
    /// The word's symbols: the input of a run, then its result.
    pub symbols: Vec<Symbol>,
    pairs: Vec<Option<Merge>>,
    nodes: Vec<Node>,
    heap: BinaryHeap<Reverse<Candidate>>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    previous: u32,
    next: u32,
    /// Whether the symbol has been merged into the one before it.
    merged: bool,
}

/// A pair that could be merged when it was put on the heap. It is still valid if its symbols are adjacent and it ends
/// at the same byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Candidate {
    rank: u32,
    left: u32,
    right: u32,
    end: u32,
    start: u32,
    id: u32,
}

impl Merger {
    /// Merges `symbols`, which must hold the parts of `word` in order.
    pub(super) fn run<M: Merges>(&mut self, merges: &M, word: &str) {
        if self.symbols.len() <= SCANNED {
            self.scan(merges, word);
        } else {
            self.queue(merges, word);
        }
    }

    fn scan<M: Merges>(&mut self, merges: &M, word: &str) {
        let symbols = &mut self.symbols;
        self.pairs.clear();
        self.pairs.extend(symbols.windows(2).map(|pair| match pair {
            &[left, right] => merges.merge(word, left, right),
            _ => None,
        }));
        let pairs = &mut self.pairs;
        while let Some((at, best)) = best(pairs) {
            let (Some(&left), Some(&right)) = (symbols.get(at), symbols.get(at + 1)) else { break };
            let whole = Symbol { id: best.id, start: left.start, end: right.end };
            symbols[at] = whole;
            symbols.remove(at + 1);
            pairs.remove(at);
            if let Some(&next) = symbols.get(at + 1) {
                pairs[at] = merges.merge(word, whole, next);
            }
            if let Some(before) = at.checked_sub(1) {
                pairs[before] = merges.merge(word, symbols[before], whole);
            }
        }
    }

    fn queue<M: Merges>(&mut self, merges: &M, word: &str) {
        let symbols = &mut self.symbols;
        let count = symbols.len() as u32;
        self.nodes.clear();
        self.nodes.extend((0..count).map(|at| Node {
            previous: at.checked_sub(1).unwrap_or(END),
            next: if at + 1 < count { at + 1 } else { END },
            merged: false,
        }));
        let nodes = &mut self.nodes;
        let heap = &mut self.heap;
        heap.clear();
        let enter = |heap: &mut BinaryHeap<_>, symbols: &[Symbol], left: u32, right: u32| {
            let (Some(&a), Some(&b)) = (symbols.get(left as usize), symbols.get(right as usize)) else {
                return;
            };
            if let Some(Merge { rank, id }) = merges.merge(word, a, b) {
                heap.push(Reverse(Candidate { rank, left, right, end: b.end, start: a.start, id }));
            }
        };
        for left in 0..count.saturating_sub(1) {
            enter(heap, symbols, left, left + 1);
        }
        while let Some(Reverse(best)) = heap.pop() {
            let (left, right) = (best.left as usize, best.right as usize);
            let gone = nodes[left].merged || nodes[right].merged;
            if gone || nodes[left].next != best.right || symbols[right].end != best.end {
                continue;
            }
            symbols[left] = Symbol { id: best.id, start: best.start, end: best.end };
            nodes[right].merged = true;
            let Node { previous, .. } = nodes[left];
            let next = nodes[right].next;
            nodes[left].next = next;
            if let Some(node) = nodes.get_mut(next as usize) {
                node.previous = best.left;
            }
            enter(heap, symbols, previous, best.left);
            enter(heap, symbols, best.left, next);
        }
        let mut nodes = nodes.iter();
        symbols.retain(|_| nodes.next().is_some_and(|node| !node.merged));
    }
}

/// Returns the best pair and its index, the leftmost among equals.
fn best(pairs: &[Option<Merge>]) -> Option<(usize, Merge)> {
    let mut found: Option<(usize, Merge)> = None;
    for (at, pair) in pairs.iter().enumerate() {
        if let Some(pair) = pair
            && found.is_none_or(|(_, best)| pair.rank < best.rank)
        {
            found = Some((at, *pair));
        }
    }
    found
}
