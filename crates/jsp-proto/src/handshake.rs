//! Carries handshake messages in packets: splits ours, joins the peer's.

use std::collections::VecDeque;

use jsp_crypto::{Level, hello_id};
use jsp_wire::frame::HandshakeFragment;
use jsp_wire::{CloseCode, Frame, limits};

use crate::bounded::Bounded;
use crate::error::TransportError;
use crate::keys::SpaceId;
use crate::packet::PacketBuilder;
use crate::pieces::Pieces;
use crate::token::{Fate, Token};

/// Messages of the peer that may be under way at once: one, or competing server hellos, and what
/// somebody on the way makes up to be in their place.
const INCOMING_MAX: usize = 8;

/// Bytes of them all.
const INCOMING_BYTES_MAX: usize = 16384;

/// One whole message, joined from its fragments.
pub(crate) struct Joined {
    pub(crate) message: Vec<u8>,
}

/// Handshake messages of one packet number space, in both directions.
#[derive(Default)]
pub(crate) struct Flight {
    outgoing: Option<Outgoing>,
    joiner: Joiner,
}

struct Outgoing {
    id: [u8; 8],
    message: Vec<u8>,
    /// Ranges still to be sent, ascending.
    pending: VecDeque<(u16, u16)>,
    /// It has gone along with data that cannot be read without it.
    with_data: bool,
}

/// A message of ours, and what of it is to leave still.
pub(crate) struct UnheardFlight {
    id: [u8; 8],
    message: Box<[u8]>,
    pending: Box<[(u16, u16)]>,
    with_data: bool,
}

impl UnheardFlight {
    /// The flight as it was.
    pub(crate) fn into_flight(self) -> Flight {
        let Self { id, message, pending, with_data } = self;
        let (message, pending) = (message.into_vec(), pending.into_vec().into());
        let outgoing = Outgoing { id, message, pending, with_data };
        Flight { outgoing: Some(outgoing), joiner: Joiner::default() }
    }
}

impl Flight {
    /// Sends `message`; a space carries one message in each direction.
    pub(crate) fn send(&mut self, message: Vec<u8>) {
        let end = message.len().min(limits::HANDSHAKE_MESSAGE_LEN_MAX) as u16;
        let pending = VecDeque::from([(0, end)]);
        let id = hello_id(&message);
        self.outgoing = Some(Outgoing { id, message, pending, with_data: false });
    }

    /// True when there is a message of ours, and nothing of the peer's has come.
    pub(crate) fn is_unheard(&self) -> bool {
        let is_deaf = self.joiner.incoming.is_empty() && self.joiner.done.is_empty();
        is_deaf && self.outgoing.is_some()
    }

    /// The message, without room for the peer's: see [`Flight::is_unheard`].
    pub(crate) fn into_unheard(self) -> Option<UnheardFlight> {
        let Outgoing { id, message, pending, with_data } = self.outgoing?;
        let (message, pending) = (message.into_boxed_slice(), Vec::from(pending).into());
        Some(UnheardFlight { id, message, pending, with_data })
    }

    /// Sends the message again from its start, as after a Retry.
    pub(crate) fn restart(&mut self) {
        if let Some(outgoing) = &mut self.outgoing {
            let end = outgoing.message.len() as u16;
            outgoing.pending = VecDeque::from([(0, end)]);
        }
    }

    /// Data leave that the peer cannot read without the message: it goes along with the first of
    /// them, once more if it has left before.
    pub(crate) fn join_data(&mut self) {
        if let Some(outgoing) = &mut self.outgoing
            && !core::mem::replace(&mut outgoing.with_data, true)
            && outgoing.pending.is_empty()
        {
            self.restart();
        }
    }

    pub(crate) fn wants(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| !outgoing.pending.is_empty())
    }

    /// Writes as much of the message as fits.
    pub(crate) fn write(&mut self, packet: &mut PacketBuilder<'_>) {
        self.write_as(packet, HandshakeFragment::HEAD_LEN, |fragment, packet| {
            Frame::Handshake(fragment).write(packet.writer()).ok()?;
            packet.push(Token::Handshake {
                offset: fragment.offset,
                len: fragment.data.len() as u16,
            });
            Some(())
        });
    }

    /// The same in frames of an in-band exchange.
    pub(crate) fn write_exchange(&mut self, packet: &mut PacketBuilder<'_>, round: u32) {
        self.write_as(packet, HandshakeFragment::EXCHANGE_HEAD_LEN, |fragment, packet| {
            fragment.write_exchange(packet.writer()).ok()?;
            let (offset, len) = (fragment.offset, fragment.data.len() as u16);
            packet.push(Token::Exchange { round, offset, len });
            Some(())
        });
    }

    fn write_as(
        &mut self,
        packet: &mut PacketBuilder<'_>,
        head_len: usize,
        write: impl Fn(HandshakeFragment<'_>, &mut PacketBuilder<'_>) -> Option<()>,
    ) {
        let Some(outgoing) = &mut self.outgoing else { return };
        while let Some((offset, end)) = outgoing.pending.pop_front() {
            let room = packet.remaining().saturating_sub(head_len);
            let len = room.min(usize::from(end.saturating_sub(offset)));
            let start = usize::from(offset);
            let Some(data) = outgoing.message.get(start..start.saturating_add(len)) else { return };
            let fragment = HandshakeFragment {
                id: outgoing.id,
                offset,
                total: outgoing.message.len() as u16,
                data,
            };
            if len == 0 || write(fragment, packet).is_none() {
                outgoing.pending.push_front((offset, end));
                return;
            }
            let sent_to = offset.saturating_add(len as u16);
            if sent_to < end {
                outgoing.pending.push_front((sent_to, end));
            }
        }
    }

    pub(crate) fn on_fate(&mut self, offset: u16, len: u16, fate: Fate) {
        if let (Some(outgoing), Fate::Lost) = (&mut self.outgoing, fate) {
            let range = (offset, offset.saturating_add(len));
            if !outgoing.pending.contains(&range) {
                outgoing.pending.push_back(range);
            }
        }
    }

    /// Takes a fragment of the peer's message; answers the message when it is whole.
    pub(crate) fn on_fragment(
        &mut self,
        fragment: &HandshakeFragment<'_>,
    ) -> Result<Option<Joined>, TransportError> {
        self.joiner.on_fragment(fragment)
    }
}

/// Joins the fragments of the peer's messages, a bounded number at a time.
#[derive(Default)]
struct Joiner {
    /// Incomplete messages; the one that keeps its place least gives way, the older of two.
    incoming: Bounded<Incoming, INCOMING_MAX>,
    /// Ids of messages that are complete: their late fragments are nothing new.
    done: Bounded<[u8; 8], INCOMING_MAX>,
}

impl Joiner {
    /// Takes a fragment; answers the message when it is whole. Fragments that contradict each other
    /// belong to several messages that bear one name, of which one is true: they are joined apart.
    // spec: CON-3, CON-4, CON-182
    fn on_fragment(
        &mut self,
        fragment: &HandshakeFragment<'_>,
    ) -> Result<Option<Joined>, TransportError> {
        if self.done.contains(&fragment.id) {
            return Ok(None);
        }
        let (mut is_taken, mut error) = (false, None);
        for place in 0..self.incoming.len() {
            let incoming = self.incoming.iter_mut().nth(place);
            let Some(incoming) = incoming.filter(|incoming| incoming.id == fragment.id) else {
                continue;
            };
            match incoming.add(fragment) {
                Joining::Whole => return Ok(self.finish(place)),
                Joining::Partly => is_taken = true,
                Joining::Not(reason) => error = Some(reason),
            }
        }
        if !is_taken {
            let mut alone = Incoming::new(fragment.id, fragment.total);
            match alone.add(fragment) {
                Joining::Whole => return Ok(Some(self.note_whole(alone))),
                Joining::Partly => self.keep(alone),
                Joining::Not(reason) => error = Some(reason),
            }
        }
        error.map_or(Ok(None), |reason| {
            Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason))
        })
    }

    /// Takes the message out that is whole.
    fn finish(&mut self, place: usize) -> Option<Joined> {
        let whole = self.incoming.remove(place)?;
        Some(self.note_whole(whole))
    }

    /// The message is whole: others of its name are forgotten.
    fn note_whole(&mut self, whole: Incoming) -> Joined {
        let Incoming { id, bytes, .. } = whole;
        self.incoming.retain(|other| other.id != id);
        self.done.push_evicting(id);
        Joined { message: bytes }
    }

    /// Keeps a message that has begun. Each that it could take the place of is worth as many bytes as there are of
    /// it, less those that were refused for its sake: who makes some up must send as many bytes as those have that he
    /// would be rid of, and nothing that he has sent keeps others out for long.
    // spec: CON-4
    fn keep(&mut self, message: Incoming) {
        let (len, there) = (message.bytes.len(), message.have.bytes());
        let held = |joiner: &Self| joiner.incoming.iter().map(|i| i.bytes.len()).sum::<usize>();
        while self.incoming.is_full() || held(self).saturating_add(len) > INCOMING_BYTES_MAX {
            let places = self.incoming.iter_mut().enumerate();
            let Some((place, least)) = places.min_by_key(|(_, other)| other.worth()) else { break };
            if least.worth() > there {
                least.spared = least.spared.saturating_add(there);
                return;
            }
            self.incoming.remove(place);
        }
        self.incoming.push_if_room(message);
    }
}

/// What became of a fragment.
enum Joining {
    /// The message is whole, and bears its name.
    Whole,
    Partly,
    /// It does not belong to the message, for this reason.
    Not(&'static str),
}

/// A message of the peer that is not complete yet.
struct Incoming {
    id: [u8; 8],
    bytes: Vec<u8>,
    have: Pieces,
    /// Bytes of others that were refused for its sake.
    spared: usize,
}

impl Incoming {
    /// What another must have to take its place.
    fn worth(&self) -> usize {
        self.have.bytes().saturating_sub(self.spared)
    }

    /// An empty message of `total` bytes, at most 12288 by the wire format.
    fn new(id: [u8; 8], total: u16) -> Self {
        let bytes = vec![0; usize::from(total)];
        Self { id, bytes, have: Pieces::default(), spared: 0 }
    }

    /// Takes a fragment that contradicts nothing that is there; one that would make the message whole, but
    /// not the one of this name, is let go of.
    fn add(&mut self, fragment: &HandshakeFragment<'_>) -> Joining {
        let before = self.have;
        let is_same = usize::from(fragment.total) == self.bytes.len();
        if !is_same || !self.have.put(&mut self.bytes, fragment.offset, fragment.data) {
            return Joining::Not("a handshake fragment contradicts its message");
        }
        if !self.is_whole() {
            return Joining::Partly;
        }
        if hello_id(&self.bytes) == self.id {
            return Joining::Whole;
        }
        self.have = before;
        Joining::Not("a handshake message does not match its name")
    }

    fn is_whole(&self) -> bool {
        self.have.is_whole(self.bytes.len() as u16)
    }
}

/// The space whose packets carry messages of this level.
pub(crate) const fn space_of(level: Level) -> SpaceId {
    match level {
        Level::Initial => SpaceId::Initial,
        Level::Handshake => SpaceId::Handshake,
        Level::Data => SpaceId::Data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // spec-test: CON-4
    #[test]
    fn incomplete_messages_are_few_and_small() {
        let mut joiner = Joiner::default();
        let longest = limits::HANDSHAKE_MESSAGE_LEN_MAX as u16;
        for (n, total) in
            (0u64..).zip([4096, longest, 1, 5000, longest, 4096, 2, 3, 4, 5, 6, 7, 8, 9])
        {
            let fragment =
                HandshakeFragment { id: n.to_be_bytes(), offset: total - 1, total, data: &[1] };
            // What is whole with one byte does not bear its name.
            assert!(joiner.on_fragment(&fragment).is_ok() != (total == 1));
            assert!(joiner.incoming.iter().map(|i| i.bytes.len()).sum::<usize>() <= 16384);
            assert!(joiner.incoming.len() <= INCOMING_MAX);
        }
        assert_eq!(joiner.incoming.len(), INCOMING_MAX);
    }

    fn piece<'a>(id: [u8; 8], message: &'a [u8], from: usize, to: usize) -> HandshakeFragment<'a> {
        let (offset, total) = (from as u16, message.len() as u16);
        HandshakeFragment { id, offset, total, data: &message[from..to] }
    }

    // spec-test: CON-4
    #[test]
    fn crumbs_do_not_drive_out_the_first_half_of_a_message() {
        let truth: Vec<u8> = (0..200u8).cycle().take(1162).collect();
        let id = hello_id(&truth);
        let mut joiner = Joiner::default();
        assert!(joiner.on_fragment(&piece(id, &truth, 0, 1000)).unwrap().is_none());
        let lie = vec![0xaa; 12288];
        for n in 0..40u64 {
            for len in [2, 12288] {
                let name = (n << 32 | len as u64).to_be_bytes();
                let crumb = piece(name, &lie[..len], 0, 1);
                assert!(joiner.on_fragment(&crumb).is_ok());
            }
        }
        assert!(joiner.on_fragment(&piece(id, &truth, 1000, 1162)).unwrap().is_some());
    }

    // spec-test: CON-4, CON-182
    #[test]
    fn what_was_made_up_in_one_go_keeps_the_truth_out_for_a_round_at_most() {
        let truth: Vec<u8> = (0..200u8).cycle().take(1162).collect();
        let id = hello_id(&truth);
        let mut joiner = Joiner::default();
        let lie = vec![0xaa; 1162];
        for n in 0..8u64 {
            assert!(joiner.on_fragment(&piece(n.to_be_bytes(), &lie, 0, 1161)).is_ok());
        }
        let mut sent_again = (0..2).flat_map(|_| [(0, 1140), (1140, 1162)]);
        let whole = sent_again
            .find_map(|(from, to)| joiner.on_fragment(&piece(id, &truth, from, to)).unwrap());
        assert_eq!(whole.unwrap().message, truth);
    }

    // Every order of two true pieces and two or three false ones under the same name: the message is joined as
    // soon as both true pieces are there, or one of them comes again.
    // spec-test: CON-3, CON-182
    #[test]
    fn false_pieces_under_a_true_name_do_not_spoil_the_message() {
        let truth: Vec<u8> = (0..100u8).collect();
        let lie = vec![0xaa; 100];
        let long = vec![0xbb; 300];
        let id = hello_id(&truth);
        let cut = |message, from, to| piece(id, message, from, to);
        let pieces = [
            cut(&truth, 0, 60),
            cut(&truth, 60, 100),
            cut(&lie, 0, 60),
            cut(&lie, 60, 100),
            cut(&lie, 30, 80),
            cut(&long, 0, 200),
        ];
        for order in 0..6usize.pow(4) {
            let mut joiner = Joiner::default();
            let order = (0..4).map(|digit| order / 6usize.pow(digit) % 6);
            // The peer sends its pieces again.
            let joined = order.chain([0, 1]).find_map(|at| joiner.on_fragment(&pieces[at]).ok()?);
            assert!(joined.is_some_and(|joined| joined.message == truth));
            // A late lie is nothing new.
            assert!(matches!(joiner.on_fragment(&pieces[2]), Ok(None)));
            assert!(joiner.incoming.is_empty());
        }
    }
}
