//! The last words of a connection, and when they are said.

use jsp_wire::header::{LongFields, LongType};
use jsp_wire::{Instant, limits};

use super::Connection;
use super::filled::Sealed;
use super::outbound::{HANDSHAKE_ROOM_MIN, Purpose, numbers_used_up};
use crate::batch::Batch;
use crate::compose;
use crate::error::TransportError;
use crate::event::CloseReason;
use crate::keys::SpaceId;
use crate::lifecycle::Farewell;
use crate::packet::PacketBuilder;
use crate::padding::Fill;
use crate::permit::Allowance;
use crate::seal;
use crate::spaces;

impl Connection {
    /// CLOSE, in every space whose keys the peer may have.
    pub(super) fn farewell_datagram(
        &mut self,
        now: Instant,
        batch: &mut Batch,
    ) -> Result<bool, TransportError> {
        let route = self.paths.active.route;
        if !batch.is_open_for(&route, None) {
            return Ok(false);
        }
        let room_len = self.paths.active.datagram_len_max().min(limits::MTU_BASE);
        let extent = self.extent(room_len);
        let Some(room) = batch.room(extent.room) else { return Ok(false) };
        let mut fill = Fill::alone(extent);
        let data_ready = self.exchange.is_complete();
        for space in SpaceId::ALL {
            let Some(rest) = room.get_mut(fill.before..) else { break };
            fill.is_last = match space {
                SpaceId::Initial => !self.keys.has(SpaceId::Handshake) && !data_ready,
                SpaceId::Handshake => !data_ready,
                SpaceId::Data => true,
            };
            let sealed = match space {
                SpaceId::Data if data_ready => {
                    self.data_packet(now, rest, Allowance::Probe, Purpose::Farewell, fill)?
                }
                SpaceId::Data => None,
                // A server that misses the client's last flight reads no more than this.
                _ => self.handshake_farewell(space, rest, fill)?,
            };
            fill.before = fill.before.saturating_add(sealed.map_or(0, |sealed| sealed.len));
        }
        self.lifecycle.on_farewell_sent();
        if fill.before == 0 {
            return Ok(false);
        }
        let len = if data_ready { fill.before } else { self.pad_behind(room, fill) };
        let path = &mut self.paths.active;
        path.budget.on_sent(len.saturating_add(path.wrapping));
        batch.commit(route, None, len);
        Ok(true)
    }

    fn handshake_farewell(
        &mut self,
        space: SpaceId,
        room: &mut [u8],
        fill: Fill,
    ) -> Result<Option<Sealed>, TransportError> {
        let Some(numbers) = spaces::select(space, &mut self.early, &mut self.paths.active) else {
            return Ok(None);
        };
        let Some(keys) = self.keys.seal_long(space) else { return Ok(None) };
        let Some(farewell) = self.lifecycle.farewell() else { return Ok(None) };
        let token = self.exchange.token();
        if room.len() < token.len().saturating_add(HANDSHAKE_ROOM_MIN) {
            return Ok(None);
        }
        let pn = numbers.numbers.next_pn().ok_or_else(numbers_used_up)?;
        let fields = LongFields {
            kind: if space == SpaceId::Initial { LongType::Initial } else { LongType::Handshake },
            dcid: *self.remote_ids.current(),
            scid: self.local_ids.first(),
            token: &token,
            pn,
            pn_len: limits::PN_LEN_MAX,
        };
        let layout = seal::write_long_header(room, &fields)?;
        let header_len = layout.pn_offset.saturating_add(fields.pn_len);
        let payload_end = room.len().saturating_sub(limits::TAG_LEN);
        let payload = room.get_mut(header_len..payload_end).unwrap_or_default();
        let mut packet = PacketBuilder::new(payload, &mut self.scratch.tokens, false);
        // An application's words are for the application: not for a peer that is not proved.
        compose::early_farewell(&mut packet, farewell);
        packet.fill(header_len, &fill);
        let built = packet.finish();
        let len = seal::seal_long(room, layout, &fields, built, keys)?;
        Ok(Some(Sealed { len, pn, ack_eliciting: false }))
    }

    /// The peer is at fault, or we are: say so and close.
    pub(super) fn fail(&mut self, now: Instant, error: TransportError) {
        if self.lifecycle.is_open() {
            let pto = self.pto();
            self.lifecycle.close(now, Farewell::from_error(&error), pto);
            self.announce_end(now, CloseReason::LocalError(error));
        }
    }
}
