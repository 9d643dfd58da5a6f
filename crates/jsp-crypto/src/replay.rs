//! The strike register: which tickets have brought early data already.
//!
//! Exact, not a filter: two sets of ticket numbers, of which the older is let
//! go of every [`GENERATION_MS`]. A hello is fresh for [`FRESHNESS_MS`] before
//! and after the time that it tells, so that a copy of it stays fresh for twice
//! that at most: a number is kept at least so long.

use alloc::collections::BTreeSet;

/// How far a hello's own time may be from the server's, in milliseconds.
pub const FRESHNESS_MS: u64 = 10_000;
/// How long one generation collects, in milliseconds.
pub const GENERATION_MS: u64 = 2 * FRESHNESS_MS;

/// Tickets that one generation holds, if nothing else is asked for: 10 000 a
/// second for 13 s; both generations then take some 12 MiB.
pub const STRIKES_DEFAULT: usize = 1 << 17;

/// What a register says to a hello with early data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The first one with this ticket: its early data may be taken.
    Fresh,
    /// The ticket has brought early data before: the hello is a copy.
    Repeated,
    /// No early data: the hello is too old or from the future, the register is
    /// full, or it cannot know what was taken before it began.
    Refused,
}

/// Tickets that have brought early data.
pub struct StrikeRegister {
    recent: BTreeSet<[u8; 16]>,
    older: BTreeSet<[u8; 16]>,
    turned_ms: u64,
    capacity: usize,
    /// Before this, early data that were taken before the start could come again.
    blind_until_ms: u64,
}

impl StrikeRegister {
    /// An empty register that begins now and keeps at most `capacity` numbers
    /// in each generation. `is_first` says that no server with the same ticket
    /// keys was there before it: then there is nothing that it could not know.
    /// Times are milliseconds since 1970 UTC.
    // spec: HS-74
    pub fn new(now_ms: u64, capacity: usize, is_first: bool) -> Self {
        let blind = if is_first { 0 } else { GENERATION_MS };
        Self {
            recent: BTreeSet::new(),
            older: BTreeSet::new(),
            turned_ms: now_ms,
            capacity,
            blind_until_ms: now_ms.saturating_add(blind),
        }
    }

    /// Whether early data came with this ticket, as far as it is remembered.
    pub fn contains(&self, uid: &[u8; 16]) -> bool {
        self.recent.contains(uid) || self.older.contains(uid)
    }

    /// Enters a ticket whose hello says that it was made at `hello_ms` by the
    /// server's clock.
    // spec: HS-72, HS-73
    pub fn strike(&mut self, uid: &[u8; 16], hello_ms: u64, now_ms: u64) -> Strike {
        self.turn(now_ms);
        if self.contains(uid) {
            return Strike::Repeated;
        }
        let fresh = now_ms.abs_diff(hello_ms) <= FRESHNESS_MS;
        if !fresh || now_ms < self.blind_until_ms || self.recent.len() >= self.capacity {
            return Strike::Refused;
        }
        self.recent.insert(*uid);
        Strike::Fresh
    }

    fn turn(&mut self, now_ms: u64) {
        let age = now_ms.saturating_sub(self.turned_ms);
        if age < GENERATION_MS {
            return;
        }
        self.older = core::mem::take(&mut self.recent);
        if age >= GENERATION_MS.saturating_mul(2) {
            self.older = BTreeSet::new();
        }
        self.turned_ms = now_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    const NOW: u64 = 1_800_000_000_000;

    fn uid(number: u64) -> [u8; 16] {
        let mut uid = [0; 16];
        uid[..8].copy_from_slice(&number.to_be_bytes());
        uid
    }

    // spec-test: HS-72
    #[test]
    fn a_copy_is_known_for_as_long_as_it_is_fresh() {
        for offset in (0..40_000).step_by(777) {
            for skew in [-10_000i64, -1, 0, 5_000, 10_000] {
                let mut register = StrikeRegister::new(NOW, 100, true);
                let at = NOW + offset;
                let hello = at.saturating_add_signed(skew);
                assert_eq!(register.strike(&uid(1), hello, at), Strike::Fresh);
                for later in (at..=hello + FRESHNESS_MS).step_by(500) {
                    assert_eq!(register.strike(&uid(1), hello, later), Strike::Repeated);
                }
                let over = register.strike(&uid(1), hello, at + 3 * GENERATION_MS);
                assert_eq!(over, Strike::Refused);
            }
        }
    }

    // spec-test: HS-72, HS-73
    #[test]
    fn no_ticket_is_fresh_twice_whatever_comes_when() {
        use crate::rng::Rng;
        for seed in 0..40 {
            let mut rng = crate::test_rng::SeededRng(seed);
            let mut random = |below: u64| {
                let mut bytes = [0; 8];
                rng.fill(&mut bytes);
                u64::from_be_bytes(bytes) % below
            };
            let mut now = NOW;
            let mut register = StrikeRegister::new(now, 1 + random(60) as usize, random(2) == 0);
            let mut hellos: Vec<u64> = Vec::new();
            let mut fresh = BTreeSet::new();
            for _ in 0..5_000 {
                now += random(400);
                if random(8) == 0 {
                    hellos.push((now + random(22_000)).saturating_sub(11_000));
                }
                if hellos.is_empty() {
                    continue;
                }
                let back = random(40).min(hellos.len() as u64 - 1) as usize;
                let which = hellos.len() - 1 - back;
                if register.strike(&uid(which as u64), hellos[which], now) == Strike::Fresh {
                    assert!(fresh.insert(which), "seed {seed}: hello {which} twice");
                    assert!(now.abs_diff(hellos[which]) <= FRESHNESS_MS);
                }
            }
            assert!(!fresh.is_empty());
        }
    }

    // spec-test: HS-73
    #[test]
    fn what_is_not_fresh_or_finds_no_room_is_refused() {
        let mut register = StrikeRegister::new(NOW, 3, true);
        for wrong in [NOW - FRESHNESS_MS - 1, NOW + FRESHNESS_MS + 1, 0, u64::MAX] {
            assert_eq!(register.strike(&uid(9), wrong, NOW), Strike::Refused);
        }
        for number in 0..3 {
            assert_eq!(register.strike(&uid(number), NOW, NOW), Strike::Fresh);
        }
        assert_eq!(register.strike(&uid(3), NOW, NOW), Strike::Refused);
        // The clock goes back: nothing is forgotten.
        assert_eq!(register.strike(&uid(0), NOW - 60_000, NOW - 60_000), Strike::Repeated);
        let later = NOW + GENERATION_MS;
        assert_eq!(register.strike(&uid(3), later, later), Strike::Fresh);
        assert_eq!(register.strike(&uid(0), NOW + FRESHNESS_MS, later), Strike::Repeated);
    }

    // spec-test: HS-74
    #[test]
    fn a_register_that_was_not_there_is_blind_for_a_while() {
        let mut register = StrikeRegister::new(NOW, 3, false);
        assert_eq!(register.strike(&uid(1), NOW, NOW), Strike::Refused);
        let later = NOW + GENERATION_MS;
        assert_eq!(register.strike(&uid(1), later - 1, later - 1), Strike::Refused);
        assert_eq!(register.strike(&uid(1), later, later), Strike::Fresh);
    }
}
