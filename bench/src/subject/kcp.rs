//! KCP, which encrypts nothing: every datagram is sealed with AES-128-GCM, as for the raw limit, so that like is compared with
//! like. It has neither a handshake nor an end; a connection is one stream of messages, and a byte before each says
//! whether it is the end.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use bytes::{Buf, Bytes};
use kcp::Kcp;

use super::raw::{KEY, NUMBER_BYTES, TAG_BYTES, nonce};
use super::sans_io::{self, Got, Machine, Maker, State};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, UnboundKey};

/// UDP payload of a full packet, as for every subject.
const FULL_PACKET: usize = 1452;
/// Packets in flight, and those that the receiver holds.
const WINDOW_PACKETS: u16 = 1024;
/// Packets that wait for the window beside those in flight.
const WAITING_PACKETS: usize = WINDOW_PACKETS as usize;
/// Milliseconds between two looks at the timers, the least that KCP takes.
const INTERVAL_MS: i32 = 10;
/// Packets acknowledged beyond one that is missing, before it is sent again.
const FAST_RESEND: i32 = 2;
/// Both sides know it.
const CONVERSATION: u32 = 1;
/// Bytes of one message of a stream of bytes; KCP takes fewer than 128 packets at once.
const PIECE_BYTES: usize = 16 << 10;
/// The one stream.
const STREAM: u64 = 0;
/// The byte before a message.
const MORE: u8 = 0;
const END: u8 = 1;

/// A listening endpoint on a loopback port and its address.
pub(crate) fn listen() -> Result<(Endpoint, SocketAddr)> {
    Endpoint::listen(Setting)
}

/// A client.
pub(crate) fn dialler() -> Endpoint {
    Endpoint::dialler(Setting)
}

/// An endpoint of KCP.
pub(crate) type Endpoint = sans_io::Endpoint<Setting>;

/// Nothing is left to be chosen.
#[derive(Clone)]
pub(crate) struct Setting;

impl Maker for Setting {
    type Machine = Session;

    fn accept(&self, _: SocketAddr, _: SocketAddr, _: &[u8]) -> Result<Option<Session>> {
        Ok(Some(Session::new(1 << 62, Some(STREAM))?))
    }

    fn connect(&self, _: SocketAddr, _: SocketAddr) -> Result<Session> {
        Session::new(0, None)
    }
}

/// Datagrams that KCP wants to be sent.
#[derive(Clone, Default)]
struct Outbox(Arc<Mutex<VecDeque<Vec<u8>>>>);

impl Outbox {
    fn pop(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl io::Write for Outbox {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push_back(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A connection.
pub(crate) struct Session {
    kcp: Kcp<Outbox>,
    outbox: Outbox,
    key: LessSafeKey,
    /// The client and the server number from different starts, so no nonce repeats.
    number: u64,
    start: Instant,
    /// Something came or was written that an answer or a packet may follow from.
    is_due: bool,
    is_closed: bool,
    /// A client opens the one stream, a server takes it.
    unaccepted: Option<u64>,
    is_opened: bool,
    message: Vec<u8>,
}

impl Session {
    fn new(number: u64, unaccepted: Option<u64>) -> Result<Self> {
        let outbox = Outbox::default();
        let mut kcp = Kcp::new(CONVERSATION, outbox.clone());
        kcp.set_mtu(FULL_PACKET - NUMBER_BYTES - TAG_BYTES)?;
        kcp.set_wndsize(WINDOW_PACKETS, WINDOW_PACKETS);
        kcp.set_nodelay(true, INTERVAL_MS, FAST_RESEND, true);
        kcp.update(0)?;
        let Ok(key) = UnboundKey::new(&AES_128_GCM, &KEY) else { bail!("the key is refused") };
        Ok(Self {
            kcp,
            outbox,
            key: LessSafeKey::new(key),
            number,
            start: Instant::now(),
            is_due: false,
            is_closed: false,
            is_opened: unaccepted.is_some(),
            unaccepted,
            message: Vec::new(),
        })
    }

    fn now_ms(&self) -> u32 {
        self.start.elapsed().as_millis() as u32
    }

    fn push(&mut self, kind: u8, piece: &[u8]) -> Result<bool> {
        if self.kcp.wait_snd() >= usize::from(WINDOW_PACKETS) + WAITING_PACKETS {
            return Ok(false);
        }
        self.message.clear();
        self.message.push(kind);
        self.message.extend_from_slice(piece);
        self.kcp.send(&self.message)?;
        self.is_due = true;
        Ok(true)
    }

    fn seal(&mut self, plain: &[u8], into: &mut [u8]) -> Result<usize> {
        let number = self.number.to_be_bytes();
        self.number += 1;
        let end = NUMBER_BYTES + plain.len();
        into[..NUMBER_BYTES].copy_from_slice(&number);
        into[NUMBER_BYTES..end].copy_from_slice(plain);
        let body = &mut into[NUMBER_BYTES..end];
        let tag = self.key.seal_in_place_separate_tag(nonce(number), Aad::from(number), body);
        let Ok(tag) = tag else { bail!("a packet could not be sealed") };
        into[end..end + TAG_BYTES].copy_from_slice(tag.as_ref());
        Ok(end + TAG_BYTES)
    }
}

impl Machine for Session {
    const HAS_MESSAGES: bool = true;

    fn receive(&mut self, datagram: &mut [u8]) {
        let Some((head, sealed)) = datagram.split_first_chunk_mut::<NUMBER_BYTES>() else { return };
        if let Ok(plain) = self.key.open_in_place(nonce(*head), Aad::from(*head), sealed) {
            // What makes no sense is dropped.
            let _ = self.kcp.input(plain);
            self.is_due = true;
        }
    }

    fn transmit(&mut self, into: &mut [u8]) -> Option<usize> {
        if self.is_due {
            self.is_due = false;
            let now = self.now_ms();
            self.kcp.update(now).ok()?;
            self.kcp.flush().ok()?;
        }
        let plain = self.outbox.pop()?;
        self.seal(&plain, into).ok()
    }

    fn deadline(&mut self) -> Option<Instant> {
        if self.kcp.wait_snd() == 0 {
            return None;
        }
        let wait = self.kcp.check(self.now_ms());
        Some(Instant::now() + Duration::from_millis(wait.into()))
    }

    fn expire(&mut self) {
        self.is_due = true;
    }

    fn state(&mut self) -> State {
        let is_over = self.is_closed && self.kcp.wait_snd() == 0 || self.kcp.is_dead_link();
        if is_over { State::Closed } else { State::Open }
    }

    fn close(&mut self) {
        self.is_closed = true;
    }

    fn ready(&mut self, each: &mut dyn FnMut(u64)) {
        each(STREAM);
    }

    fn open(&mut self) -> Result<Option<u64>> {
        ensure!(!self.is_opened, "a connection of KCP is one stream");
        self.is_opened = true;
        Ok(Some(STREAM))
    }

    fn accept(&mut self) -> Option<u64> {
        self.unaccepted.take()
    }

    fn write(&mut self, _: u64, piece: &[u8]) -> Result<usize> {
        let length = piece.len().min(PIECE_BYTES);
        Ok(if self.push(MORE, &piece[..length])? { length } else { 0 })
    }

    fn read(&mut self, _: u64) -> Result<Got> {
        let Ok(length) = self.kcp.peeksize() else { return Ok(Got::Nothing) };
        let mut message = vec![0; length];
        self.kcp.recv(&mut message)?;
        // Room in the window is to be told.
        self.is_due = true;
        let mut message = Bytes::from(message);
        ensure!(message.has_remaining(), "a message without its first byte");
        Ok(if message.get_u8() == END { Got::End } else { Got::Piece(message) })
    }

    fn finish(&mut self, _: u64) -> Result<bool> {
        self.push(END, &[])
    }
}
