//! A trie over the bytes of many strings, to find those that a text begins with.

use std::ops::Range;

/// The longest string accepted. A search reads at most this many bytes of a text.
pub(super) const LONGEST: usize = 1024;

/// No string ends at this node.
const NONE: u32 = u32::MAX;

/// Strings, each with a number. The children of a node are adjacent and ordered by their bytes.
#[derive(Debug)]
pub(super) struct Trie {
    labels: Vec<u8>,
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// The number of the string that ends here, or [`NONE`].
    value: u32,
    first_child: u32,
    children: u16,
}

impl Trie {
    /// Builds a trie of `entries`. Of two equal strings the last one counts. Empty strings are ignored.
    pub(super) fn new(mut entries: Vec<(&str, u32)>) -> Self {
        entries.sort_by(|a, b| a.0.cmp(b.0));
        let root = Node { value: NONE, first_child: 0, children: 0 };
        let mut trie = Self { labels: vec![0], nodes: vec![root] };
        // Nodes whose children are still missing, each with the range of entries that begin with its `depth` bytes.
        let mut level: Vec<(usize, Range<usize>)> = vec![(0, 0..entries.len())];
        let mut depth = 0;
        while !level.is_empty() {
            let mut next = Vec::new();
            for (node, range) in level {
                trie.grow(node, depth, &entries, range, &mut next);
            }
            level = next;
            depth += 1;
        }
        trie
    }

    /// Adds the children of `node`, whose entries are `entries[range]`.
    fn grow(
        &mut self,
        node: usize,
        depth: usize,
        entries: &[(&str, u32)],
        mut range: Range<usize>,
        next: &mut Vec<(usize, Range<usize>)>,
    ) {
        let byte = |at: usize| entries.get(at).and_then(|(text, _)| text.as_bytes().get(depth)).copied();
        // Entries that end here come first.
        while range.start < range.end && byte(range.start).is_none() {
            if depth > 0 {
                self.nodes[node].value = entries[range.start].1;
            }
            range.start += 1;
        }
        self.nodes[node].first_child = self.nodes.len() as u32;
        while range.start < range.end {
            let Some(label) = byte(range.start) else { break };
            let mut end = range.start;
            while end < range.end && byte(end) == Some(label) {
                end += 1;
            }
            next.push((self.nodes.len(), range.start..end));
            self.labels.push(label);
            self.nodes.push(Node { value: NONE, first_child: 0, children: 0 });
            self.nodes[node].children += 1;
            range.start = end;
        }
    }

    /// Calls `found` with the number and the length of each string that `text` begins with, shortest first.
    pub(super) fn prefixes(&self, text: &[u8], mut found: impl FnMut(u32, usize)) {
        let mut node = 0;
        for (at, byte) in text.iter().enumerate() {
            let Some(child) = self.child(node, *byte) else { return };
            node = child;
            let value = self.nodes[node].value;
            if value != NONE {
                found(value, at + 1);
            }
        }
    }

    /// Returns the number and the length of the longest string that `text` begins with.
    pub(super) fn longest(&self, text: &[u8]) -> Option<(u32, usize)> {
        let mut longest = None;
        self.prefixes(text, |value, length| longest = Some((value, length)));
        longest
    }

    /// Returns the length of the longest prefix of `text` that is a prefix of some string.
    pub(super) fn reach(&self, text: &[u8]) -> usize {
        let mut node = 0;
        text.iter().take_while(|byte| self.child(node, **byte).map(|child| node = child).is_some()).count()
    }

    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let Node { first_child, children, .. } = self.nodes[node];
        let first = first_child as usize;
        let labels = self.labels.get(first..first + usize::from(children))?;
        let at = match labels {
            [] => return None,
            [only] => (*only == byte).then_some(0)?,
            labels => labels.binary_search(&byte).ok()?,
        };
        Some(first + at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_come_shortest_first() {
        let trie = Trie::new(vec![("abc", 3), ("a", 1), ("", 9), ("ab", 2), ("b", 4), ("é", 5), ("ab", 7)]);
        let all = |text: &str| {
            let mut all = Vec::new();
            trie.prefixes(text.as_bytes(), |value, length| all.push((value, length)));
            all
        };
        assert_eq!(all("abcd"), [(1, 1), (7, 2), (3, 3)]);
        assert_eq!(all("bb"), [(4, 1)]);
        assert_eq!(all("éa"), [(5, 2)]);
        assert_eq!(all("xa"), []);
        assert_eq!(all(""), []);
        assert_eq!(trie.longest(b"abx"), Some((7, 2)));
        assert_eq!(Trie::new(Vec::new()).longest(b"a"), None);
        assert_eq!((trie.reach(b"abcd"), trie.reach(b"abx"), trie.reach(b"x")), (3, 2, 0));
    }
}
