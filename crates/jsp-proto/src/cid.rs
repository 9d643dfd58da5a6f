//! Connection ids: those we gave the peer, and those the peer gave us.

use std::collections::VecDeque;

use jsp_wire::frame::NewConnectionId;
use jsp_wire::{CloseCode, ConnectionId, Frame, PathId, limits};

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
    next_sequence: u64,
    changes: Vec<IdChange>,
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
        Self { first: handshake_id, issued, next_sequence: 1, changes: Vec::new() }
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

    /// The path is over: its ids lead nowhere.
    pub(crate) fn end_path(&mut self, path: PathId) {
        let changes = &mut self.changes;
        self.issued.retain(|issued| {
            let keep = issued.path != path;
            if !keep {
                changes.push(IdChange::Removed(issued.id));
            }
            keep
        });
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
    pub(crate) fn take_changes(&mut self) -> impl Iterator<Item = IdChange> + '_ {
        self.changes.drain(..)
    }

    /// All ids that the peer may still use.
    pub(crate) fn all(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.issued.iter().map(|issued| issued.id)
    }
}

/// Ids by which we reach the peer.
pub(crate) struct RemoteIds {
    /// That of the first path.
    current: Held,
    /// Those of further paths.
    further: Vec<Held>,
    spare: VecDeque<Held>,
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
        Self { current, further: Vec::new(), spare, retire, retire_prior_to: 0, taken }
    }

    /// What goes into the headers of our packets on the first path.
    pub(crate) fn current(&self) -> &ConnectionId {
        &self.current.id
    }

    /// What goes into the headers of our packets on this path.
    pub(crate) fn on_path(&self, path: PathId) -> &ConnectionId {
        let mut further = self.further.iter();
        let held = further.find(|held| held.path == path).unwrap_or(&self.current);
        &held.id
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

    /// True when a path could begin: the peer gave an id for it, or uses none.
    pub(crate) fn may_begin(&self, path: PathId) -> bool {
        self.current.id.is_empty() || self.spare.iter().any(|held| held.path == path)
    }

    /// The path is over: its ids are given back.
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
        if path == PathId::FIRST {
            retire.push_back(self.current.sequence);
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
        if self.current.sequence < floor {
            old.push(PathId::FIRST);
        }
        old.into_iter().for_each(|path| self.advance(path));
    }

    /// Takes a fresh id, so that packets on a new path cannot be linked to those on the old one;
    /// keeps the present one when the peer gave no other.
    pub(crate) fn advance(&mut self, path: PathId) {
        let place = self.spare.iter().position(|held| held.path == path);
        let Some(next) = place.and_then(|place| self.spare.remove(place)) else { return };
        let mut further = self.further.iter_mut();
        let held = further.find(|held| held.path == path).unwrap_or(&mut self.current);
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
        if fate == Fate::Lost {
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
            assert_eq!(ids.take_changes().collect::<Vec<_>>(), [IdChange::Removed(id(1))]);
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
        assert_eq!(ids.take_changes().count(), 1);
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
        ids.advance(PathId::FIRST);
        assert_eq!(*ids.current(), id(101));
        assert_eq!(retired(&mut ids), [0]);
        ids.on_new(PathId::FIRST, &new_id(2, 0)).unwrap();
        ids.advance(PathId::FIRST);
        assert_eq!(retired(&mut ids), [1]);
        // Both come again, late: they are gone.
        ids.on_new(PathId::FIRST, &new_id(1, 0)).unwrap();
        ids.on_new(PathId::FIRST, &new_id(2, 0)).unwrap();
        ids.advance(PathId::FIRST);
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
