//! What must hold of two applications that do anything at any time over a wire that does anything to
//! their datagrams: nothing is delivered that was not sent, nothing twice or out of order, what is kept
//! is bounded, each message has one fate, and once the wire behaves everything reliable arrives.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use jsp_proto::{
    Class, CongestionControl, Delivery, FecPolicy, Message, NetworkHint, RetryPolicy, StreamConfig,
    TransportConfig,
};

use super::mail::Mail;
use super::world::{CLIENT, SERVER, World};

/// Steps of one input.
const STEPS_MAX: usize = 200;
/// Bytes that both applications give away together, at most.
const OFFERED_MAX: u64 = 300_000;
/// How long a well-behaved wire needs to bring what is left.
const PATIENCE: Duration = Duration::from_secs(100);

/// The input is a configuration, and a list of steps. Answers how much was delivered.
pub fn run(data: &[u8]) -> usize {
    let mut u = Unstructured::new(data);
    let Ok(world) = begin(&mut u) else { return 0 };
    let mut play = Play { world, mail: Mail::default(), offered: 0, closed: false };
    for _ in 0..STEPS_MAX {
        if u.is_empty() || play.step(&mut u).is_err() {
            break;
        }
        play.look();
    }
    play.end();
    play.mail.delivered
}

fn begin(u: &mut Unstructured<'_>) -> Result<World> {
    let retry = if u.ratio(1u8, 4)? { RetryPolicy::Always } else { RetryPolicy::Never };
    let (client, server) = (transport(u)?, transport(u)?);
    let mut world = World::new([client, server], retry);
    let len = u.int_in_range(0..=24usize)?.min(u.len());
    world.weather.extend(u.bytes(len)?);
    world.run(Duration::from_secs(3), World::is_established);
    Ok(world)
}

fn transport(u: &mut Unstructured<'_>) -> Result<TransportConfig> {
    let bits: u8 = u.arbitrary()?;
    let congestion = match bits & 3 {
        0 => CongestionControl::Cubic,
        1 => CongestionControl::RealTime,
        _ => CongestionControl::Bbr,
    };
    let small = bits & 4 != 0;
    Ok(TransportConfig {
        congestion,
        idle_timeout: Duration::from_secs(60),
        // Who moves must say something sooner or later, or its peer cannot find it.
        keep_alive: Some(Duration::from_secs(2)),
        stream_window: if small { 16_384 } else { 1 << 20 },
        connection_window: if small { 20_000 } else { 4 << 20 },
        stream_window_max: if small { 32_768 } else { 16 << 20 },
        connection_window_max: if small { 65_536 } else { 32 << 20 },
        streams_max: if bits & 8 != 0 { 4 } else { 64 },
        message_len_max: 65_536,
        key_update_packets: if bits & 16 != 0 { 40 } else { 1 << 20 },
        fec: bits & 32 == 0,
        forecast: bits & 64 == 0,
        bundling: bits & 128 == 0,
        qlog: bits & 48 == 48,
        ..TransportConfig::default()
    })
}

struct Play {
    world: World,
    mail: Mail,
    offered: u64,
    /// An application has closed.
    closed: bool,
}

impl Play {
    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let end = u.int_in_range(CLIENT..=SERVER)?;
        match u.int_in_range(0..=31u8)? {
            0..=3 => self.open(u, end)?,
            4..=7 => self.write(u, end)?,
            8..=11 => self.send(u, end)?,
            12..=14 => self.end_stream(u, end)?,
            15..=17 => self.mail.read_all(&mut self.world, end),
            18 => {
                let now = self.world.now;
                let id = self.mail.pick(u)?;
                let class = *u.choose(&Class::ALL)?;
                if let Some(connection) = self.world.connection(end) {
                    connection.set_priority(now, id, class, u.arbitrary()?);
                    connection.consumed(id, u64::from(u.arbitrary::<u8>()?));
                }
            }
            19 => {
                let now = self.world.now;
                if let Some(connection) = self.world.connection(end) {
                    connection.update_keys_now(now);
                }
            }
            20 => self.hint(u, end)?,
            21 => self.world.migrate(),
            22 => self.inject(u, end)?,
            23 if u.ratio(1u8, 8)? => {
                let now = self.world.now;
                self.closed = true;
                if let Some(connection) = self.world.connection(end) {
                    connection.close(now, 5, b"enough");
                }
            }
            24..=26 => {
                let len = u.int_in_range(1..=12usize)?.min(u.len());
                self.world.weather.extend(u.bytes(len)?);
            }
            27 => {
                let seconds = u.int_in_range(0..=5u64)?;
                self.pass(Duration::from_secs(seconds));
            }
            _ => {
                let ms = u.int_in_range(0..=200u64)?;
                self.pass(Duration::from_millis(ms));
            }
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) {
        let Self { world, mail, .. } = self;
        world.run(time, |world| {
            mail.note_events(world);
            false
        });
    }

    fn open(&mut self, u: &mut Unstructured<'_>, end: usize) -> Result<()> {
        let base = match u.int_in_range(0..=6u8)? {
            0 => StreamConfig::bytes(),
            1 => StreamConfig::messages(),
            2 => StreamConfig::voice(),
            3 => StreamConfig::video(),
            4 => StreamConfig::telemetry(),
            5 => StreamConfig::file(),
            _ => {
                let lifetime = Some(Duration::from_millis(u.int_in_range(0..=3000)?));
                let delivery = [
                    Delivery::Reliable,
                    Delivery::Unreliable,
                    Delivery::Partial { retransmits: Some(u.int_in_range(0..=3)?), lifetime },
                ];
                let delivery = *u.choose(&delivery)?;
                StreamConfig { delivery, ordered: u.arbitrary()?, ..StreamConfig::messages() }
            }
        };
        let bits: u8 = u.arbitrary()?;
        let config = StreamConfig {
            class: if bits & 1 != 0 { *u.choose(&Class::ALL)? } else { base.class },
            weight: 1 + bits / 2,
            unidirectional: bits & 2 != 0,
            rate_cap: (bits & 12 == 12).then_some(30_000),
            fec: if bits & 16 != 0 { FecPolicy::Fixed(50) } else { base.fec },
            send_buffer: if bits & 32 != 0 { 8000 } else { base.send_buffer },
            ..base
        };
        let now = self.world.now;
        if let Some(connection) = self.world.connection(end)
            && let Ok(id) = connection.open(now, config.clone())
        {
            self.mail.opened(end, id, &config);
        }
        Ok(())
    }

    fn write(&mut self, u: &mut Unstructured<'_>, end: usize) -> Result<()> {
        let (id, len) = (self.mail.pick(u)?, u.int_in_range(1..=20_000u64)?);
        if self.offered + len > OFFERED_MAX {
            return Ok(());
        }
        let (now, data) = (self.world.now, self.mail.next_bytes(end, id, len));
        if let Some(connection) = self.world.connection(end)
            && let Ok(taken) = connection.write(now, id, Bytes::from(data))
        {
            self.offered += taken as u64;
            self.mail.wrote(end, id, taken as u64);
        }
        Ok(())
    }

    fn send(&mut self, u: &mut Unstructured<'_>, end: usize) -> Result<()> {
        let id = self.mail.pick(u)?;
        let len = match u.int_in_range(0..=7u8)? {
            0 => 0,
            1 => u.int_in_range(0..=65_536u64)?,
            _ => u.int_in_range(0..=2000u64)?,
        };
        if self.offered + len > OFFERED_MAX {
            return Ok(());
        }
        let bits: u8 = u.arbitrary()?;
        let mut message = Message::binary(self.mail.next_message(end, id, len));
        message.attributes.text = bits & 1 != 0;
        message.want_fate = bits & 2 != 0;
        message.supersede_key = (bits & 12 == 12).then_some(u64::from(bits >> 7));
        message.lifetime = (bits & 48 == 48).then_some(Duration::from_millis(50));
        message.retransmits = (bits & 64 != 0).then_some(1);
        let now = self.world.now;
        if let Some(connection) = self.world.connection(end)
            && let Ok(number) = connection.send(now, id, message.clone())
        {
            self.offered += len;
            self.mail.sent(end, id, number, &message);
        }
        Ok(())
    }

    fn end_stream(&mut self, u: &mut Unstructured<'_>, end: usize) -> Result<()> {
        let (now, id, how) = (self.world.now, self.mail.pick(u)?, u.int_in_range(0..=7u8)?);
        let Some(connection) = self.world.connection(end) else { return Ok(()) };
        match how {
            0 => {
                connection.reset(now, id, 7);
                self.mail.reset(end, id);
            }
            1 => {
                connection.stop(now, id, 8);
                self.mail.stopped(end, id);
            }
            _ => {
                if connection.finish(now, id).is_ok() {
                    self.mail.finished(end, id);
                }
            }
        }
        Ok(())
    }

    fn hint(&mut self, u: &mut Unstructured<'_>, end: usize) -> Result<()> {
        let hints =
            [NetworkHint::InterfaceDown, NetworkHint::InterfaceUp, NetworkHint::RadioChanged];
        let (now, hint) = (self.world.now, *u.choose(&hints)?);
        if let Some(connection) = self.world.connection(end) {
            connection.hint(now, hint);
            connection.capacity(now);
        }
        Ok(())
    }

    /// A datagram from the past, whole or damaged, or junk.
    fn inject(&mut self, u: &mut Unstructured<'_>, end: usize) -> Result<()> {
        let from = self.world.addresses[1 - end];
        if self.world.history.is_empty() || u.ratio(1u8, 4)? {
            let len = u.int_in_range(0..=60usize)?.min(u.len());
            let junk = u.bytes(len)?.to_vec();
            self.world.deliver(end, from, &junk);
            return Ok(());
        }
        let at = u.int_in_range(0..=self.world.history.len() - 1)?;
        let (to, mut bytes) = self.world.history[at].clone();
        let place: u16 = u.arbitrary()?;
        if place & 1 != 0 {
            let place = usize::from(place >> 1) % bytes.len();
            bytes[place] ^= 1 << (place % 8);
        }
        let from = self.world.addresses[1 - to];
        self.world.deliver(to, from, &bytes);
        Ok(())
    }

    /// What must hold at any time.
    fn look(&mut self) {
        self.world.flush();
        self.world.check_amplification();
        self.mail.note_events(&mut self.world);
        for end in [CLIENT, SERVER] {
            if let Some(connection) = self.world.watched(end) {
                let buffered = connection.stats().buffered;
                assert!(buffered <= self.offered, "{buffered} of {} bytes", self.offered);
            }
        }
    }

    /// The wire behaves: what is reliable arrives, and nothing is left.
    fn end(&mut self) {
        self.world.weather.clear();
        let Self { world, mail, .. } = self;
        world.run(PATIENCE, |world| {
            mail.note_events(world);
            for end in [CLIENT, SERVER] {
                if world.has_heard(end) {
                    mail.read_all(world, end);
                }
            }
            mail.is_all_there()
        });
        if !self.closed && self.world.is_established() {
            self.mail.check_all_there();
        }
        self.world.end();
        for end in [CLIENT, SERVER] {
            self.mail.read_all(&mut self.world, end);
        }
        self.mail.note_events(&mut self.world);
        self.mail.check_fates();
    }
}
