//! What must hold of a connection whose peer says anything at all under the right keys: no panic, no
//! fault that it calls its own, bounded buffers, and an end.

use std::net::SocketAddr;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use jsp_proto::{
    CloseCode, CloseReason, Event, Framing, Message, RetryPolicy, StreamConfig, TransportConfig,
};

use super::frames::{self, Speech};
use super::world::{CLIENT, SERVER, World};

/// Steps of one input.
const STEPS_MAX: usize = 120;
/// Bytes that one end gives its own connection, at most; the peer's come on top.
const OFFERED_MAX: usize = 200_000;
/// Bytes that a connection may keep: its windows, its unreliable streams, and what it was given.
const BUFFERED_MAX: u64 = 4_000_000;

fn transport() -> TransportConfig {
    TransportConfig {
        stream_window: 20_000,
        stream_window_max: 40_000,
        connection_window: 50_000,
        connection_window_max: 100_000,
        streams_max: 16,
        message_len_max: 65_536,
        unreliable_buffer: 30_000,
        ..TransportConfig::default()
    }
}

/// The input is a list of steps, each of which either end may take. Answers how many payloads a
/// connection took without a complaint.
pub fn run(data: &[u8]) -> usize {
    let mut play = Play { world: established(), taken: 0, offered: [0; 2] };
    let mut u = Unstructured::new(data);
    for _ in 0..STEPS_MAX {
        if u.is_empty() || play.step(&mut u).is_err() {
            break;
        }
        play.look();
    }
    play.world.end();
    play.look();
    play.taken
}

fn established() -> World {
    let mut world = World::new([transport(), transport()], RetryPolicy::Never);
    world.run(Duration::from_millis(200), |_| false);
    assert!(world.is_established());
    world
}

struct Play {
    world: World,
    taken: usize,
    offered: [usize; 2],
}

impl Play {
    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let end = u.int_in_range(CLIENT..=SERVER)?;
        match u.int_in_range(0..=15u8)? {
            0..=7 => self.say(u, end)?,
            8 => self.open(u, end)?,
            9 => self.offer(u, end)?,
            10 => self.read(end),
            11 => {
                let (now, id) = (self.world.now, jsp_proto::StreamId(u.int_in_range(0..=12u64)?));
                let kind = u.int_in_range(0..=3u8)?;
                if let Some(connection) = self.world.connection(end) {
                    match kind {
                        0 => connection.reset(now, id, 7),
                        1 => connection.stop(now, id, 8),
                        2 => {
                            let _refused = connection.finish(now, id);
                        }
                        _ => connection.consumed(id, 3),
                    }
                }
            }
            12 => {
                let now = self.world.now;
                if let Some(connection) = self.world.connection(end) {
                    connection.update_keys_now(now);
                }
            }
            13 => self.world.weather.extend(u.arbitrary::<[u8; 8]>()?),
            _ => {
                let ms = u.int_in_range(0..=400u64)?;
                self.world.run(Duration::from_millis(ms), |_| false);
            }
        }
        Ok(())
    }

    /// An end says something that it never would; its peer hears it, at times twice or from elsewhere.
    fn say(&mut self, u: &mut Unstructured<'_>, end: usize) -> Result<()> {
        let (now, peer) = (self.world.now, 1 - end);
        let (tame, mut near) = (!u.ratio(1u8, 40)?, vec![20_000, 50_000, 65_536]);
        for end in [end, peer] {
            let Some(connection) = self.world.connection(end) else { return Ok(()) };
            near.push(connection.stats().traffic.packets_sent);
        }
        // Some of its packets belonged to the handshake.
        let heard = near.last().map_or(0, |sent| sent.saturating_sub(4));
        let speech = Speech { near: &near, heard, by_server: end == SERVER, tame };
        let (shape, payload) = frames::payload(u, &speech)?;
        let how = u.int_in_range(0..=15u8)?;
        let Some(connection) = self.world.connection(end) else { return Ok(()) };
        let Some(packet) = connection.forge(now, shape, &payload) else { return Ok(()) };
        let from = match how {
            0 => SocketAddr::from(([203, 0, 113, 9], 9)),
            _ => self.world.addresses[end],
        };
        for _ in 0..=u8::from(how == 1) {
            self.world.deliver(peer, from, &packet);
        }
        let is_open = |connection: &mut jsp_proto::Connection| !connection.is_closed();
        self.taken += usize::from(self.world.connection(peer).is_some_and(is_open));
        Ok(())
    }

    fn open(&mut self, u: &mut Unstructured<'_>, end: usize) -> Result<()> {
        let profile = frames::profile(u)?;
        let base = match profile.framing {
            Framing::Bytes => StreamConfig::bytes(),
            Framing::Messages if profile.ordered => StreamConfig::messages(),
            Framing::Messages => StreamConfig::telemetry(),
        };
        let config =
            StreamConfig { class: profile.class, unidirectional: profile.unidirectional, ..base };
        let now = self.world.now;
        if let Some(connection) = self.world.connection(end) {
            let _refused = connection.open(now, config);
        }
        Ok(())
    }

    fn offer(&mut self, u: &mut Unstructured<'_>, end: usize) -> Result<()> {
        let id = jsp_proto::StreamId(u.int_in_range(0..=12u64)?);
        let len = u.int_in_range(0..=5000usize)?;
        if self.offered[end] + len > OFFERED_MAX {
            return Ok(());
        }
        self.offered[end] += len;
        let (now, data) = (self.world.now, Bytes::from(vec![9; len]));
        if let Some(connection) = self.world.connection(end)
            && connection.write(now, id, data.clone()).is_err()
        {
            let _refused = connection.send(now, id, Message::binary(data).with_fate());
        }
        Ok(())
    }

    fn read(&mut self, end: usize) {
        let now = self.world.now;
        let Some(connection) = self.world.connection(end) else { return };
        while connection.accept().is_some() {}
        for id in (0..16).map(jsp_proto::StreamId) {
            while let Ok(Some(_)) = connection.read(now, id, 10_000) {}
            while let Ok(Some(_)) = connection.recv(now, id) {}
        }
    }

    /// What must hold at any time.
    fn look(&mut self) {
        self.world.flush();
        self.world.check_amplification();
        while let Some((_, event)) = self.world.events.pop_front() {
            if let Event::Closed { reason: CloseReason::LocalError(error) } = event {
                assert_ne!(error.code, CloseCode::INTERNAL, "{error}");
            }
        }
        for end in [CLIENT, SERVER] {
            if let Some(connection) = self.world.watched(end) {
                let buffered = connection.stats().buffered;
                assert!(buffered <= BUFFERED_MAX, "{buffered} bytes are kept");
            }
        }
    }
}
