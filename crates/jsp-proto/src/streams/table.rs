//! Which streams exist: ids to places in a slab, and which ids of the peer are used up.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hasher};

use jsp_wire::StreamId;

use super::stream::Stream;
use crate::pack::packed;

/// A stream's place, and which of its tenants is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    place: u32,
    tenant: u32,
}

#[derive(Debug)]
struct Place {
    tenant: u32,
    stream: Option<Stream>,
}

/// All streams that are not finished.
#[derive(Debug)]
pub(super) struct Table {
    places: Vec<Place>,
    free: Vec<u32>,
    ids: HashMap<u64, u32, Mix>,
}

impl Table {
    pub(super) fn new(hash_key: u64) -> Self {
        Self {
            // Stream 0; many a connection has no other for long.
            places: Vec::with_capacity(1),
            free: Vec::new(),
            ids: HashMap::with_hasher(Mix { key: hash_key | 1 }),
        }
    }

    pub(super) fn insert(&mut self, stream: Stream) -> Key {
        let id = stream.id.0;
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                if self.places.is_empty() {
                    self.places.reserve_exact(1);
                }
                self.places.push(Place { tenant: 0, stream: None });
                // Streams are bounded by twice STREAMS_OPEN_MAX, far below 2^32.
                (self.places.len() - 1) as u32
            }
        };
        self.ids.insert(id, place);
        let mut tenant = 0;
        if let Some(slot) = self.places.get_mut(place as usize) {
            slot.stream = Some(stream);
            tenant = slot.tenant;
        }
        Key { place, tenant }
    }

    /// Drops a stream where it stands: it is too large to be moved for that.
    pub(super) fn remove(&mut self, key: Key) {
        let Some(slot) = self.places.get_mut(key.place as usize) else { return };
        let Some(stream) = slot.stream.as_ref().filter(|_| slot.tenant == key.tenant) else {
            return;
        };
        self.ids.remove(&stream.id.0);
        slot.stream = None;
        slot.tenant = slot.tenant.wrapping_add(1);
        self.free.push(key.place);
    }

    pub(super) fn key(&self, id: StreamId) -> Option<Key> {
        let place = *self.ids.get(&id.0)?;
        self.places.get(place as usize).map(|slot| Key { place, tenant: slot.tenant })
    }

    pub(super) fn get(&self, key: Key) -> Option<&Stream> {
        let slot = self.places.get(key.place as usize)?;
        slot.stream.as_ref().filter(|_| slot.tenant == key.tenant)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Stream> {
        let slot = self.places.get_mut(key.place as usize)?;
        slot.stream.as_mut().filter(|_| slot.tenant == key.tenant)
    }

    /// The stream with this id.
    pub(super) fn find(&mut self, id: StreamId) -> Option<(Key, &mut Stream)> {
        let place = *self.ids.get(&id.0)?;
        let slot = self.places.get_mut(place as usize)?;
        let key = Key { place, tenant: slot.tenant };
        slot.stream.as_mut().map(|stream| (key, stream))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Stream> {
        self.places.iter().filter_map(|slot| slot.stream.as_ref())
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Stream)> {
        self.places.iter_mut().enumerate().filter_map(|(place, slot)| {
            let key = Key { place: place as u32, tenant: slot.tenant };
            slot.stream.as_mut().map(|stream| (key, stream))
        })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }
}

/// Hashes stream ids by one folded multiplication under a key.
#[derive(Clone, Copy, Debug)]
struct Mix {
    key: u64,
}

#[derive(Debug)]
struct MixHasher {
    key: u64,
    state: u64,
}

impl BuildHasher for Mix {
    type Hasher = MixHasher;

    fn build_hasher(&self) -> MixHasher {
        MixHasher { key: self.key, state: 0 }
    }
}

impl Hasher for MixHasher {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, n: u64) {
        // The odd constant is 2^64 divided by the golden ratio.
        let left = u128::from(self.state ^ n ^ self.key);
        let wide = left.wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ u128::from(self.key.rotate_left(32)));
        self.state = (wide as u64) ^ ((wide >> 64) as u64);
    }
}

/// What an ordinal of the peer names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Beyond what we allow.
    OverLimit,
    /// Never seen.
    Unseen,
    /// Seen before: open, or finished.
    Seen,
}

/// The streams that the peer may open. Ordinals count from 0 without stream 0.
#[derive(Debug)]
pub(super) struct PeerStreams {
    /// The lowest ordinal above all seen.
    next: u64,
    /// Ordinals below `next` that were not seen, as start to end. Their number is bounded by the
    /// streams that we allow at once.
    unseen: BTreeMap<u64, u64>,
    finished: u64,
    at_once: u64,
    announced: u64,
}
packed!(PeerStreams { next, finished, at_once, announced; unseen });

impl PeerStreams {
    pub(super) fn new(at_once: u64) -> Self {
        Self { next: 0, unseen: BTreeMap::new(), finished: 0, at_once, announced: at_once }
    }

    // spec: STR-2
    pub(super) fn standing(&self, ordinal: u64) -> Standing {
        if ordinal >= self.announced {
            Standing::OverLimit
        } else if ordinal >= self.next || self.in_unseen(ordinal) {
            Standing::Unseen
        } else {
            Standing::Seen
        }
    }

    fn in_unseen(&self, ordinal: u64) -> bool {
        !self.unseen.is_empty()
            && self.unseen.range(..=ordinal).next_back().is_some_and(|(_, end)| ordinal < *end)
    }

    /// An ordinal is used from now on.
    // spec: STR-6
    pub(super) fn mark_seen(&mut self, ordinal: u64) {
        if ordinal >= self.next {
            if ordinal > self.next {
                self.unseen.insert(self.next, ordinal);
            }
            self.next = ordinal.saturating_add(1);
            return;
        }
        let Some((&start, &end)) = self.unseen.range(..=ordinal).next_back() else { return };
        if ordinal >= end {
            return;
        }
        self.unseen.remove(&start);
        if start < ordinal {
            self.unseen.insert(start, ordinal);
        }
        if ordinal + 1 < end {
            self.unseen.insert(ordinal + 1, end);
        }
    }

    /// True when the peer has opened its streams in order.
    pub(super) fn all_seen(&self) -> bool {
        self.unseen.is_empty()
    }

    pub(super) fn mark_finished(&mut self) {
        self.finished = self.finished.saturating_add(1);
    }

    /// True when the peer should hear of a higher limit.
    pub(super) fn wants(&self) -> bool {
        let grant = self.finished.saturating_add(self.at_once).saturating_sub(self.announced);
        grant >= (self.at_once / 4).max(1)
    }

    /// The limit to announce; announced it is from then on.
    // spec: STR-7
    pub(super) fn announce(&mut self) -> u64 {
        self.announced = self.finished.saturating_add(self.at_once).min(jsp_wire::varint::MAX);
        self.announced
    }

    pub(super) fn announced(&self) -> u64 {
        self.announced
    }
}

/// The streams that we may open.
#[derive(Debug, Default)]
pub(super) struct LocalStreams {
    pub(super) next: u64,
    pub(super) limit: u64,
    /// `open` was refused at the current limit.
    pub(super) refused: bool,
}
packed!(LocalStreams { next, limit, refused });
