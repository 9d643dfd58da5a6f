//! What goes on after the handshake so that keys stay fresh and the next connection is cheap: tickets,
//! and in-band exchanges.

use core::time::Duration;
use std::collections::VecDeque;

use jsp_crypto::{ClientTicket, Fresh, Renewal};
use jsp_wire::frame::HandshakeFragment;
use jsp_wire::{CloseCode, Frame, Instant};

use crate::error::TransportError;
use crate::handshake::Flight;
use crate::pack::packed;
use crate::packet::PacketBuilder;
use crate::token::{Fate, Token};

/// Tickets that a client keeps for its application to take; the newest count.
const TICKETS_KEPT: usize = 4;

/// When a server gives another ticket, with what the path was like meanwhile.
const NEXT_TICKETS: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(3600)];

/// How far an in-band exchange has come.
#[derive(Default)]
enum Stage {
    #[default]
    Idle,
    /// A client waits for the answer.
    Offered(Box<Renewal>),
    /// A client has the answer: the next phase of its keys has the secret in it.
    Ready(Box<Fresh>),
    /// A server has answered, and waits for the client's next phase.
    Answered(Box<Fresh>),
}

/// Tickets and exchanges of one connection.
#[derive(Default)]
pub(crate) struct Session {
    /// The ticket that is under way, and whether it must be sent.
    grant: Option<(Vec<u8>, bool)>,
    /// Tickets given so far.
    given: usize,
    /// When the next ticket is due.
    next_ticket: Option<Instant>,
    /// Tickets that have arrived.
    tickets: VecDeque<ClientTicket>,
    /// Of the exchange that is under way.
    flight: Option<Box<Flight>>,
    /// The names of the peer's last whole messages in exchanges, as numbers, the latest first: late pieces of them are
    /// nothing new. Packets of two generations of keys open, and each exchange steps to the next.
    heard: (u64, u64),
    stage: Stage,
    round: u32,
    /// Since when the present secret is in the keys.
    renewed_at: Instant,
    /// Bytes that it has protected, both ways.
    bytes: u64,
}
packed!(Session { given, next_ticket, heard, round, renewed_at, bytes; grant, tickets, flight, stage });

impl Session {
    /// True when nothing is under way.
    pub(crate) fn can_rest(&self) -> bool {
        self.grant.is_none() && matches!(self.stage, Stage::Idle) && self.flight.is_none()
    }

    /// Takes out what is not packed: tickets that nobody has taken.
    pub(crate) fn take_apart(&mut self) -> Box<[ClientTicket]> {
        Vec::from(core::mem::take(&mut self.tickets)).into_boxed_slice()
    }

    /// Puts it back.
    pub(crate) fn put_back(&mut self, tickets: Box<[ClientTicket]>) {
        self.tickets = Vec::from(tickets).into();
    }

    /// What is packed of it.
    #[cfg(test)]
    pub(crate) fn portrait(&self) -> impl core::fmt::Debug {
        (self.given, self.next_ticket, self.heard, self.round, self.renewed_at, self.bytes)
    }

    /// Bytes that the present secret has protected.
    pub(crate) fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
    }

    /// True while nothing has gone on.
    pub(crate) fn is_new(&self) -> bool {
        self.given == 0 && self.next_ticket.is_none() && matches!(self.stage, Stage::Idle)
    }

    /// Tickets may be given from here on.
    pub(crate) fn allow_tickets(&mut self, now: Instant) {
        self.next_ticket = Some(now);
    }

    /// True when a ticket is due and none is under way.
    pub(crate) fn ticket_is_due(&self, now: Instant) -> bool {
        self.grant.is_none() && self.next_ticket.is_some_and(|at| at <= now)
    }

    /// Gives the peer a ticket.
    pub(crate) fn give_ticket(&mut self, now: Instant, grant: Vec<u8>) {
        self.grant = Some((grant, true));
        let pause = NEXT_TICKETS.get(self.given).or(NEXT_TICKETS.last());
        self.next_ticket = pause.map(|pause| now + *pause);
        self.given = self.given.saturating_add(1);
    }

    /// No ticket can be made, now or later.
    pub(crate) fn forbid_tickets(&mut self) {
        self.next_ticket = None;
    }

    /// Keeps a ticket for the application.
    pub(crate) fn keep_ticket(&mut self, ticket: ClientTicket) {
        if self.tickets.len() >= TICKETS_KEPT {
            self.tickets.pop_front();
        }
        // Mostly there is one, and tickets are large.
        self.tickets.reserve_exact(1);
        self.tickets.push_back(ticket);
    }

    pub(crate) fn take_ticket(&mut self) -> Option<ClientTicket> {
        self.tickets.pop_front()
    }

    /// The handshake is complete: the first secret counts from here.
    pub(crate) fn on_complete(&mut self, now: Instant) {
        self.renewed_at = now;
    }

    /// Bytes of a packet were sealed or opened.
    pub(crate) fn on_bytes(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// True when a fresh secret is due: by time, or by bytes.
    // spec: HS-83
    pub(crate) fn is_stale(&self, now: Instant, after: Duration, bytes: u64) -> bool {
        matches!(self.stage, Stage::Idle)
            && (now.since(self.renewed_at) >= after || self.bytes >= bytes)
    }

    pub(crate) fn round(&self) -> u32 {
        self.round
    }

    /// A client begins an exchange.
    pub(crate) fn offer(&mut self, renewal: Renewal, message: Vec<u8>) {
        self.stage = Stage::Offered(Box::new(renewal));
        self.flight.get_or_insert_default().send(message);
    }

    /// The exchange that a client waits for an answer of.
    pub(crate) fn take_offered(&mut self) -> Option<Renewal> {
        match core::mem::take(&mut self.stage) {
            Stage::Offered(renewal) => Some(*renewal),
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// A client has the secret.
    pub(crate) fn ready(&mut self, fresh: Fresh) {
        self.stage = Stage::Ready(Box::new(fresh));
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_))
    }

    /// A server answers. One exchange at a time: the next one waits until this one is in the keys.
    // spec: HS-82
    pub(crate) fn may_answer(&self) -> Result<(), TransportError> {
        let reason = "an exchange was begun before the last one was done";
        match self.stage {
            Stage::Idle => Ok(()),
            _ => Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason)),
        }
    }

    pub(crate) fn answer(&mut self, fresh: Fresh, message: Vec<u8>) {
        self.stage = Stage::Answered(Box::new(fresh));
        self.flight.get_or_insert_default().send(message);
    }

    /// The keys have stepped to the phase with the secret in it.
    pub(crate) fn take_fresh(&mut self, now: Instant) -> Option<Fresh> {
        match core::mem::take(&mut self.stage) {
            Stage::Ready(fresh) | Stage::Answered(fresh) => {
                self.round = self.round.wrapping_add(1);
                self.renewed_at = now;
                self.bytes = 0;
                // Both sides have both messages: who steps shows that.
                self.flight = None;
                Some(*fresh)
            }
            other => {
                self.stage = other;
                None
            }
        }
    }

    /// A piece of the peer's message; the message when it is whole.
    pub(crate) fn on_fragment(
        &mut self,
        content: &[u8],
    ) -> Result<Option<Vec<u8>>, TransportError> {
        let fragment = HandshakeFragment::read_exchange(content)?;
        let name = u64::from_be_bytes(fragment.id);
        if name == self.heard.0 || name == self.heard.1 {
            return Ok(None);
        }
        let joined = self.flight.get_or_insert_default().on_fragment(&fragment)?;
        if joined.is_some() {
            self.heard = (name, self.heard.0);
        }
        Ok(joined.map(|joined| joined.message))
    }

    pub(crate) fn wants(&self) -> bool {
        self.grant.as_ref().is_some_and(|(_, pending)| *pending)
            || self.flight.as_ref().is_some_and(|flight| flight.wants())
    }

    pub(crate) fn write(&mut self, packet: &mut PacketBuilder<'_>) {
        if let Some(flight) = &mut self.flight {
            flight.write_exchange(packet, self.round);
        }
        if let Some((grant, pending)) = &mut self.grant
            && *pending
            && Frame::Ticket(grant).write(packet.writer()).is_ok()
        {
            *pending = false;
            packet.push(Token::Ticket);
        }
    }

    pub(crate) fn on_ticket_fate(&mut self, fate: Fate) {
        match (&mut self.grant, fate) {
            (Some((_, pending)), Fate::Lost) => *pending = true,
            _ => self.grant = None,
        }
    }

    pub(crate) fn on_exchange_fate(&mut self, round: u32, offset: u16, len: u16, fate: Fate) {
        if round == self.round
            && let Some(flight) = &mut self.flight
        {
            flight.on_fate(offset, len, fate);
        }
    }
}

#[cfg(test)]
mod tests {
    use jsp_crypto::hello_id;

    use super::*;

    /// The content of an EXCHANGE frame.
    fn piece(message: &[u8], from: usize, to: usize) -> Vec<u8> {
        let (offset, total) = ((from as u16).to_be_bytes(), (message.len() as u16).to_be_bytes());
        [&hello_id(message)[..], &offset, &total, &message[from..to]].concat()
    }

    #[test]
    fn late_pieces_of_an_exchange_that_is_over_are_nothing_new() {
        let mut session = Session::default();
        let (first, second) = (vec![1; 600], vec![2; 600]);
        for message in [&first, &second] {
            assert_eq!(session.on_fragment(&piece(message, 0, 300)).unwrap(), None);
            assert!(!session.can_rest(), "a message is on its way");
            let joined = session.on_fragment(&piece(message, 300, 600)).unwrap();
            assert_eq!(joined.as_ref(), Some(message));
            // The keys have stepped.
            session.flight = None;
            // The first message is late once more when the second has come.
            for late in [message, &first] {
                for (from, to) in [(0, 300), (300, 600), (0, 600)] {
                    assert_eq!(session.on_fragment(&piece(late, from, to)).unwrap(), None);
                }
            }
            assert!(session.can_rest(), "nothing of it is kept");
        }
    }
}
