//! Early data: which streams may send before the handshake is complete, and what may come then.

use jsp_wire::{CloseCode, Frame, Instant, StreamId, TransportParams};

use super::Streams;
use super::credit::{MESSAGE_LEN_ALWAYS, WINDOW_MIN};
use super::table::{Key, Standing};
use crate::error::TransportError;

/// Whether the peer's limits are known, or only remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Phase {
    /// Nothing is known.
    #[default]
    Before,
    /// What the peer allowed the last time holds for streams that are replay-safe.
    Early,
    /// The peer has spoken.
    Over,
}

const NOT_EARLY: TransportError = TransportError::new(
    CloseCode::EARLY_DATA,
    "a 0-RTT packet holds a frame that is not for a replay-safe stream",
);

impl Streams {
    /// Replay-safe streams may send from here on, under the limits of the last connection.
    /// What may be refused must find room in the smallest windows that the peer can have come to, and be as long as
    /// everybody takes.
    // spec: STR-16, STR-51
    pub(crate) fn begin_early(&mut self, now: Instant, remembered: &TransportParams) {
        let params = TransportParams {
            data_max: remembered.data_max.min(WINDOW_MIN),
            stream_data_max: remembered.stream_data_max.min(WINDOW_MIN),
            message_len_max: remembered.message_len_max.min(MESSAGE_LEN_ALWAYS),
            ..*remembered
        };
        self.set_peer_params(now, &params);
        self.early = Phase::Early;
    }

    /// Early data were refused: the peer's limits are what it says now, and no more.
    // spec: STR-51
    pub(crate) fn forget_remembered(&mut self, now: Instant, params: &TransportParams) {
        self.credit.set_limit(params.data_max);
        self.local_streams.limit = params.streams_max;
        self.scheduler.clear();
        self.control.clear();
        self.opens.clear();
        self.blocked.clear();
        for (_, stream) in self.table.iter_mut() {
            stream.send.limit = params.stream_data_max;
            stream.in_line = false;
            stream.in_control = false;
            stream.in_opens = false;
            stream.in_blocked = false;
            stream.in_capped = false;
        }
        self.set_peer_params(now, params);
    }

    pub(super) fn is_early(&self) -> bool {
        self.early == Phase::Early
    }

    /// Nothing of the stream may be sent now: it is not replay-safe, or the peer allows fewer streams
    /// than it was remembered to.
    // spec: STR-50
    pub(super) fn is_held(&self, key: Key) -> bool {
        if !self.is_early() && self.local_streams.next <= self.local_streams.limit {
            return false;
        }
        let Some(stream) = self.table.get(key) else { return false };
        let is_over_limit = stream.is_local
            && stream.id != StreamId::SIGNALLING
            && Self::ordinal(stream.id) >= self.local_streams.limit;
        is_over_limit || (self.is_early() && !stream.is_replay_safe)
    }

    /// Lets streams go on that were held.
    pub(super) fn release_held(&mut self, now: Instant) {
        let keys: Vec<Key> = self.table.iter_mut().map(|(key, _)| key).collect();
        for key in keys {
            let owes = self.table.get(key).map_or(0, |stream| stream.owes);
            if owes != 0 {
                self.owe(key, owes);
            }
            self.refresh(now, key);
        }
    }

    /// Whether a frame may come in a 0-RTT packet.
    // spec: CON-53
    pub(crate) fn check_early_frame(&mut self, frame: &Frame<'_>) -> Result<(), TransportError> {
        let (stream, open) = match frame {
            Frame::Padding(_) | Frame::Ping => return Ok(()),
            Frame::Bytes(f) => (f.stream, f.open.as_ref()),
            Frame::Message(f) => (f.stream, f.open.as_ref()),
            Frame::Open { stream, open } => (*stream, Some(open)),
            Frame::Finish(f) | Frame::StopSending(f) | Frame::StreamDataBlocked(f) => {
                (f.stream, None)
            }
            Frame::ResetStream(f) => (f.stream, None),
            Frame::Skip(f) => (f.stream, None),
            _ => return Err(NOT_EARLY),
        };
        if let Some((_, known)) = self.table.find(stream) {
            return if known.is_replay_safe { Ok(()) } else { Err(NOT_EARLY) };
        }
        let is_bare_reset = matches!(frame, Frame::ResetStream(_));
        let is_over = self.peer_streams.standing(Self::ordinal(stream)) == Standing::Seen;
        let opens = open.is_some_and(super::opening::is_replay_safe);
        if opens || is_bare_reset || is_over { Ok(()) } else { Err(NOT_EARLY) }
    }
}

#[cfg(test)]
mod tests {
    use jsp_wire::frame::{BytesFrame, StreamLimit};
    use jsp_wire::{Open, tlv};

    use super::super::Side;
    use super::super::StreamEvent;
    use super::super::config::{Message, StreamConfig, StreamLimits};
    use super::*;
    use crate::error::SendError;

    /// Bytes of a stream with this opening, if any.
    fn bytes<'a>(stream: StreamId, open: Option<Open<'a>>) -> Frame<'a> {
        Frame::Bytes(BytesFrame { stream, offset: 0, data: b"x", fin: false, open, to_end: false })
    }

    #[test]
    /// spec-test: CON-53
    fn only_frames_of_replay_safe_streams_may_come_early() {
        let mut server = Streams::new(Side::Server, &StreamLimits::default());
        let mut room = [0; 8];
        let mut writer = jsp_wire::Writer::new(&mut room);
        tlv::write(&mut writer, jsp_wire::stream::open_id::REPLAY_SAFE, &[]).unwrap();
        let profile = StreamConfig::bytes().profile();
        let safe = Open { profile, params: writer.written() };
        let plain = Open { profile, params: &[] };
        let (one, two, three) =
            (StreamId::new(1, false), StreamId::new(2, false), StreamId::new(3, false));
        let allowed = [bytes(one, Some(safe)), Frame::Ping, Frame::Padding(3)];
        let limit = StreamLimit { stream: two, value: 0 };
        let refused = [
            bytes(two, Some(plain)),
            bytes(two, None),
            bytes(StreamId::SIGNALLING, None),
            Frame::Open { stream: two, open: plain },
            Frame::Finish(limit),
            Frame::MaxData(1),
            Frame::MaxStreams(1),
            Frame::MaxStreamData(limit),
            Frame::HandshakeDone,
            Frame::PathChallenge([0; 8]),
            Frame::Ticket(b""),
            Frame::Exchange(b""),
            Frame::ImmediateAck,
        ];
        for frame in allowed {
            assert_eq!(server.check_early_frame(&frame), Ok(()), "{frame:?}");
        }
        for frame in refused {
            let error = server.check_early_frame(&frame).unwrap_err();
            assert_eq!(error.code, CloseCode::EARLY_DATA, "{frame:?}");
        }
        // A stream that is known needs no opening; how it was opened counts.
        server.on_open(Instant::ZERO, one, &safe).unwrap();
        server.on_open(Instant::ZERO, three, &plain).unwrap();
        assert_eq!(server.check_early_frame(&bytes(one, None)), Ok(()));
        assert!(server.check_early_frame(&bytes(three, None)).is_err());
    }

    #[test]
    /// spec-test: STR-16, STR-51
    fn early_messages_are_as_long_as_every_server_takes() {
        let long = TransportParams { message_len_max: 1 << 20, ..TransportParams::default() };
        let short = TransportParams { message_len_max: 0, ..long };
        for told in [long, short] {
            let mut client = Streams::new(Side::Client, &StreamLimits::default());
            let remembered = TransportParams { streams_max: 8, ..long };
            client.begin_early(Instant::ZERO, &remembered);
            let config = StreamConfig { replay_safe: true, ..StreamConfig::messages() };
            let id = client.open(Instant::ZERO, &config).unwrap();
            let send = |client: &mut Streams, len| {
                client.send(Instant::ZERO, id, Message::binary(vec![0; len]))
            };
            assert_eq!(send(&mut client, 65_536), Ok(0));
            assert_eq!(send(&mut client, 65_537), Err(SendError::WouldBlock));
            // The server may have come to less than it told before.
            client.forget_remembered(Instant::ZERO, &told);
            let told_again = core::iter::from_fn(|| client.poll_event()).collect::<Vec<_>>();
            assert!(told_again.contains(&StreamEvent::Writable(id)), "{told_again:?}");
            assert_eq!(send(&mut client, 65_537).is_ok(), told == long);
        }
    }
}
