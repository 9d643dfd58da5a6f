//! The part of STUN (RFC 8489) that asks a server for the address that it sees: a thin codec of our
//! own, so that what is sent follows from the caller's randomness and needs no cryptography. What
//! authenticates is in [`crate::turn`].

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use jsp_wire::{Instant, Reader};

use crate::{Entropy, Outgoing};

/// Fixed bytes of every message (RFC 8489, section 5).
const MAGIC: u32 = 0x2112_a442;
pub(crate) const HEADER_LEN: usize = 20;
/// The longest message that is looked at.
const MESSAGE_LEN_MAX: usize = 548;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;

pub(crate) const MAPPED_ADDRESS: u16 = 0x0001;
pub(crate) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const RESPONSE_PORT: u16 = 0x0027;
const FINGERPRINT: u16 = 0x8028;
/// RFC 5780, section 7.4: another address of the server.
const OTHER_ADDRESS: u16 = 0x802c;
/// What the check sum is mixed with (RFC 8489, section 14.7).
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// A transaction's name: 96 bits.
pub type TransactionId = [u8; 12];

/// A Binding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its name.
    pub transaction: TransactionId,
    /// The answer is wanted at this port of the same host (RFC 5780, section 7.5).
    pub response_port: Option<u16>,
}

/// A successful answer to a Binding request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The request's name.
    pub transaction: TransactionId,
    /// Where the server saw the request come from.
    pub mapped: SocketAddr,
    /// Another address of the server.
    pub other: Option<SocketAddr>,
}

impl Request {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = begin(BINDING_REQUEST, &self.transaction);
        if let Some(port) = self.response_port {
            let [high, low] = port.to_be_bytes();
            attribute(&mut out, RESPONSE_PORT, &[high, low, 0, 0]);
        }
        finish(out)
    }

    /// Reads one; `None` when it is none, or asks for what it must and is not known.
    // spec: RDV-6
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (kind, transaction, attributes) = open(message)?;
        if kind != BINDING_REQUEST {
            return None;
        }
        let mut response_port = None;
        for (kind, value) in Attributes(Reader::new(attributes)) {
            match kind {
                RESPONSE_PORT => {
                    let bytes = value.first_chunk::<2>()?;
                    response_port = Some(u16::from_be_bytes(*bytes)).filter(|port| *port != 0);
                }
                // What must be understood, and is not.
                0..=0x7fff => return None,
                _ => {}
            }
        }
        Some(Self { transaction, response_port })
    }
}

impl Response {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = begin(BINDING_SUCCESS, &self.transaction);
        attribute(&mut out, XOR_MAPPED_ADDRESS, &address(self.mapped, Some(&self.transaction)));
        if let Some(other) = self.other {
            attribute(&mut out, OTHER_ADDRESS, &address(other, None));
        }
        finish(out)
    }

    /// Reads one; `None` when it is none, or names no address.
    pub fn decode(message: &[u8]) -> Option<Self> {
        let (kind, transaction, attributes) = open(message)?;
        if kind != BINDING_SUCCESS {
            return None;
        }
        let (mut mapped, mut plain, mut other) = (None, None, None);
        for (kind, value) in Attributes(Reader::new(attributes)) {
            match kind {
                XOR_MAPPED_ADDRESS => {
                    mapped = mapped.or_else(|| read_address(value, Some(&transaction)));
                }
                MAPPED_ADDRESS => plain = plain.or_else(|| read_address(value, None)),
                OTHER_ADDRESS => other = other.or_else(|| read_address(value, None)),
                _ => {}
            }
        }
        Some(Self { transaction, mapped: mapped.or(plain)?, other })
    }
}

/// The longest answer, in lengths of the request.
const ANSWER_MAX: usize = 3;

/// What a server answers to a datagram, and where to; `None` when it is no Binding request. The
/// answer is never longer than three times the request.
// spec: RDV-6, RDV-7
pub fn answer(from: SocketAddr, datagram: &[u8], other: Option<SocketAddr>) -> Option<Outgoing> {
    let request = Request::decode(datagram)?;
    let to = SocketAddr::new(from.ip(), request.response_port.unwrap_or(from.port()));
    let response = Response { transaction: request.transaction, mapped: from, other };
    let mut payload = response.encode();
    if payload.len() > datagram.len().saturating_mul(ANSWER_MAX) {
        // To a longer request the whole answer goes.
        payload = Response { other: None, ..response }.encode();
    }
    Some(Outgoing { to, payload })
}

/// Time to the first repetition of a request (RFC 8489, section 6.2.1).
const RTO: Duration = Duration::from_millis(500);
/// Requests sent before a server is given up.
const SENDS_MAX: u32 = 7;
/// Waiting after the last, in units of [`RTO`].
const LAST_WAIT: u32 = 16;

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The server sees this address.
    Mapped(Response),
    /// The server does not answer.
    TimedOut,
}

/// One question to a server, repeated until it is answered or given up (RFC 8489, section 6.2.1).
#[derive(Debug)]
pub struct Binding {
    server: SocketAddr,
    request: Request,
    sent: u32,
    next_at: Instant,
    outcome: Option<Outcome>,
}

impl Binding {
    /// A question that is sent at once.
    pub fn new(now: Instant, server: SocketAddr, entropy: &mut dyn Entropy) -> Self {
        Self::with(now, server, Request { transaction: transaction(entropy), response_port: None })
    }

    /// A question whose answer is wanted at another port of this host.
    pub fn answered_at(
        now: Instant,
        server: SocketAddr,
        port: u16,
        entropy: &mut dyn Entropy,
    ) -> Self {
        let request = Request { transaction: transaction(entropy), response_port: Some(port) };
        Self::with(now, server, request)
    }

    fn with(now: Instant, server: SocketAddr, request: Request) -> Self {
        Self { server, request, sent: 0, next_at: now, outcome: None }
    }

    /// The server that is asked.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Takes a datagram; true when it was the answer. Only the transaction's name tells: answers may
    /// come from where the request did not go, and to another port.
    pub fn handle_datagram(&mut self, datagram: &[u8]) -> bool {
        let Some(response) = Response::decode(datagram) else { return false };
        if response.transaction != self.request.transaction || self.outcome.is_some() {
            return false;
        }
        self.outcome = Some(Outcome::Mapped(response));
        true
    }

    /// The next datagram that is due.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Outgoing> {
        if self.outcome.is_some() || now < self.next_at {
            return None;
        }
        if self.sent >= SENDS_MAX {
            self.outcome = Some(Outcome::TimedOut);
            return None;
        }
        let factor = if self.sent + 1 == SENDS_MAX { LAST_WAIT } else { 1 << self.sent };
        self.sent += 1;
        self.next_at = now + RTO.saturating_mul(factor);
        Some(Outgoing { to: self.server, payload: self.request.encode() })
    }

    /// When something is due next; `None` when it is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.outcome.is_none().then_some(self.next_at)
    }

    /// How it ended; `None` while it has not.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }
}

/// A new transaction's name.
pub fn transaction(entropy: &mut dyn Entropy) -> TransactionId {
    let mut out = [0; 12];
    let words = [entropy.next_u64(), entropy.next_u64()];
    let bytes = words.into_iter().flat_map(u64::to_be_bytes);
    for (slot, byte) in out.iter_mut().zip(bytes) {
        *slot = byte;
    }
    out
}

pub(crate) fn begin(kind: u16, transaction: &TransactionId) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    out.extend(kind.to_be_bytes());
    out.extend([0, 0]);
    out.extend(MAGIC.to_be_bytes());
    out.extend(transaction);
    out
}

/// Appends an attribute, filled to four bytes.
pub(crate) fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.extend(kind.to_be_bytes());
    out.extend(len.to_be_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Writes the length that a message has with so many bytes more.
pub(crate) fn set_len(out: &mut [u8], more: usize) {
    let len = (out.len() + more).saturating_sub(HEADER_LEN);
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    if let Some(slot) = out.get_mut(2..4) {
        slot.copy_from_slice(&len.to_be_bytes());
    }
}

/// Writes the length, and the check sum over all before it.
fn finish(mut out: Vec<u8>) -> Vec<u8> {
    set_len(&mut out, 8);
    let sum = crc32(&out) ^ FINGERPRINT_XOR;
    attribute(&mut out, FINGERPRINT, &sum.to_be_bytes());
    out
}

fn open(message: &[u8]) -> Option<(u16, TransactionId, &[u8])> {
    if message.len() > MESSAGE_LEN_MAX {
        return None;
    }
    open_any(message)
}

/// Kind, transaction and attributes of a sound message. A check sum that is there must be right.
pub(crate) fn open_any(message: &[u8]) -> Option<(u16, TransactionId, &[u8])> {
    let mut reader = Reader::new(message);
    let kind = reader.u16().ok()?;
    let len = usize::from(reader.u16().ok()?);
    let magic = reader.u32().ok()?;
    let transaction = reader.array::<12>().ok()?;
    let attributes = reader.take_rest();
    if magic != MAGIC || len != attributes.len() || len % 4 != 0 || kind & 0xc000 != 0 {
        return None;
    }
    let mut at = HEADER_LEN;
    for (kind, value) in Attributes(Reader::new(attributes)) {
        if kind == FINGERPRINT {
            let sum = crc32(message.get(..at)?) ^ FINGERPRINT_XOR;
            let is_last = at + 8 == message.len();
            if !is_last || value != sum.to_be_bytes() {
                return None;
            }
        }
        at += 4 + value.len().next_multiple_of(4);
    }
    (at == message.len()).then_some((kind, transaction, attributes))
}

/// Attributes one after another, up to the first that does not fit.
pub(crate) struct Attributes<'a>(pub(crate) Reader<'a>);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let kind = self.0.u16().ok()?;
        let len = usize::from(self.0.u16().ok()?);
        let value = self.0.take(len).ok()?;
        self.0.take(len.next_multiple_of(4) - len).ok()?;
        Some((kind, value))
    }
}

/// An address as an attribute holds it; mixed with the transaction's name where one is given, so that
/// boxes that rewrite addresses in datagrams do not find it (RFC 8489, section 14.2).
pub(crate) fn address(address: SocketAddr, transaction: Option<&TransactionId>) -> Vec<u8> {
    let (family, ip) = match address.ip() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    let mut out = vec![0, family];
    out.extend(address.port().to_be_bytes());
    out.extend(ip);
    if let Some(transaction) = transaction {
        mix(&mut out, transaction);
    }
    out
}

pub(crate) fn read_address(
    value: &[u8],
    transaction: Option<&TransactionId>,
) -> Option<SocketAddr> {
    let mut value = value.to_vec();
    if let Some(transaction) = transaction {
        mix(&mut value, transaction);
    }
    let (&[_, family, high, low], ip) = value.split_first_chunk::<4>()?;
    let ip = match family {
        1 => IpAddr::from(<[u8; 4]>::try_from(ip).ok().map(Ipv4Addr::from)?),
        2 => IpAddr::from(<[u8; 16]>::try_from(ip).ok().map(Ipv6Addr::from)?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([high, low])))
}

/// Port and host are mixed with the magic number and the transaction's name.
fn mix(value: &mut [u8], transaction: &TransactionId) {
    let magic = MAGIC.to_be_bytes();
    let (port, host) = value.split_at_mut(value.len().min(4));
    port.iter_mut().skip(2).zip(magic).for_each(|(byte, key)| *byte ^= key);
    let key = magic.into_iter().chain(*transaction);
    host.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
}

/// The check sum of ISO-HDLC (ITU V.42), bit by bit: messages are short and few.
fn crc32(bytes: &[u8]) -> u32 {
    let sum = bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            let lowest = sum & 1;
            (sum >> 1) ^ (0xedb8_8320 * lowest)
        })
    });
    !sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// RFC 5769, section 2.2: an answer of a server, with its text and check sum.
    #[test]
    fn the_published_answer_is_read() {
        let hex = "0101003c2112a442b7e7a701bc34d686fa87dfae8022000b7465737420766563746f72200020000\
                   80001a147e112a643000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
        let digits: Vec<u8> = hex
            .bytes()
            .filter(|b| !b.is_ascii_whitespace())
            .map(|b| (b as char).to_digit(16).unwrap() as u8)
            .collect();
        let message: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        let response = Response::decode(&message).unwrap();
        assert_eq!(response.mapped, addr("192.0.2.1:32853"));
        let mut broken = message;
        broken[30] ^= 1;
        assert_eq!(Response::decode(&broken), None);
    }

    #[test]
    // spec-test: RDV-6, RDV-7
    fn a_server_tells_what_it_sees_and_no_more() {
        let mut entropy = || 7;
        let mut binding = Binding::new(Instant::ZERO, addr("203.0.113.1:3478"), &mut entropy);
        let request = binding.poll_transmit(Instant::ZERO).unwrap();
        for seen in ["198.51.100.7:1234", "[2001:db8::7]:1234"] {
            let out = answer(addr(seen), &request.payload, None).unwrap();
            assert_eq!(out.to, addr(seen));
            assert!(out.payload.len() <= 3 * request.payload.len());
            assert_eq!(Response::decode(&out.payload).unwrap().mapped, addr(seen));
            assert_eq!(answer(addr(seen), &out.payload, None), None);
        }
        // The shortest request there is: what else could be told has no room.
        let short = Request { transaction: [1; 12], response_port: None }.encode();
        let bare = begin(BINDING_REQUEST, &[1; 12]);
        for (seen, other) in [
            ("198.51.100.7:1234", "203.0.113.1:3479"),
            ("[2001:db8::7]:1234", "203.0.113.1:3479"),
            ("[2001:db8::7]:1234", "[2001:db8::1]:3479"),
        ] {
            for request in [&bare, &short] {
                let out = answer(addr(seen), request, Some(addr(other))).unwrap();
                assert!(out.payload.len() <= 3 * request.len(), "{seen} {other}");
                assert_eq!(Response::decode(&out.payload).unwrap().mapped, addr(seen));
            }
            let out = answer(addr(seen), &short, Some(addr(other))).unwrap();
            assert_eq!(Response::decode(&out.payload).unwrap().other, Some(addr(other)));
        }
        let elsewhere = Request { transaction: [1; 12], response_port: Some(99) }.encode();
        let out = answer(addr("198.51.100.7:1234"), &elsewhere, None).unwrap();
        assert_eq!(out.to, addr("198.51.100.7:99"));
        let mut strange = begin(BINDING_REQUEST, &[1; 12]);
        attribute(&mut strange, 0x0003, &[0, 0, 0, 6]);
        assert_eq!(answer(addr("198.51.100.7:1234"), &finish(strange), None), None);
    }

    #[test]
    fn a_question_is_repeated_and_then_given_up() {
        let mut entropy = || 7;
        let mut binding = Binding::new(Instant::ZERO, addr("203.0.113.1:3478"), &mut entropy);
        let mut sends = Vec::new();
        while let Some(at) = binding.poll_timeout() {
            if binding.poll_transmit(at).is_some() {
                sends.push(at.as_nanos() / 1_000_000);
            }
        }
        assert_eq!(sends, [0, 500, 1500, 3500, 7500, 15_500, 31_500]);
        assert_eq!(binding.outcome(), Some(Outcome::TimedOut));
    }

    #[test]
    fn only_the_answer_to_the_question_counts() {
        let mut number = 0;
        let mut entropy = || {
            number += 1;
            number
        };
        let server = addr("203.0.113.1:3478");
        let mut one = Binding::new(Instant::ZERO, server, &mut entropy);
        let mut two = Binding::new(Instant::ZERO, server, &mut entropy);
        let ask = two.poll_transmit(Instant::ZERO).unwrap();
        let out = answer(addr("198.51.100.7:1"), &ask.payload, None).unwrap();
        assert!(!one.handle_datagram(&out.payload));
        assert!(two.handle_datagram(&out.payload));
        assert!(!two.handle_datagram(&out.payload));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            transaction: [u8; 12], v4: bool, host: u128, port: u16, other: Option<u16>,
        ) {
            let ip = if v4 {
                IpAddr::from(Ipv4Addr::from(host as u32))
            } else {
                IpAddr::from(Ipv6Addr::from(host))
            };
            let other = other.map(|port| SocketAddr::new(ip, port));
            let response = Response { transaction, mapped: SocketAddr::new(ip, port), other };
            prop_assert_eq!(Response::decode(&response.encode()), Some(response));
        }

        #[test]
        fn noise_is_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(Request::decode(&bytes), None);
            prop_assert_eq!(Response::decode(&bytes), None);
        }
    }
}
