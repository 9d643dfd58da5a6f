//! Reasons for closing a connection or ending a stream, as numbers on the wire.

use core::fmt;

/// Why a connection ends, as the CLOSE frame carries it. Codes of the transport stand below 0x100;
/// application codes travel in their own frame form and are not listed here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct CloseCode(pub u64);

impl CloseCode {
    /// Nothing is wrong; the sender is done.
    pub const NO_ERROR: Self = Self(0x00);
    /// The sender has a fault of its own.
    pub const INTERNAL: Self = Self(0x01);
    /// The server does not accept the connection now.
    pub const REFUSED: Self = Self(0x02);
    /// The peer sent more than its credit allows.
    pub const FLOW_CONTROL: Self = Self(0x03);
    /// The peer opened more streams than allowed, or misused a stream id.
    pub const STREAM_LIMIT: Self = Self(0x04);
    /// A frame came for a stream in a state that does not allow it.
    pub const STREAM_STATE: Self = Self(0x05);
    /// The end of a stream changed, or data went beyond it.
    pub const FINAL_SIZE: Self = Self(0x06);
    /// A frame could not be parsed, or its type is not known.
    pub const FRAME_ENCODING: Self = Self(0x07);
    /// Transport parameters are malformed or contradict each other.
    pub const PARAMETERS: Self = Self(0x08);
    /// The peer used more connection ids than allowed, or misused one.
    pub const CONNECTION_ID_LIMIT: Self = Self(0x09);
    /// Any other breach of the protocol.
    pub const PROTOCOL_VIOLATION: Self = Self(0x0a);
    /// A cookie was not valid.
    pub const INVALID_TOKEN: Self = Self(0x0b);
    /// The peer withheld key updates, or updated keys when it must not.
    pub const KEY_UPDATE: Self = Self(0x0c);
    /// The AEAD's limit of packets or forgeries is reached.
    pub const AEAD_LIMIT: Self = Self(0x0d);
    /// A message is larger than its receiver accepts.
    pub const MESSAGE_TOO_LARGE: Self = Self(0x0e);
    /// An ACK names a packet that was never sent.
    pub const ACK_OF_UNSENT: Self = Self(0x0f);
    /// The handshake failed; no more is said on the wire, so that a prober learns nothing.
    pub const HANDSHAKE_FAILED: Self = Self(0x10);
    /// No version, suite or key exchange is common to both sides.
    pub const NO_COMMON_OFFER: Self = Self(0x11);
    /// The peer's identity is not the expected one, or is required and missing.
    pub const IDENTITY: Self = Self(0x12);
    /// No application protocol is common to both sides.
    pub const NO_APPLICATION_PROTOCOL: Self = Self(0x13);
    /// The receiver gave up handling too much pointless work (empty frames, resets, churn).
    pub const EXCESSIVE_LOAD: Self = Self(0x14);
    /// The server cannot use the ticket of the hello: a full hello is asked for.
    pub const TICKET_REFUSED: Self = Self(0x15);
    /// A 0-RTT packet holds what must not come early, or more than was allowed.
    pub const EARLY_DATA: Self = Self(0x16);

    /// The name used in logs and error messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NO_ERROR => "no error",
            Self::INTERNAL => "internal error",
            Self::REFUSED => "connection refused",
            Self::FLOW_CONTROL => "flow control error",
            Self::STREAM_LIMIT => "stream limit error",
            Self::STREAM_STATE => "stream state error",
            Self::FINAL_SIZE => "final size error",
            Self::FRAME_ENCODING => "frame encoding error",
            Self::PARAMETERS => "transport parameter error",
            Self::CONNECTION_ID_LIMIT => "connection id limit error",
            Self::PROTOCOL_VIOLATION => "protocol violation",
            Self::INVALID_TOKEN => "invalid token",
            Self::KEY_UPDATE => "key update error",
            Self::AEAD_LIMIT => "AEAD limit reached",
            Self::MESSAGE_TOO_LARGE => "message too large",
            Self::ACK_OF_UNSENT => "acknowledgement of an unsent packet",
            Self::HANDSHAKE_FAILED => "handshake failed",
            Self::NO_COMMON_OFFER => "no common version, suite or key exchange",
            Self::IDENTITY => "identity refused",
            Self::NO_APPLICATION_PROTOCOL => "no common application protocol",
            Self::EXCESSIVE_LOAD => "excessive load",
            Self::TICKET_REFUSED => "ticket refused",
            Self::EARLY_DATA => "early data not allowed",
            _ => "unknown transport error",
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (0x{:x})", self.name(), self.0)
    }
}
