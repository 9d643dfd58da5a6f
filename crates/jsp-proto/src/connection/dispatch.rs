//! Door 6: one line for each kind of frame, then door 7: fates go back to their owners.

use bytes::Bytes;
use jsp_crypto::Role;
use jsp_wire::frame::{Ack, Close};
use jsp_wire::params::feature;
use jsp_wire::{CloseCode, Frame, Instant, Payload, Shape};

use super::Connection;
use super::inbound::Opened;
use crate::congestion::{AckSample, LossSample, MarkSample};
use crate::error::TransportError;
use crate::event::CloseReason;
use crate::keys::SpaceId;
use crate::recovery::{AckOutcome, LossOutcome};
use crate::spaces;
use crate::token::{Fate, Token};

impl Connection {
    /// Takes the frames of a 1-RTT packet; answers whether one asks for an acknowledgement, and nothing when the packet
    /// must pass for lost.
    pub(super) fn take_frames(
        &mut self,
        now: Instant,
        opened: &Opened,
        shape: Shape,
    ) -> Result<Option<bool>, TransportError> {
        let mut eliciting = false;
        for frame in Payload::read(shape, &opened.payload)? {
            let frame = frame?;
            if let Frame::Message(message) = &frame
                && !self.can_place(opened.pn, message)?
            {
                return Ok(None);
            }
            if matches!(frame, Frame::Message(_) | Frame::Bytes(_)) {
                self.paths.busy_at = now;
            }
            eliciting |= frame.is_ack_eliciting();
            let about = core::mem::take(&mut self.scratch.about);
            if about.is_some() && !matches!(frame, Frame::Ack(_) | Frame::NewConnectionId(_)) {
                let reason = "ABOUT_PATH stands before a frame that it means nothing to";
                return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
            }
            match (&frame, about) {
                (Frame::AboutPath(path), _) => self.scratch.about = Some(*path),
                (Frame::NewConnectionId(id), Some(path)) => {
                    self.restrain(now, &frame)?;
                    self.on_path_id(path, id)?;
                }
                (_, about) => {
                    self.about(about, |connection| connection.dispatch(now, opened, &frame))?;
                }
            }
        }
        Ok(Some(eliciting))
    }

    pub(super) fn dispatch(
        &mut self,
        now: Instant,
        opened: &Opened,
        frame: &Frame<'_>,
    ) -> Result<(), TransportError> {
        if !self.lifecycle.is_open() && !matches!(frame, Frame::Close(_)) {
            return Ok(());
        }
        self.restrain(now, frame)?;
        let data = |bytes: &[u8]| -> Bytes { opened.payload.slice_ref(bytes) };
        match frame {
            // spec: PRV-4
            Frame::Padding(_) | Frame::Ping => {}
            Frame::Ack(ack) => self.on_ack(now, opened.space, ack)?,
            Frame::Handshake(fragment) => self.on_fragment(now, opened.space, fragment)?,
            Frame::Close(close) => self.on_close_frame(now, opened.space, close),
            Frame::Bytes(f) => self.streams.on_bytes(now, f, data(f.data))?,
            Frame::Message(f) => {
                self.streams.on_message(now, self.paths.order_of(opened.pn), f, data(f.data))?;
                self.control.restraint.note_tried(now, self.streams.take_tried())?;
            }
            Frame::Open { stream, open } => self.streams.on_open(now, *stream, open)?,
            Frame::Finish(f) => self.streams.on_finish(now, f)?,
            Frame::ResetStream(f) => self.streams.on_reset(now, f)?,
            Frame::StopSending(f) => self.streams.on_stop(now, f)?,
            Frame::Skip(f) => self.streams.on_skip(now, f)?,
            Frame::MaxData(limit) => self.streams.on_max_data(*limit),
            Frame::MaxStreamData(f) => self.streams.on_max_stream_data(now, f)?,
            Frame::MaxStreams(limit) => self.streams.on_max_streams(now, *limit)?,
            Frame::Consumed(f) => self.streams.on_consumed(now, f)?,
            Frame::NewConnectionId(f) => self.remote_ids.on_new(self.paths.active.id, f)?,
            Frame::RetireConnectionId(sequence) => self.local_ids.on_retire(*sequence)?,
            Frame::PathChallenge(challenge) => self.on_path_challenge(now, opened, *challenge),
            Frame::PathResponse(answer) => self.on_path_response(now, *answer),
            Frame::AckFrequency(f) => self.paths.active.numbers.acks.set_frequency(f)?,
            Frame::ImmediateAck => self.paths.active.numbers.acks.ask_now(),
            Frame::HandshakeDone => self.on_handshake_done(now)?,
            Frame::Repair(content) if self.has_fec() => self.on_repair(opened.pn, content)?,
            Frame::Ticket(content) if self.takes_tickets() => self.on_ticket(now, content)?,
            Frame::Exchange(content) if self.has_exchange() => self.on_exchange(now, content)?,
            Frame::PathAbandon(f) => self.on_path_abandon(now, f)?,
            Frame::PathStatus(f) => self.on_path_status(now, f)?,
            // The first three tell of what this side knows; the last was taken in before frames came here.
            Frame::DataBlocked(_)
            | Frame::StreamDataBlocked(_)
            | Frame::StreamsBlocked(_)
            | Frame::AboutPath(_) => {}
            // spec: FEC-19
            Frame::Symbol(f) if self.exchange.has_feature(feature::OBJECTS) => {
                self.streams.on_symbol(now, f)?;
                self.control.restraint.note_tried(now, self.streams.take_tried())?;
            }
            // spec: WIRE-36
            Frame::Ticket(_) | Frame::Exchange(_) | Frame::Repair(_) | Frame::Symbol(_) => {
                let reason = "a frame belongs to a feature that was not negotiated";
                return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
            }
        }
        Ok(())
    }

    /// Door 5: the space remembers what it must acknowledge.
    pub(super) fn note_for_ack(&mut self, now: Instant, opened: &Opened, eliciting: bool) {
        let space = opened.space;
        if let Some(numbers) = spaces::select(space, &mut self.early, &mut self.paths.active) {
            numbers.acks.on_packet(now, opened.pn, eliciting, opened.ecn);
            if eliciting {
                numbers.acks.on_bytes(opened.payload.len());
            }
        }
    }

    /// The frame counts against a peer that asks for too much.
    pub(super) fn restrain(
        &mut self,
        now: Instant,
        frame: &Frame<'_>,
    ) -> Result<(), TransportError> {
        let (rtt, streams_max) = (self.paths.active.rtt.smoothed(), self.config.streams_max);
        self.control.restraint.note(now, frame, rtt, streams_max)
    }

    fn on_ack(
        &mut self,
        now: Instant,
        space: SpaceId,
        ack: &Ack<'_>,
    ) -> Result<(), TransportError> {
        let delay_max = match space {
            SpaceId::Data => self.peer_ack_delay_max(),
            SpaceId::Initial | SpaceId::Handshake => core::time::Duration::ZERO,
        };
        let mut ack = *ack;
        if space != SpaceId::Data || !self.has_fec() {
            ack.recovered = &[];
        }
        let prior_in_flight = self.bytes_in_flight();
        let oldest = self.paths.active.numbers.recovery.oldest_eliciting();
        let mut fates = core::mem::take(&mut self.scratch.fates);
        let outcome = {
            let path = &mut *self.paths.active;
            let (rtt, delivery) = (&mut path.rtt, &mut path.delivery);
            let numbers = match space {
                SpaceId::Data => Some(&mut path.numbers),
                _ => self.early.get_mut(space),
            };
            match numbers {
                Some(numbers) => {
                    numbers.recovery.on_ack(now, &ack, delay_max, rtt, delivery, &mut fates)
                }
                None => Ok(AckOutcome::default()),
            }
        };
        if let Ok(outcome) = &outcome {
            if space == SpaceId::Data {
                self.note_wait(now, oldest, outcome);
                self.keys.on_acked(now, self.paths.active.id, ack.largest);
            }
            if space == SpaceId::Data {
                for arrival in outcome.arrivals.in_order() {
                    self.paths.active.owd.on_arrival(now, arrival);
                }
            }
            self.apply_ack(now, outcome, prior_in_flight);
            if space == SpaceId::Data {
                self.sense_ack(now, outcome);
            }
            self.adapt_repair(now);
            let in_flight = self.bytes_in_flight();
            self.trace.metrics(now, &self.paths.active, in_flight);
        }
        self.settle_fates(now, space, &mut fates);
        self.scratch.fates = fates;
        outcome.map(|_| ())
    }

    /// How long the oldest packet under way has waited, if it was not lost.
    fn note_wait(&mut self, now: Instant, oldest: Option<Instant>, outcome: &AckOutcome) {
        let path = &mut *self.paths.active;
        let is_other = oldest != path.numbers.recovery.oldest_eliciting();
        let sent_at = oldest.filter(|_| is_other && outcome.lost.packets == 0);
        if let (Some(sent_at), Some(rhythm)) = (sent_at, &mut path.rhythm) {
            rhythm.waits.note(now, now.since(sent_at));
        }
    }

    /// What an acknowledgement means for the path.
    fn apply_ack(&mut self, now: Instant, outcome: &AckOutcome, prior_in_flight: u64) {
        // Congestion control hears of losses before it hears of arrivals: the acknowledgement that
        // starts a recovery belongs to it already.
        self.apply_loss(now, &outcome.lost, prior_in_flight);
        let in_flight = self.bytes_in_flight();
        let path = &mut *self.paths.active;
        if outcome.newly_acked {
            path.trickle.on_acked();
        }
        if outcome.spurious > 0 {
            path.congestion.on_spurious_loss(now, outcome.spurious);
        }
        if let Some(sent_at) = outcome.largest_newly_acked_sent_at
            && outcome.bytes_acked > 0
        {
            let sample = AckSample {
                bytes_acked: outcome.bytes_acked,
                in_flight,
                largest_sent_at: sent_at,
                has_losses: outcome.lost.packets > 0,
                has_rtt_sample: outcome.rtt_sample.is_some(),
                app_limited: outcome.app_limited,
                queue_delay: path.owd.is_known().then(|| path.owd.queue()),
                rate: outcome.rate_sample,
                packets_acked: outcome.packets_acked,
            };
            path.congestion.on_ack(now, &sample, &path.rtt);
            if path.congestion.take_new_base() {
                path.owd.on_empty_queue(now);
            }
            if let Some(rate) = &sample.rate {
                path.rates.on_sample(now, rate);
            }
            path.mtud.on_acked(usize::from(outcome.largest_acked_size));
        }
        if let Some(size) = outcome.acked_mtu_probe {
            path.mtud.on_probe_acked(now, usize::from(size));
            path.congestion.set_mtu(path.mtud.current());
        }
        if outcome.advanced {
            let packets = path.ecn.on_ack(outcome.ecn_acked, outcome.ecn);
            if let (true, Some(sent_at)) = (packets > 0, outcome.largest_newly_acked_sent_at) {
                path.on_marks(now, MarkSample { packets, sent_at, prior_in_flight });
            }
        }
        if outcome.rtt_sample.is_some() {
            let rtt = path.rtt.smoothed();
            path.numbers.acks.set_rtt(rtt);
            self.streams.on_rtt(rtt);
        }
    }

    /// What losses mean for the path.
    pub(super) fn apply_loss(&mut self, now: Instant, lost: &LossOutcome, prior_in_flight: u64) {
        let path = &mut *self.paths.active;
        if let Some(size) = lost.lost_mtu_probe {
            path.mtud.on_probe_lost(now, usize::from(size));
        }
        let Some(sent_at) = lost.largest_lost_sent_at else { return };
        let sample = LossSample {
            bytes_lost: lost.bytes_lost,
            packets: lost.packets,
            largest_lost_sent_at: sent_at,
            prior_in_flight,
        };
        path.congestion.on_loss(now, &sample);
        if lost.persistent_congestion {
            path.congestion.on_persistent_congestion(now);
        }
        if path.mtud.on_loss(now, usize::from(lost.largest_lost_size)) {
            path.congestion.set_mtu(path.mtud.current());
        }
        self.trace.packets_lost(now, lost.packets);
        if let Some(first) = lost.first_lost_sent_at {
            self.paths.active.forecast.on_loss(lost.packets, first, sent_at);
            self.streams.on_losses(lost.packets);
        }
    }

    /// Door 7: each token goes back to its owner with its fate.
    pub(super) fn settle_fates(
        &mut self,
        now: Instant,
        space: SpaceId,
        fates: &mut Vec<(Token, Fate)>,
    ) {
        let mut fates = fates.drain(..).peekable();
        while let Some((token, fate)) = fates.next() {
            match token {
                Token::Stream(mut token) => {
                    // What bulk hears of is most often one piece, packet by packet.
                    while let Some((Token::Stream(next), same)) = fates.peek()
                        && *same == fate
                        && let Some(joined) = token.join(*next)
                    {
                        token = joined;
                        fates.next();
                    }
                    self.streams.on_fate(now, token, fate);
                }
                Token::Credit(token) => self.streams.on_credit_fate(token, fate),
                Token::Ack { path, largest } => {
                    if let Some(path) = self.paths.get_mut(path)
                        && let Some(numbers) = spaces::select(space, &mut self.early, path)
                    {
                        numbers.acks.on_fate(largest, fate);
                    }
                }
                Token::Handshake { offset, len } => {
                    if let Some(flight) = self.exchange.flight(space) {
                        flight.on_fate(offset, len, fate);
                    }
                }
                Token::NewConnectionId { sequence } => self.local_ids.on_fate(sequence, fate),
                Token::RetireConnectionId { sequence } => self.remote_ids.on_fate(sequence, fate),
                Token::Ticket => self.exchange.session.on_ticket_fate(fate),
                Token::Exchange { round, offset, len } => {
                    self.exchange.session.on_exchange_fate(round, offset, len, fate);
                }
                Token::HandshakeDone => self.control.on_handshake_done_fate(fate),
                Token::AckFrequency { sequence } => {
                    self.paths.active.ack_request.on_fate(sequence, fate);
                }
                Token::PathAbandon { path, code } => {
                    self.paths.notices.on_end_fate(path, code, fate);
                }
                Token::PathStatus { path, sequence } => {
                    let usage = self.paths.get(path).map(|path| path.usage);
                    let notices = &mut self.paths.notices;
                    notices.on_status_fate(path, sequence, usage.as_ref(), fate);
                }
                // Their own timers ask again.
                Token::PathChallenge | Token::MtuProbe { .. } => {}
            }
        }
    }

    fn on_path_challenge(&mut self, now: Instant, opened: &Opened, challenge: [u8; 8]) {
        if !self.consider_move(now, opened.route, opened.received) {
            return;
        }
        let path = &self.paths.active;
        let received = (opened.received, path.is_settled_at(&opened.route));
        self.paths.responses.push(path.id, opened.route, challenge, received);
    }

    // spec: CON-28
    fn on_handshake_done(&mut self, now: Instant) -> Result<(), TransportError> {
        if self.role == Role::Server {
            let reason = "a client said that the handshake is done";
            return Err(TransportError::new(CloseCode::PROTOCOL_VIOLATION, reason));
        }
        self.confirm_handshake(now);
        Ok(())
    }

    fn on_close_frame(&mut self, now: Instant, space: SpaceId, close: &Close<'_>) {
        let was_open = self.lifecycle.is_open();
        let reason = String::from_utf8_lossy(close.reason).into_owned();
        let reason = if close.by_application {
            CloseReason::ByPeer { code: close.code.0, reason }
        } else {
            CloseReason::PeerError { code: close.code, reason }
        };
        // spec: CON-25, CON-68
        let is_anybodys = space == SpaceId::Initial || self.is_unproved();
        let is_of_hello = *self.remote_ids.current() == self.exchange.ids().hello_destination();
        let is_refused = was_open && close.code == CloseCode::INVALID_TOKEN && is_of_hello;
        if is_anybodys && is_refused && self.obey_next_retry(now) {
            // The Retry was a forgery, or its cookie too old.
            return;
        }
        if was_open
            && self.role == Role::Client
            && is_anybodys
            && close.code == CloseCode::TICKET_REFUSED
        {
            return self.fall_back(now);
        }
        if was_open && is_anybodys {
            return self.doubt_peer(now, reason);
        }
        let pto = self.pto();
        self.lifecycle.drain(now, pto);
        if was_open {
            self.announce_end(now, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jsp_crypto::{ClientConfig, Identity, ServerConfig, ServerIdentity};
    use jsp_wire::frame::{HandshakeFragment, Symbol};
    use jsp_wire::{ConnectionId, Route, VERSION_1};

    use super::super::{Incoming, Outgoing};
    use super::*;
    use crate::config::TransportConfig;
    use crate::exchange::HandshakeIds;
    use crate::path::Budget;
    use crate::rng::SeededRng;
    use crate::unix_time::UnixTime;

    fn route() -> Route {
        Route::udp("192.0.2.1:1".parse().unwrap())
    }

    fn client() -> Connection {
        let id = ConnectionId::new(&[7; 8]).unwrap();
        let outgoing = Outgoing {
            route: route(),
            crypto: Arc::new(ClientConfig::new(ServerIdentity::AnyInsecure)),
            transport: Arc::new(TransportConfig::default()),
            destination: id,
            local_id: ConnectionId::EMPTY,
            wrapping: 0,
            unix_time: UnixTime::starting(0),
            ticket: None,
            key_share: None,
        };
        Connection::connect(Instant::ZERO, outgoing, SeededRng::new([1; 32])).unwrap()
    }

    /// A server whose client has sent nonsense: what it thinks of a frame does not depend on that.
    fn server() -> Connection {
        let id = ConnectionId::new(&[7; 8]).unwrap();
        let mut rng = SeededRng::new([2; 32]);
        let identity = Arc::new(Identity::generate(&mut rng));
        let incoming = Incoming {
            route: route(),
            crypto: Arc::new(ServerConfig::new(identity)),
            transport: Arc::new(TransportConfig::default()),
            ids: HandshakeIds { original_destination: id, retry_source: None },
            local_id: id,
            reset_token: [0; 16],
            preferred: None,
            peer_id: ConnectionId::EMPTY,
            initial_keys: jsp_crypto::initial_keys(Role::Server, VERSION_1, id.as_bytes(), None),
            hello: Vec::new(),
            received: Vec::new(),
            budget: Budget::Unlimited,
            wrapping: 0,
            unix_time: UnixTime::starting(0),
            resumption: None,
            memory: None,
        };
        Connection::answer(Instant::ZERO, incoming, rng)
    }

    #[test]
    // spec-test: CON-28
    fn a_client_cannot_say_that_the_handshake_is_done() {
        let error = server().on_handshake_done(Instant::ZERO).unwrap_err();
        assert_eq!(error.code, CloseCode::PROTOCOL_VIOLATION);
        assert_eq!(client().on_handshake_done(Instant::ZERO), Ok(()));
    }

    #[test]
    // spec-test: CON-25
    fn no_word_ends_an_attempt_before_the_server_has_proved_itself() {
        let close = Close { by_application: false, code: CloseCode::REFUSED, reason: b"" };
        for space in [SpaceId::Initial, SpaceId::Handshake] {
            let mut client = client();
            client.on_close_frame(Instant::ZERO, space, &close);
            assert!(client.lifecycle.is_open(), "{space:?}");
            let mut server = server();
            server.on_close_frame(Instant::ZERO, space, &close);
            assert!(!server.lifecycle.is_open(), "{space:?}");
        }
    }

    #[test]
    // spec-test: WIRE-36
    // spec-test: WIRE-44
    fn frames_that_do_not_belong_into_1_rtt_packets_are_refused() {
        let mut client = client();
        let piece = HandshakeFragment { id: [1; 8], offset: 0, total: 1, data: b"x" };
        let stream = jsp_wire::StreamId(4);
        let symbol = Symbol { stream, number: 0, total: 25_600, id: 100, data: &[0; 256] };
        for frame in [
            Frame::Ticket(b"x"),
            Frame::Exchange(b"x"),
            Frame::Repair(b"x"),
            Frame::Symbol(symbol),
            Frame::Handshake(piece),
        ] {
            let opened = Opened {
                space: SpaceId::Data,
                pn: 0,
                payload: Bytes::new(),
                ecn: None,
                route: route(),
                received: 1200,
            };
            let error = client.dispatch(Instant::ZERO, &opened, &frame).unwrap_err();
            assert_eq!(error.code, CloseCode::PROTOCOL_VIOLATION, "{frame:?}");
        }
    }

    /// See the test of streams by this name.
    #[cfg(feature = "raptorq")]
    const LIGHTEST: &str = include_str!("../../tests/symbols_that_never_suffice.hex");

    #[cfg(feature = "raptorq")]
    #[test]
    // spec-test: FEC-24
    fn a_peer_whose_symbols_never_suffice_is_sent_away() {
        use jsp_wire::frame::{Attributes, Fragment, MessageFrame, MessageNumber};
        use jsp_wire::{Class, Delivery, Framing, Open, Profile, StreamId, TransportParams};

        const LEN: u64 = 1400;
        const TOTAL: u64 = 167 * LEN;
        let features = feature::OBJECTS;
        let peer = TransportParams { features, ..TransportParams::default() };
        let profile = Profile {
            framing: Framing::Messages,
            delivery: Delivery::Partial,
            ordered: false,
            class: Class::Interactive,
            unidirectional: true,
        };
        let payload = Bytes::from_static(&[0; LEN as usize]);
        let opened = Opened {
            space: SpaceId::Data,
            pn: 0,
            payload: payload.clone(),
            ecn: None,
            route: route(),
            received: 1452,
        };
        let frame = |n: u64, id: u32| {
            let (stream, number) = (StreamId::new(1 + n / 4, true), n % 4);
            if id >= 167 {
                return Frame::Symbol(Symbol { stream, number, total: TOTAL, id, data: &payload });
            }
            Frame::Message(MessageFrame {
                stream,
                open: Some(Open { profile, params: &[] }),
                number: MessageNumber::Full(number),
                fragment: Some(Fragment { offset: u64::from(id) * LEN, total: TOTAL }),
                attributes: Attributes::default(),
                fin: false,
                to_end: false,
                data: &payload,
            })
        };
        let nibble = |at: usize| u8::from_str_radix(&LIGHTEST[at..=at], 16).unwrap();
        let is_light = |id: &u32| nibble((id / 4) as usize ^ 1) >> (id % 4) & 1 == 1;
        let mut client = client();
        client.exchange.peer = Some(peer);
        let now = Instant::from_nanos(100_000_000_000);
        // Behind the first piece come symbols, and behind them pieces: both make the receiver try.
        let mut frames = (0..36).flat_map(|n| {
            let mut ids: Vec<u32> = (0..398).filter(is_light).collect();
            ids[1..].reverse();
            ids.into_iter().map(move |id| (n, id))
        });
        let refused = frames.find_map(|(n, id)| {
            let refused = client.dispatch(now, &opened, &frame(n, id));
            refused.err().map(|error| (n, error.code))
        });
        assert_eq!(refused, Some((64 * 1024 * 1024 / (9 * TOTAL), CloseCode::EXCESSIVE_LOAD)));
    }
}
