//! Keys of a connection by packet number space, and their updates.

mod set;

use core::hint::{black_box, select_unpredictable};
use core::time::Duration;

use jsp_crypto::{DataKeys, DirectionKeys, Fresh, HeaderKey, Keys, PacketKey, RunningKeys, Suite};
use jsp_wire::{CloseCode, Instant, PathId, limits};

use crate::bounded::Bounded;
use crate::error::TransportError;
use crate::exchange::RETRIES_MAX;
use set::KeySet;
pub(crate) use set::{RestingKeys, UnheardKeys};

/// The packet number spaces: each has keys and numbers of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
pub(crate) enum SpaceId {
    Initial,
    Handshake,
    Data,
}

impl SpaceId {
    pub(crate) const ALL: [Self; 3] = [Self::Initial, Self::Handshake, Self::Data];
}

/// Which generation of 1-RTT keys opened a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Generation {
    Previous,
    Current,
    /// The peer has updated its keys with this packet.
    Next,
    /// It has, too soon after the last update: the packet is dropped.
    TooSoon,
}

/// Most candidate server hellos that a client keeps apart (a man on the side may race the server): those for
/// a hello with a ticket, and for the full one besides.
const CANDIDATES_MAX: usize = 2 * jsp_crypto::handshake::MAX_CANDIDATES;

/// Probe time-outs after an update within which the peer's next one is not followed: a storm of
/// updates costs us one derivation in this time.
const SETTLE_PTOS: u32 = 3;

/// An update is refused for no longer than this, and ours waits for at least as long: one end's probe
/// time-out may be many times the other's.
const SETTLE_MAX: Duration = Duration::from_millis(200);

/// Probe time-outs between the acknowledgement of the present keys and our next update. Twice what
/// the peer insists on, which reckons with a probe time-out of its own.
const CONFIRMED_PTOS: u32 = 6;

/// Packets below the sealing limit that are left for CLOSE.
const SEALED_RESERVE: u64 = 64;

/// All keys of a connection. Those that do not last stand apart, so that an established connection has no
/// room for them.
pub(crate) struct Keyring {
    initial: Option<Box<Keys>>,
    /// Those of a client's hellos that went before a Retry: it may have been a forgery.
    earlier_initial: Bounded<Keys, RETRIES_MAX>,
    handshake: Vec<(u8, Keys)>,
    /// Of 0-RTT packets: a client seals with them, a server opens.
    early: Option<Box<DirectionKeys>>,
    data: Option<Data>,
}

/// 1-RTT keys: header keys for good, packet keys by generation.
struct Data {
    schedule: DataKeys,
    set: KeySet,
    previous: Option<Box<Previous>>,
    phase: bool,
    /// Packets sealed with `local`.
    sealed: u64,
    /// Packets that did not open with any generation.
    forgeries: u64,
    /// Lowest numbers sealed with `local`; the next update waits until the peer has acknowledged one.
    first_pn: OnPaths,
    /// Since when the generation is confirmed by an acknowledgement.
    confirmed_at: Option<Instant>,
    /// When the generation began, as far as the local side knows.
    since: Option<Instant>,
    /// An in-band exchange is under way: the next step is the one that takes its secret in.
    frozen: bool,
}

struct Previous {
    /// Before this the peer's next update is not followed.
    settles_at: Instant,
    /// Packets below this number may still come under the old keys: the lowest number seen under
    /// the present ones, unknown until there is one.
    below_pn: OnPaths,
}

impl Previous {
    /// A packet of the other phase may come under the old keys. On a path where nothing has come under the
    /// present ones, it may until the update is settled, and as long as it is not known that the peer has them.
    // spec: CON-41, PTH-8
    fn may_open(&self, now: Instant, path: PathId, pn: u64) -> bool {
        match self.below_pn.get(path) {
            Some(below) => pn < below,
            None => self.below_pn.is_empty() || now < self.settles_at,
        }
    }
}

/// The lowest packet number of each path that something is true of; of paths that nothing is known of, one
/// that no packet has.
#[derive(Clone, Copy)]
struct OnPaths([(PathId, u64); limits::PATHS_MAX as usize]);

/// No packet has this number.
const NO_PN: u64 = u64::MAX;

impl Default for OnPaths {
    fn default() -> Self {
        Self([(PathId::FIRST, NO_PN); limits::PATHS_MAX as usize])
    }
}

impl OnPaths {
    /// Of more paths than are kept, the lowest id is forgotten: paths that are over have such.
    fn note(&mut self, path: PathId, pn: u64) {
        let Self(slots) = self;
        let place = slots.iter().position(|(known, lowest)| *known == path && *lowest != NO_PN);
        if let Some((_, lowest)) = place.and_then(|place| slots.get_mut(place)) {
            *lowest = pn.min(*lowest);
        } else if let Some(slot) =
            slots.iter_mut().min_by_key(|(known, lowest)| (*lowest != NO_PN, *known))
        {
            *slot = (path, pn);
        }
    }

    fn get(&self, path: PathId) -> Option<u64> {
        let mut known = self.0.iter().filter(|(_, pn)| *pn != NO_PN);
        known.find(|(known, _)| *known == path).map(|(_, pn)| *pn)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|(_, pn)| *pn == NO_PN)
    }
}

impl Keyring {
    pub(crate) fn new(initial: Keys) -> Self {
        Self {
            initial: Some(Box::new(initial)),
            earlier_initial: Bounded::default(),
            handshake: Vec::new(),
            early: None,
            data: None,
        }
    }

    /// The hello goes again under other keys; those before still open what comes.
    // spec: CON-67
    pub(crate) fn replace_initial(&mut self, keys: Keys) {
        if let Some(earlier) = self.initial.replace(Box::new(keys)) {
            self.earlier_initial.push_if_room(*earlier);
        }
    }

    pub(crate) fn add_handshake(&mut self, candidate: u8, keys: Keys) {
        if self.handshake.len() < CANDIDATES_MAX {
            // Mostly there is one, and keys are large.
            self.handshake.reserve_exact(1);
            self.handshake.push((candidate, keys));
        }
    }

    pub(crate) fn set_data(&mut self, mut schedule: DataKeys) -> Result<(), TransportError> {
        let Some(keys) = schedule.take_keys() else {
            return Err(TransportError::new(CloseCode::INTERNAL, "data keys were taken twice"));
        };
        let next = schedule.next();
        let set = KeySet::new(RunningKeys {
            local_header: keys.local.header,
            remote_header: keys.remote.header,
            local: keys.local.packet,
            remote: keys.remote.packet,
            next,
            previous: None,
        });
        self.data = Some(Data {
            schedule,
            set,
            previous: None,
            phase: false,
            sealed: 0,
            forgeries: 0,
            first_pn: OnPaths::default(),
            confirmed_at: None,
            since: None,
            frozen: false,
        });
        Ok(())
    }

    pub(crate) fn set_early(&mut self, keys: DirectionKeys) {
        self.early = Some(Box::new(keys));
    }

    /// Keys of 0-RTT packets.
    pub(crate) fn early(&self) -> Option<&DirectionKeys> {
        self.early.as_deref()
    }

    pub(crate) fn discard_early(&mut self) {
        self.early = None;
    }

    /// Updates wait from here on for the secret of an in-band exchange.
    // spec: CON-48
    pub(crate) fn freeze(&mut self) {
        if let Some(data) = self.data.as_mut() {
            data.frozen = true;
        }
    }

    /// The secret is in the present keys: updates go on as usual.
    pub(crate) fn thaw(&mut self) {
        if let Some(data) = self.data.as_mut() {
            data.frozen = false;
        }
    }

    /// The next generation has the secret of an exchange in it.
    pub(crate) fn fold(&mut self, fresh: &Fresh) {
        if let Some(data) = self.data.as_mut() {
            data.frozen = true;
            let next = data.schedule.fold(fresh);
            data.set.change(|keys| keys.next = next);
        }
    }

    /// Steps to the generation that a secret was folded into; answers whether the last update has
    /// settled, so that it could. That the peer has the present keys is known: its answer came under
    /// them.
    // spec: CON-48
    pub(crate) fn step_to_folded(&mut self, now: Instant, pto: Duration) -> bool {
        let Some(data) = self.data.as_mut() else { return false };
        let is_first = data.previous.is_none();
        let settled = is_first || data.settled_at(pto).is_some_and(|at| now >= at);
        if settled {
            data.step(now, None, pto);
        }
        settled
    }

    /// When [`Keyring::step_to_folded`] will succeed, as far as is known.
    pub(crate) fn folded_at(&self, now: Instant, pto: Duration) -> Option<Instant> {
        let data = self.data.as_ref()?;
        if data.previous.is_none() { Some(now) } else { data.settled_at(pto) }
    }

    pub(crate) fn discard(&mut self, space: SpaceId) {
        match space {
            SpaceId::Initial => {
                self.initial = None;
                self.earlier_initial = Bounded::default();
            }
            SpaceId::Handshake => self.handshake = Vec::new(),
            SpaceId::Data => self.data = None,
        }
    }

    pub(crate) fn has(&self, space: SpaceId) -> bool {
        match space {
            SpaceId::Initial => self.initial.is_some(),
            SpaceId::Handshake => !self.handshake.is_empty(),
            SpaceId::Data => self.data.is_some(),
        }
    }

    /// Keys that seal packets of the handshake.
    pub(crate) fn seal_long(&self, space: SpaceId) -> Option<&DirectionKeys> {
        match space {
            SpaceId::Initial => self.initial.as_ref().map(|keys| &keys.local),
            SpaceId::Handshake => self.handshake.first().map(|(_, keys)| &keys.local),
            SpaceId::Data => None,
        }
    }

    /// Keys that may open packets of the handshake: competing server hellos have each their own.
    pub(crate) fn open_long(&self, space: SpaceId) -> impl Iterator<Item = &DirectionKeys> + '_ {
        let is_initial = space == SpaceId::Initial;
        let handshake = if space == SpaceId::Handshake { &self.handshake[..] } else { &[] };
        let initial = self.initial.as_deref().into_iter().chain(self.earlier_initial.iter());
        initial
            .filter(move |_| is_initial)
            .map(|keys| &keys.remote)
            .chain(handshake.iter().map(|(_, keys)| &keys.remote))
    }

    /// The candidate has proved itself: the others are forgotten.
    pub(crate) fn commit(&mut self, candidate: u8) {
        self.handshake.retain(|(own, _)| *own == candidate);
        self.handshake.shrink_to_fit();
    }

    /// Seals 1-RTT packets: packet key, header key and phase bit.
    pub(crate) fn seal_short(
        &mut self,
        path: PathId,
        pn: u64,
    ) -> Option<(&PacketKey, &HeaderKey, bool)> {
        let data = self.data.as_mut()?;
        data.sealed = data.sealed.saturating_add(1);
        data.first_pn.note(path, pn);
        let keys = data.set.expand();
        Some((&keys.local, &keys.local_header, data.phase))
    }

    /// The phase bit of the next packet.
    pub(crate) fn phase(&self) -> bool {
        self.data.as_ref().is_some_and(|data| data.phase)
    }

    pub(crate) fn remote_header(&mut self) -> Option<&HeaderKey> {
        self.data.as_mut().map(|data| &data.set.expand().remote_header)
    }

    /// The connection rests: keys take little room until they are asked for.
    pub(crate) fn rest(&mut self) {
        if let Some(data) = self.data.as_mut() {
            data.set.pack();
        }
    }

    /// The key for a packet with this phase bit and number, and what its success means.
    // spec: CON-41, CON-43
    pub(crate) fn open_short(
        &mut self,
        now: Instant,
        phase: bool,
        path: PathId,
        pn: u64,
    ) -> Option<(&PacketKey, Generation)> {
        let data = self.data.as_mut()?;
        let keys = data.set.expand();
        let (previous, old) = (data.previous.as_ref(), keys.previous.as_deref());
        // All of this is found out whatever the phase is, for how long it takes would tell the phase.
        let is_old =
            old.is_some() && previous.is_some_and(|previous| previous.may_open(now, path, pn));
        let is_too_soon = previous.is_some_and(|previous| now < previous.settles_at);
        let next = &keys.next.1;
        let old = old.unwrap_or(next);
        for key in [&keys.remote, old, next] {
            key.touch();
        }
        let of_other_phase = match (is_old, is_too_soon) {
            (true, _) => (old, Generation::Previous),
            (false, true) => (next, Generation::TooSoon),
            (false, false) => (next, Generation::Next),
        };
        let of_phase = (&keys.remote, Generation::Current);
        let is_present = black_box(phase == data.phase);
        Some(select_unpredictable(is_present, of_phase, of_other_phase))
    }

    /// The peer has updated: we follow. `pn` is the first packet of the new generation.
    // spec: CON-42
    pub(crate) fn on_peer_update(&mut self, now: Instant, path: PathId, pn: u64, pto: Duration) {
        if let Some(data) = self.data.as_mut() {
            data.step(now, Some((path, pn)), pto);
        }
    }

    /// A packet opened with the present keys: lower numbers alone may come under the old ones.
    pub(crate) fn on_opened_current(&mut self, path: PathId, pn: u64) {
        if let Some(previous) = self.data.as_mut().and_then(|data| data.previous.as_mut()) {
            previous.below_pn.note(path, pn);
        }
    }

    /// Updates the keys now if the last update is confirmed; answers whether it did.
    // spec: CON-44
    pub(crate) fn update(&mut self, now: Instant, pto: Duration) -> bool {
        let Some(data) = self.data.as_mut() else { return false };
        let settled = data.settled_at(pto).is_some_and(|at| now >= at);
        if !settled || data.frozen {
            return false;
        }
        // What the peer has under way, and sends until it hears of it, comes under the old keys.
        data.step(now, None, pto);
        true
    }

    /// True when an update is due: after this many sealed packets, or so long after the last.
    // spec: CON-47
    pub(crate) fn update_is_due(&mut self, now: Instant, packets: u64, after: Duration) -> bool {
        let Some(data) = self.data.as_mut() else { return false };
        let since = *data.since.get_or_insert(now);
        data.sealed >= packets.min(data.suite().confidentiality_limit() / 2)
            || now.since(since) >= after
    }

    /// The peer has acknowledged this packet number of the data space.
    pub(crate) fn on_acked(&mut self, now: Instant, path: PathId, largest: u64) {
        if let Some(data) = self.data.as_mut()
            && data.confirmed_at.is_none()
            && data.first_pn.get(path).is_some_and(|first| largest >= first)
        {
            data.confirmed_at = Some(now);
        }
    }

    /// A packet did not open: counted against the AEAD's limit.
    // spec: CON-45
    pub(crate) fn on_forgery(&mut self) -> Result<(), TransportError> {
        let Some(data) = self.data.as_mut() else { return Ok(()) };
        data.forgeries = data.forgeries.saturating_add(1);
        if data.forgeries >= data.suite().integrity_limit() / 2 {
            let reason = "too many packets failed authentication";
            return Err(TransportError::new(CloseCode::AEAD_LIMIT, reason));
        }
        Ok(())
    }

    /// True when the sealing limit is reached and no update can help in time.
    // spec: CON-46
    pub(crate) fn is_exhausted(&self) -> bool {
        self.data.as_ref().is_some_and(|data| {
            let limit = data.suite().confidentiality_limit();
            data.sealed >= limit.saturating_sub(SEALED_RESERVE)
        })
    }
}

impl Data {
    fn suite(&self) -> Suite {
        self.schedule.suite()
    }

    /// From when on a further update of ours is sure to be followed, once the peer has acknowledged the
    /// present generation.
    fn settled_at(&self, pto: Duration) -> Option<Instant> {
        let apart = pto.saturating_mul(CONFIRMED_PTOS).max(SETTLE_MAX);
        self.confirmed_at.map(|at| at + apart)
    }

    /// `first` is the packet of the peer that told of the update, if one did.
    fn step(&mut self, now: Instant, first: Option<(PathId, u64)>, pto: Duration) {
        let next = self.schedule.next();
        self.set.change(|keys| {
            let (local, remote) = core::mem::replace(&mut keys.next, next);
            keys.local = local;
            keys.previous = Some(Box::new(core::mem::replace(&mut keys.remote, remote)));
        });
        let settles_at = now + pto.saturating_mul(SETTLE_PTOS).min(SETTLE_MAX);
        let mut below_pn = OnPaths::default();
        if let Some((path, pn)) = first {
            below_pn.note(path, pn);
        }
        self.previous = Some(Box::new(Previous { settles_at, below_pn }));
        self.phase = !self.phase;
        self.since = Some(now);
        self.sealed = 0;
        self.first_pn = OnPaths::default();
        self.confirmed_at = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jsp_crypto::{
        ClientConfig, Handshake, Identity, Level, Output, Role, ServerConfig, ServerIdentity,
        initial_keys,
    };

    use super::*;
    use crate::rng::SeededRng;

    const PTO: Duration = Duration::from_millis(50);
    const FIRST: PathId = PathId::FIRST;

    /// The keys of both ends after a handshake: client, server.
    fn keyrings() -> (Keyring, Keyring) {
        let mut rng = SeededRng::new([3; 32]);
        let identity = Arc::new(Identity::generate(&mut rng));
        let config = Arc::new(ClientConfig::new(ServerIdentity::AnyInsecure));
        let client = Handshake::client(config, &[], &mut rng).unwrap();
        let server = Handshake::server(Arc::new(ServerConfig::new(identity)), Vec::new());
        let ring = |role| Keyring::new(initial_keys(role, 1, &[1; 8], None));
        let mut ends = [(client, ring(Role::Client)), (server, ring(Role::Server))];
        let mut under_way: Vec<(usize, Level, Vec<u8>)> = Vec::new();
        loop {
            for (place, (machine, ring)) in ends.iter_mut().enumerate() {
                while let Some(output) = machine.poll() {
                    match output {
                        Output::Send { level, message } => {
                            under_way.push((1 - place, level, message));
                        }
                        Output::DataKeys(keys) => ring.set_data(keys).unwrap(),
                        _ => {}
                    }
                }
            }
            if under_way.is_empty() {
                let [(_, client), (_, server)] = ends;
                return (client, server);
            }
            let (to, level, message) = under_way.remove(0);
            ends[to].0.read(level, &message, 1_800_000_000, &mut rng).unwrap();
        }
    }

    #[test]
    // spec-test: CON-43, CON-44
    fn ends_that_reckon_differently_follow_each_other() {
        for (ours, theirs) in [(1, 7_000), (7_000, 1), (1, 1)] {
            let (mut client, mut server) = keyrings();
            let mut now = Instant::from_nanos(1_000_000_000);
            let [ours, theirs] = [ours, theirs].map(Duration::from_millis);
            for pn in 0..5 {
                let (key, opened) = {
                    let (phase, pn, packet) = seal(&mut client, pn);
                    let (key, generation) =
                        server.open_short(now, phase, FIRST, pn).expect("a key");
                    (generation, key.open_in_place(pn, b"", &mut packet.clone()).is_ok())
                };
                assert!(opened && key != Generation::TooSoon);
                if key == Generation::Next {
                    server.on_peer_update(now, FIRST, pn, theirs);
                }
                client.on_acked(now, FIRST, pn);
                now = now + (ours * CONFIRMED_PTOS).max(SETTLE_MAX);
                assert!(client.update(now, ours));
            }
        }
    }

    /// A packet with this number, as the ring would seal it now.
    fn seal(ring: &mut Keyring, pn: u64) -> (bool, u64, Vec<u8>) {
        let mut packet = vec![0; 30];
        let (key, _, phase) = ring.seal_short(FIRST, pn).unwrap();
        key.seal_in_place(pn, b"", &mut packet).unwrap();
        (phase, pn, packet)
    }

    /// Opens a packet as the corridor does; answers which keys did.
    fn open(
        ring: &mut Keyring,
        now: Instant,
        (phase, pn, packet): &(bool, u64, Vec<u8>),
    ) -> Option<Generation> {
        let (key, generation) = ring.open_short(now, *phase, FIRST, *pn)?;
        key.open_in_place(*pn, b"", &mut packet.clone()).ok()?;
        match generation {
            Generation::Previous | Generation::TooSoon => {}
            Generation::Current => ring.on_opened_current(FIRST, *pn),
            Generation::Next => ring.on_peer_update(now, FIRST, *pn, PTO),
        }
        Some(generation)
    }

    #[test]
    // spec-test: CON-41, CON-42
    fn packets_of_three_generations_open_in_any_order() {
        let (mut client, mut server) = keyrings();
        let now = Instant::from_nanos(1_000_000_000);
        let old: Vec<_> = (0..4).map(|pn| seal(&mut client, pn)).collect();
        let answer = seal(&mut server, 0);
        assert_eq!(open(&mut server, now, &old[0]), Some(Generation::Current));
        client.on_acked(now, FIRST, 0);
        let now = now + PTO * CONFIRMED_PTOS;
        assert!(client.update(now, PTO));
        let new: Vec<_> = (4..8).map(|pn| seal(&mut client, pn)).collect();
        // What the server sent before it heard of the update.
        let late = seal(&mut server, 1);
        assert_eq!(open(&mut client, now, &late), Some(Generation::Previous));
        assert_eq!(open(&mut server, now, &new[1]), Some(Generation::Next));
        assert_eq!(open(&mut server, now, &old[3]), Some(Generation::Previous));
        assert_eq!(open(&mut server, now, &new[0]), Some(Generation::Current));
        assert_eq!(open(&mut server, now, &old[1]), Some(Generation::Previous));
        // The server follows with what it sends.
        let followed = seal(&mut server, 2);
        assert!(followed.0 && !answer.0);
        assert_eq!(open(&mut client, now, &followed), Some(Generation::Current));
        assert_eq!(open(&mut client, now, &answer), Some(Generation::Previous));
    }

    #[test]
    fn keys_that_have_rested_are_the_same() {
        let (mut client, mut server) = keyrings();
        let mut now = Instant::from_nanos(1_000_000_000);
        let mut before = seal(&mut client, 0);
        for pn in 1..5 {
            client.rest();
            server.rest();
            assert_eq!(open(&mut server, now, &before), Some(Generation::Current));
            client.on_acked(now, FIRST, before.1);
            now = now + PTO * CONFIRMED_PTOS;
            let late = seal(&mut client, pn * 10);
            assert!(client.update(now, PTO));
            client.rest();
            server.rest();
            before = seal(&mut client, pn * 10 + 2);
            let first = seal(&mut client, pn * 10 + 1);
            assert_eq!(open(&mut server, now, &first), Some(Generation::Next));
            server.rest();
            assert_eq!(open(&mut server, now, &late), Some(Generation::Previous));
            // The server has stepped as well, with what it sends.
            let answer = seal(&mut server, pn);
            client.rest();
            assert_eq!(open(&mut client, now, &answer), Some(Generation::Current));
        }
    }

    #[test]
    // spec-test: CON-43, CON-44, CON-69
    fn updates_wait_for_each_other() {
        let (mut client, mut server) = keyrings();
        let now = Instant::from_nanos(1_000_000_000);
        assert!(!client.update(now + PTO * 100, PTO), "nothing was acknowledged");
        open(&mut server, now, &seal(&mut client, 0)).unwrap();
        client.on_acked(now, FIRST, 0);
        let now = now + PTO * CONFIRMED_PTOS;
        assert!(!client.update(now - Duration::from_nanos(1), PTO));
        assert!(client.update(now, PTO));
        assert_eq!(open(&mut server, now, &seal(&mut client, 1)), Some(Generation::Next));
        // A peer that does not wait is not followed until it does.
        client.on_acked(now - PTO * CONFIRMED_PTOS, FIRST, 1);
        assert!(client.update(now, PTO));
        let hasty = seal(&mut client, 2);
        let settled = now + PTO * SETTLE_PTOS;
        let early = settled - Duration::from_nanos(1);
        assert_eq!(open(&mut server, early, &hasty), Some(Generation::TooSoon));
        assert_eq!(open(&mut server, settled, &hasty), Some(Generation::Next));
    }

    #[test]
    // spec-test: CON-43
    fn a_storm_of_updates_is_followed_once_in_three_probe_time_outs() {
        let (mut client, mut server) = keyrings();
        let start = Instant::from_nanos(1_000_000_000);
        let (mut followed, mut pn) = (0u32, 0);
        for tick in 0..300 {
            // A client that updates again with the first packet after each that was followed.
            let now = start + PTO / 10 * tick;
            if followed > 0 || tick == 0 {
                let hasty = client.data.as_mut().unwrap();
                if hasty.phase == server.phase() {
                    hasty.step(now, None, PTO);
                }
            }
            let packet = seal(&mut client, pn);
            pn += 1;
            followed += u32::from(open(&mut server, now, &packet) == Some(Generation::Next));
        }
        assert_eq!(followed, 30 / SETTLE_PTOS);
    }

    #[test]
    // spec-test: CON-45
    fn forgeries_end_the_connection_at_half_the_limit() {
        let (mut client, _) = keyrings();
        let data = client.data.as_mut().unwrap();
        data.forgeries = data.suite().integrity_limit() / 2 - 2;
        assert_eq!(client.on_forgery(), Ok(()));
        assert_eq!(client.on_forgery().unwrap_err().code, CloseCode::AEAD_LIMIT);
    }

    #[test]
    // spec-test: CON-46
    fn keys_are_updated_at_half_the_limit_and_never_exhausted() {
        let (mut client, _) = keyrings();
        let limit = client.data.as_ref().unwrap().suite().confidentiality_limit();
        let mut at = |sealed| {
            client.data.as_mut().unwrap().sealed = sealed;
            (client.update_is_due(Instant::ZERO, u64::MAX, Duration::MAX), client.is_exhausted())
        };
        assert_eq!(at(limit / 2 - 1), (false, false));
        assert_eq!(at(limit / 2), (true, false));
        assert_eq!(at(limit - SEALED_RESERVE - 1), (true, false));
        assert_eq!(at(limit - SEALED_RESERVE), (true, true));
    }
}
