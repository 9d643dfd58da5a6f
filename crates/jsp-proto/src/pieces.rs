//! Which bytes of a handshake message have arrived.

/// Ranges that are told apart. A hello has as many pieces as datagrams, five at most; the rest is
/// room for pieces that were cut anew when they were sent again.
const RANGES_MAX: usize = 16;

/// The bytes that are there, as ascending ranges that do not touch. Of fixed size: adding a piece
/// costs the same whatever a peer sends.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Pieces {
    ranges: [(u16, u16); RANGES_MAX],
    len: usize,
}

impl Pieces {
    /// Notes that `start..end` is there. False, and nothing is noted, when that would be one range
    /// too many.
    pub(crate) fn add(&mut self, start: u16, end: u16) -> bool {
        let mut joined = Self::default();
        let mut new = Some((start, end));
        for &(from, to) in self.ranges.iter().take(self.len) {
            match new {
                Some((_, new_end)) if new_end < from => {
                    if !(joined.push(new) && joined.push(Some((from, to)))) {
                        return false;
                    }
                    new = None;
                }
                Some((new_start, new_end)) if new_start <= to => {
                    new = Some((new_start.min(from), new_end.max(to)));
                }
                _ => {
                    if !joined.push(Some((from, to))) {
                        return false;
                    }
                }
            }
        }
        let fits = joined.push(new);
        if fits {
            *self = joined;
        }
        fits
    }

    /// Copies a piece to its place in `message` and notes that it is there. False, and nothing has changed, when it
    /// contradicts what is there, does not fit, or would be one range too many.
    // spec: CON-182
    pub(crate) fn put(&mut self, message: &mut [u8], offset: u16, data: &[u8]) -> bool {
        let start = usize::from(offset);
        let Ok(end) = u16::try_from(start.saturating_add(data.len())) else { return false };
        let same = self.within(offset, end).all(|(from, to)| {
            let (from, to) = (usize::from(from), usize::from(to));
            let theirs = from.saturating_sub(start)..to.saturating_sub(start);
            message.get(from..to) == data.get(theirs)
        });
        let slot = message.get_mut(start..usize::from(end)).filter(|_| same);
        match slot {
            Some(slot) if self.add(offset, end) => {
                slot.copy_from_slice(data);
                true
            }
            _ => false,
        }
    }

    /// The parts of `start..end` that are there.
    fn within(&self, start: u16, end: u16) -> impl Iterator<Item = (u16, u16)> {
        let parts = self.ranges.iter().take(self.len);
        let parts = parts.map(move |&(from, to)| (from.max(start), to.min(end)));
        parts.filter(|(from, to)| from < to)
    }

    /// How many bytes are there.
    pub(crate) fn bytes(&self) -> usize {
        let ranges = self.ranges.iter().take(self.len);
        ranges.map(|(from, to)| usize::from(to.saturating_sub(*from))).sum()
    }

    /// True when all of a message of `total` bytes is there.
    pub(crate) fn is_whole(&self, total: u16) -> bool {
        self.len == 1 && self.ranges.first() == Some(&(0, total))
    }

    fn push(&mut self, range: Option<(u16, u16)>) -> bool {
        let Some(range) = range else { return true };
        let Some(slot) = self.ranges.get_mut(self.len) else { return false };
        *slot = range;
        self.len = self.len.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_range_too_many_changes_nothing() {
        let mut pieces = Pieces::default();
        assert!((0..RANGES_MAX as u16).all(|n| pieces.add(n * 4, n * 4 + 2)));
        let before = pieces;
        assert!(!pieces.add(1000, 1002));
        assert_eq!(pieces, before);
        // What joins two ranges makes room.
        assert!(pieces.add(2, 4) && pieces.add(1000, 1002));
        assert!(pieces.add(0, 1002) && pieces.is_whole(1002));
    }

    proptest! {
        #[test]
        fn ranges_agree_with_a_set(pieces in proptest::collection::vec((0u16..60, 1u16..20), 1..20)) {
            let (mut have, mut bytes) = (Pieces::default(), BTreeSet::new());
            for (start, len) in pieces {
                prop_assert!(have.add(start, start + len));
                bytes.extend(start..start + len);
                let end = bytes.last().map_or(0, |last| last + 1);
                prop_assert_eq!(have.is_whole(end), bytes.len() == usize::from(end));
            }
        }
    }
}
