//! The hellos of clients that have no connection yet, joined from their pieces in memory that is
//! allocated once.

use core::time::Duration;
use std::collections::HashMap;

use jsp_crypto::hello_id;
use jsp_wire::frame::HandshakeFragment;
use jsp_wire::{ConnectionId, Instant, Route, limits};

use super::source::Prefix;
use crate::pieces::Pieces;
use crate::space::mix;

/// Hellos that may be incomplete at once, at most. The pieces of an honest one come within milliseconds.
const SLOTS_MAX: usize = 2048;

/// A small server has fewer, but never less.
const SLOTS_MIN: usize = 64;

/// Places for each connection that there may be.
const SLOTS_PER_CONNECTION: usize = 16;

/// Places that one network may hold: a quarter, within these.
const SHARE_MIN: u16 = 8;
const SHARE_MAX: u16 = 64;

/// How long a hello may take to become complete: the time of its datagrams on a very slow link.
/// What is lost comes again with all the rest, and starts anew.
const LIFE: Duration = Duration::from_secs(2);

/// How often hellos are looked through for those whose time is over.
const SWEEP_INTERVAL: Duration = Duration::from_millis(100);

/// Packets that may bring one hello: each of its pieces three times.
const PACKETS_MAX: usize = 3 * limits::HELLO_FRAGMENTS_MAX;

/// Hellos of one name that are joined apart: somebody on the way can make up pieces for the name of another.
const RIVALS_MAX: u8 = 4;

/// Bytes of a slot.
const SLOT_LEN: usize = limits::HELLO_LEN_MAX;

/// Which message of which client: somebody who has seen the start of a hello can send another one
/// under the same ids, and must not spoil it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct HelloName {
    /// The client, by the route's peer.
    pub(super) peer: Route,
    pub(super) dcid: ConnectionId,
    /// The start of the message's hash.
    pub(super) id: [u8; 8],
}

/// A hello that is not complete yet; its bytes lie in the table.
#[derive(Clone, Copy)]
struct Hello {
    name: HelloName,
    /// Which of those that bear the name.
    rival: u8,
    prefix: Prefix,
    total: u16,
    have: Pieces,
    packets: [u64; PACKETS_MAX],
    packets_len: usize,
    received: usize,
    expires: Instant,
}

/// A datagram that brings pieces.
#[derive(Clone, Copy)]
pub(super) struct Carrier {
    pub(super) now: Instant,
    pub(super) prefix: Prefix,
    /// The packet that the piece stands in.
    pub(super) pn: u64,
    /// Bytes of the datagram that are not yet counted.
    pub(super) len: usize,
}

/// A complete hello.
pub(super) struct WholeHello {
    pub(super) message: Vec<u8>,
    /// The packets that brought it.
    pub(super) packets: Vec<u64>,
    /// Bytes of their datagrams.
    pub(super) received: usize,
}

/// What became of a piece.
enum Joining {
    Whole(WholeHello),
    Partly,
    /// It does not belong to the hello.
    Not,
}

/// All incomplete hellos.
pub(super) struct HelloTable {
    slots: Vec<Option<Hello>>,
    bytes: Vec<u8>,
    free: Vec<usize>,
    by_name: HashMap<(HelloName, u8), usize>,
    shares: HashMap<Prefix, u16>,
    /// Places that one network may hold.
    share_max: u16,
    sweep_at: Instant,
    /// State of the generator that chooses who gives way.
    random: u64,
}

impl HelloTable {
    /// A table for a server that lets in so many connections: everything that it will ever need.
    /// `secret` keeps attackers from knowing who gives way.
    pub(super) fn new(connections_max: usize, secret: u64) -> Self {
        let slots = connections_max.saturating_mul(SLOTS_PER_CONNECTION);
        Self::of(slots.clamp(SLOTS_MIN, SLOTS_MAX), secret)
    }

    /// A table for an endpoint that accepts nothing.
    pub(super) fn empty() -> Self {
        Self::of(0, 0)
    }

    fn of(slots: usize, random: u64) -> Self {
        // Twice the room: a hash table that is less than half full never grows.
        let room = slots.saturating_mul(2);
        let quarter = u16::try_from(slots / 4).unwrap_or(u16::MAX);
        Self {
            slots: vec![None; slots],
            bytes: vec![0; slots.saturating_mul(SLOT_LEN)],
            free: (0..slots).collect(),
            by_name: HashMap::with_capacity(room),
            shares: HashMap::with_capacity(room),
            share_max: quarter.clamp(SHARE_MIN, SHARE_MAX),
            sweep_at: Instant::ZERO,
            random,
        }
    }

    /// Hellos that are incomplete.
    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Of these, those of one network.
    fn share(&self, prefix: &Prefix) -> u16 {
        self.shares.get(prefix).copied().unwrap_or(0)
    }

    /// Whether more than half of the places are taken, or of those that this network may hold.
    pub(super) fn is_crowded(&self, prefix: &Prefix) -> bool {
        self.len() > self.slots.len() / 2 || self.share(prefix) > self.share_max / 2
    }

    /// Forgets hellos whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        if now < self.sweep_at || self.by_name.is_empty() {
            return;
        }
        self.sweep_at = now + SWEEP_INTERVAL;
        for place in 0..self.slots.len() {
            let expired = |hello: &Hello| hello.expires <= now;
            if self.slots.get(place).and_then(Option::as_ref).is_some_and(expired) {
                self.release(place);
            }
        }
    }

    /// Takes a piece; answers the hello when it is whole. A piece stands in each hello of its name that it contradicts
    /// nothing of, and in one of its own where there is none.
    // spec: CON-3, CON-4, CON-182
    pub(super) fn add(
        &mut self,
        name: HelloName,
        carrier: &Carrier,
        piece: &HandshakeFragment<'_>,
    ) -> Option<WholeHello> {
        // Longer messages are for the other direction: slots stand side by side.
        if usize::from(piece.total) > SLOT_LEN {
            return None;
        }
        let mut is_taken = false;
        for rival in 0..RIVALS_MAX {
            let Some(place) = self.by_name.get(&(name, rival)).copied() else { continue };
            match self.join(place, carrier, piece) {
                Joining::Whole(hello) => {
                    self.forget(name);
                    return Some(hello);
                }
                Joining::Partly => is_taken = true,
                Joining::Not => {}
            }
        }
        if is_taken {
            return None;
        }
        let rival = self.room_beside(&name);
        let place = self.admit((name, rival), carrier, piece.total)?;
        match self.join(place, carrier, piece) {
            Joining::Whole(hello) => {
                self.forget(name);
                return Some(hello);
            }
            Joining::Partly => {}
            Joining::Not => self.release(place),
        }
        None
    }

    /// Puts a piece into a hello. One that contradicts what is there, or would make it whole but not the one of this
    /// name, is let go of.
    fn join(&mut self, place: usize, carrier: &Carrier, piece: &HandshakeFragment<'_>) -> Joining {
        let Some(hello) = self.slots.get_mut(place).and_then(Option::as_mut) else {
            return Joining::Not;
        };
        let start = place.saturating_mul(SLOT_LEN);
        let held = self.bytes.get_mut(start..start.saturating_add(usize::from(hello.total)));
        let (Some(held), true) = (held, piece.total == hello.total) else { return Joining::Not };
        let before = hello.have;
        if !hello.have.put(held, piece.offset, piece.data) {
            return Joining::Not;
        }
        if hello.have.is_whole(hello.total) {
            if hello_id(held) != hello.name.id {
                hello.have = before;
                return Joining::Not;
            }
            hello.note_packet(carrier);
            return Joining::Whole(WholeHello {
                message: held.to_vec(),
                packets: hello.packets.iter().copied().take(hello.packets_len).collect(),
                received: hello.received,
            });
        }
        if hello.note_packet(carrier) {
            self.release(place);
        }
        Joining::Partly
    }

    /// Which place beside others of its name a hello takes: a free one, or that of any.
    fn room_beside(&mut self, name: &HelloName) -> u8 {
        let free = (0..RIVALS_MAX).find(|rival| !self.by_name.contains_key(&(*name, *rival)));
        free.unwrap_or_else(|| {
            self.random = mix(self.random);
            let rival = self.random.checked_rem(RIVALS_MAX.into()).unwrap_or(0) as u8;
            if let Some(place) = self.by_name.get(&(*name, rival)).copied() {
                self.release(place);
            }
            rival
        })
    }

    /// Lets go of all of this name.
    fn forget(&mut self, name: HelloName) {
        for rival in 0..RIVALS_MAX {
            if let Some(place) = self.by_name.get(&(name, rival)).copied() {
                self.release(place);
            }
        }
    }

    // spec: CON-62
    /// Finds a slot for a new hello: a network that holds its share gives up one of its own, a full
    /// table any.
    fn admit(
        &mut self,
        (name, rival): (HelloName, u8),
        carrier: &Carrier,
        total: u16,
    ) -> Option<usize> {
        if self.share(&carrier.prefix) >= self.share_max {
            let ours = |hello: &Hello| hello.prefix == carrier.prefix;
            self.evict(ours);
        } else if self.free.is_empty() {
            self.evict(|_| true);
        }
        let place = self.free.pop()?;
        *self.slots.get_mut(place)? = Some(Hello {
            name,
            rival,
            prefix: carrier.prefix,
            total,
            have: Pieces::default(),
            packets: [0; PACKETS_MAX],
            packets_len: 0,
            received: 0,
            expires: carrier.now + LIFE,
        });
        self.by_name.insert((name, rival), place);
        let share = self.share(&carrier.prefix).saturating_add(1);
        self.shares.insert(carrier.prefix, share);
        Some(place)
    }

    /// Forgets one of the hellos that `may_go`, each as likely as the others. An attacker cannot
    /// choose whom he drives out.
    fn evict(&mut self, may_go: impl Fn(&Hello) -> bool) {
        self.random = mix(self.random);
        let candidates =
            || self.slots.iter().enumerate().filter(|(_, slot)| slot.as_ref().is_some_and(&may_go));
        let count = candidates().count() as u64;
        let Some(chosen) = self.random.checked_rem(count) else { return };
        let place = candidates().nth(chosen as usize).map(|(place, _)| place);
        if let Some(place) = place {
            self.release(place);
        }
    }

    fn release(&mut self, place: usize) {
        let Some(hello) = self.slots.get_mut(place).and_then(Option::take) else { return };
        self.by_name.remove(&(hello.name, hello.rival));
        self.free.push(place);
        match self.share(&hello.prefix).saturating_sub(1) {
            0 => self.shares.remove(&hello.prefix),
            share => self.shares.insert(hello.prefix, share),
        };
    }
}

impl Hello {
    /// Counts the packet that brought a piece; true when the hello may have no more.
    fn note_packet(&mut self, carrier: &Carrier) -> bool {
        self.received = self.received.saturating_add(carrier.len);
        if !self.packets.iter().take(self.packets_len).any(|pn| *pn == carrier.pn)
            && let Some(slot) = self.packets.get_mut(self.packets_len)
        {
            *slot = carrier.pn;
            self.packets_len = self.packets_len.saturating_add(1);
        }
        self.packets_len >= PACKETS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u32) -> Route {
        let [a, b, c, d] = n.to_be_bytes();
        Route::udp(format!("{a}.{b}.{c}.{d}:1000").parse().unwrap())
    }

    fn name(peer: Route, message: &[u8]) -> HelloName {
        let dcid = ConnectionId::new(&[7; 8]).unwrap();
        HelloName { peer, dcid, id: hello_id(message) }
    }

    fn carrier(peer: &Route, now: Instant, pn: u64) -> Carrier {
        Carrier { now, prefix: Prefix::of(peer), pn, len: 1200 }
    }

    fn piece(message: &[u8], from: u16, to: u16) -> HandshakeFragment<'_> {
        HandshakeFragment {
            id: hello_id(message),
            offset: from,
            total: message.len() as u16,
            data: &message[usize::from(from)..usize::from(to)],
        }
    }

    fn is_consistent(table: &HelloTable) -> bool {
        let held = table.slots.iter().flatten().count();
        let shares: usize = table.shares.values().map(|share| usize::from(*share)).sum();
        held == table.len() && shares == held && table.free.len() == table.slots.len() - held
    }

    #[test]
    // spec-test: CON-3
    fn pieces_are_joined_in_any_order_and_a_lie_is_not_taken() {
        let mut table = HelloTable::of(4, 1);
        let message: Vec<u8> = (0..2000).map(|n| n as u8).collect();
        let client = peer(0xc000_0201);
        let at = Instant::from_nanos(1);
        let own = name(client, &message);
        assert!(table.add(own, &carrier(&client, at, 1), &piece(&message, 1100, 2000)).is_none());
        // Somebody else's message under the same ids stands beside it.
        let other = vec![9; 2000];
        let theirs = name(client, &other);
        assert!(table.add(theirs, &carrier(&client, at, 0), &piece(&other, 0, 1100)).is_none());
        let whole = table.add(own, &carrier(&client, at, 0), &piece(&message, 0, 1100)).unwrap();
        assert_eq!((whole.message, whole.packets, whole.received), (message, vec![1, 0], 2400));
        // A message that is not what its name says.
        let mut lie = piece(&other, 1100, 2000);
        let bytes = vec![8; 900];
        lie.data = &bytes;
        assert!(table.add(theirs, &carrier(&client, at, 1), &lie).is_none());
        let rest = piece(&other, 1100, 2000);
        assert!(table.add(theirs, &carrier(&client, at, 1), &rest).is_some());
        assert!(table.len() == 0 && is_consistent(&table));
        // One longer than a hello may be, as only a server's flight is.
        let long = vec![9; SLOT_LEN + 1];
        let (theirs, before) = (name(client, &long), table.bytes.clone());
        let last = piece(&long, SLOT_LEN as u16, SLOT_LEN as u16 + 1);
        assert!(table.add(theirs, &carrier(&client, at, 1), &last).is_none());
        assert!(table.len() == 0 && table.bytes == before);
    }

    #[test]
    // spec-test: CON-182
    fn pieces_that_somebody_made_up_keep_no_hello_away() {
        let message: Vec<u8> = (0..3000).map(|n| n as u8).collect();
        let client = peer(0xc000_0201);
        let at = Instant::from_nanos(1);
        let own = name(client, &message);
        let cuts = [(0, 1100), (1100, 2200), (2200, 3000)];
        let made_up = vec![8; 3000];
        // Whatever was made up comes first, each time that the client sends its hello.
        for (lies, seed) in [(&cuts[..1], 1), (&cuts[1..], 2), (&cuts[..], 3)] {
            let mut table = HelloTable::of(16, seed);
            let mut whole = None;
            for _ in 0..2 {
                for &(from, to) in lies {
                    let data = &made_up[usize::from(from)..usize::from(to)];
                    let lie = HandshakeFragment { data, ..piece(&message, from, to) };
                    assert!(table.add(own, &carrier(&client, at, 9), &lie).is_none());
                }
                for (from, to) in cuts {
                    let piece = piece(&message, from, to);
                    whole = whole.or(table.add(own, &carrier(&client, at, 0), &piece));
                }
            }
            assert!(whole.is_some_and(|whole| whole.message == message), "{lies:?}");
            assert!(is_consistent(&table));
        }
    }

    #[test]
    // spec-test: CON-4
    fn the_table_has_one_size() {
        let mut table = HelloTable::new(100_000, 1);
        let capacity = (table.by_name.capacity(), table.shares.capacity());
        let mut now = Instant::from_nanos(1);
        for n in 0..200_000u32 {
            let message = n.to_be_bytes().repeat(300);
            let client = peer(n.wrapping_mul(2_654_435_761));
            now = now + Duration::from_micros(20);
            table.add(
                name(client, &message),
                &carrier(&client, now, n.into()),
                &piece(&message, 0, 1100),
            );
            table.expire(now);
            assert!(table.len() <= SLOTS_MAX);
        }
        assert!(is_consistent(&table) && table.len() == SLOTS_MAX);
        assert!(table.by_name.capacity() <= capacity.0 && table.shares.capacity() <= capacity.1);
        table.expire(now + LIFE);
        assert!(is_consistent(&table) && table.len() == 0);
    }

    #[test]
    // spec-test: CON-62
    fn a_network_drives_out_only_its_own() {
        let mut table = HelloTable::new(100_000, 1);
        let now = Instant::from_nanos(1);
        let honest = peer(0xc633_6401);
        let message = vec![1; 2000];
        table.add(name(honest, &message), &carrier(&honest, now, 0), &piece(&message, 0, 1100));
        for n in 0..10_000u32 {
            let message = n.to_be_bytes().repeat(300);
            let client = peer(0xc000_0200 | n & 0xff);
            table.add(
                name(client, &message),
                &carrier(&client, now, n.into()),
                &piece(&message, 0, 1100),
            );
        }
        assert_eq!(table.len(), 1 + usize::from(SHARE_MAX));
        let rest = piece(&message, 1100, 2000);
        assert!(table.add(name(honest, &message), &carrier(&honest, now, 1), &rest).is_some());
        assert!(is_consistent(&table));
    }

    #[test]
    // spec-test: CON-4, CON-62
    fn a_small_server_has_a_small_table() {
        for (connections, slots, share) in [
            (0, 64, 16),
            (4, 64, 16),
            (10, 160, 40),
            (16, 256, 64),
            (128, 2048, 64),
            (9999, 2048, 64),
        ] {
            let table = HelloTable::new(connections, 1);
            assert_eq!((table.slots.len(), table.share_max), (slots, share), "{connections}");
            assert_eq!(table.bytes.len(), slots * SLOT_LEN);
        }
        let mut table = HelloTable::new(4, 1);
        let now = Instant::from_nanos(1);
        let prefix = |n| carrier(&peer(n), now, 0).prefix;
        let mut fill = |client: u32, message: u32| {
            let (client, message) = (peer(client), message.to_be_bytes().repeat(300));
            let from = carrier(&client, now, u64::from(message[3]));
            table.add(name(client, &message), &from, &piece(&message, 0, 1100));
            (table.len(), table.is_crowded(&from.prefix))
        };
        for n in 1..=20u32 {
            let expected = (n.min(16) as usize, n > 8);
            assert_eq!(fill(0xc000_0201, n), expected, "one network");
        }
        for n in 1..=60u32 {
            let expected = (16 + n as usize).min(64);
            assert_eq!(fill(n << 16, n), (expected, expected > 32), "many networks");
        }
        assert!(is_consistent(&table) && table.is_crowded(&prefix(99)));
    }

    #[test]
    fn a_hello_in_too_many_pieces_is_given_up() {
        let mut table = HelloTable::of(4, 1);
        let client = peer(0xc000_0201);
        let now = Instant::from_nanos(1);
        let message = vec![3; 4000];
        for n in 0..PACKETS_MAX as u16 {
            assert_eq!(table.len(), usize::from(n > 0));
            let piece = piece(&message, n, n + 1);
            table.add(name(client, &message), &carrier(&client, now, n.into()), &piece);
        }
        assert!(table.len() == 0 && is_consistent(&table));
    }
}
