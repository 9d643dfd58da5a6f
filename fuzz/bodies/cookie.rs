//! What must hold of the proofs of an address: a cookie is taken for what it was made for, by who made
//! it, while it lives, and nothing else is.

use arbitrary::{Result, Unstructured};
use jsp_crypto::cookie::COOKIE_LIFETIME_SECONDS;
use jsp_crypto::{
    COOKIE_LEN, CookieError, CookieKeys, retry_integrity_tag, verify_retry_integrity_tag,
};

use super::parties::Seeded;

/// Cookies and steps of one input.
const STEPS_MAX: usize = 64;

/// What a cookie was made for, and when.
struct Made {
    cookie: [u8; COOKIE_LEN],
    address: u8,
    odcid: [u8; 8],
    core: Option<u8>,
    bucket: u64,
    epoch: u64,
}

/// The input is a list of steps: cookies are made, keys change, time passes, cookies come back, changed
/// or not. Answers how many were taken.
pub fn cookies(data: &[u8]) -> usize {
    let mut u = Unstructured::new(data);
    let mut play = Play {
        keys: CookieKeys::new(&mut Seeded(77)),
        rng: Seeded(78),
        now: u64::from(u32::MAX) - 40,
        epoch: 0,
        made: Vec::new(),
        taken: 0,
    };
    for _ in 0..STEPS_MAX {
        if u.is_empty() || play.step(&mut u).is_err() {
            break;
        }
    }
    play.taken
}

struct Play {
    keys: CookieKeys,
    rng: Seeded,
    now: u64,
    epoch: u64,
    made: Vec<Made>,
    taken: usize,
}

impl Play {
    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=7u8)? {
            0 | 1 => {
                let (address, odcid) = (u.arbitrary()?, u.arbitrary()?);
                let core: Option<u8> = u.arbitrary()?;
                let hash = core.map(|core| [core; 32]);
                let cookie = self.keys.mint(&[address], &odcid, hash.as_ref(), self.now);
                let (bucket, epoch) = (self.now / 2 * 2, self.epoch);
                self.made.push(Made { cookie, address, odcid, core, bucket, epoch });
            }
            2 => {
                self.keys.rotate(&mut self.rng);
                self.epoch += 1;
            }
            3 => self.now += u.int_in_range(0..=7u64)?,
            4 => self.retry(u)?,
            5 => {
                // Out of thin air.
                let len = u.int_in_range(0..=40usize)?.min(u.len());
                let verdict = self.keys.verify(u.bytes(len)?, &[1], None, self.now);
                let is_known = self.made.iter().any(|made| Ok(made.odcid) == verdict);
                assert!(verdict.is_err() || is_known, "a cookie out of thin air");
            }
            _ => self.verify(u)?,
        }
        Ok(())
    }

    fn verify(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        if self.made.is_empty() {
            return Ok(());
        }
        let made = &self.made[u.int_in_range(0..=self.made.len() - 1)?];
        let (mut cookie, mut address, mut core) = (made.cookie.to_vec(), made.address, made.core);
        let place: u8 = u.arbitrary()?;
        let change = u.int_in_range(0..=5u8)?;
        match change {
            0 => cookie[usize::from(place) % COOKIE_LEN] ^= 1 << (place % 8),
            1 => cookie.truncate(usize::from(place) % COOKIE_LEN),
            2 => address = address.wrapping_add(1),
            3 => core = if core.is_none() { Some(place) } else { None },
            _ => {}
        }
        let hash = core.map(|core| [core; 32]);
        let verdict = self.keys.verify(&cookie, &[address], hash.as_ref(), self.now);
        let age = self.now - made.bucket;
        let lives = age <= COOKIE_LIFETIME_SECONDS && self.epoch - made.epoch <= 1;
        if change > 3 && lives {
            assert_eq!(verdict, Ok(made.odcid));
            self.taken += 1;
        } else {
            assert!(verdict.is_err(), "{change}: {verdict:?}");
        }
        if change == 1 {
            assert_eq!(verdict, Err(CookieError::Malformed));
        }
        Ok(())
    }

    /// The tag of a Retry packet covers all of it, and what it answers.
    fn retry(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let (version, place): (u32, u16) = (u.arbitrary()?, u.arbitrary()?);
        let len = u.int_in_range(0..=20usize)?.min(u.len());
        let odcid = u.bytes(len)?;
        let len = u.int_in_range(0..=100usize)?.min(u.len());
        let mut packet = u.bytes(len)?.to_vec();
        let tag = retry_integrity_tag(version, odcid, &packet);
        packet.extend_from_slice(&tag);
        assert!(verify_retry_integrity_tag(version, odcid, &packet));
        assert!(!verify_retry_integrity_tag(version ^ 1, odcid, &packet));
        assert!(!verify_retry_integrity_tag(version, &[odcid, &[0]].concat(), &packet));
        let bit = usize::from(place) % (packet.len() * 8);
        packet[bit / 8] ^= 1 << (bit % 8);
        assert!(!verify_retry_integrity_tag(version, odcid, &packet));
        Ok(())
    }
}
