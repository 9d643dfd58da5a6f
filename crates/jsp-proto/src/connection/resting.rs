//! A connection that rests, in few bytes. Whoever keeps many of them open pays little for those that say nothing;
//! nothing is lost by it, and it is whole again when something happens to it.

use std::collections::VecDeque;
use std::sync::Arc;

use jsp_crypto::Role;

use super::{Connection, Scratch};
use crate::cid::{LocalIds, RemoteIds};
use crate::config::TransportConfig;
use crate::control::Control;
use crate::exchange::RestingExchange;
use crate::keys::RestingKeys;
use crate::lifecycle::Lifecycle;
use crate::pack::{Pack, Packer, Unpacker, packed};
use crate::padding::Padding;
use crate::path::plural::RestingPaths;
use crate::qlog::{Qlog, Trace};
use crate::rng::SeededRng;
use crate::spaces::EarlySpaces;
use crate::streams::{RestingStreams, Side};

/// A connection that neither says nor hears anything.
pub(crate) struct Resting {
    config: Arc<TransportConfig>,
    role: Role,
    /// All that is packed, of the parts below too.
    packed: Box<[u8]>,
    exchange: RestingExchange,
    keys: RestingKeys,
    paths: RestingPaths,
    streams: RestingStreams,
    rng: SeededRng,
    qlog: Option<Box<Qlog>>,
}

/// What is packed of it.
struct Plain {
    lifecycle: Lifecycle,
    local_ids: LocalIds,
    remote_ids: RemoteIds,
    control: Control,
    trace: Trace,
}
packed!(Plain { lifecycle, local_ids, remote_ids, control, trace });

impl Connection {
    /// True when a [`Resting`] holds all that this connection is.
    pub(crate) fn can_be_laid_aside(&self) -> bool {
        let rests = self.lifecycle.is_resting() && self.lifecycle.is_established();
        let is_over = || self.early.are_over() && self.keys.can_rest() && self.exchange.can_rest();
        let is_heard = || self.events.is_empty() && self.streams.is_heard();
        let is_padded = self.config.padding != Padding::None;
        let are_ids = || self.local_ids.can_rest() && self.remote_ids.can_rest();
        let is_plain = || !is_padded && self.paths.can_rest() && are_ids();
        rests && self.is_confirmed() && is_over() && is_heard() && is_plain()
    }

    /// The connection in few bytes: see [`Connection::can_be_laid_aside`].
    pub(crate) fn into_resting(mut self) -> Resting {
        let qlog = self.trace.take_apart();
        let plain = Plain {
            lifecycle: self.lifecycle,
            local_ids: self.local_ids,
            remote_ids: self.remote_ids,
            control: self.control,
            trace: self.trace,
        };
        let mut packer = Packer::default();
        plain.pack(&mut packer);
        Resting {
            config: self.config,
            role: self.role,
            qlog,
            exchange: self.exchange.into_resting(&mut packer),
            keys: self.keys.into_resting(),
            paths: self.paths.into_resting(&mut packer),
            streams: self.streams.into_resting(&mut packer),
            rng: self.rng,
            packed: packer.finish(),
        }
    }
}

impl Resting {
    /// The connection as it was.
    pub(crate) fn into_connection(self) -> Connection {
        let config = self.config;
        let side = match self.role {
            Role::Client => Side::Client,
            Role::Server => Side::Server,
        };
        let packed = &mut Unpacker::new(&self.packed);
        let Plain { lifecycle, local_ids, remote_ids, control, mut trace } = Plain::unpack(packed);
        trace.put_back(self.qlog);
        let exchange = self.exchange.into_exchange(packed);
        let paths = self.paths.into_paths(packed, &config.padding);
        let limits = |hash_key| config.stream_limits(hash_key);
        Connection {
            streams: self.streams.into_streams(packed, side, limits),
            role: self.role,
            lifecycle,
            exchange,
            keys: self.keys.into_keyring(),
            early: EarlySpaces::over(),
            paths,
            local_ids,
            remote_ids,
            control,
            events: VecDeque::new(),
            rng: self.rng,
            trace,
            scratch: Scratch::default(),
            config,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::fmt::Write;
    use core::time::Duration;

    use bytes::BytesMut;
    use jsp_wire::Instant;

    use super::super::tests::{NOW, address, pair};
    use super::*;
    use crate::{Batch, ConnectionHandle, Datagram, Endpoint};
    use crate::{Message, StreamConfig};

    /// All that is packed of a connection.
    fn portrait(connection: &Connection) -> String {
        let path = &connection.paths.active;
        let mut text = format!("{:?}\n{:?} {:?}\n", connection.streams, path.id, path.route);
        let ways = (path.is_validated, path.usage, path.duty, &path.probes, path.budget);
        let numbers = (&path.numbers.window, &path.numbers.acks, &path.numbers.numbers);
        writeln!(text, "{ways:?}\n{numbers:?}\n{:?}", path.numbers.recovery).unwrap();
        writeln!(text, "{:?}\n{:?}\n{:?}", path.rtt, path.congestion, path.pacer).unwrap();
        writeln!(text, "{:?} {:?} {:?}", path.trickle, path.hold, path.delivery).unwrap();
        writeln!(text, "{:?}\n{:?}\n{:?}", path.mtud, path.ecn, path.owd).unwrap();
        writeln!(text, "{:?}\n{:?}\n{:?}", path.forecast, path.meter, path.rates).unwrap();
        writeln!(text, "{:?} {:?}", path.silence, path.ack_request).unwrap();
        let exchange = &connection.exchange;
        writeln!(text, "{:?} {:?}", exchange.peer, exchange.early_data).unwrap();
        writeln!(text, "{:?}", exchange.session.portrait()).unwrap();
        let due = connection.lifecycle.poll_timeout(connection.pto());
        writeln!(text, "{:?} {due:?}", exchange.ids().original_destination).unwrap();
        writeln!(text, "{:?}", connection.trace.traffic()).unwrap();
        let ids: Vec<_> = connection.local_ids.all().collect();
        writeln!(text, "{ids:?} {:?}", connection.remote_ids.current()).unwrap();
        text
    }

    type Ends = [(Endpoint, ConnectionHandle); 2];

    /// Carries everything both ways, at once.
    fn carry(ends: &mut Ends, now: Instant) {
        let mut batch = Batch::new(0, 1);
        let mut any = true;
        while any {
            any = false;
            for from in [0, 1] {
                while ends[from].0.poll_transmit(now, &mut batch) {
                    let payload = BytesMut::from(batch.contents());
                    let route = address(from as u8 + 1);
                    ends[1 - from].0.handle_datagram(now, Datagram { route, ecn: None, payload });
                    batch.clear();
                    any = true;
                }
            }
        }
    }

    /// Messages both ways, a few milliseconds apart; the stream is finished at the end, or not.
    fn talk(ends: &mut Ends, finish: bool) -> Instant {
        let mut now = NOW;
        let [(client, at), _] = ends;
        let stream = client.connection(*at).unwrap().open(now, StreamConfig::chat()).unwrap();
        for round in 0..60 {
            now = now + Duration::from_millis(7);
            let last = finish && round == 59;
            for (endpoint, handle) in ends.iter_mut() {
                let connection = endpoint.connection(*handle).unwrap();
                let message = Message::binary(vec![1; 300 * (round % 9)]);
                if round > 0 || connection.role == Role::Client {
                    connection.send(now, stream, message).unwrap();
                }
                if last {
                    connection.finish(now, stream).unwrap();
                }
            }
            carry(ends, now);
            now = now + Duration::from_millis(3);
            for (endpoint, handle) in ends.iter_mut() {
                endpoint.handle_timeout(now);
                let connection = endpoint.connection(*handle).unwrap();
                let _ = connection.accept();
                while let Ok(Some(_)) = connection.recv(now, stream) {}
                while endpoint.poll_event().is_some() {}
            }
            carry(ends, now);
        }
        now
    }

    /// Lets time pass until both rest.
    fn rest(ends: &mut Ends, mut now: Instant) -> Instant {
        let until = now + Duration::from_secs(4);
        while now < until {
            now = now + Duration::from_millis(50);
            for (endpoint, _) in ends.iter_mut() {
                endpoint.handle_timeout(now);
                while endpoint.poll_event().is_some() {}
            }
            carry(ends, now);
        }
        now
    }

    #[test]
    fn a_connection_that_was_laid_aside_is_what_it_was() {
        for finish in [false, true] {
            let mut ends = pair();
            let now = talk(&mut ends, finish);
            rest(&mut ends, now);
            for (endpoint, handle) in &mut ends {
                assert!(endpoint.is_laid_aside(*handle));
                let before = endpoint.take(*handle).unwrap();
                assert!(before.can_be_laid_aside());
                let (known, stats) = (portrait(&before), before.stats());
                let resting = before.into_resting();
                let is_blank = matches!(resting.streams, RestingStreams::Blank);
                assert_eq!(is_blank, finish, "without streams they are few bytes");
                let after = resting.into_connection();
                assert_eq!(portrait(&after), known);
                assert_eq!(after.stats(), stats);
                assert!(stats.rtt_min < Duration::from_millis(10) && stats.traffic.bytes_sent > 0);
            }
        }
    }

    #[test]
    fn whoever_speaks_to_it_finds_it_whole() {
        let mut ends = pair();
        let now = talk(&mut ends, true);
        let now = rest(&mut ends, now);
        let [(client, at), (server, with)] = &mut ends;
        assert!(client.is_laid_aside(*at) && server.is_laid_aside(*with));
        let connection = client.connection(*at).unwrap();
        let stream = connection.open(now, StreamConfig::chat()).unwrap();
        connection.send(now, stream, Message::text("still there")).unwrap();
        carry(&mut ends, now);
        let [(client, at), (server, with)] = &mut ends;
        assert!(!client.is_laid_aside(*at) && !server.is_laid_aside(*with));
        let connection = server.connection(*with).unwrap();
        assert_eq!(connection.accept(), Some(stream));
        assert_eq!(&connection.recv(now, stream).unwrap().unwrap().payload[..], b"still there");
    }
}
