//! A key from a password that may be short: CPace (draft-irtf-cfrg-cpace, suite CPACE-RISTR255-SHA512, in
//! the setting with an initiator), and proofs that both sides have the same one.
//!
//! Who does not know the password can try one guess in each exchange, while the other side takes part; neither
//! hearing an exchange nor taking part in it lets further guesses be tried later. It holds as long as discrete
//! logarithms are hard: there is nothing post-quantum in it, and the key is to prove something with, not to
//! encrypt.

use alloc::vec::Vec;

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity;
use sha2::{Digest, Sha512};
use zeroize::Zeroizing;

use crate::secret::constant_time_eq;
use crate::{Prf, Rng};

/// Length of what each side sends, in bytes.
pub const SHARE_LEN: usize = 32;
/// Length of a proof, in bytes.
pub const PROOF_LEN: usize = 32;

const GENERATOR_DOMAIN: &[u8] = b"CPaceRistretto255";
const KEY_DOMAIN: &[u8] = b"CPaceRistretto255_ISK";
/// The password is filled up to a block of the hash, so that hashing it takes equally long for all.
const HASH_BLOCK_LEN: usize = 128;

/// Which side of an exchange this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Sends first.
    Initiator,
    /// Sends second.
    Responder,
}

impl Side {
    const fn label(self) -> &'static str {
        match self {
            Self::Initiator => "pake initiator",
            Self::Responder => "pake responder",
        }
    }

    const fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// One side of an exchange, before the other's share has come.
pub struct Exchange {
    side: Side,
    secret: Zeroizing<Scalar>,
    share: [u8; SHARE_LEN],
    session: Vec<u8>,
    data: Vec<u8>,
}

impl Exchange {
    /// Begins. `channel` and `session` are known to both sides: the first says what the exchange is for,
    /// the second is different each time and ties it to the connection it travels on. `data` goes to the other side
    /// beside the share, readable, and only a key that agrees on it is the same.
    pub fn start(
        side: Side,
        password: &[u8],
        (channel, session): (&[u8], &[u8]),
        data: &[u8],
        rng: &mut dyn Rng,
    ) -> Self {
        let mut wide = Zeroizing::new([0; 64]);
        rng.fill(wide.as_mut_slice());
        let secret = Scalar::from_bytes_mod_order_wide(&wide);
        Self::with_secret(side, password, (channel, session), data, secret)
    }

    fn with_secret(
        side: Side,
        password: &[u8],
        (channel, session): (&[u8], &[u8]),
        data: &[u8],
        secret: Scalar,
    ) -> Self {
        let share = times(&secret, &generator(password, channel, session)).compress().to_bytes();
        let secret = Zeroizing::new(secret);
        Self { side, secret, share, session: session.to_vec(), data: data.to_vec() }
    }

    /// What the other side needs.
    pub fn share(&self) -> &[u8; SHARE_LEN] {
        &self.share
    }

    /// Ends with the other side's share and data. `None` for a share that no honest side sends.
    pub fn finish(self, peers_share: &[u8; SHARE_LEN], peers_data: &[u8]) -> Option<Agreed> {
        let key = self.key(peers_share, peers_data)?;
        let (first, _) = key.split_first_chunk::<32>()?;
        Some(Agreed { side: self.side, prf: Prf::new(*first) })
    }

    /// CPace's intermediate session key.
    fn key(&self, peers_share: &[u8; SHARE_LEN], peers_data: &[u8]) -> Option<Zeroizing<[u8; 64]>> {
        let theirs = CompressedRistretto(*peers_share).decompress()?;
        let shared = times(&self.secret, &theirs);
        if shared.is_identity() {
            return None;
        }
        let shared = Zeroizing::new(shared.compress().to_bytes());
        let (ours, theirs) = ((&self.share, &self.data[..]), (peers_share, peers_data));
        let (first, second) = match self.side {
            Side::Initiator => (ours, theirs),
            Side::Responder => (theirs, ours),
        };
        let mut hash = Sha512::new();
        let parts: [&[u8]; 7] =
            [KEY_DOMAIN, &self.session, &shared[..], first.0, first.1, second.0, second.1];
        for part in parts {
            hash.update(length(part.len()));
            hash.update(part);
        }
        Some(Zeroizing::new(hash.finalize().into()))
    }
}

/// What an exchange has come to. Whether the other side has the same shows in its proof.
pub struct Agreed {
    side: Side,
    prf: Prf,
}

impl Agreed {
    /// Shows the other side that this one has the key. Who shows it first lets the other know whether its guess
    /// at the password was right.
    pub fn proof(&self) -> [u8; PROOF_LEN] {
        self.prf.derive(self.side.label(), b"")
    }

    /// Whether the other side has shown that it has the key.
    pub fn is_proved_by(&self, proof: &[u8]) -> bool {
        constant_time_eq(&self.prf.derive(self.side.other().label(), b""), proof)
    }
}

fn generator(password: &[u8], channel: &[u8], session: &[u8]) -> RistrettoPoint {
    let before = [length(GENERATOR_DOMAIN.len()).len(), GENERATOR_DOMAIN.len()]
        .into_iter()
        .chain([length(password.len()).len(), password.len()])
        .fold(1, usize::saturating_add);
    let filling = alloc::vec![0; HASH_BLOCK_LEN.saturating_sub(before)];
    let mut hash = Sha512::new();
    for part in [GENERATOR_DOMAIN, password, &filling, channel, session] {
        hash.update(length(part.len()));
        hash.update(part);
    }
    let uniform: Zeroizing<[u8; 64]> = Zeroizing::new(hash.finalize().into());
    RistrettoPoint::from_uniform_bytes(&uniform)
}

#[allow(clippy::arithmetic_side_effects, reason = "a group operation neither overflows nor fails")]
fn times(scalar: &Scalar, point: &RistrettoPoint) -> RistrettoPoint {
    scalar * point
}

/// A length in LEB128, seven bits a byte.
fn length(mut len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = (len & 0x7f) as u8;
        len >>= 7;
        if len == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_rng::SeededRng;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.chars().filter_map(|c| c.to_digit(16)).map(|d| d as u8).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4) | pair[1]).collect()
    }

    fn bytes<const N: usize>(text: &str) -> [u8; N] {
        hex(text).try_into().unwrap()
    }

    /// The draft's vectors for ristretto255 and SHA-512.
    #[test]
    fn the_vectors_of_the_draft() {
        let session = hex("7e4b4791d6a8ef019b936c79fb7f2c57");
        let channel = b"\x0bA_initiator\x0bB_responder";
        let place = (&channel[..], &session[..]);
        assert_eq!(
            generator(b"Password", channel, &session).compress().to_bytes(),
            bytes("222b6b195fe84b1652badb6f6a3ae3d24341e7306967f0b8115b40d5698c7e56")
        );
        let scalar = |text| Scalar::from_bytes_mod_order(bytes(text));
        let ya = scalar("da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08");
        let yb = scalar("d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d");
        let a = Exchange::with_secret(Side::Initiator, b"Password", place, b"ADa", ya);
        let b = Exchange::with_secret(Side::Responder, b"Password", place, b"ADb", yb);
        let share_a = bytes("d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157");
        let share_b = bytes("3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258");
        assert_eq!((a.share(), b.share()), (&share_a, &share_b));
        let key: [u8; 64] = bytes(
            "b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dcae7b35cd\
             2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c3fa2068af7900447",
        );
        assert_eq!(*a.key(&share_b, b"ADb").unwrap(), key);
        assert_eq!(*b.key(&share_a, b"ADa").unwrap(), key);
    }

    #[test]
    fn lengths_and_fillings() {
        assert_eq!(length(0), [0]);
        assert_eq!(length(127), [127]);
        assert_eq!(length(128), [0x80, 1]);
        // Longer than a block of the hash: no filling, and nothing overflows.
        let long = [b'x'; 300];
        assert_ne!(generator(&long, b"", b""), generator(&long[1..], b"", b""));
    }

    /// The two ends when these differ in something, and whether each is convinced.
    fn meet(passwords: [&str; 2], sessions: [&str; 2], told: [&str; 2]) -> [bool; 2] {
        let mut rng = SeededRng(1);
        let [one, two] = [0, 1].map(|index: usize| {
            let side = [Side::Initiator, Side::Responder][index];
            let place = (&b"test"[..], sessions[index].as_bytes());
            let data: &[u8] = [b"one", b"two"][index];
            Exchange::start(side, passwords[index].as_bytes(), place, data, &mut rng)
        });
        let shares = [*one.share(), *two.share()];
        let one = one.finish(&shares[1], told[1].as_bytes()).unwrap();
        let two = two.finish(&shares[0], told[0].as_bytes()).unwrap();
        assert_ne!(one.proof(), two.proof(), "a proof sent back proves nothing");
        assert!(!one.is_proved_by(&one.proof()) && !one.is_proved_by(b""));
        [one.is_proved_by(&two.proof()), two.is_proved_by(&one.proof())]
    }

    #[test]
    fn only_who_agrees_on_everything_has_the_key() {
        assert_eq!(meet(["p", "p"], ["s", "s"], ["one", "two"]), [true, true]);
        assert_eq!(meet(["p", "q"], ["s", "s"], ["one", "two"]), [false, false]);
        assert_eq!(meet(["p", "p"], ["s", "t"], ["one", "two"]), [false, false]);
        assert_eq!(meet(["p", "p"], ["s", "s"], ["one", "odd"]), [false, false]);
    }

    #[test]
    fn shares_that_nobody_honest_sends_are_refused() {
        for share in [[0; 32], [0xff; 32], {
            let mut odd = [0; 32];
            odd[0] = 1;
            odd
        }] {
            let mut rng = SeededRng(2);
            let one = Exchange::start(Side::Initiator, b"p", (b"", b""), b"", &mut rng);
            assert!(one.finish(&share, b"").is_none());
        }
    }
}
