//! What a client and its coordinator say to each other: messages on one stream of their connection.

use std::fmt;
use std::net::SocketAddr;

use jsp_wire::{DecodeError, Reader};

use crate::candidate::{push_address, read_address};

/// The content type of the stream on which these messages travel, opened by the client.
pub const CONTENT_TYPE: &str = "application/jsp-rendezvous";
/// The content type of the stream on which two peers tell each other their candidates, opened by the
/// one that called, as its first.
pub const CANDIDATES_CONTENT_TYPE: &str = "application/jsp-candidates";
/// The longest message.
pub const MESSAGE_LEN_MAX: usize = 800;

/// A peer's name: the fingerprint of its identity.
pub type PeerKey = [u8; 32];

/// What a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromClient {
    /// It can be called by the identity that it has shown.
    Register,
    /// A way to this peer, under a number that the client chooses.
    Connect {
        /// The peer.
        peer: PeerKey,
        /// The client's number for the way: random.
        channel: u64,
    },
    /// A way is of no more use.
    Close {
        /// The client's number for it.
        channel: u64,
    },
    /// Which address do you see?
    Ping,
    /// Which TURN server may it use?
    AskTurn,
}

/// A TURN server of somebody else, and who one is there for a while.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnGrant {
    /// `host:port`, at most 255 bytes, as the next two.
    pub server: String,
    /// The user.
    pub user: String,
    /// The password.
    pub password: String,
    /// How long the server takes these, in seconds.
    pub seconds: u32,
}

impl fmt::Debug for TurnGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // User and password are nobody's business.
        f.debug_struct("TurnGrant").field("server", &self.server).finish_non_exhaustive()
    }
}

/// What the coordinator says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromCoordinator {
    /// The client can be called.
    Registered {
        /// The address that the coordinator sees; `None` where the client has none.
        observed: Option<SocketAddr>,
        /// Another server that answers STUN.
        stun: Option<SocketAddr>,
    },
    /// The way that was asked for is open.
    Opened {
        /// The client's number for it.
        channel: u64,
    },
    /// The way that was asked for cannot be had.
    Refused {
        /// The client's number for it.
        channel: u64,
        /// Why.
        reason: Refusal,
    },
    /// A peer has asked for a way to this client.
    Incoming {
        /// The peer, as it has proved to the coordinator. It proves it again to the client.
        peer: PeerKey,
        /// The coordinator's number for the way.
        channel: u64,
    },
    /// A way is closed.
    Closed {
        /// The client's number for it.
        channel: u64,
    },
    /// An answer to [`FromClient::Ping`].
    Pong {
        /// The address that the coordinator sees.
        observed: Option<SocketAddr>,
    },
    /// An answer to [`FromClient::AskTurn`]; `None` where there is no such server for the client.
    Turn(Option<TurnGrant>),
}

/// Why there is no way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody with this identity is registered.
    #[error("nobody with this identity is registered at the coordinator")]
    Unknown,
    /// The client, or the peer, has as many ways as it may have.
    #[error("the coordinator allows no more ways at once")]
    TooMany,
    /// The client asks too often.
    #[error("the coordinator was asked too often")]
    TooOften,
    /// The number is in use.
    #[error("the number of the way is in use")]
    InUse,
}

impl Refusal {
    const ALL: [Self; 4] = [Self::Unknown, Self::TooMany, Self::TooOften, Self::InUse];
}

impl FromClient {
    /// Its bytes: one message.
    // spec: RDV-2
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Register => out.push(1),
            Self::Connect { peer, channel } => {
                out.push(2);
                out.extend(peer);
                out.extend(channel.to_be_bytes());
            }
            Self::Close { channel } => {
                out.push(3);
                out.extend(channel.to_be_bytes());
            }
            Self::Ping => out.push(4),
            Self::AskTurn => out.push(5),
        }
        out
    }

    /// Reads one message; `None` for one of a kind that is not known, which is ignored.
    ///
    /// # Errors
    /// When it is not whole.
    // spec: RDV-2, RDV-3
    pub fn decode(message: &[u8]) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(message);
        Ok(Some(match reader.u8()? {
            1 => Self::Register,
            2 => Self::Connect { peer: reader.array()?, channel: word(&mut reader)? },
            3 => Self::Close { channel: word(&mut reader)? },
            4 => Self::Ping,
            5 => Self::AskTurn,
            _ => return Ok(None),
        }))
    }
}

impl FromCoordinator {
    /// Its bytes: one message.
    // spec: RDV-2
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::Registered { observed, stun } => {
                out.push(1);
                push_optional(&mut out, *observed);
                push_optional(&mut out, *stun);
            }
            Self::Opened { channel } => {
                out.push(2);
                out.extend(channel.to_be_bytes());
            }
            Self::Refused { channel, reason } => {
                out.push(3);
                out.extend(channel.to_be_bytes());
                let code = Refusal::ALL.iter().position(|known| known == reason);
                out.push(code.unwrap_or_default() as u8);
            }
            Self::Incoming { peer, channel } => {
                out.push(4);
                out.extend(peer);
                out.extend(channel.to_be_bytes());
            }
            Self::Closed { channel } => {
                out.push(5);
                out.extend(channel.to_be_bytes());
            }
            Self::Pong { observed } => {
                out.push(6);
                push_optional(&mut out, *observed);
            }
            Self::Turn(None) => out.extend([7, 0]),
            Self::Turn(Some(grant)) => {
                out.push(7);
                push_text(&mut out, &grant.server);
                push_text(&mut out, &grant.user);
                push_text(&mut out, &grant.password);
                out.extend(grant.seconds.to_be_bytes());
            }
        }
        out
    }

    /// Reads one message; `None` for one of a kind that is not known, which is ignored.
    ///
    /// # Errors
    /// When it is not whole.
    // spec: RDV-2, RDV-3
    pub fn decode(message: &[u8]) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(message);
        Ok(Some(match reader.u8()? {
            1 => Self::Registered {
                observed: read_optional(&mut reader)?,
                stun: read_optional(&mut reader)?,
            },
            2 => Self::Opened { channel: word(&mut reader)? },
            3 => {
                let channel = word(&mut reader)?;
                let reason = Refusal::ALL.get(usize::from(reader.u8()?));
                Self::Refused { channel, reason: *reason.ok_or(DecodeError::Invalid)? }
            }
            4 => Self::Incoming { peer: reader.array()?, channel: word(&mut reader)? },
            5 => Self::Closed { channel: word(&mut reader)? },
            6 => Self::Pong { observed: read_optional(&mut reader)? },
            7 => {
                let server = read_text(&mut reader)?;
                if server.is_empty() {
                    return Ok(Some(Self::Turn(None)));
                }
                let (user, password) = (read_text(&mut reader)?, read_text(&mut reader)?);
                let seconds = u32::from_be_bytes(reader.array()?);
                Self::Turn(Some(TurnGrant { server, user, password, seconds }))
            }
            _ => return Ok(None),
        }))
    }
}

fn word(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    Ok(u64::from_be_bytes(reader.array()?))
}

/// A text behind its length; one that is too long for that is none.
fn push_text(out: &mut Vec<u8>, text: &str) {
    let len = u8::try_from(text.len()).unwrap_or_default();
    out.push(len);
    out.extend(text.bytes().take(len.into()));
}

fn read_text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    let len = reader.u8()?;
    let text = std::str::from_utf8(reader.take(len.into())?);
    text.map(str::to_owned).map_err(|_| DecodeError::Invalid)
}

/// An address, or a zero byte where there is none.
fn push_optional(out: &mut Vec<u8>, address: Option<SocketAddr>) {
    match address {
        Some(address) => push_address(out, address),
        None => out.push(0),
    }
}

fn read_optional(reader: &mut Reader<'_>) -> Result<Option<SocketAddr>, DecodeError> {
    if reader.peek()? == 0 {
        reader.u8()?;
        return Ok(None);
    }
    read_address(reader).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    // spec-test: RDV-2, RDV-3
    fn messages_read_as_they_were_written() {
        let from_client = [
            FromClient::Register,
            FromClient::Connect { peer: [7; 32], channel: 9 },
            FromClient::Close { channel: u64::MAX },
            FromClient::Ping,
            FromClient::AskTurn,
        ];
        for message in from_client {
            let bytes = message.encode();
            assert!(bytes.len() <= MESSAGE_LEN_MAX);
            assert_eq!(FromClient::decode(&bytes), Ok(Some(message)));
            assert!((0..bytes.len()).all(|len| FromClient::decode(&bytes[..len]).is_err()));
        }
        let address = Some("[2001:db8::1]:77".parse().unwrap());
        let mut from_coordinator = vec![
            FromCoordinator::Registered { observed: address, stun: None },
            FromCoordinator::Registered { observed: None, stun: address },
            FromCoordinator::Opened { channel: 1 },
            FromCoordinator::Incoming { peer: [9; 32], channel: 2 },
            FromCoordinator::Closed { channel: 3 },
            FromCoordinator::Pong { observed: Some("192.0.2.1:5".parse().unwrap()) },
            FromCoordinator::Turn(None),
            FromCoordinator::Turn(Some(TurnGrant {
                server: "turn.example:3478".to_owned(),
                user: "1:ann".to_owned(),
                password: "x".repeat(255),
                seconds: 86_400,
            })),
        ];
        let refusals = Refusal::ALL.map(|reason| FromCoordinator::Refused { channel: 4, reason });
        from_coordinator.extend(refusals);
        for message in from_coordinator {
            let bytes = message.encode();
            assert!(bytes.len() <= MESSAGE_LEN_MAX);
            assert_eq!(FromCoordinator::decode(&bytes), Ok(Some(message)));
            assert!((0..bytes.len()).all(|len| FromCoordinator::decode(&bytes[..len]).is_err()));
        }
        assert_eq!(FromClient::decode(&[200, 1, 2]), Ok(None));
        assert_eq!(FromCoordinator::decode(&[200, 1, 2]), Ok(None));
    }
}
