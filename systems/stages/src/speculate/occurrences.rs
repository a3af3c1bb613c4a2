//! Where sequences of tokens occurred last, in all sessions of a model that speculate: a table of fixed size that is
//! overwritten. What it says is compared with the tokens before it is used.

use bevy_ecs::prelude::*;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Lengths of the sequences that are looked for, the longest first.
pub(super) const LENGTHS: [usize; 3] = [12, 5, 3];

/// Entries of the table, a power of two. 1.5 MB.
const ENTRIES: usize = 1 << 16;

/// An occurrence: it ends before position `end` of a session's tokens.
#[derive(Clone, Copy, Debug)]
struct Occurrence {
    session: Entity,
    end: u32,
}

/// The last occurrences of sequences of tokens. A component of the model. It takes memory once a session speculates.
#[derive(Component, Clone, Debug, Default)]
pub struct Occurrences(Vec<Option<Occurrence>>);

/// The entry of a sequence.
fn entry(tokens: &[u32]) -> usize {
    let mut hasher = DefaultHasher::new();
    tokens.hash(&mut hasher);
    hasher.finish() as usize & (ENTRIES - 1)
}

impl Occurrences {
    /// Notes the sequences that end with tokens of a session from position `from` on. The end of the tokens itself is not
    /// noted, since nothing follows it yet.
    pub(super) fn note(&mut self, session: Entity, tokens: &[u32], from: usize) {
        if self.0.is_empty() {
            self.0.resize(ENTRIES, None);
        }
        for end in from.max(1)..tokens.len() {
            for length in LENGTHS {
                if let Some(start) = end.checked_sub(length) {
                    self.0[entry(&tokens[start..end])] = Some(Occurrence { session, end: end as u32 });
                }
            }
        }
    }

    /// Finds where the last tokens of a session occurred before, and appends up to `most` tokens that followed. Returns the
    /// index in [`LENGTHS`] of the length that was found.
    pub(super) fn find<'a>(
        &self,
        session: Entity,
        tokens: &'a [u32],
        other: impl Fn(Entity) -> Option<&'a [u32]>,
        most: usize,
        followed: &mut Vec<u32>,
    ) -> Option<usize> {
        LENGTHS.iter().position(|length| {
            let Some(last) = tokens.len().checked_sub(*length).map(|start| &tokens[start..]) else {
                return false;
            };
            let Some(Some(found)) = self.0.get(entry(last)) else { return false };
            let Some(text) = (if found.session == session { Some(tokens) } else { other(found.session) })
            else {
                return false;
            };
            let end = found.end as usize;
            if end.checked_sub(*length).and_then(|start| text.get(start..end)) != Some(last) {
                return false;
            }
            followed.extend(text[end..].iter().take(most));
            !followed.is_empty()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(
        occurrences: &Occurrences,
        tokens: &[u32],
        text: &[u32],
        most: usize,
    ) -> (Option<usize>, Vec<u32>) {
        let mut followed = Vec::new();
        let session = Entity::from_raw_u32(1).unwrap();
        let found = occurrences.find(session, tokens, |_| Some(text), most, &mut followed);
        (found, followed)
    }

    #[test]
    fn what_followed_the_longest_occurrence_is_found() {
        let writer = Entity::from_raw_u32(2).unwrap();
        let text: Vec<u32> = (0..40).collect();
        let mut occurrences = Occurrences::default();
        assert_eq!(find(&occurrences, &[1, 2, 3], &text, 4), (None, vec![]));
        occurrences.note(writer, &text, 0);
        assert_eq!(find(&occurrences, &[9, 10, 11], &text, 4), (Some(2), vec![12, 13, 14, 15]));
        assert_eq!(find(&occurrences, &(3..20).collect::<Vec<_>>(), &text, 2), (Some(0), vec![20, 21]));
        assert_eq!(find(&occurrences, &[7, 7, 7, 9, 10, 11, 12, 13], &text, 2), (Some(1), vec![14, 15]));
        // Nothing follows the end, and nothing else has occurred.
        assert_eq!(find(&occurrences, &[37, 38, 39], &text, 4), (None, vec![]));
        assert_eq!(find(&occurrences, &[10, 9, 8], &text, 4), (None, vec![]));
        // What the table says is compared with the text, which may have changed.
        assert_eq!(find(&occurrences, &[9, 10, 11], &text[..8], 4), (None, vec![]));
        assert_eq!(find(&occurrences, &[9, 10, 11], &[0; 40], 4), (None, vec![]));
    }
}
