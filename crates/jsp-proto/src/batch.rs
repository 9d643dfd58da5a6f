//! Door 10: datagrams side by side in one buffer, as segmentation offload wants them.

use jsp_wire::Route;

use crate::pack::packed_enum;

/// A mark for explicit congestion notification (RFC 3168).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Ecn {
    /// Capable, codepoint 0.
    Ect0,
    /// Capable, codepoint 1.
    Ect1,
    /// The network is congested.
    Ce,
}
packed_enum!(Ecn { Ect0, Ect1 = 1, Ce = 2 });

/// Datagrams for one route: all of the same length, but for a shorter last one.
///
/// A driver makes one, hands it to `Endpoint::poll_transmit`, sends what it holds in one call, and
/// clears it. A datagram that turns out longer than its forerunners is kept for the next round.
pub struct Batch {
    buf: Vec<u8>,
    len: usize,
    segment_len: usize,
    segments: usize,
    /// A shorter datagram is the last.
    is_ended: bool,
    segments_max: usize,
    route: Option<Route>,
    ecn: Option<Ecn>,
    /// A datagram that did not fit in here: the first of the next round.
    spill: Vec<u8>,
    /// Bytes kept free before each datagram.
    headroom: usize,
}

impl Batch {
    /// A batch of at most `capacity` bytes and `segments_max` datagrams (1 switches batching off).
    /// The capacity is raised to hold one datagram of the largest size.
    pub fn new(capacity: usize, segments_max: usize) -> Self {
        Self {
            buf: vec![0; capacity.max(jsp_wire::limits::MTU_MAX)],
            len: 0,
            segment_len: 0,
            segments: 0,
            is_ended: false,
            segments_max: segments_max.max(1),
            route: None,
            ecn: None,
            spill: Vec::new(),
            headroom: 0,
        }
    }

    /// Where the datagrams go; `None` for an empty batch.
    pub fn route(&self) -> Option<Route> {
        self.route
    }

    /// The mark they carry.
    pub fn ecn(&self) -> Option<Ecn> {
        self.ecn
    }

    /// The datagrams, one behind the other.
    pub fn contents(&self) -> &[u8] {
        self.buf.get(..self.len).unwrap_or_default()
    }

    /// Length of each datagram but the last, in bytes.
    pub fn segment_len(&self) -> usize {
        self.segment_len
    }

    /// How many datagrams there are.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// True when there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Forgets what was sent; a datagram kept back moves in.
    pub fn clear(&mut self) {
        self.len = 0;
        self.segments = 0;
        self.segment_len = 0;
        self.is_ended = false;
        if self.spill.is_empty() {
            self.route = None;
            return;
        }
        let len = self.spill.len();
        if let Some(slot) = self.buf.get_mut(..len) {
            slot.copy_from_slice(&self.spill);
        }
        self.spill.clear();
        self.grow(len);
    }

    /// True when a datagram for this route may be added.
    pub(crate) fn is_open_for(&self, route: &Route, ecn: Option<Ecn>) -> bool {
        let fits = self.route.is_none_or(|own| own == *route && self.ecn == ecn);
        fits && self.spill.is_empty() && self.segments < self.segments_max && !self.is_ended
    }

    /// Keeps so many bytes free before each datagram from here on, for [`Batch::datagrams_mut`].
    pub(crate) fn set_headroom(&mut self, len: usize) {
        self.headroom = len;
    }

    /// Every datagram, the one kept back too, with the room before it.
    pub(crate) fn datagrams_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let filled = self.buf.get_mut(..self.len).unwrap_or_default();
        let spill = Some(self.spill.as_mut_slice()).filter(|spill| !spill.is_empty());
        filled.chunks_mut(self.segment_len.max(1)).chain(spill)
    }

    /// Room for a datagram of at most `len` bytes behind those there are; `None` when it is not
    /// there: send and clear first.
    pub(crate) fn room(&mut self, len: usize) -> Option<&mut [u8]> {
        let start = self.len.checked_add(self.headroom)?;
        self.buf.get_mut(start..start.checked_add(len)?)
    }

    /// Takes the first `len` bytes of the room as a datagram.
    pub(crate) fn commit(&mut self, route: Route, ecn: Option<Ecn>, len: usize) {
        if len == 0 {
            return;
        }
        let len = len.saturating_add(self.headroom);
        if self.segments > 0 && len > self.segment_len {
            let end = self.len.saturating_add(len);
            self.spill.extend_from_slice(self.buf.get(self.len..end).unwrap_or_default());
            return;
        }
        self.route = Some(route);
        self.ecn = ecn;
        self.grow(len);
    }

    fn grow(&mut self, len: usize) {
        if self.segments == 0 {
            self.segment_len = len;
        }
        self.is_ended = len < self.segment_len;
        self.len = self.len.saturating_add(len);
        self.segments = self.segments.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_datagram_waits_for_the_next_round() {
        let mut batch = Batch::new(0, 8);
        let route = Route::udp("127.0.0.1:1".parse().unwrap());
        for (len, fill) in [(10, 1u8), (10, 2), (30, 3)] {
            assert!(batch.is_open_for(&route, None));
            batch.room(30).unwrap()[..len].fill(fill);
            batch.commit(route, None, len);
        }
        assert_eq!((batch.segments(), batch.segment_len(), batch.contents().len()), (2, 10, 20));
        assert!(!batch.is_open_for(&route, None));
        batch.clear();
        assert_eq!(batch.contents(), [3; 30]);
        assert_eq!(batch.route(), Some(route));
        batch.clear();
        assert!(batch.is_empty() && batch.route().is_none());
    }

    #[test]
    fn a_shorter_datagram_ends_the_batch() {
        let mut batch = Batch::new(0, 8);
        let route = Route::udp("127.0.0.1:1".parse().unwrap());
        for len in [10, 4] {
            batch.room(10).unwrap();
            batch.commit(route, None, len);
        }
        assert!(!batch.is_open_for(&route, None));
        assert_eq!(batch.contents().len(), 14);
    }
}
