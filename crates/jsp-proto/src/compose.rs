//! Door 5: the contents of one packet, as one ordered list that reads as policy.

use jsp_wire::frame::Close;
use jsp_wire::{CloseCode, Frame, Instant, PathId};

use crate::ack::AckPolicy;
use crate::ack_request::AckRequest;
use crate::cid::{LocalIds, RemoteIds};
use crate::control::Control;
use crate::fec::Rider;
use crate::handshake::Flight;
use crate::lifecycle::Farewell;
use crate::packet::PacketBuilder;
use crate::path::usage::Notices;
use crate::path::{Duty, Path};
use crate::permit::Allowance;
use crate::session::Session;
use crate::streams::{Overdue, Streams};
use crate::token::Token;

/// Sources of frames in 1-RTT packets.
pub(crate) struct DataSources<'a> {
    pub(crate) duty: Duty,
    pub(crate) path: PathId,
    /// The path has been idle for so long that a PING is due.
    pub(crate) is_cold: bool,
    pub(crate) answer: Option<[u8; 8]>,
    /// The paths that the packet does not take.
    pub(crate) others: &'a mut [Box<Path>],
    pub(crate) notices: &'a mut Notices,
    pub(crate) control: &'a mut Control,
    pub(crate) local_ids: &'a mut LocalIds,
    pub(crate) remote_ids: &'a mut RemoteIds,
    pub(crate) session: &'a mut Session,
    pub(crate) streams: &'a mut Streams,
    pub(crate) ack_request: &'a mut AckRequest,
    /// It may be the last packet that a small window lets go.
    pub(crate) is_last: bool,
    /// Messages that ride along once more.
    pub(crate) overdue: Option<Overdue>,
    /// Messages of another path that go once more by this one.
    pub(crate) crossing: Option<Overdue>,
    /// A repair that rides along.
    pub(crate) rider: Option<Rider<'a>>,
}

impl DataSources<'_> {
    /// True when any of them has something to send now.
    pub(crate) fn wants(&self, now: Instant) -> bool {
        self.wants_shared(now) || self.answer.is_some() || self.ack_request.wants() || self.is_cold
    }

    /// Something rides along besides.
    pub(crate) fn has_riders(&self) -> bool {
        self.overdue.is_some() || self.crossing.is_some() || self.rider.is_some()
    }

    /// The same as [`Self::wants`] of what does not belong to one path.
    fn wants_shared(&self, now: Instant) -> bool {
        match self.duty {
            Duty::Own => false,
            Duty::Copies => self.wants_copies(),
            Duty::All => {
                // Data are what there is most often: then nobody else is asked.
                self.streams.wants(now)
                    || self.control.wants()
                    || self.local_ids.wants()
                    || self.remote_ids.wants()
                    || self.notices.wants()
                    || self.session.wants()
                    || self.wants_copies()
            }
        }
    }

    fn wants_copies(&self) -> bool {
        self.crossing.is_some() || self.streams.has_doubles(self.path)
    }

    /// The order of urgency inside a packet: what keeps the connection alive, then what it is for.
    fn write(&mut self, now: Instant, allowance: Allowance, packet: &mut PacketBuilder<'_>) {
        self.write_answer(packet);
        if self.duty == Duty::All {
            self.control.write(packet);
            self.notices.write(packet);
            self.remote_ids.write(packet);
            self.local_ids.write(packet);
        }
        self.ack_request.write(packet);
        self.ask_at_once(packet);
        if self.duty >= Duty::Copies {
            self.write_copies(now, packet);
        }
        if self.duty == Duty::All {
            self.session.write(packet);
            if allowance == Allowance::Urgent {
                self.streams.write_urgent_first(now, packet);
            } else {
                self.streams.write(now, packet);
            }
        }
        self.write_overdue(now, packet);
        if self.is_cold {
            add_ping(packet);
        }
    }

    /// Who lets many packets go by before an acknowledgement would wait in vain for more.
    // spec: ACK-18
    fn ask_at_once(&mut self, packet: &mut PacketBuilder<'_>) {
        let may_leave_data = self.is_last && self.duty == Duty::All;
        let asks = may_leave_data && self.streams.have_more_than(packet.remaining());
        if asks && Frame::ImmediateAck.write(packet.writer()).is_ok() {
            packet.elicit_ack();
        }
    }

    /// Acknowledgements of other paths, which no window holds back either.
    // spec: PTH-19
    fn write_acks_elsewhere(&mut self, now: Instant, packet: &mut PacketBuilder<'_>) {
        if self.duty == Duty::All {
            for path in acks_elsewhere(now, self.others) {
                path.numbers.acks.write_elsewhere(now, packet);
            }
        }
    }

    /// What is overdue on another path, and what is to go twice in any case.
    // spec: PTH-14
    fn write_copies(&mut self, now: Instant, packet: &mut PacketBuilder<'_>) {
        if let Some(crossing) = self.crossing {
            self.streams.write_overdue(now, crossing, packet);
        }
        self.streams.write_doubles(now, packet);
    }

    /// What is overdue rides along in a packet that leaves anyway.
    // spec: SEN-6
    fn write_overdue(&mut self, now: Instant, packet: &mut PacketBuilder<'_>) {
        if let Some(overdue) = self.overdue.filter(|_| packet.is_ack_eliciting()) {
            self.streams.write_overdue(now, overdue, packet);
        }
    }

    /// So does the repair of packets before, and with a probe in any case. It comes last: it is no part of
    /// what is protected.
    // spec: FEC-11, FEC-15
    fn write_repair(&mut self, now: Instant, packet: &mut PacketBuilder<'_>, probe: bool) {
        let leaves = probe || packet.is_ack_eliciting();
        let Some(rider) = self.rider.as_mut().filter(|_| leaves) else { return };
        let end = packet.writer().len();
        if rider.write(now, packet.writer()) {
            packet.end_content(end);
            packet.elicit_ack();
        }
    }

    /// The answer to a challenge.
    fn write_answer(&mut self, packet: &mut PacketBuilder<'_>) {
        if let Some(data) = self.answer.take()
            && Frame::PathResponse(data).write(packet.writer()).is_ok()
        {
            packet.elicit_ack();
        }
    }
}

/// Paths whose acknowledgements are due, but would not arrive by themselves.
// spec: PTH-19
pub(crate) fn acks_elsewhere(
    now: Instant,
    others: &mut [Box<Path>],
) -> impl Iterator<Item = &mut Box<Path>> {
    others.iter_mut().filter(move |path| {
        path.is_validated && path.is_failing() && path.numbers.acks.wants_ack_elsewhere(now)
    })
}

/// A packet of the handshake: acknowledgement, then our message, then a PING if one is asked
/// for and nothing else asks for an acknowledgement.
pub(crate) fn handshake_packet(
    now: Instant,
    packet: &mut PacketBuilder<'_>,
    allowance: Allowance,
    acks: &mut AckPolicy,
    flight: Option<&mut Flight>,
    ping: bool,
) {
    if acks.has_news() {
        acks.write(now, packet, false);
    }
    if let Some(flight) = flight
        && allowance.allows_data()
    {
        flight.write(packet);
    }
    // A PING is asked for when the handshake depends on it: it waits for no window.
    if ping {
        add_ping(packet);
    }
}

/// A 1-RTT packet: acknowledgement, control, data; a PING if a probe would otherwise be empty.
pub(crate) fn data_packet(
    now: Instant,
    packet: &mut PacketBuilder<'_>,
    allowance: Allowance,
    acks: &mut AckPolicy,
    sources: &mut DataSources<'_>,
    probe: bool,
) {
    let answers = sources.answer.is_some();
    let with_data = allowance.allows_data() && (probe || sources.wants(now));
    let rides = with_data && acks.rides(now);
    if acks.wants_ack_now(now) || rides || (answers && acks.has_news()) {
        acks.write(now, packet, !with_data && !answers);
    }
    sources.write_acks_elsewhere(now, packet);
    if !with_data {
        return sources.write_answer(packet);
    }
    sources.write(now, allowance, packet);
    sources.write_repair(now, packet, probe);
    if probe {
        add_ping(packet);
    }
}

/// A datagram of another size than usual, to learn whether the path carries it.
pub(crate) fn mtu_probe(packet: &mut PacketBuilder<'_>, size: usize) {
    if Frame::Ping.write(packet.writer()).is_ok() {
        packet.push(Token::MtuProbe { size: size.min(usize::from(u16::MAX)) as u16 });
        fill(packet);
    }
}

/// A challenge to an address on trial, padded so that the answer proves the path's size too.
pub(crate) fn path_challenge(packet: &mut PacketBuilder<'_>, challenge: [u8; 8]) {
    if Frame::PathChallenge(challenge).write(packet.writer()).is_ok() {
        packet.push(Token::PathChallenge);
        fill(packet);
    }
}

/// An answer that goes to another address than the active path's.
pub(crate) fn path_response(packet: &mut PacketBuilder<'_>, data: [u8; 8]) {
    if Frame::PathResponse(data).write(packet.writer()).is_ok() {
        packet.elicit_ack();
        fill(packet);
    }
}

/// The end of the connection, to a peer that is proved.
pub(crate) fn farewell(packet: &mut PacketBuilder<'_>, farewell: &Farewell) {
    let written = farewell.frame().write(packet.writer());
    debug_assert!(written.is_ok());
}

/// The end of the connection, to whoever it is: an application's words stay inside.
// spec: CON-35
pub(crate) fn early_farewell(packet: &mut PacketBuilder<'_>, farewell: &Farewell) {
    let plain = if farewell.by_application {
        Close { by_application: false, code: CloseCode::NO_ERROR, reason: &[] }
    } else {
        Close { by_application: false, code: farewell.code, reason: &[] }
    };
    let written = Frame::Close(plain).write(packet.writer());
    debug_assert!(written.is_ok());
}

fn fill(packet: &mut PacketBuilder<'_>) {
    let rest = packet.remaining();
    // What remains is room that the writer has: it cannot be too little.
    let filled = Frame::Padding(rest).write(packet.writer());
    debug_assert!(filled.is_ok());
}

fn add_ping(packet: &mut PacketBuilder<'_>) {
    if !packet.is_ack_eliciting() && Frame::Ping.write(packet.writer()).is_ok() {
        packet.elicit_ack();
    }
}
