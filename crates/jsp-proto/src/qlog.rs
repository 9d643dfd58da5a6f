//! What happened, for people and for tools: counters, and qlog 0.3 events in JSON-SEQ
//! (draft-ietf-quic-qlog-main-schema-02, RFC 7464) that qvis opens.

use core::fmt::Write;

use jsp_crypto::{Role, Security};
use jsp_wire::{ConnectionId, Instant};

use crate::config::TransportConfig;
use crate::event::CloseReason;
use crate::keys::SpaceId;
use crate::pack::packed;
use crate::path::Path;
use crate::stats::Traffic;
use crate::token::{StreamPart, Token};

/// Text that may wait to be taken, in bytes; further events are dropped until it is.
const TEXT_LEN_MAX: usize = 4 << 20;

/// Counters, and the event text if it is wanted.
pub(crate) struct Trace {
    traffic: Traffic,
    qlog: Option<Box<Qlog>>,
}
packed!(Trace { traffic; qlog });

/// The event text.
pub(crate) struct Qlog {
    text: String,
    start: Instant,
}

impl Trace {
    pub(crate) fn new(
        config: &TransportConfig,
        role: Role,
        original_id: &ConnectionId,
        now: Instant,
    ) -> Self {
        let qlog = config.qlog.then(|| {
            let vantage = if role == Role::Client { "client" } else { "server" };
            let text = format!(
                "\u{1e}{{\"qlog_format\":\"JSON-SEQ\",\"qlog_version\":\"0.3\",\
                 \"title\":\"JetStreamProto\",\"trace\":{{\"vantage_point\":{{\"type\":\"{vantage}\"}},\
                 \"common_fields\":{{\"ODCID\":\"{original_id}\",\"time_format\":\"relative\",\
                 \"reference_time\":0}}}}}}\n"
            );
            Box::new(Qlog { text, start: now })
        });
        Self { traffic: Traffic::default(), qlog }
    }

    /// Takes out what is not packed.
    pub(crate) fn take_apart(&mut self) -> Option<Box<Qlog>> {
        self.qlog.take()
    }

    /// Puts it back.
    pub(crate) fn put_back(&mut self, qlog: Option<Box<Qlog>>) {
        self.qlog = qlog;
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// The text so far.
    pub(crate) fn take(&mut self) -> String {
        self.qlog.as_mut().map(|qlog| core::mem::take(&mut qlog.text)).unwrap_or_default()
    }

    pub(crate) fn datagram_sent(&mut self, len: usize) {
        self.traffic.datagrams_sent = self.traffic.datagrams_sent.saturating_add(1);
        self.traffic.bytes_sent = self.traffic.bytes_sent.saturating_add(len as u64);
    }

    /// A repair of so many bytes left; none did when there are none.
    pub(crate) fn repair_sent(&mut self, len: usize) {
        self.traffic.repairs_sent = self.traffic.repairs_sent.saturating_add(u64::from(len > 0));
        self.traffic.repair_bytes_sent = self.traffic.repair_bytes_sent.saturating_add(len as u64);
    }

    pub(crate) fn probe_timed_out(&mut self) {
        self.traffic.probe_timeouts = self.traffic.probe_timeouts.saturating_add(1);
    }

    /// Bytes that serve only to tell observers less.
    pub(crate) fn padding_sent(&mut self, len: usize) {
        self.traffic.padding_bytes_sent =
            self.traffic.padding_bytes_sent.saturating_add(len as u64);
    }

    pub(crate) fn packet_recovered(&mut self) {
        self.traffic.packets_recovered = self.traffic.packets_recovered.saturating_add(1);
    }

    pub(crate) fn datagram_received(&mut self, len: usize) {
        self.traffic.datagrams_received = self.traffic.datagrams_received.saturating_add(1);
        self.traffic.bytes_received = self.traffic.bytes_received.saturating_add(len as u64);
    }

    pub(crate) fn packet_sent(
        &mut self,
        now: Instant,
        space: SpaceId,
        pn: u64,
        len: usize,
        tokens: &[Token],
    ) {
        self.traffic.packets_sent = self.traffic.packets_sent.saturating_add(1);
        let Some(qlog) = &mut self.qlog else { return };
        let mut frames = String::new();
        for token in tokens {
            let separator = if frames.is_empty() { "" } else { "," };
            frames.push_str(separator);
            write_frame(&mut frames, token);
        }
        qlog.event(
            now,
            "transport:packet_sent",
            format_args!(
                "{{\"header\":{{\"packet_type\":\"{}\",\"packet_number\":{pn}}},\
                 \"raw\":{{\"length\":{len}}},\"frames\":[{frames}]}}",
                packet_type(space)
            ),
        );
    }

    pub(crate) fn packet_received(&mut self, now: Instant, space: SpaceId, pn: u64, len: usize) {
        let Some(qlog) = &mut self.qlog else { return };
        qlog.event(
            now,
            "transport:packet_received",
            format_args!(
                "{{\"header\":{{\"packet_type\":\"{}\",\"packet_number\":{pn}}},\
                 \"raw\":{{\"length\":{len}}}}}",
                packet_type(space)
            ),
        );
    }

    pub(crate) fn packets_lost(&mut self, now: Instant, packets: u32) {
        self.traffic.packets_lost = self.traffic.packets_lost.saturating_add(u64::from(packets));
        let Some(qlog) = &mut self.qlog else { return };
        qlog.event(
            now,
            "recovery:packet_lost",
            format_args!("{{\"header\":{{\"packet_type\":\"1RTT\"}},\"count\":{packets}}}"),
        );
    }

    pub(crate) fn metrics(&mut self, now: Instant, path: &Path, in_flight: u64) {
        let Some(qlog) = &mut self.qlog else { return };
        qlog.event(
            now,
            "recovery:metrics_updated",
            format_args!(
                "{{\"smoothed_rtt\":{},\"min_rtt\":{},\"latest_rtt\":{},\"rtt_variance\":{},\
                 \"congestion_window\":{},\"bytes_in_flight\":{in_flight}}}",
                Millis(path.rtt.smoothed()),
                Millis(path.rtt.min()),
                Millis(path.rtt.latest()),
                Millis(path.rtt.var()),
                path.congestion.window()
            ),
        );
    }

    pub(crate) fn established(&mut self, now: Instant, security: Option<&Security>) {
        let (Some(qlog), Some(security)) = (&mut self.qlog, security) else { return };
        qlog.event(
            now,
            "connectivity:connection_state_updated",
            format_args!(
                "{{\"new\":\"handshake_confirmed\",\"suite\":\"{:?}\",\"kem\":\"{:?}\"}}",
                security.suite, security.kem
            ),
        );
    }

    pub(crate) fn closed(&mut self, now: Instant, reason: &CloseReason) {
        let Some(qlog) = &mut self.qlog else { return };
        let mut text = String::new();
        escape(&mut text, &reason.to_string());
        qlog.event(
            now,
            "connectivity:connection_closed",
            format_args!("{{\"reason\":\"{text}\"}}"),
        );
    }
}

impl Qlog {
    fn event(&mut self, now: Instant, name: &str, data: core::fmt::Arguments<'_>) {
        if self.text.len() > TEXT_LEN_MAX {
            return;
        }
        let time = Millis(now.since(self.start));
        let record = "\u{1e}{\"time\":";
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{record}{time},\"name\":\"{name}\",\"data\":{data}}}");
    }
}

/// A duration as milliseconds with microseconds behind the point.
struct Millis(core::time::Duration);

impl core::fmt::Display for Millis {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1000, micros % 1000)
    }
}

const fn packet_type(space: SpaceId) -> &'static str {
    match space {
        SpaceId::Initial => "initial",
        SpaceId::Handshake => "handshake",
        SpaceId::Data => "1RTT",
    }
}

/// Frames under the names that qvis draws; what QUIC has no name for keeps its own.
fn write_frame(out: &mut String, token: &Token) {
    let result = match token {
        Token::Ack { largest, .. } => {
            write!(out, "{{\"frame_type\":\"ack\",\"acked_ranges\":[[{largest},{largest}]]}}")
        }
        Token::Handshake { offset, len } => {
            write!(out, "{{\"frame_type\":\"crypto\",\"offset\":{offset},\"length\":{len}}}")
        }
        Token::Stream(token) => match token.what {
            StreamPart::Bytes { offset, len, fin } => write!(
                out,
                "{{\"frame_type\":\"stream\",\"stream_id\":{},\"offset\":{offset},\"length\":{len},\"fin\":{fin}}}",
                token.stream
            ),
            StreamPart::Message { number, offset, len, fin, .. } => write!(
                out,
                "{{\"frame_type\":\"stream\",\"stream_id\":{},\"message\":{number},\"offset\":{offset},\"length\":{len},\"fin\":{fin}}}",
                token.stream
            ),
            StreamPart::Messages { first, count, len } => write!(
                out,
                "{{\"frame_type\":\"stream\",\"stream_id\":{},\"message\":{first},\"messages\":{count},\"length\":{len}}}",
                token.stream
            ),
            _ => {
                write!(out, "{{\"frame_type\":\"stream_control\",\"stream_id\":{}}}", token.stream)
            }
        },
        Token::Credit(_) => write!(out, "{{\"frame_type\":\"max_data\"}}"),
        Token::NewConnectionId { sequence } => {
            write!(out, "{{\"frame_type\":\"new_connection_id\",\"sequence_number\":{sequence}}}")
        }
        Token::RetireConnectionId { sequence } => {
            write!(
                out,
                "{{\"frame_type\":\"retire_connection_id\",\"sequence_number\":{sequence}}}"
            )
        }
        Token::AckFrequency { .. } => write!(out, "{{\"frame_type\":\"ack_frequency\"}}"),
        Token::PathChallenge => write!(out, "{{\"frame_type\":\"path_challenge\"}}"),
        Token::HandshakeDone => write!(out, "{{\"frame_type\":\"handshake_done\"}}"),
        Token::Ticket => write!(out, "{{\"frame_type\":\"ticket\"}}"),
        Token::Exchange { .. } => write!(out, "{{\"frame_type\":\"exchange\"}}"),
        Token::PathAbandon { .. } => write!(out, "{{\"frame_type\":\"path_abandon\"}}"),
        Token::PathStatus { .. } => write!(out, "{{\"frame_type\":\"path_status\"}}"),
        Token::MtuProbe { .. } => write!(out, "{{\"frame_type\":\"ping\"}}"),
    };
    // Writing to a String cannot fail.
    let _ = result;
}

/// Text inside a JSON string (RFC 8259, section 7).
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 => out.push(' '),
            c => out.push(c),
        }
    }
}
