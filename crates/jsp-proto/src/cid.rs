//! Connection ids: those we gave the peer, and those the peer gave us.

mod rest;

use std::collections::VecDeque;

use jsp_wire::frame::NewConnectionId;
use jsp_wire::{CloseCode, ConnectionId, Frame, Instant, PathId, Route, limits};

use crate::ack::ReceivedRanges;
use crate::error::TransportError;
use crate::packet::PacketBuilder;
use crate::token::{Fate, Token};

/// Retirements that may wait to be sent: a peer that makes us retire and never acknowledges must not
/// fill our memory.
const RETIREMENTS_MAX: usize = 16;

/// What the endpoint must know about an id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IdChange {
    /// Datagrams to this id are no longer ours.
    Removed(ConnectionId),
}

/// Ids of ended paths that still lead here: those of the first path, and of three others.
const ENDED_MAX: usize = 8;

/// Ids that the first path may have.
const FIRST_PATH_IDS_MAX: u64 = 4;

/// An id that we issued.
struct Issued {
    path: PathId,
    sequence: u64,
    id: ConnectionId,
    reset_token: [u8; limits::RESET_TOKEN_LEN],
    announce: bool,
}

/// Ids by which the peer reaches us.
pub(crate) struct LocalIds {
    /// The id of the handshake; the empty one says that there are no others.
    first: ConnectionId,
    issued: VecDeque<Issued>,
    /// Those of paths that are over, until nothing is under way to them: what still comes is dropped here, and is
    /// not for the endpoint to wonder about.
    ended: VecDeque<Ended>,
    next_sequence: u64,
    changes: Vec<IdChange>,
}

/// An id of a path that is over.
struct Ended {
    id: ConnectionId,
    until: Instant,
}

impl LocalIds {
    /// Starts with the id of the handshake; it may be the empty one, then there are no others.
    pub(crate) fn new(handshake_id: ConnectionId) -> Self {
        let first = Issued {
            path: PathId::FIRST,
            sequence: 0,
            id: handshake_id,
            reset_token: [0; 16],
            announce: false,
        };
        let issued = VecDeque::from([first]);
        let (ended, changes) = (VecDeque::new(), Vec::new());
        Self { first: handshake_id, issued, ended, next_sequence: 1, changes }
    }

    /// The id of the handshake.
    pub(crate) fn first(&self) -> ConnectionId {
        self.first
    }

    /// The first of these paths that the peer needs an id for, if it keeps `peer_max` for the path of the
    /// handshake. Further paths have one each.
    // spec: PTH-3
    pub(crate) fn missing(
        &self,
        peer_max: u64,
        mut paths: impl Iterator<Item = PathId>,
    ) -> Option<PathId> {
        if self.first().is_empty() {
            return None;
        }
        paths.find(|path| {
            // spec: CON-20
            let wanted = if *path == PathId::FIRST { peer_max.min(FIRST_PATH_IDS_MAX) } else { 1 };
            (self.issued.iter().filter(|issued| issued.path == *path).count() as u64) < wanted
        })
    }

    /// The peer was told an id of the first path in the handshake.
    pub(crate) fn told(&mut self, id: ConnectionId, reset_token: [u8; 16]) {
        self.issue(PathId::FIRST, id, reset_token);
        if let Some(issued) = self.issued.back_mut() {
            issued.announce = false;
        }
    }

    /// The id that [`LocalIds::told`] took, while there is no other beside the handshake's.
    pub(crate) fn told_id(&self) -> Option<(ConnectionId, [u8; limits::RESET_TOKEN_LEN])> {
        self.issued.get(1).map(|issued| (issued.id, issued.reset_token))
    }

    /// Gives the peer a further id for a path.
    pub(crate) fn issue(&mut self, path: PathId, id: ConnectionId, reset_token: [u8; 16]) {
        let sequence = self.next_sequence;
        self.next_sequence = self.next_sequence.saturating_add(1);
        // No more room than ids: they are there as long as the connection.
        self.issued.reserve_exact(1);
        self.issued.push_back(Issued { path, sequence, id, reset_token, announce: true });
    }

    /// The path that packets to this id belong to.
    // spec: PTH-6
    pub(crate) fn path_of(&self, id: &[u8]) -> Option<PathId> {
        let mut issued = self.issued.iter();
        issued.find(|issued| issued.id.as_bytes() == id).map(|issued| issued.path)
    }

    /// The path is over: nothing is taken that comes to its ids. Until then they are still known as ours.
    // spec: PTH-18
    pub(crate) fn end_path(&mut self, path: PathId, until: Instant) {
        let Self { issued, ended, changes, .. } = self;
        issued.retain(|issued| {
            // Without ids nothing names a path, and nothing is given back.
            let keep = issued.path != path || issued.id.is_empty();
            if !keep {
                ended.push_back(Ended { id: issued.id, until });
            }
            keep
        });
        let excess = ended.len().saturating_sub(ENDED_MAX);
        changes.extend(ended.drain(..excess).map(|ended| IdChange::Removed(ended.id)));
    }

    /// The peer uses an id no more.
    // spec: CON-21
    pub(crate) fn on_retire(&mut self, sequence: u64) -> Result<(), TransportError> {
        if sequence >= self.next_sequence || self.first.is_empty() {
            let reason = "an id was retired that was never issued";
            return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
        }
        if let Some(place) = self.issued.iter().position(|issued| issued.sequence == sequence)
            && let Some(issued) = self.issued.remove(place)
        {
            self.changes.push(IdChange::Removed(issued.id));
        }
        Ok(())
    }

    pub(crate) fn wants(&self) -> bool {
        self.issued.iter().any(|issued| issued.announce)
    }

    pub(crate) fn write(&mut self, packet: &mut PacketBuilder<'_>) {
        let own = packet.path();
        for issued in self.issued.iter_mut().filter(|issued| issued.announce) {
            let frame = Frame::NewConnectionId(NewConnectionId {
                sequence: issued.sequence,
                retire_prior_to: 0,
                id: issued.id,
                reset_token: issued.reset_token,
            });
            let about = (issued.path != own).then_some(Frame::AboutPath(issued.path));
            let written = packet.writer().whole(|writer| {
                about.iter().try_for_each(|about| about.write(writer))?;
                frame.write(writer)
            });
            if written.is_err() {
                return;
            }
            issued.announce = false;
            packet.push(Token::NewConnectionId { sequence: issued.sequence });
        }
    }

    pub(crate) fn on_fate(&mut self, sequence: u64, fate: Fate) {
        if fate == Fate::Lost
            && let Some(issued) = self.issued.iter_mut().find(|issued| issued.sequence == sequence)
        {
            issued.announce = true;
        }
    }

    /// Ids that the endpoint has not heard of yet as gone.
    pub(crate) fn take_changes(&mut self, now: Instant) -> impl Iterator<Item = IdChange> + '_ {
        while let Some(ended) = self.ended.pop_front_if(|ended| ended.until <= now) {
            self.changes.push(IdChange::Removed(ended.id));
        }
        self.changes.drain(..)
    }

    /// All ids that packets of the peer may still come to.
    pub(crate) fn all(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        let ended = self.ended.iter().map(|ended| ended.id);
        self.issued.iter().map(|issued| issued.id).chain(ended)
    }
}

/// Ids by which we reach the peer.
pub(crate) struct RemoteIds {
    /// That of the first path.
    current: Held,
    /// The first path is over: its id is given back, and only tells that the peer uses ids.
    is_first_over: bool,
    /// Those of further paths.
    further: Vec<Held>,
    spare: VecDeque<Held>,
    /// Spare ones that packets beside their path have borne, by sequence, and where these went.
    seen: Vec<(u64, Route)>,
    /// Sequences to be told as retired.
    retire: VecDeque<u64>,
    retire_prior_to: u64,
    /// Sequences that were ever taken: a frame that comes twice says nothing new.
    taken: ReceivedRanges,
}

#[derive(Clone, Copy)]
struct Held {
    path: PathId,
    sequence: u64,
    id: ConnectionId,
    reset_token: Option<[u8; limits::RESET_TOKEN_LEN]>,
}

impl RemoteIds {
    pub(crate) fn new(id: ConnectionId) -> Self {
        let current = Held { path: PathId::FIRST, sequence: 0, id, reset_token: None };
        let mut taken = ReceivedRanges::default();
        taken.insert(0);
        let (spare, retire) = (VecDeque::new(), VecDeque::new());
        let (further, is_first_over, seen) = (Vec::new(), false, Vec::new());
        Self { current, is_first_over, further, spare, seen, retire, retire_prior_to: 0, taken }
    }

    /// What goes into the headers of our packets on the first path.
    pub(crate) fn current(&self) -> &ConnectionId {
        &self.current.id
    }

    /// What goes into the headers of our packets on this path; `None` without an id for it.
    // spec: PTH-3
    pub(crate) fn on_path(&self, path: PathId) -> Option<&ConnectionId> {
        // A peer without ids has the empty one for all.
        if path == PathId::FIRST || self.current.id.is_empty() {
            return Some(&self.current.id);
        }
        self.further.iter().find(|held| held.path == path).map(|held| &held.id)
    }

    /// Takes an id for a further path into use; false when the peer gave none.
    // spec: PTH-3
    pub(crate) fn begin_path(&mut self, path: PathId) -> bool {
        if self.current.id.is_empty() || self.further.iter().any(|held| held.path == path) {
            return true;
        }
        let place = self.spare.iter().position(|held| held.path == path);
        let held = place.and_then(|place| self.spare.remove(place));
        self.further.extend(held);
        held.is_some()
    }

    /// The path has not begun after all: its id is there for another time.
    pub(crate) fn unbegin_path(&mut self, path: PathId) {
        let Self { further, spare, .. } = self;
        if let Some(place) = further.iter().position(|held| held.path == path) {
            spare.push_front(further.swap_remove(place));
        }
    }

    /// True when a path could begin: the peer gave an id for it, or uses none.
    pub(crate) fn may_begin(&self, path: PathId) -> bool {
        self.current.id.is_empty() || self.spare.iter().any(|held| held.path == path)
    }

    /// The path is over: its ids are given back, and their reset tokens with them. Said twice, it does nothing.
    // spec: PTH-18
    pub(crate) fn end_path(&mut self, path: PathId) {
        if self.current.id.is_empty() {
            return;
        }
        let Self { further, spare, retire, .. } = self;
        let mut keep = |held: &Held| {
            let is_other = held.path != path;
            if !is_other {
                retire.push_back(held.sequence);
            }
            is_other
        };
        further.retain(&mut keep);
        spare.retain(&mut keep);
        self.forget_seen();
        if path == PathId::FIRST && !core::mem::replace(&mut self.is_first_over, true) {
            self.current.reset_token = None;
            self.retire.push_back(self.current.sequence);
        }
    }

    /// The peer chose its own id in its first answer.
    pub(crate) fn set_handshake_id(&mut self, id: ConnectionId) {
        self.current.id = id;
    }

    /// The reset token that came in the handshake.
    pub(crate) fn set_reset_token(&mut self, token: [u8; 16]) {
        if self.current.sequence == 0 {
            self.current.reset_token = Some(token);
        }
    }

    /// An id of the first path came in the handshake, the one behind the server's own.
    pub(crate) fn set_preferred(&mut self, id: ConnectionId, reset_token: [u8; 16]) {
        if self.taken.insert(1) {
            let reset_token = Some(reset_token);
            self.spare.push_front(Held { path: PathId::FIRST, sequence: 1, id, reset_token });
        }
    }

    /// What goes into the headers of packets of this path that go elsewhere than the path: an id that no packet to
    /// another address has borne, where there is one. Those of addresses that are not `kept` are given back for it.
    // spec: CON-72
    pub(crate) fn beside_path(
        &mut self,
        path: PathId,
        to: &Route,
        kept: impl Fn(&Route) -> bool,
    ) -> Option<ConnectionId> {
        let place = self.spare_seen_at(path, to).or_else(|| {
            self.end_trials(path, kept);
            let fresh = self.fresh(path)?;
            self.seen.push((self.spare.get(fresh)?.sequence, *to));
            Some(fresh)
        });
        match place.and_then(|place| self.spare.get(place)) {
            Some(held) => Some(held.id),
            None => self.on_path(path).copied(),
        }
    }

    /// Ids that were borne beside this path go back, but for those of addresses that are `kept`.
    // spec: CON-72
    pub(crate) fn end_trials(&mut self, path: PathId, kept: impl Fn(&Route) -> bool) {
        let Self { spare, seen, retire, .. } = self;
        spare.retain(|held| {
            let at = seen.iter().find(|(sequence, _)| *sequence == held.sequence);
            let keep = held.path != path || at.is_none_or(|(_, at)| kept(at));
            if !keep {
                retire.push_back(held.sequence);
            }
            keep
        });
        self.forget_seen();
    }

    /// The place of the spare id that packets of this path to an address have borne.
    fn spare_seen_at(&self, path: PathId, to: &Route) -> Option<usize> {
        let is_seen = |held: &Held| {
            let mut seen = self.seen.iter();
            held.path == path && seen.any(|(seq, at)| *seq == held.sequence && at.same_ends(to))
        };
        self.spare.iter().position(is_seen)
    }

    /// The place of a spare id of this path that nothing has borne.
    fn fresh(&self, path: PathId) -> Option<usize> {
        let is_seen = |held: &Held| self.seen.iter().any(|(seq, _)| *seq == held.sequence);
        self.spare.iter().position(|held| held.path == path && !is_seen(held))
    }

    /// Nothing is known of ids that are not spare.
    fn forget_seen(&mut self) {
        let Self { spare, seen, .. } = self;
        seen.retain(|(sequence, _)| spare.iter().any(|held| held.sequence == *sequence));
    }

    /// True when the last bytes of a datagram are those of the peer's stateless reset.
    // spec: CON-32
    pub(crate) fn is_reset(&self, tail: &[u8; limits::RESET_TOKEN_LEN]) -> bool {
        let held = core::iter::once(&self.current).chain(&self.further).chain(&self.spare);
        held.filter_map(|held| held.reset_token)
            .any(|token| jsp_crypto::reset_tokens_equal(&token, tail))
    }

    /// The peer gave us a further id for a path.
    // spec: CON-22, CON-23
    pub(crate) fn on_new(
        &mut self,
        path: PathId,
        frame: &NewConnectionId,
    ) -> Result<(), TransportError> {
        if self.current.id.is_empty() {
            let reason = "a peer without connection ids issued one";
            return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
        }
        if !self.taken.insert(frame.sequence) {
            return Ok(());
        }
        // Overtaken by the frame that asked to retire it: the peer waits to hear that it is.
        if frame.sequence < self.retire_prior_to {
            self.retire.push_back(frame.sequence);
            return self.check_limits();
        }
        let (sequence, reset_token) = (frame.sequence, Some(frame.reset_token));
        let held = Held { path, sequence, id: frame.id, reset_token };
        self.spare.push_back(held);
        if frame.retire_prior_to > self.retire_prior_to {
            self.retire_below(frame.retire_prior_to);
        }
        self.check_limits()
    }

    // spec: CON-22
    fn check_limits(&self) -> Result<(), TransportError> {
        let active = self.spare.len().saturating_add(self.further.len()).saturating_add(1) as u64;
        if active > limits::CONNECTION_IDS_ACTIVE_MAX || self.retire.len() > RETIREMENTS_MAX {
            let reason = "more connection ids than allowed";
            return Err(TransportError::new(CloseCode::CONNECTION_ID_LIMIT, reason));
        }
        Ok(())
    }

    fn retire_below(&mut self, floor: u64) {
        self.retire_prior_to = floor;
        let retire = &mut self.retire;
        self.spare.retain(|held| {
            let keep = held.sequence >= floor;
            if !keep {
                retire.push_back(held.sequence);
            }
            keep
        });
        let further = self.further.iter().filter(|held| held.sequence < floor);
        let mut old: Vec<_> = further.map(|held| held.path).collect();
        if self.current.sequence < floor && !self.is_first_over {
            old.push(PathId::FIRST);
        }
        for path in old {
            // One that was seen elsewhere is better than one that is no more.
            let any = || self.spare.iter().position(|held| held.path == path);
            let place = self.fresh(path).or_else(any);
            self.take(path, place);
        }
        self.forget_seen();
    }

    /// Takes the id that its trial bore for a path that leads to another address now, or else one that nothing has
    /// borne; keeps the present one when there is neither.
    // spec: CON-72
    pub(crate) fn move_to(&mut self, path: PathId, to: &Route) {
        let place = self.spare_seen_at(path, to).or_else(|| self.fresh(path));
        self.take(path, place);
    }

    /// Takes an id that nothing has borne for what leaves by this path from here on; keeps the present one when there
    /// is none.
    pub(crate) fn refresh(&mut self, path: PathId) {
        self.take(path, self.fresh(path));
    }

    /// The spare id at this place takes the place of the path's own.
    fn take(&mut self, path: PathId, place: Option<usize>) {
        let Some(next) = place.and_then(|place| self.spare.remove(place)) else { return };
        self.forget_seen();
        let mut further = self.further.iter_mut();
        let held = match further.find(|held| held.path == path) {
            Some(held) => held,
            None if path == PathId::FIRST && !self.is_first_over => &mut self.current,
            None => return,
        };
        self.retire.push_back(held.sequence);
        *held = next;
    }

    pub(crate) fn wants(&self) -> bool {
        !self.retire.is_empty()
    }

    pub(crate) fn write(&mut self, packet: &mut PacketBuilder<'_>) {
        while let Some(sequence) = self.retire.front().copied() {
            if Frame::RetireConnectionId(sequence).write(packet.writer()).is_err() {
                return;
            }
            self.retire.pop_front();
            packet.push(Token::RetireConnectionId { sequence });
        }
    }

    pub(crate) fn on_fate(&mut self, sequence: u64, fate: Fate) {
        if fate == Fate::Lost && !self.retire.contains(&sequence) {
            self.retire.push_back(sequence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> ConnectionId {
        ConnectionId::new(&[n; 4]).unwrap()
    }

    fn new_id(sequence: u64, retire_prior_to: u64) -> NewConnectionId {
        let id = id(sequence as u8 + 100);
        NewConnectionId { sequence, retire_prior_to, id, reset_token: [sequence as u8; 16] }
    }

    /// Issues what the peer needs for the first path; answers how many ids that were.
    fn fill(ids: &mut LocalIds, peer_max: u64) -> usize {
        let mut count = 0;
        while let Some(path) = ids.missing(peer_max, [PathId::FIRST].into_iter()) {
            count += 1;
            ids.issue(path, id(count as u8 + 1), [0; 16]);
        }
        count
    }

    /// The sequences that would be told as retired now.
    fn retired(ids: &mut RemoteIds) -> Vec<u64> {
        let (mut buf, mut tokens) = ([0; 200], Vec::new());
        let mut packet = PacketBuilder::new(&mut buf, &mut tokens, false);
        ids.write(&mut packet);
        let sequence = |token: &Token| match token {
            Token::RetireConnectionId { sequence } => *sequence,
            other => panic!("{other:?}"),
        };
        tokens.iter().map(sequence).collect()
    }

    #[test]
    // spec-test: CON-20
    fn the_peer_holds_no_more_ids_than_it_wants() {
        for (wanted, expected) in [(2, 1), (3, 2), (4, 3), (1 << 40, 3)] {
            let mut ids = LocalIds::new(id(1));
            assert_eq!(fill(&mut ids, wanted), expected);
            ids.on_retire(0).unwrap();
            assert_eq!(
                ids.take_changes(Instant::ZERO).collect::<Vec<_>>(),
                [IdChange::Removed(id(1))]
            );
            // All may be retired: new ones replace them, and the first keeps its meaning.
            (1..=expected as u64).for_each(|sequence| ids.on_retire(sequence).unwrap());
            assert_eq!(fill(&mut ids, wanted), expected + 1);
            assert_eq!(ids.first(), id(1));
        }
        assert_eq!(fill(&mut LocalIds::new(ConnectionId::EMPTY), 4), 0);
    }

    #[test]
    // spec-test: CON-21
    fn only_what_was_issued_can_be_retired() {
        let mut ids = LocalIds::new(id(1));
        let error = ids.on_retire(1).unwrap_err();
        assert_eq!(error.code, CloseCode::PROTOCOL_VIOLATION);
        ids.on_retire(0).unwrap();
        // Said twice, it says nothing new.
        ids.on_retire(0).unwrap();
        assert_eq!(ids.take_changes(Instant::ZERO).count(), 1);
        let error = LocalIds::new(ConnectionId::EMPTY).on_retire(0).unwrap_err();
        assert_eq!(error.code, CloseCode::PROTOCOL_VIOLATION);
    }

    #[test]
    // spec-test: CON-22
    fn too_many_ids_and_too_many_retirements_are_faults() {
        let mut ids = RemoteIds::new(id(0));
        (1..8).for_each(|n| ids.on_new(PathId::FIRST, &new_id(n, 0)).unwrap());
        let error = ids.on_new(PathId::FIRST, &new_id(8, 0)).unwrap_err();
        assert_eq!(error.code, CloseCode::CONNECTION_ID_LIMIT);

        let mut ids = RemoteIds::new(id(0));
        (1..=16).for_each(|n| ids.on_new(PathId::FIRST, &new_id(n, n)).unwrap());
        let error = ids.on_new(PathId::FIRST, &new_id(17, 17)).unwrap_err();
        assert_eq!(error.code, CloseCode::CONNECTION_ID_LIMIT);

        let mut none = RemoteIds::new(ConnectionId::EMPTY);
        let error = none.on_new(PathId::FIRST, &new_id(1, 0)).unwrap_err();
        assert_eq!(error.code, CloseCode::PROTOCOL_VIOLATION);
    }

    #[test]
    // spec-test: CON-23
    fn an_id_is_taken_once() {
        let mut ids = RemoteIds::new(id(0));
        ids.on_new(PathId::FIRST, &new_id(1, 0)).unwrap();
        ids.refresh(PathId::FIRST);
        assert_eq!(*ids.current(), id(101));
        assert_eq!(retired(&mut ids), [0]);
        ids.on_new(PathId::FIRST, &new_id(2, 0)).unwrap();
        ids.refresh(PathId::FIRST);
        assert_eq!(retired(&mut ids), [1]);
        // Both come again, late: they are gone.
        ids.on_new(PathId::FIRST, &new_id(1, 0)).unwrap();
        ids.on_new(PathId::FIRST, &new_id(2, 0)).unwrap();
        ids.refresh(PathId::FIRST);
        assert_eq!(*ids.current(), id(102));
        assert!(!ids.wants());
        // One that was overtaken by the request to retire it is retired at once.
        ids.on_new(PathId::FIRST, &new_id(5, 5)).unwrap();
        assert_eq!(retired(&mut ids), [2]);
        ids.on_new(PathId::FIRST, &new_id(4, 0)).unwrap();
        assert_eq!(retired(&mut ids), [4]);
        ids.on_new(PathId::FIRST, &new_id(4, 0)).unwrap();
        assert!(!ids.wants());
        assert_eq!(*ids.current(), id(105));
    }

    #[test]
    // spec-test: CON-72
    fn an_id_is_seen_at_one_address() {
        let at = |n: u8| Route::udp(([192, 0, 2, n], 1).into());
        let mut ids = RemoteIds::new(id(0));
        (1..=3).for_each(|n| ids.on_new(PathId::FIRST, &new_id(n, 0)).unwrap());
        let beside = |ids: &mut RemoteIds, to, kept: Option<u8>| {
            let kept = kept.map(at);
            ids.beside_path(PathId::FIRST, &at(to), |route| Some(*route) == kept).unwrap()
        };
        // The same address sees the same id.
        assert_eq!(beside(&mut ids, 1, None), id(101));
        assert_eq!(beside(&mut ids, 1, None), id(101));
        // Those of addresses that are of no interest any more are given back.
        assert_eq!(beside(&mut ids, 2, Some(1)), id(102));
        assert_eq!(retired(&mut ids), []);
        assert_eq!(beside(&mut ids, 3, Some(2)), id(103));
        assert_eq!(retired(&mut ids), [1]);
        // Where the peer gives no further ones, the path's own has to do.
        assert_eq!(beside(&mut ids, 4, Some(2)), id(0));
        assert_eq!(retired(&mut ids), [3]);
        ids.on_new(PathId::FIRST, &new_id(4, 0)).unwrap();
        ids.move_to(PathId::FIRST, &at(2));
        assert_eq!(*ids.current(), id(102));
        assert_eq!(beside(&mut ids, 1, None), id(104));
        ids.refresh(PathId::FIRST);
        ids.move_to(PathId::FIRST, &at(5));
        assert_eq!(*ids.current(), id(102), "what another address has seen is not used");
        ids.end_trials(PathId::FIRST, |_| false);
        assert_eq!(retired(&mut ids), [0, 4]);
        assert!(ids.seen.is_empty());
        // The peer wants its ids back: one that was seen elsewhere has to do.
        ids.on_new(PathId::FIRST, &new_id(5, 0)).unwrap();
        assert_eq!(beside(&mut ids, 1, None), id(105));
        ids.on_new(PathId(1), &new_id(6, 3)).unwrap();
        assert_eq!(*ids.current(), id(105));
        assert!(ids.seen.is_empty());
    }

    #[test]
    // spec-test: PTH-18
    fn a_path_ends_once() {
        let mut ids = RemoteIds::new(id(0));
        ids.set_reset_token([9; 16]);
        ids.on_new(PathId::FIRST, &new_id(1, 0)).unwrap();
        ids.on_new(PathId(1), &new_id(2, 0)).unwrap();
        assert!(ids.begin_path(PathId(1)) && ids.is_reset(&[9; 16]) && ids.is_reset(&[1; 16]));
        ids.end_path(PathId::FIRST);
        assert!(!ids.is_reset(&[9; 16]) && !ids.is_reset(&[1; 16]) && ids.is_reset(&[2; 16]));
        (0..100).for_each(|_| ids.end_path(PathId::FIRST));
        // Frames that come again, or late.
        ids.on_new(PathId::FIRST, &new_id(1, 0)).unwrap();
        ids.on_new(PathId::FIRST, &new_id(3, 0)).unwrap();
        ids.end_path(PathId::FIRST);
        assert_eq!(retired(&mut ids), [1, 0, 3]);
        // Doubted by a probe, and then lost.
        (0..2).for_each(|_| ids.on_fate(1, Fate::Lost));
        assert_eq!(retired(&mut ids), [1]);
        ids.refresh(PathId::FIRST);
        ids.on_new(PathId(1), &new_id(4, 4)).unwrap();
        assert_eq!(retired(&mut ids), [2]);
        assert_eq!(ids.on_path(PathId(1)), Some(&id(104)));
        assert_eq!(ids.on_path(PathId(2)), None);
    }

    #[test]
    // spec-test: PTH-18
    fn ids_of_ended_paths_are_known_for_a_time_and_few() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let mut ids = LocalIds::new(id(1));
        ids.issue(PathId(1), id(2), [0; 16]);
        ids.end_path(PathId::FIRST, at(100));
        assert_eq!(ids.path_of(id(1).as_bytes()), None);
        assert_eq!(ids.take_changes(at(99)).count(), 0);
        assert_eq!(ids.all().collect::<Vec<_>>(), [id(2), id(1)]);
        assert_eq!(ids.take_changes(at(100)).collect::<Vec<_>>(), [IdChange::Removed(id(1))]);
        for n in 0..20 {
            ids.issue(PathId(n + 2), id(n as u8 + 3), [0; 16]);
            ids.end_path(PathId(n + 2), at(1000));
            assert!(ids.all().count() <= 1 + ENDED_MAX);
        }
        let gone: Vec<_> = ids.take_changes(at(200)).collect();
        assert_eq!(
            gone,
            [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14].map(|n| IdChange::Removed(id(n)))
        );
    }

    #[test]
    fn lost_frames_are_written_again() {
        let mut ids = RemoteIds::new(id(0));
        ids.on_new(PathId::FIRST, &new_id(1, 1)).unwrap();
        assert_eq!(retired(&mut ids), [0]);
        ids.on_fate(0, Fate::Lost);
        assert_eq!(retired(&mut ids), [0]);
        ids.on_fate(0, Fate::Acked);
        assert!(!ids.wants());

        let mut ids = LocalIds::new(id(1));
        ids.issue(PathId::FIRST, id(2), [0; 16]);
        let (mut buf, mut tokens) = ([0; 200], Vec::new());
        ids.write(&mut PacketBuilder::new(&mut buf, &mut tokens, false));
        assert!(!ids.wants());
        ids.on_fate(1, Fate::Lost);
        assert!(ids.wants());
        ids.on_retire(1).unwrap();
        assert!(!ids.wants());
    }
}
