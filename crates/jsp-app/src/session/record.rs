//! What the two ends of a session say to each other beside the messages themselves. CBOR (RFC 8949):
//! each record is one message of the control stream.

use minicbor::{Decode, Encode};

use super::{CHANNELS_MAX, GRANT_LEN, ProtocolError};

/// Longest record that is read, in bytes: a resumption with all channels that a session may have.
pub const RECORD_MAX: usize = 64 << 10;

/// Channels that both ends together have at most.
const ENTRIES_MAX: usize = 2 * CHANNELS_MAX;

/// A record of the control stream.
// spec: SES-2
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) enum Record {
    /// The client wants a new session.
    #[n(0)]
    Open,
    /// The client comes back.
    #[n(1)]
    Resume(
        #[n(0)] Credentials,
        #[n(1)]
        #[cbor(with = "entries")]
        Vec<Entry>,
    ),
    /// The session is new, and so are its credentials. Milliseconds that it outlives its connection.
    #[n(2)]
    Granted(#[n(0)] Credentials, #[n(1)] u64),
    /// The session goes on, with the next credentials.
    #[n(3)]
    Resumed(
        #[n(0)] Credentials,
        #[n(1)] u64,
        #[n(2)]
        #[cbor(with = "entries")]
        Vec<Entry>,
    ),
    /// There is no such session, any more or for this client.
    #[n(4)]
    Unknown,
    /// The client has kept the credentials: those of before are void.
    #[n(5)]
    Kept,
    /// The application has taken all messages of a channel below this number.
    #[n(6)]
    Taken(#[n(0)] u64, #[n(1)] u64),
    /// A new channel: the next number of its opener, and what it is for.
    #[n(7)]
    Opened(#[n(0)] u64, #[n(1)] String),
    /// The session is over, by the application's will.
    #[n(8)]
    End(#[n(0)] u64),
}

/// What a session's two ends alone know. It cannot be printed.
#[derive(Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
pub struct Token(#[cbor(n(0), with = "minicbor::bytes")] pub [u8; GRANT_LEN]);

impl core::fmt::Debug for Token {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What shows that somebody is a session's client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Credentials {
    /// Which session.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub(crate) id: [u8; GRANT_LEN],
    /// Another one after each resumption.
    #[n(1)]
    pub(crate) token: Token,
}

/// What an end knows of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Entry {
    #[n(0)]
    pub(crate) channel: u64,
    #[n(1)]
    pub(crate) label: String,
    /// The application has taken the messages below.
    #[n(2)]
    pub(crate) taken: u64,
    /// The message that is wanted next.
    #[n(3)]
    pub(crate) next: u64,
}

/// Entries for as many channels as there can be: many empty ones would take up ten times what they are read from.
// spec: SES-14
mod entries {
    use minicbor::decode::Error;
    use minicbor::encode::{self, Write};
    use minicbor::{Decoder, Encode, Encoder};

    use super::{ENTRIES_MAX, Entry};

    pub(super) fn encode<W: Write, C>(
        entries: &[Entry],
        out: &mut Encoder<W>,
        context: &mut C,
    ) -> Result<(), encode::Error<W::Error>> {
        entries.encode(out, context)
    }

    pub(super) fn decode<C>(input: &mut Decoder<'_>, _: &mut C) -> Result<Vec<Entry>, Error> {
        let mut out = Vec::new();
        for entry in input.array_iter()? {
            if out.len() >= ENTRIES_MAX {
                return Err(Error::message("more channels than there can be"));
            }
            out.push(entry?);
        }
        Ok(out)
    }
}

/// The first message of a channel's stream.
// spec: SES-4
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Bind {
    #[n(0)]
    pub(crate) channel: u64,
}

pub(crate) fn encode(value: &impl Encode<()>) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing into a vector cannot fail; an error would leave nothing, which the peer refuses.
    let _ = minicbor::encode(value, &mut out);
    out
}

// spec: SES-3
pub(crate) fn decode<T: for<'b> Decode<'b, ()>>(bytes: &[u8]) -> Result<T, ProtocolError> {
    if bytes.len() > RECORD_MAX {
        return Err(ProtocolError("a record that is too long"));
    }
    let mut decoder = minicbor::Decoder::new(bytes);
    let value = decoder.decode().map_err(|_| ProtocolError("a record that cannot be read"))?;
    if decoder.position() != bytes.len() {
        return Err(ProtocolError("a record with something behind it"));
    }
    Ok(value)
}
