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

/// Messages of the peer that may be under way at once: one, or competing server hellos.
const INCOMING_MAX: usize = 4;

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
    /// Incomplete messages; the oldest gives way.
    incoming: Bounded<Incoming, INCOMING_MAX>,
    /// Ids of messages that are complete: their late fragments are nothing new.
    done: Bounded<[u8; 8], INCOMING_MAX>,
}

impl Joiner {
    /// Takes a fragment; answers the message when it is whole.
    // spec: CON-3, CON-4
    fn on_fragment(
        &mut self,
        fragment: &HandshakeFragment<'_>,
    ) -> Result<Option<Joined>, TransportError> {
        if self.done.contains(&fragment.id) {
            return Ok(None);
        }
        let place = self.incoming.iter().position(|incoming| incoming.id == fragment.id);
        let place = match place {
            Some(place) => place,
            None => {
                self.make_room(usize::from(fragment.total));
                self.incoming.push_evicting(Incoming::new(fragment.id, fragment.total));
                self.incoming.len().saturating_sub(1)
            }
        };
        let Some(incoming) = self.incoming.iter_mut().nth(place) else { return Ok(None) };
        incoming.add(fragment)?;
        if !incoming.is_whole() {
            return Ok(None);
        }
        let Some(whole) = self.incoming.remove(place) else { return Ok(None) };
        if hello_id(&whole.bytes) != whole.id {
            let reason = "a handshake message does not match its name";
            return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
        }
        self.done.push_evicting(whole.id);
        Ok(Some(Joined { message: whole.bytes }))
    }

    /// The oldest messages give way to one of this length.
    fn make_room(&mut self, len: usize) {
        let held = |joiner: &Self| joiner.incoming.iter().map(|i| i.bytes.len()).sum::<usize>();
        while held(self).saturating_add(len) > INCOMING_BYTES_MAX
            && self.incoming.pop_front().is_some()
        {}
    }
}

/// A message of the peer that is not complete yet.
struct Incoming {
    id: [u8; 8],
    bytes: Vec<u8>,
    have: Pieces,
}

impl Incoming {
    /// An empty message of `total` bytes, at most 12288 by the wire format.
    fn new(id: [u8; 8], total: u16) -> Self {
        Self { id, bytes: vec![0; usize::from(total)], have: Pieces::default() }
    }

    fn add(&mut self, fragment: &HandshakeFragment<'_>) -> Result<(), TransportError> {
        let start = usize::from(fragment.offset);
        let end = start.saturating_add(fragment.data.len());
        let same = usize::from(fragment.total) == self.bytes.len();
        let slot = self.bytes.get_mut(start..end).filter(|_| same);
        let fits = slot.is_some() && self.have.add(fragment.offset, end as u16);
        match slot {
            Some(slot) if fits => {
                slot.copy_from_slice(fragment.data);
                Ok(())
            }
            _ => {
                let reason = "a handshake fragment contradicts its message";
                Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason))
            }
        }
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
        for (n, total) in (0u64..).zip([4096, longest, 1, 5000, longest, 4096, 2, 3, 4]) {
            let fragment =
                HandshakeFragment { id: n.to_be_bytes(), offset: total - 1, total, data: &[1] };
            // What is whole with one byte does not bear its name.
            assert!(joiner.on_fragment(&fragment).is_ok() != (total == 1));
            assert!(joiner.incoming.iter().map(|i| i.bytes.len()).sum::<usize>() <= 16384);
            assert!(joiner.incoming.len() <= INCOMING_MAX);
        }
        assert_eq!(joiner.incoming.len(), INCOMING_MAX);
    }
}
