//! Retry cookies: proof that a client can receive at its address, without any
//! state on the server.
//!
//! A cookie is a pure function of the address, the destination connection id
//! of the hello and a two-second bucket of time, so that both fragments of a
//! hello, and duplicates of them, get the identical Retry packet.

use crate::handshake::codec::Reader;
use crate::primitives::{HashAlg, MacKey};
use crate::rng::{self, Rng};
use crate::secret::constant_time_eq;
use core::fmt;
use zeroize::Zeroizing;

/// Length of a cookie: epoch 1, time 4, original connection id 8, MAC 16.
pub const COOKIE_LEN: usize = 29;
/// Cookies of one bucket are equal; its length in seconds.
const BUCKET_SECONDS: u64 = 2;
/// How long a cookie is accepted after its bucket began, in seconds.
pub const COOKIE_LIFETIME_SECONDS: u64 = 10;
/// Length of the MAC, in bytes.
const MAC_LEN: usize = 16;

/// Why a cookie is refused. The packet that carries it is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CookieError {
    /// It does not have the form of a cookie.
    Malformed,
    /// It is older than ten seconds, or from the future.
    Expired,
    /// It was not made by this server for this address and hello.
    Forged,
}

impl fmt::Display for CookieError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the cookie is malformed",
            Self::Expired => "the cookie is too old",
            Self::Forged => "the cookie was not made for this hello by this server",
        })
    }
}

impl core::error::Error for CookieError {}

/// The current and the previous cookie key.
pub struct CookieKeys {
    epoch: u8,
    current: Zeroizing<[u8; 32]>,
    previous: Zeroizing<[u8; 32]>,
}

impl CookieKeys {
    /// Two fresh keys.
    pub fn new(rng: &mut dyn Rng) -> Self {
        Self {
            epoch: 0,
            current: Zeroizing::new(rng::array(rng)),
            previous: Zeroizing::new(rng::array(rng)),
        }
    }

    /// Replaces the older key. Call at intervals well above
    /// [`COOKIE_LIFETIME_SECONDS`], for example every ten minutes.
    pub fn rotate(&mut self, rng: &mut dyn Rng) {
        // spec: HS-52
        core::mem::swap(&mut self.current, &mut self.previous);
        self.current = Zeroizing::new(rng::array(rng));
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// The cookie for a hello.
    ///
    /// `address` is the sender's address and port in any fixed form, `odcid`
    /// the hello's destination connection id, `core_hash` the value of
    /// [`hello_core_hash`](crate::hello_core_hash) where the cookie is to be
    /// bound to it, and `time_s` the server's time in seconds (any fixed origin).
    pub fn mint(
        &self,
        address: &[u8],
        odcid: &[u8; 8],
        core_hash: Option<&[u8; 32]>,
        time_s: u64,
    ) -> [u8; COOKIE_LEN] {
        // spec: HS-49
        let bucket = time_s.saturating_sub(time_s % BUCKET_SECONDS);
        let time = low_32_bits(bucket);
        let mac = mac(&self.current, self.epoch, time, odcid, address, core_hash);
        let mut out = [0; COOKIE_LEN];
        let parts: [&[u8]; 4] = [&[self.epoch], &time.to_be_bytes(), odcid, &mac];
        for (to, from) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *to = *from;
        }
        out
    }

    /// Checks a cookie and gives the original destination connection id in it.
    /// The arguments are those of [`CookieKeys::mint`].
    pub fn verify(
        &self,
        cookie: &[u8],
        address: &[u8],
        core_hash: Option<&[u8; 32]>,
        time_s: u64,
    ) -> Result<[u8; 8], CookieError> {
        let (epoch, time, odcid, tag) = parse(cookie).ok_or(CookieError::Malformed)?;
        let age = low_32_bits(time_s).wrapping_sub(time);
        // spec: HS-51
        if u64::from(age) > COOKIE_LIFETIME_SECONDS {
            return Err(CookieError::Expired);
        }
        let key = if epoch == self.epoch {
            &self.current
        } else if epoch.wrapping_add(1) == self.epoch {
            &self.previous
        } else {
            return Err(CookieError::Forged);
        };
        // spec: HS-50
        let expected = mac(key, epoch, time, &odcid, address, core_hash);
        if constant_time_eq(&expected, &tag) { Ok(odcid) } else { Err(CookieError::Forged) }
    }
}

/// Seconds modulo 2^32: ages are differences, so the wrap does not matter.
fn low_32_bits(seconds: u64) -> u32 {
    u32::try_from(seconds & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

fn parse(cookie: &[u8]) -> Option<(u8, u32, [u8; 8], [u8; MAC_LEN])> {
    let mut reader = Reader::new(cookie);
    let parts = (reader.u8()?, reader.u32()?, reader.array()?, reader.array()?);
    reader.is_empty().then_some(parts)
}

fn mac(
    key: &[u8; 32],
    epoch: u8,
    time: u32,
    odcid: &[u8; 8],
    address: &[u8],
    core_hash: Option<&[u8; 32]>,
) -> [u8; MAC_LEN] {
    let (bound, core) = match core_hash {
        Some(hash) => (1u8, hash.as_slice()),
        None => (0, &[][..]),
    };
    let time = time.to_be_bytes();
    let parts: [&[u8]; 7] = [b"jsp1 cookie", &[epoch], &time, odcid, &[bound], core, address];
    MacKey::new(HashAlg::Sha256, key).mac(&parts).prefix()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counter(u8);

    impl Rng for Counter {
        fn fill(&mut self, out: &mut [u8]) {
            for byte in out {
                self.0 = self.0.wrapping_add(1);
                *byte = self.0;
            }
        }
    }

    const ODCID: [u8; 8] = *b"odcid-8.";

    // spec-test: HS-49
    #[test]
    fn one_bucket_one_cookie() {
        let keys = CookieKeys::new(&mut Counter(0));
        let core = [3; 32];
        let cookie = keys.mint(b"addr", &ODCID, Some(&core), 1000);
        assert_eq!(cookie, keys.mint(b"addr", &ODCID, Some(&core), 1001));
        assert_ne!(cookie, keys.mint(b"addr", &ODCID, Some(&core), 1002));
        assert_eq!(keys.verify(&cookie, b"addr", Some(&core), 1000), Ok(ODCID));
    }

    // spec-test: HS-51
    #[test]
    fn cookies_live_ten_seconds() {
        let keys = CookieKeys::new(&mut Counter(0));
        for start in [0u64, 1000, u64::from(u32::MAX) - 3, u64::from(u32::MAX) + 1] {
            let cookie = keys.mint(b"addr", &ODCID, None, start);
            let bucket = start - start % 2;
            assert_eq!(keys.verify(&cookie, b"addr", None, bucket + 10), Ok(ODCID), "{start}");
            let late = keys.verify(&cookie, b"addr", None, bucket + 11);
            assert_eq!(late, Err(CookieError::Expired), "{start}");
            let early = keys.verify(&cookie, b"addr", None, bucket.wrapping_sub(1));
            assert_eq!(early, Err(CookieError::Expired), "{start}");
        }
    }

    // spec-test: HS-50
    #[test]
    fn everything_is_bound() {
        let keys = CookieKeys::new(&mut Counter(0));
        let core = [3; 32];
        let mut cookie = keys.mint(b"addr", &ODCID, Some(&core), 1000);
        let refused = Err(CookieError::Forged);
        assert_eq!(keys.verify(&cookie, b"addr2", Some(&core), 1000), refused);
        assert_eq!(keys.verify(&cookie, b"addr", Some(&[4; 32]), 1000), refused);
        assert_eq!(keys.verify(&cookie, b"addr", None, 1000), refused);
        let other = CookieKeys::new(&mut Counter(99));
        assert_eq!(other.verify(&cookie, b"addr", Some(&core), 1000), refused);
        for bit in 0..COOKIE_LEN * 8 {
            cookie[bit / 8] ^= 1 << (bit % 8);
            assert!(keys.verify(&cookie, b"addr", Some(&core), 1000).is_err(), "bit {bit}");
            cookie[bit / 8] ^= 1 << (bit % 8);
        }
        for len in 0..COOKIE_LEN {
            let short = keys.verify(&cookie[..len], b"addr", Some(&core), 1000);
            assert_eq!(short, Err(CookieError::Malformed));
        }
    }

    // spec-test: HS-52
    #[test]
    fn a_key_serves_for_two_epochs() {
        let mut rng = Counter(0);
        let mut keys = CookieKeys::new(&mut rng);
        for _ in 0..300 {
            let cookie = keys.mint(b"addr", &ODCID, None, 1000);
            keys.rotate(&mut rng);
            assert_eq!(keys.verify(&cookie, b"addr", None, 1001), Ok(ODCID));
            keys.rotate(&mut rng);
            assert_eq!(keys.verify(&cookie, b"addr", None, 1001), Err(CookieError::Forged));
        }
    }
}
