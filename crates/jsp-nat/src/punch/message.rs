//! What a punch is: the token of who it is for, two numbers, and a tag that only the peers can make.

use std::fmt;

use jsp_wire::Reader;

use crate::relay::MARK_PUNCH;

/// Bytes of a punch, its tag included.
pub const PUNCH_LEN: usize = 26 + TAG_LEN;
/// Bytes of the tag at the end of a punch.
pub const TAG_LEN: usize = 8;
/// Asks for an answer.
const FLAG_ASKS: u8 = 1;

/// Makes the tag of a punch under a key that the two peers alone have: whoever reads the network may
/// repeat a punch, and cannot make one.
pub struct Sealer(Box<Mac>);

/// A keyed hash: what it is made of is the caller's.
type Mac = dyn Fn(&[u8]) -> [u8; TAG_LEN] + Send;

impl Sealer {
    /// Seals with a keyed function of what stands before the tag.
    pub fn new(tag: impl Fn(&[u8]) -> [u8; TAG_LEN] + Send + 'static) -> Self {
        Self(Box::new(tag))
    }

    pub(super) fn seal(&self, punch: Punch) -> Vec<u8> {
        let mut out = punch.encode();
        let tag = (self.0)(&out);
        out.extend(tag);
        out
    }

    /// Reads a punch whose tag is right.
    pub(super) fn open(&self, datagram: &[u8]) -> Option<Punch> {
        let (body, tag) = datagram.split_last_chunk::<TAG_LEN>()?;
        let punch = Punch::decode(body)?;
        let right = (self.0)(body);
        let difference = right.iter().zip(tag).fold(0, |all, (one, two)| all | (one ^ two));
        (difference == 0).then_some(punch)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// The token of a punch, by which its connection is found; `None` when it is none.
pub fn token_of(datagram: &[u8]) -> Option<u64> {
    let (body, _) = datagram.split_last_chunk::<TAG_LEN>()?;
    Punch::decode(body).map(|punch| punch.token)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Punch {
    pub(super) asks: bool,
    pub(super) token: u64,
    pub(super) number: u64,
    pub(super) echo: u64,
}

impl Punch {
    fn encode(self) -> Vec<u8> {
        let mut out = vec![MARK_PUNCH, u8::from(self.asks) * FLAG_ASKS];
        for word in [self.token, self.number, self.echo] {
            out.extend(word.to_be_bytes());
        }
        out
    }

    fn decode(datagram: &[u8]) -> Option<Self> {
        if datagram.len() != PUNCH_LEN - TAG_LEN {
            return None;
        }
        let mut reader = Reader::new(datagram);
        let [mark, flags] = reader.array().ok()?;
        let mut word = || reader.array().ok().map(u64::from_be_bytes);
        let (token, number, echo) = (word()?, word()?, word()?);
        let is_sound = mark == MARK_PUNCH && flags <= FLAG_ASKS && number != 0;
        is_sound.then_some(Self { asks: flags == FLAG_ASKS, token, number, echo })
    }
}
