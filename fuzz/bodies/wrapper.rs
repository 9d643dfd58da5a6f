//! What must hold of a server behind the obfuscating wrapper: what was not wrapped with its key does not
//! exist, a hello that comes again does not either, and all that it says is wrapped.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use jsp_crypto::{OBFUSCATION_LEN, ObfuscationKey, Obfuscator};
use jsp_proto::{Endpoint, Event, RetryPolicy, Route, ServerSetup, TransportConfig};
use jsp_wire::Header;

use super::host::{self, BEGIN, CONNECTIONS_MAX, Host, address};
use super::parties::parties;

/// Unix time when clocks here begin, in seconds: the middle of an hour.
const UNIX_SECONDS: u64 = 1_800_001_800;
/// Steps of one input.
const STEPS_MAX: usize = 48;
/// Clocks that differ by less than this hear each other, in seconds.
const SKEW_MAX: u64 = 1800;

fn key() -> ObfuscationKey {
    ObfuscationKey::from_bytes([7; 32])
}

fn endpoint(server: Option<ServerSetup>) -> Endpoint {
    host::endpoint(server, 5, UNIX_SECONDS).obfuscated(&key())
}

/// The first flight of a true client, as it is under the wrapping.
fn hello() -> &'static [Vec<u8>] {
    static HELLO: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    HELLO.get_or_init(|| {
        let (mut client, now) = (endpoint(None), BEGIN);
        let config = parties().client.clone();
        let route = Route::udp(address(0));
        let transport = Arc::new(TransportConfig::default());
        client.connect(now, route, config, transport).expect("a client can start");
        let flight = host::drain(&mut client, now).into_iter().map(|(_, mut datagram)| {
            let tag = Obfuscator::new(&key()).unwrap(UNIX_SECONDS, &mut datagram);
            assert!(tag.is_some(), "all that leaves is wrapped");
            datagram.split_off(OBFUSCATION_LEN)
        });
        flight.collect()
    })
}

struct World {
    host: Host,
    obfuscator: Obfuscator,
    /// Wrapped datagrams that were sent.
    history: Vec<Vec<u8>>,
    answered: usize,
}

/// The input is a list of steps. Answers how many datagrams were answered.
pub fn datagrams(data: &[u8]) -> usize {
    let mut u = Unstructured::new(data);
    let retry = match u.int_in_range(0..=3u8) {
        Ok(3) => RetryPolicy::Always,
        _ => RetryPolicy::Never,
    };
    let mut world = World {
        host: Host::new(endpoint(Some(host::setup(retry))), BEGIN),
        obfuscator: Obfuscator::new(&key()),
        history: Vec::new(),
        answered: 0,
    };
    for _ in 0..STEPS_MAX {
        if u.is_empty() || world.step(&mut u).is_err() {
            break;
        }
    }
    world.end();
    world.answered
}

impl World {
    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let from = address(u.arbitrary()?);
        match u.int_in_range(0..=7u8)? {
            // Bytes of nobody who has the key.
            0 => {
                let len = u.int_in_range(0..=64usize)?.min(u.len());
                let mut bytes = u.bytes(len)?.to_vec();
                if u.ratio(1u8, 3)? {
                    bytes.extend_from_slice(&hello()[0]);
                }
                let sent = self.deliver(from, &bytes);
                assert_eq!(sent, 0, "an answer to whoever has not the key");
            }
            1..=3 => {
                let text = self.text(u)?;
                self.send(u, from, &text)?;
            }
            4 | 5 if !self.history.is_empty() => self.send_again(u, from)?,
            6 if !self.history.is_empty() => {
                let mut damaged = u.choose(&self.history)?.clone();
                let place = u.choose_index(damaged.len())?;
                damaged[place] ^= u.int_in_range(1..=255u8)?;
                let sent = self.deliver(from, &damaged);
                assert_eq!(sent, 0, "an answer to what was changed");
            }
            _ => {
                let scale = *u.choose(&[1, 100, 10_000, 1_000_000])?;
                self.pass(Duration::from_millis(scale * u64::from(u.arbitrary::<u8>()?)));
            }
        }
        Ok(())
    }

    /// Something to wrap: zero bytes, and a piece of a hello, true or changed, or any bytes.
    fn text(&self, u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
        let mut text = vec![0; u.int_in_range(0..=40usize)?];
        if u.ratio(2u8, 3)? {
            text.extend_from_slice(u.choose(hello())?);
            if u.ratio(1u8, 4)? {
                let place = u.choose_index(text.len())?;
                text[place] ^= u.arbitrary::<u8>()?;
            }
        } else {
            let len = u.int_in_range(0..=200usize)?.min(u.len());
            text.extend_from_slice(u.bytes(len)?);
        }
        Ok(text)
    }

    /// Wraps it by a clock that may be wrong.
    fn send(&mut self, u: &mut Unstructured<'_>, from: SocketAddr, text: &[u8]) -> Result<()> {
        let skew = if u.ratio(1u8, 3)? { i64::from(u.int_in_range(-9000..=9000i16)?) } else { 0 };
        let time = self.unix_seconds().saturating_add_signed(skew);
        let mut wrapped = [&[0; OBFUSCATION_LEN], text].concat();
        assert_eq!(self.obfuscator.wrap(time, &mut wrapped), !text.is_empty());
        if text.is_empty() {
            return Ok(());
        }
        let mut opened = wrapped.clone();
        let opens = self.obfuscator.unwrap(self.unix_seconds(), &mut opened).is_some();
        assert!(opens || skew.unsigned_abs() >= SKEW_MAX, "clocks are near enough");
        assert!(!opens || opened[OBFUSCATION_LEN..] == *text);
        let sent = self.deliver(from, &wrapped);
        assert!(opens || sent == 0, "an answer to what does not unwrap");
        self.answered += usize::from(sent > 0);
        self.history.push(wrapped);
        Ok(())
    }

    /// What was sent comes once more, and once more at once: the second time nobody is there.
    fn send_again(&mut self, u: &mut Unstructured<'_>, from: SocketAddr) -> Result<()> {
        let copy = u.choose(&self.history)?.clone();
        self.deliver(from, &copy);
        let mut opened = copy.clone();
        let opens = self.obfuscator.unwrap(self.unix_seconds(), &mut opened).is_some();
        let text = &opened[OBFUSCATION_LEN..];
        let zeros = text.iter().take_while(|byte| **byte == 0).count();
        let is_short = matches!(Header::parse(&text[zeros..]), Ok(Header::Short));
        let sent = self.deliver(from, &copy);
        assert!(sent == 0 || (opens && is_short), "an answer to a copy");
        Ok(())
    }

    fn unix_seconds(&self) -> u64 {
        UNIX_SECONDS + self.host.now.as_nanos() / 1_000_000_000
    }

    /// Gives it a datagram; how many leave.
    fn deliver(&mut self, from: SocketAddr, bytes: &[u8]) -> usize {
        self.host.deliver(from, bytes);
        self.flush()
    }

    fn flush(&mut self) -> usize {
        self.read_events();
        let sent = self.host.drain();
        for (_, datagram) in &sent {
            let mut opened = datagram.clone();
            let tag = self.obfuscator.unwrap(self.unix_seconds(), &mut opened);
            assert!(tag.is_some(), "a datagram that is not wrapped");
        }
        self.read_events();
        assert!(self.host.endpoint.connection_count() <= CONNECTIONS_MAX);
        sent.len()
    }

    fn read_events(&mut self) {
        while let Some((handle, event)) = self.host.endpoint.poll_event() {
            if event == Event::Drained {
                self.host.endpoint.forget(self.host.now, handle);
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.host.now + time;
        while self.host.next_timer(Some(until)) {
            self.flush();
        }
        self.host.now = until;
        self.host.endpoint.handle_timeout(self.host.now);
        self.flush();
    }

    /// With time, everything that strangers began is forgotten.
    fn end(&mut self) {
        self.pass(Duration::from_secs(3600));
        self.host.check_over();
    }
}
