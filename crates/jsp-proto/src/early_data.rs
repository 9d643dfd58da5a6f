//! 0-RTT of one connection: whether early data may go or come, and how much.

use jsp_wire::CloseCode;

use crate::error::TransportError;
use crate::pack::{packed, packed_enum};

/// Least room for a 0-RTT packet: header, a little payload, tag.
const PACKET_MIN: u64 = 96;

/// How far it has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum State {
    /// There are none.
    #[default]
    None,
    /// A client sends them.
    Offered,
    /// A client's ticket was refused, as it seems: it sends no more, and waits who answers.
    Paused,
    /// A server takes them.
    Accepted,
    /// The handshake is complete: nothing is early any more.
    Over,
}
packed_enum!(State { None, Offered = 1, Paused = 2, Accepted = 3, Over = 4 });

/// Early data in the direction from client to server.
#[derive(Debug, Default)]
pub(crate) struct EarlyData {
    state: State,
    /// Bytes of 0-RTT packets that may still go, or come.
    left: u64,
    /// The server's hello has gone to more than one address.
    is_answered_elsewhere: bool,
    /// Until when a client may go on trying, in milliseconds since 1970 UTC.
    until_ms: u64,
}
packed!(EarlyData { state, left, is_answered_elsewhere, until_ms });

impl EarlyData {
    /// True when there never were any.
    pub(crate) fn is_none(&self) -> bool {
        self.state == State::None
    }

    /// A client that may send this many bytes, and try until then.
    pub(crate) fn offered(max: u32, until_ms: u64) -> Self {
        Self { state: State::Offered, left: max.into(), until_ms, ..Self::default() }
    }

    /// A server that takes this many bytes.
    pub(crate) fn accepted(max: u32) -> Self {
        Self { state: State::Accepted, left: max.into(), ..Self::default() }
    }

    /// True for a client that may send another packet.
    pub(crate) fn may_send(&self) -> bool {
        self.state == State::Offered && self.left >= PACKET_MIN
    }

    /// Bytes that the next packet may have.
    // spec: CON-54
    pub(crate) fn room(&self) -> usize {
        usize::try_from(self.left).unwrap_or(usize::MAX)
    }

    pub(crate) fn on_sent(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes as u64);
    }

    /// True for a server until the client is proved to be there.
    pub(crate) fn is_accepting(&self) -> bool {
        self.state == State::Accepted
    }

    /// True for a client that has sent early data, or would have, and does not know what became of
    /// them.
    pub(crate) fn is_undecided(&self) -> bool {
        matches!(self.state, State::Offered | State::Paused)
    }

    /// True for a client that was away for so long that its server may have taken early data and have forgotten it.
    pub(crate) fn is_overdue(&self, unix_ms: u64) -> bool {
        self.is_undecided() && unix_ms > self.until_ms
    }

    /// The hello has come again from another address, and is answered there as well.
    pub(crate) fn answer_elsewhere(&mut self) {
        self.is_answered_elsewhere = true;
    }

    /// True when a finish does not tell which address its maker has read the server's hello at.
    pub(crate) fn is_answered_elsewhere(&self) -> bool {
        self.is_answered_elsewhere
    }

    /// A packet came; a client that sends more than its ticket allows breaks the protocol.
    // spec: CON-54
    pub(crate) fn on_received(&mut self, bytes: usize) -> Result<(), TransportError> {
        let reason = "more early data than the ticket allows";
        let error = TransportError::new(CloseCode::EARLY_DATA, reason);
        self.left = self.left.checked_sub(bytes as u64).ok_or(error)?;
        Ok(())
    }

    pub(crate) fn pause(&mut self) {
        if self.state == State::Offered {
            self.state = State::Paused;
        }
    }

    pub(crate) fn end(&mut self) {
        if self.state != State::None {
            self.state = State::Over;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    /// spec-test: CON-54
    fn neither_side_goes_beyond_what_the_ticket_allows() {
        let mut client = EarlyData::offered(1000, 7);
        assert!(client.may_send() && client.is_undecided());
        assert_eq!(client.room(), 1000);
        client.on_sent(950);
        assert!(!client.may_send());
        client.end();
        assert!(!client.is_undecided());
        let mut server = EarlyData::accepted(1000);
        assert_eq!(server.on_received(1000), Ok(()));
        assert_eq!(server.on_received(1).unwrap_err().code, CloseCode::EARLY_DATA);
        let mut none = EarlyData::default();
        none.pause();
        none.end();
        assert!(!none.may_send() && !none.is_accepting() && !none.is_undecided());
    }
}
