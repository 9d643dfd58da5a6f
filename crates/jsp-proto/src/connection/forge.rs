//! A door for the fuzzer: packets that say what this implementation never would.

use jsp_wire::{Instant, Payload, Shape, limits};

use super::Connection;
use super::filled::Sealed;
use super::outbound::Purpose;
use crate::keys::SpaceId;
use crate::packet::Built;
use crate::seal::{self, ShortHeader};

/// Longest short header, with what the sample of its protection may add.
const HEAD_LEN_MAX: usize = 1 + limits::CONNECTION_ID_LEN_MAX + 2 * limits::PN_LEN_MAX;

impl Connection {
    /// Any payload in a packet of its own, sealed with the keys of the connection. It takes the next
    /// number and stands in the ledger like others, so that acknowledgements of it make sense. `None`
    /// when the handshake is not complete, the connection is closed, or the numbers are used up. No
    /// part of the interface of this crate.
    #[doc(hidden)]
    pub fn forge(&mut self, now: Instant, shape: Shape, payload: &[u8]) -> Option<Vec<u8>> {
        if !self.lifecycle.is_established() {
            return None;
        }
        let numbers = &mut self.paths.active.numbers;
        let (dcid, pn) = (*self.remote_ids.current(), numbers.numbers.peek());
        let pn_len = jsp_wire::pn::len(pn, numbers.recovery.largest_acked());
        let path = self.paths.active.id;
        let fields = ShortHeader { path, dcid: &dcid, phase: self.keys.phase(), pn, pn_len };
        let mut room = vec![0; payload.len().saturating_add(HEAD_LEN_MAX + limits::TAG_LEN)];
        let start = seal::write_short_header(&mut room, &fields).ok()?.saturating_add(pn_len);
        room.get_mut(start..)?.get_mut(..payload.len())?.copy_from_slice(payload);
        let frames = Payload::read(shape, payload).into_iter().flatten();
        let ack_eliciting = frames.flatten().any(|frame| frame.is_ack_eliciting());
        let len = payload.len();
        let built = Built { len, shape, ack_eliciting, protection: None, content: (0, len) };
        numbers.numbers.next_pn()?;
        let (key, header_key, _) = self.keys.seal_short(path, pn)?;
        let len = seal::seal_short(&mut room, &fields, built, key, header_key).ok()?;
        room.truncate(len);
        self.scratch.tokens.clear();
        let sealed = Sealed { len, pn, ack_eliciting };
        self.on_packet_sent(now, SpaceId::Data, &sealed, Purpose::Regular).ok()?;
        Some(room)
    }
}
