//! Frames about the connection as a whole that belong to no other concept.

use jsp_wire::Frame;

use crate::pack::packed;
use crate::packet::PacketBuilder;
use crate::restraint::Restraint;
use crate::token::{Fate, Token};

/// What is still to be said once, reliably.
#[derive(Default)]
pub(crate) struct Control {
    handshake_done: bool,
    ping: bool,
    /// How much the peer has asked for.
    pub(crate) restraint: Restraint,
}
packed!(Control { handshake_done, ping, restraint });

impl Control {
    /// The server has the client's flight and says so.
    pub(crate) fn announce_handshake_done(&mut self) {
        self.handshake_done = true;
    }

    /// Asks for a sign of life.
    pub(crate) fn ask_ping(&mut self) {
        self.ping = true;
    }

    pub(crate) fn wants(&self) -> bool {
        self.handshake_done || self.ping
    }

    pub(crate) fn write(&mut self, packet: &mut PacketBuilder<'_>) {
        if self.handshake_done && Frame::HandshakeDone.write(packet.writer()).is_ok() {
            self.handshake_done = false;
            packet.push(Token::HandshakeDone);
        }
        if self.ping && Frame::Ping.write(packet.writer()).is_ok() {
            self.ping = false;
            packet.elicit_ack();
        }
    }

    pub(crate) fn on_handshake_done_fate(&mut self, fate: Fate) {
        if fate == Fate::Lost {
            self.handshake_done = true;
        }
    }
}
