//! The wrapping at the endpoint's door: every datagram that leaves is wrapped, and what does not unwrap does not
//! exist.

use core::time::Duration;
use std::collections::HashSet;

use bytes::{Buf, BytesMut};
use jsp_crypto::{DatagramTag, OBFUSCATION_LEN, ObfuscationKey, Obfuscator};
use jsp_wire::{Header, Instant};

use super::Endpoint;
use crate::batch::Batch;

/// How long a datagram unwraps is two hours at most (an hour of its own, half an hour before and behind): the tags
/// of one generation are kept for as long, those of the one before for as long again.
const GENERATION: Duration = Duration::from_secs(2 * 3600);

/// Tags in one generation; when it is full the next one begins early.
const TAGS_MAX: usize = 1 << 17;

/// Most zero bytes before an answer that no connection gives: its length says nothing.
const ANSWER_PADDING_MAX: u64 = 600;

/// The wrapping of an endpoint.
pub(super) struct Obfuscation {
    obfuscator: Obfuscator,
    /// Tags of datagrams that somebody could send again to see whether they are answered.
    seen: [HashSet<DatagramTag>; 2],
    generation_ends: Instant,
}

impl Obfuscation {
    fn new(key: &ObfuscationKey) -> Self {
        let seen = [HashSet::new(), HashSet::new()];
        Self { obfuscator: Obfuscator::new(key), seen, generation_ends: Instant::ZERO }
    }

    /// Notes a tag; false when it is known.
    // spec: PRV-22
    fn is_first(&mut self, now: Instant, tag: DatagramTag) -> bool {
        let [current, previous] = &mut self.seen;
        if now >= self.generation_ends || current.len() >= TAGS_MAX {
            core::mem::swap(current, previous);
            current.clear();
            self.generation_ends = now + GENERATION;
        }
        !previous.contains(&tag) && current.insert(tag)
    }
}

impl Endpoint {
    /// The same endpoint, all of whose datagrams are wrapped under `key`: without it they are bytes that look random,
    /// and no other datagram draws an answer. Both sides must do it. To be called before anything else; clocks may be
    /// half an hour apart.
    #[must_use]
    pub fn obfuscated(mut self, key: &ObfuscationKey) -> Self {
        self.obfuscation = Some(Box::new(Obfuscation::new(key)));
        self
    }

    /// Bytes that each datagram grows by on its way out.
    pub(super) fn wrapping(&self) -> usize {
        if self.obfuscation.is_some() { OBFUSCATION_LEN } else { 0 }
    }

    /// What a datagram from the wire holds; nothing when it was not made with our key, or is a hello, or an answer to
    /// one, that has come before.
    // spec: PRV-21, PRV-22
    pub(super) fn unwrap(&mut self, now: Instant, mut payload: BytesMut) -> Option<BytesMut> {
        let time = self.unix_seconds(now);
        let Some(obfuscation) = &mut self.obfuscation else { return Some(payload) };
        let tag = obfuscation.obfuscator.unwrap(time, &mut payload)?;
        payload.advance(OBFUSCATION_LEN);
        let padding = payload.iter().take_while(|byte| **byte == 0).count();
        payload.advance(padding);
        let is_long = !matches!(Header::parse(&payload), Ok(Header::Short));
        let may_be_replayed = is_long && self.accepting;
        (!may_be_replayed || obfuscation.is_first(now, tag)).then_some(payload)
    }

    /// Makes room for the wrapping in an empty batch.
    pub(super) fn prepare(&self, batch: &mut Batch) {
        batch.set_headroom(self.wrapping());
    }

    /// Wraps all datagrams of a batch that was empty before.
    // spec: PRV-20
    pub(super) fn wrap(&self, now: Instant, batch: &mut Batch) {
        let Some(obfuscation) = &self.obfuscation else { return };
        let time = self.unix_seconds(now);
        for datagram in batch.datagrams_mut() {
            let wrapped = obfuscation.obfuscator.wrap(time, datagram);
            debug_assert!(wrapped);
        }
    }

    /// Zero bytes to put before an answer that no connection gives.
    // spec: PRV-24
    pub(super) fn answer_padding(&mut self) -> usize {
        let is_obfuscated = self.obfuscation.is_some();
        if is_obfuscated { (self.rng.u64() % ANSWER_PADDING_MAX) as usize } else { 0 }
    }

    /// True when strays are told nothing: who recorded a packet and sends it again must not learn that somebody lives
    /// here.
    // spec: PRV-22
    pub(super) fn is_silent(&self) -> bool {
        self.obfuscation.is_some()
    }

    /// Least bytes of a hello's datagram.
    // spec: PRV-24
    pub(super) fn hello_len_min(&self) -> usize {
        match self.obfuscation {
            Some(_) => crate::padding::HELLO_LEN_MIN_WRAPPED,
            None => jsp_wire::limits::MTU_BASE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    /// spec-test: PRV-22
    fn tags_are_remembered_for_as_long_as_their_datagrams_unwrap_in_bounded_room() {
        let key = ObfuscationKey::from_bytes([1; 32]);
        let mut obfuscation = Obfuscation::new(&key);
        let at = |seconds: u64| Instant::from_nanos(seconds * 1_000_000_000);
        let tag = |n: u64| {
            let mut tag = [0; OBFUSCATION_LEN];
            tag[..8].copy_from_slice(&n.to_be_bytes());
            tag
        };
        assert!(obfuscation.is_first(at(10), tag(0)));
        assert!(!obfuscation.is_first(at(10), tag(0)));
        assert!(!obfuscation.is_first(at(10 + 7199), tag(0)));
        assert!(obfuscation.is_first(at(10 + 7200), tag(1)));
        assert!(!obfuscation.is_first(at(10 + 14_399), tag(0)), "in the one before");
        for n in 2..400_000 {
            assert!(obfuscation.is_first(at(14_400), tag(n)));
            assert!(!obfuscation.is_first(at(14_400), tag(n)));
        }
        assert!(obfuscation.seen.iter().all(|seen| seen.len() <= TAGS_MAX));
    }
}
