//! Concepts of the connection by themselves, for the fuzzer. No part of the interface of this crate.

use core::time::Duration;

use bytes::Bytes;
use jsp_wire::frame::Ack;
use jsp_wire::{Frame, Instant, Payload, Shape, StreamId, TransportParams};

use crate::config::TransportConfig;
use crate::error::{RecvError, TransportError};
use crate::packet::PacketBuilder;
use crate::recovery::{DeliveryRate, Recovery, Rtt, SentInfo};
use crate::streams::config::Received;
use crate::streams::{Side, Streams};
use crate::token::{Fate, Token};

/// The longest delay that an acknowledgement may report.
const ACK_DELAY_MAX: Duration = Duration::from_millis(25);

/// Numbers of packets whose fate was told.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Fates {
    /// They have arrived.
    pub acked: Vec<u64>,
    /// They are held lost.
    pub lost: Vec<u64>,
    /// They were held lost and have arrived.
    pub late: Vec<u64>,
}

/// Loss recovery of one number space.
#[derive(Debug)]
pub struct BareLedger {
    recovery: Recovery,
    rtt: Rtt,
    delivery: DeliveryRate,
    next_pn: u64,
}

impl BareLedger {
    /// Nothing sent yet.
    #[allow(clippy::new_without_default, reason = "there is nothing default about it")]
    pub fn new() -> Self {
        let mut recovery = Recovery::new();
        recovery.take_times();
        let rtt = Rtt::new(Duration::from_millis(333));
        Self { recovery, rtt, delivery: DeliveryRate::default(), next_pn: 0 }
    }

    /// A packet leaves; its number, or `None` when the ledger takes no more.
    pub fn send(&mut self, now: Instant, size: u16, ack_eliciting: bool) -> Option<u64> {
        let pn = self.next_pn;
        let info =
            SentInfo { pn, size, ack_eliciting, in_flight: ack_eliciting, ..SentInfo::default() };
        let tokens = [Token::NewConnectionId { sequence: pn }];
        self.recovery.on_sent(now, info, &tokens, false, &mut self.delivery).ok()?;
        self.next_pn = pn.saturating_add(1);
        Some(pn)
    }

    /// The next number is left out.
    pub fn skip(&mut self) -> u64 {
        let pn = self.next_pn;
        self.recovery.skip(pn);
        self.next_pn = pn.saturating_add(1);
        pn
    }

    /// An ACK frame arrives.
    ///
    /// # Errors
    /// What it broke.
    pub fn ack(&mut self, now: Instant, ack: &Ack<'_>) -> Result<Fates, TransportError> {
        let Self { recovery, rtt, delivery, .. } = self;
        let mut fates = Vec::new();
        recovery.on_ack(now, ack, ACK_DELAY_MAX, rtt, delivery, &mut fates)?;
        Ok(sort(&fates))
    }

    /// The deadline passes.
    pub fn timeout(&mut self, now: Instant) -> Fates {
        let mut fates = Vec::new();
        self.recovery.on_timeout(now, &self.rtt, ACK_DELAY_MAX, true, &mut fates);
        sort(&fates)
    }

    /// The next deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.recovery.poll_timeout(&self.rtt, ACK_DELAY_MAX, true).map(|(at, _)| at)
    }

    /// Bytes of packets without fate.
    pub fn bytes_in_flight(&self) -> u64 {
        self.recovery.bytes_in_flight()
    }
}

fn sort(fates: &[(Token, Fate)]) -> Fates {
    let mut sorted = Fates::default();
    for (token, fate) in fates {
        let Token::NewConnectionId { sequence } = token else { continue };
        match fate {
            Fate::Acked => sorted.acked.push(*sequence),
            Fate::Lost => sorted.lost.push(*sequence),
            Fate::Late => sorted.late.push(*sequence),
        }
    }
    sorted
}

/// All streams of a connection, as their receiver.
#[derive(Debug)]
pub struct BareStreams {
    streams: Streams,
}

impl BareStreams {
    /// A side whose peer grants what it grants itself.
    pub fn new(now: Instant, side: Side, config: &TransportConfig) -> Self {
        let mut streams = Streams::new(side, &config.stream_limits(1));
        let mut params = TransportParams::default();
        streams.advertise(&mut params);
        streams.set_peer_params(now, &params);
        Self { streams }
    }

    /// Takes the payload of packet `pn`.
    ///
    /// # Errors
    /// What it broke.
    pub fn take(
        &mut self,
        now: Instant,
        pn: u64,
        shape: Shape,
        payload: &Bytes,
    ) -> Result<(), TransportError> {
        for frame in Payload::read(shape, payload)? {
            self.take_frame(now, pn, &frame?, payload)?;
        }
        self.streams.end_of_packet(now)
    }

    fn take_frame(
        &mut self,
        now: Instant,
        pn: u64,
        frame: &Frame<'_>,
        payload: &Bytes,
    ) -> Result<(), TransportError> {
        let streams = &mut self.streams;
        match frame {
            Frame::Bytes(f) => streams.on_bytes(now, f, payload.slice_ref(f.data)),
            Frame::Message(f) => streams.on_message(now, pn, f, payload.slice_ref(f.data)),
            Frame::Symbol(f) => streams.on_symbol(now, f),
            Frame::Open { stream, open } => streams.on_open(now, *stream, open),
            Frame::Finish(f) => streams.on_finish(now, f),
            Frame::ResetStream(f) => streams.on_reset(now, f),
            Frame::StopSending(f) => streams.on_stop(now, f),
            Frame::Skip(f) => streams.on_skip(now, f),
            Frame::MaxData(limit) => {
                streams.on_max_data(*limit);
                Ok(())
            }
            Frame::MaxStreamData(f) => streams.on_max_stream_data(now, f),
            Frame::MaxStreams(limit) => streams.on_max_streams(now, *limit),
            Frame::Consumed(f) => streams.on_consumed(now, f),
            _ => Ok(()),
        }
    }

    /// The payload of a packet of `room` bytes; `None` when there is nothing to say.
    pub fn write(&mut self, now: Instant, room: usize) -> Option<(Shape, Vec<u8>)> {
        let (mut buffer, mut tokens) = (vec![0; room], Vec::new());
        let mut packet = PacketBuilder::new(&mut buffer, &mut tokens, true);
        self.streams.write(now, &mut packet);
        let built = packet.finish();
        buffer.truncate(built.len);
        (built.len > 0).then_some((built.shape, buffer))
    }

    /// The next stream that the peer opened.
    pub fn accept(&mut self) -> Option<StreamId> {
        self.streams.accept()
    }

    /// The next message.
    ///
    /// # Errors
    /// Why there will be none.
    pub fn recv(&mut self, now: Instant, id: StreamId) -> Result<Option<Received>, RecvError> {
        self.streams.recv(now, id)
    }

    /// The next bytes, `max` at most.
    ///
    /// # Errors
    /// Why there will be none.
    pub fn read(
        &mut self,
        now: Instant,
        id: StreamId,
        max: usize,
    ) -> Result<Option<Bytes>, RecvError> {
        self.streams.read(now, id, max)
    }

    /// Nobody reads the stream any more.
    pub fn stop(&mut self, now: Instant, id: StreamId, code: u64) {
        self.streams.stop(now, id, code);
    }

    /// Bytes in buffers.
    pub fn buffered(&self) -> u64 {
        self.streams.buffered()
    }
}
