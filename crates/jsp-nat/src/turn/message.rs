//! What a client and its TURN server say to each other (RFC 8656, sections 17 and 18): messages of STUN, and a
//! short header before data on a channel.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use jsp_wire::Reader;

use super::Login;
use crate::stun::{
    Attributes, HEADER_LEN, TransactionId, XOR_MAPPED_ADDRESS, address, attribute, begin, open_any,
    read_address, set_len,
};

/// The longest message that is looked at: a datagram.
const MESSAGE_LEN_MAX: usize = 2048;
/// The longest realm, and nonce (RFC 8489, sections 14.9 and 14.10).
const TEXT_LEN_MAX: usize = 763;

/// Methods, and what is added to them for what a message is.
const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const SEND: u16 = 6;
const DATA: u16 = 7;
const CREATE_PERMISSION: u16 = 8;
const CHANNEL_BIND: u16 = 9;
const INDICATION: u16 = 0x0010;
const SUCCESS: u16 = 0x0100;
const ERROR: u16 = 0x0110;

const USERNAME: u16 = 0x0006;
pub(super) const MESSAGE_INTEGRITY: u16 = 0x0008;
pub(super) const ERROR_CODE: u16 = 0x0009;
const CHANNEL_NUMBER: u16 = 0x000c;
pub(super) const LIFETIME: u16 = 0x000d;
const XOR_PEER_ADDRESS: u16 = 0x0012;
const DATA_ATTRIBUTE: u16 = 0x0013;
pub(super) const REALM: u16 = 0x0014;
pub(super) const NONCE: u16 = 0x0015;
pub(super) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
const REQUESTED_TRANSPORT: u16 = 0x0019;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
/// UDP, as IP numbers it.
const UDP: u8 = 17;
/// Bytes of the attribute that authenticates.
const INTEGRITY_LEN: usize = 4 + TAG_LEN;

/// Bytes of HMAC-SHA-1.
pub const TAG_LEN: usize = 20;
/// Channels that a client may use (RFC 8656, section 12).
pub(super) const CHANNELS: Range<u16> = 0x4000..0x5000;
/// Bytes before data on a channel.
const CHANNEL_HEADER_LEN: usize = 4;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// An address.
    Allocate,
    /// That it lives for so many seconds more; 0 gives it back.
    Refresh(u32),
    /// That datagrams from this host are let in.
    Permit(IpAddr),
    /// That this number stands for an address.
    Bind(u16, SocketAddr),
}

impl Ask {
    pub(super) const fn method(self) -> u16 {
        match self {
            Self::Allocate => ALLOCATE,
            Self::Refresh(_) => REFRESH,
            Self::Permit(_) => CREATE_PERMISSION,
            Self::Bind(..) => CHANNEL_BIND,
        }
    }

    /// Its bytes; authenticated where the server has said by what.
    pub(super) fn encode(self, transaction: &TransactionId, login: Option<Realm<'_>>) -> Vec<u8> {
        let mut out = begin(self.method(), transaction);
        let mixed = |to: SocketAddr| address(to, Some(transaction));
        match self {
            Self::Allocate => attribute(&mut out, REQUESTED_TRANSPORT, &[UDP, 0, 0, 0]),
            Self::Refresh(seconds) => attribute(&mut out, LIFETIME, &seconds.to_be_bytes()),
            Self::Permit(host) => {
                attribute(&mut out, XOR_PEER_ADDRESS, &mixed(SocketAddr::new(host, 0)));
            }
            Self::Bind(channel, to) => {
                let [high, low] = channel.to_be_bytes();
                attribute(&mut out, CHANNEL_NUMBER, &[high, low, 0, 0]);
                attribute(&mut out, XOR_PEER_ADDRESS, &mixed(to));
            }
        }
        if let Some(realm) = login {
            attribute(&mut out, USERNAME, realm.login.username.as_bytes());
            attribute(&mut out, REALM, realm.realm);
            attribute(&mut out, NONCE, realm.nonce);
            set_len(&mut out, INTEGRITY_LEN);
            let tag = realm.login.tag(realm.realm, &out);
            attribute(&mut out, MESSAGE_INTEGRITY, &tag);
        }
        set_len(&mut out, 0);
        out
    }
}

/// What requests are authenticated by: RFC 8489, section 9.2.
#[derive(Clone, Copy, Debug)]
pub(super) struct Realm<'a> {
    pub(super) login: &'a Login,
    pub(super) realm: &'a [u8],
    pub(super) nonce: &'a [u8],
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// It is done.
    Success {
        /// The address that is lent, of an Allocate.
        relayed: Option<SocketAddr>,
        /// The address at which the server sees the client.
        mapped: Option<SocketAddr>,
        /// Seconds that the allocation lives.
        lifetime: Option<u32>,
    },
    /// It is not done.
    Error {
        /// Why (RFC 8656, section 19).
        code: u16,
        /// What is to be authenticated for.
        realm: Option<&'a [u8]>,
        /// What is to be authenticated with.
        nonce: Option<&'a [u8]>,
    },
}

/// An answer of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// What was asked for.
    pub method: u16,
    /// The request's name.
    pub transaction: TransactionId,
    /// The answer.
    pub reply: Reply<'a>,
    message: &'a [u8],
    /// Where the attribute that authenticates begins, and what it holds.
    integrity: Option<(usize, [u8; TAG_LEN])>,
}

impl<'a> Answer<'a> {
    /// Reads one; `None` when it is none, or holds what must be understood and is not.
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        if message.len() > MESSAGE_LEN_MAX {
            return None;
        }
        let (kind, transaction, attributes) = open_any(message)?;
        let is_error = match kind & ERROR {
            SUCCESS => false,
            ERROR => true,
            _ => return None,
        };
        let (mut relayed, mut mapped, mut lifetime) = (None, None, None);
        let (mut code, mut realm, mut nonce) = (None, None, None);
        let (mut integrity, mut at) = (None, HEADER_LEN);
        for (kind, value) in Attributes(Reader::new(attributes)) {
            let mixed = || read_address(value, Some(&transaction));
            match kind {
                XOR_RELAYED_ADDRESS => relayed = relayed.or_else(mixed),
                XOR_MAPPED_ADDRESS => mapped = mapped.or_else(mixed),
                LIFETIME => lifetime = Some(u32::from_be_bytes(value.try_into().ok()?)),
                ERROR_CODE => code = Some(read_code(value)?),
                REALM if value.len() <= TEXT_LEN_MAX => realm = Some(value),
                NONCE if value.len() <= TEXT_LEN_MAX => nonce = Some(value),
                MESSAGE_INTEGRITY => integrity = Some((at, value.try_into().ok()?)),
                MESSAGE_INTEGRITY_SHA256 => {}
                // What must be understood, and is not, ends what was asked for; an error does so anyway.
                0..=0x7fff if !is_error => return None,
                _ => {}
            }
            // Nothing that follows is authenticated.
            if kind == MESSAGE_INTEGRITY {
                break;
            }
            at += 4 + value.len().next_multiple_of(4);
        }
        let reply = match is_error {
            true => Reply::Error { code: code?, realm, nonce },
            false => Reply::Success { relayed, mapped, lifetime },
        };
        Some(Self { method: kind & !ERROR, transaction, reply, message, integrity })
    }

    /// Whether who knows the password has made it.
    pub(super) fn is_authentic(&self, login: &Login, realm: &[u8]) -> bool {
        let Some((at, tag)) = self.integrity else { return false };
        let Some(body) = self.message.get(..at) else { return false };
        let mut body = body.to_vec();
        set_len(&mut body, INTEGRITY_LEN);
        let right = login.tag(realm, &body);
        right.iter().zip(tag).fold(0, |all, (one, two)| all | (one ^ two)) == 0
    }
}

/// Hundreds and the rest stand apart (RFC 8489, section 14.8).
fn read_code(value: &[u8]) -> Option<u16> {
    let [_, _, class, number] = *value.first_chunk::<4>()?;
    let (class, number) = (u16::from(class & 7), u16::from(number));
    (number < 100).then_some(class * 100 + number)
}

/// Data that a server brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// By a channel.
    Channel(u16, Range<usize>),
    /// From an address.
    Data(SocketAddr, Range<usize>),
}

impl Frame {
    /// Reads one: where in the datagram the data are. `None` when there are none.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        if datagram.first()? & 0xc0 != 0 {
            let mut reader = Reader::new(datagram);
            let (channel, len) = (reader.u16().ok()?, usize::from(reader.u16().ok()?));
            let data = CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + len;
            let is_sound = CHANNELS.contains(&channel) && len > 0 && data.end <= datagram.len();
            return is_sound.then_some(Self::Channel(channel, data));
        }
        if datagram.len() > MESSAGE_LEN_MAX {
            return None;
        }
        let (kind, transaction, attributes) = open_any(datagram)?;
        if kind != DATA | INDICATION {
            return None;
        }
        let (mut from, mut data, mut at) = (None, None, HEADER_LEN);
        for (kind, value) in Attributes(Reader::new(attributes)) {
            match kind {
                XOR_PEER_ADDRESS => from = from.or_else(|| read_address(value, Some(&transaction))),
                DATA_ATTRIBUTE => data = data.or(Some(at + 4..at + 4 + value.len())),
                0..=0x7fff => return None,
                _ => {}
            }
            at += 4 + value.len().next_multiple_of(4);
        }
        Some(Self::Data(from?, data.filter(|data| !data.is_empty())?))
    }
}

/// Appends data for a channel.
pub(super) fn on_channel(out: &mut Vec<u8>, channel: u16, data: &[u8]) {
    let Ok(len) = u16::try_from(data.len()) else { return };
    out.extend(channel.to_be_bytes());
    out.extend(len.to_be_bytes());
    out.extend(data);
}

/// Appends data for an address without a channel.
pub(super) fn send_to(out: &mut Vec<u8>, transaction: &TransactionId, to: SocketAddr, data: &[u8]) {
    let mut message = begin(SEND | INDICATION, transaction);
    attribute(&mut message, XOR_PEER_ADDRESS, &address(to, Some(transaction)));
    attribute(&mut message, DATA_ATTRIBUTE, data);
    set_len(&mut message, 0);
    out.append(&mut message);
}
