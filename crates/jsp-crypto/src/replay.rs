//! The strike register: which tickets have brought early data already, and
//! which must not any more.
//!
//! Exact, not a filter: two sets of ticket numbers, of which the older is let
//! go of every [`GENERATION_MS`]. A hello is fresh for less than
//! [`FRESHNESS_MS`] before and after the time that it tells, so that a copy of
//! it stays fresh for less than twice that: a number is kept at least so long.
//!
//! What is refused as early data comes again after the handshake. A copy of
//! that hello must not bring it a second time: such a ticket is *late*, until
//! no hello with it can be fresh. Late is not taken: anybody who has seen a
//! ticket can have it noted as late ([`Resumption::refused`](crate::Resumption::refused)),
//! which costs its client the early data and nothing else.
//!
//! A register may outlive its process ([`StrikeRegister::save`]); what is saved:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `JSPREG2` and a zero byte |
//! | 8 | 8 | the latest time seen, in milliseconds since 1970 UTC |
//! | 16 | 8 | when the generations turned last |
//! | 24 | 8 | before this time nothing is fresh |
//! | 32 | 8 | numbers in the recent generation |
//! | 40 | 8 | numbers in the older generation |
//! | 48 | 16 each | the numbers: the recent generation, then the older one |
//! | then | 24 each | late tickets: the number, and until when, in milliseconds since 1970 UTC |
//! | end - 32 | 32 | a [`Prf`] of all before, under a key that goes with the ticket keys |

use crate::prf::Prf;
use crate::secret::constant_time_eq;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

/// A hello's own time must be nearer than this to the server's, in milliseconds.
pub const FRESHNESS_MS: u64 = 10_000;
/// How long one generation collects, in milliseconds.
pub const GENERATION_MS: u64 = 2 * FRESHNESS_MS;
/// How long a register that was not there before takes nothing, in milliseconds.
/// A second more than a copy stays fresh: the clocks before and after a start
/// are set to whole seconds, and may differ by one.
pub const BLIND_MS: u64 = GENERATION_MS + 1000;

/// Tickets that one generation holds, if nothing else is asked for: 10 000 a
/// second for 13 s; both generations then take some 12 MiB. Twice as many late
/// ones find room besides, some 10 MiB of them: a server that is blind for a
/// while, and notes all that it refuses, must not become so for want of room.
pub const STRIKES_DEFAULT: usize = 1 << 17;

/// How a saved register begins.
const MAGIC: &[u8; 8] = b"JSPREG2\0";
/// What its authentication is for.
const LABEL: &str = "strike register";
/// Length of its authentication, in bytes.
const TAG_LEN: usize = 32;

/// What a register says to a hello with early data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// The first one with this ticket: its early data may be taken.
    Fresh,
    /// The ticket has brought early data before: the hello is a copy.
    Repeated,
    /// No early data: the hello is too old or from the future, its ticket is
    /// late, the register is full, or it cannot know what was taken before it
    /// began. The ticket is late from now on: what was early may come after the
    /// handshake.
    Refused,
}

/// Tickets that have brought early data.
pub struct StrikeRegister {
    recent: BTreeSet<[u8; 16]>,
    older: BTreeSet<[u8; 16]>,
    /// Tickets that bring no early data any more, and until when that matters.
    late: BTreeMap<[u8; 16], u64>,
    turned_ms: u64,
    /// The latest time seen. A clock that goes back does not take it along:
    /// numbers that were let go of would else be fresh again.
    latest_ms: u64,
    capacity: usize,
    /// Before this, early data that were taken before the start could come again,
    /// or those of a late ticket that found no room.
    blind_until_ms: u64,
}

impl StrikeRegister {
    /// An empty register that begins now and keeps at most `capacity` numbers
    /// in each generation, and twice as many of late tickets. `is_first` says that no server with the same ticket
    /// keys was there before it: then there is nothing that it could not know.
    /// Times are milliseconds since 1970 UTC.
    // spec: HS-74
    pub fn new(now_ms: u64, capacity: usize, is_first: bool) -> Self {
        let blind = if is_first { 0 } else { BLIND_MS };
        Self {
            recent: BTreeSet::new(),
            older: BTreeSet::new(),
            late: BTreeMap::new(),
            turned_ms: now_ms,
            latest_ms: now_ms,
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
    // spec: HS-72, HS-73, HS-208
    pub fn strike(&mut self, uid: &[u8; 16], hello_ms: u64, now_ms: u64) -> Strike {
        let now_ms = self.step(now_ms);
        if self.contains(uid) {
            return Strike::Repeated;
        }
        let fresh = now_ms.abs_diff(hello_ms) < FRESHNESS_MS && !self.late.contains_key(uid);
        if !fresh || now_ms < self.blind_until_ms || self.recent.len() >= self.capacity {
            self.note_late(uid, hello_ms, now_ms);
            return Strike::Refused;
        }
        self.recent.insert(*uid);
        Strike::Fresh
    }

    /// The server's time was set ahead by so much. That is no time in which a
    /// copy grew old, or in which what an earlier server took was forgotten by
    /// whoever holds it: all is kept, and the register stays blind, for as long
    /// as if it had not been set. Set back, the register keeps its own time.
    // spec: HS-228
    pub fn on_set_ahead(&mut self, ahead_ms: u64) {
        self.turned_ms = self.turned_ms.saturating_add(ahead_ms);
        self.blind_until_ms = self.blind_until_ms.saturating_add(ahead_ms);
    }

    /// The ticket brings no early data any more: they may come after a handshake.
    /// `hello_ms_max` is the latest time that a hello with it can tell. Without
    /// room for the note nothing is fresh for as long.
    // spec: HS-208
    pub fn note_late(&mut self, uid: &[u8; 16], hello_ms_max: u64, now_ms: u64) {
        let now_ms = self.step(now_ms);
        let until_ms = hello_ms_max.saturating_add(FRESHNESS_MS);
        if until_ms <= now_ms {
            return;
        }
        if let Some(known) = self.late.get_mut(uid) {
            *known = until_ms.max(*known);
        } else if self.late.len() < self.capacity.saturating_mul(2) {
            self.late.insert(*uid, until_ms);
        } else {
            self.blind_until_ms = until_ms.max(self.blind_until_ms);
        }
    }

    /// The time now: never one before.
    fn step(&mut self, now_ms: u64) -> u64 {
        self.latest_ms = self.latest_ms.max(now_ms);
        self.turn(self.latest_ms);
        self.latest_ms
    }

    /// Ends the register: it takes no early data any more, and what it knows is
    /// returned, for the one that comes after it. `key` goes with the ticket keys.
    // spec: HS-96
    pub fn save(&mut self, now_ms: u64, key: &Prf) -> Vec<u8> {
        self.latest_ms = self.latest_ms.max(now_ms);
        self.capacity = 0;
        let mut saved = MAGIC.to_vec();
        let [recent, older] = [&self.recent, &self.older].map(|set| set.len() as u64);
        for field in [self.latest_ms, self.turned_ms, self.blind_until_ms, recent, older] {
            saved.extend_from_slice(&field.to_be_bytes());
        }
        self.recent.iter().chain(&self.older).for_each(|uid| saved.extend_from_slice(uid));
        for (uid, until_ms) in &self.late {
            saved.extend_from_slice(uid);
            saved.extend_from_slice(&until_ms.to_be_bytes());
        }
        saved.extend_from_slice(&key.derive(LABEL, &saved));
        saved
    }

    /// The register that goes on where another one was saved. `None` when it was
    /// saved under another key, was changed, or is so old that another register
    /// may have come between: then only a new one that is blind will do.
    // spec: HS-95
    pub fn restore(saved: &[u8], key: &Prf, now_ms: u64, capacity: usize) -> Option<Self> {
        let (body, tag) = saved.split_last_chunk::<TAG_LEN>()?;
        if !constant_time_eq(&key.derive(LABEL, body), tag) {
            return None;
        }
        let mut rest = body.strip_prefix(MAGIC)?;
        let mut field = || {
            let (field, after) = rest.split_first_chunk()?;
            rest = after;
            Some(u64::from_be_bytes(*field))
        };
        let (latest_ms, turned_ms, blind_until_ms) = (field()?, field()?, field()?);
        let (recent, older) = (numbers(field()?)?, numbers(field()?)?);
        let (recent, rest) = rest.split_at_checked(recent)?;
        let (older, rest) = rest.split_at_checked(older)?;
        let (late, []) = rest.as_chunks::<24>() else { return None };
        if now_ms >= latest_ms.saturating_add(BLIND_MS) {
            return None;
        }
        // One by one: to collect them would bring a sort into every program.
        let set = |uids: &[u8]| {
            let mut set = BTreeSet::new();
            set.extend(uids.as_chunks().0);
            set
        };
        let mut noted = BTreeMap::new();
        for entry in late {
            let (uid, until_ms) = entry.split_first_chunk()?;
            noted.insert(*uid, u64::from_be_bytes(until_ms.try_into().ok()?));
        }
        Some(Self {
            recent: set(recent),
            older: set(older),
            late: noted,
            turned_ms,
            latest_ms: latest_ms.max(now_ms),
            capacity,
            blind_until_ms,
        })
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
        self.late.retain(|_, until_ms| *until_ms > now_ms);
        self.turned_ms = now_ms;
    }
}

/// The length of so many ticket numbers, in bytes.
fn numbers(count: u64) -> Option<usize> {
    usize::try_from(count).ok()?.checked_mul(16)
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

    #[test]
    fn bounds_are_those_that_are_told() {
        assert_eq!((FRESHNESS_MS, GENERATION_MS, BLIND_MS), (10_000, 20_000, 21_000));
        assert_eq!(STRIKES_DEFAULT, 131_072);
    }

    // spec-test: HS-72
    #[test]
    fn a_copy_is_known_for_as_long_as_it_is_fresh() {
        for offset in (0..40_000).step_by(777) {
            for skew in [-9_999i64, -1, 0, 5_000, 9_999] {
                let mut register = StrikeRegister::new(NOW, 100, true);
                let at = NOW + offset;
                let hello = at.saturating_add_signed(skew);
                assert_eq!(register.strike(&uid(1), hello, at), Strike::Fresh);
                for later in (at..hello + FRESHNESS_MS).step_by(500) {
                    assert_eq!(register.strike(&uid(1), hello, later), Strike::Repeated);
                }
                let over = register.strike(&uid(1), hello, at + 3 * GENERATION_MS);
                assert_eq!(over, Strike::Refused);
            }
        }
    }

    // spec-test: HS-72, HS-73, HS-208
    #[test]
    fn no_ticket_brings_its_data_twice_whatever_comes_when() {
        use crate::rng::Rng;
        let mut takes = 0;
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
            // What was early, and what came after the handshake, since it was refused or said to be.
            let (mut fresh, mut late) = (BTreeSet::new(), BTreeSet::new());
            for _ in 0..5_000 {
                now += random(400);
                if random(8) == 0 {
                    hellos.push((now + random(42_000)).saturating_sub(11_000));
                }
                if hellos.is_empty() {
                    continue;
                }
                let back = random(40).min(hellos.len() as u64 - 1) as usize;
                let which = hellos.len() - 1 - back;
                let uid = uid(which as u64);
                if random(30) == 0 && !register.contains(&uid) && !fresh.contains(&which) {
                    register.note_late(&uid, hellos[which] + random(3) * 5_000, now);
                    late.insert(which);
                }
                match register.strike(&uid, hellos[which], now) {
                    Strike::Fresh => {
                        assert!(fresh.insert(which), "seed {seed}: hello {which} twice");
                        assert!(!late.contains(&which), "seed {seed}: hello {which} after all");
                        assert!(now.abs_diff(hellos[which]) < FRESHNESS_MS);
                    }
                    Strike::Refused => drop(late.insert(which)),
                    Strike::Repeated => {}
                }
            }
            assert!(!late.is_empty());
            takes += usize::from(fresh.len() > 10);
        }
        assert!(takes > 10, "{takes} registers take early data all along");
    }

    // spec-test: HS-73
    #[test]
    fn what_is_not_fresh_or_finds_no_room_is_refused() {
        let mut register = StrikeRegister::new(NOW, 3, true);
        for wrong in [NOW - FRESHNESS_MS, NOW + FRESHNESS_MS, 0, u64::MAX] {
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

    // spec-test: HS-208
    #[test]
    fn a_late_ticket_that_finds_no_room_makes_the_register_blind() {
        let mut register = StrikeRegister::new(NOW, 1, true);
        assert_eq!(register.strike(&uid(1), NOW, NOW), Strike::Fresh);
        register.note_late(&uid(2), NOW, NOW);
        register.note_late(&uid(7), NOW, NOW);
        register.note_late(&uid(3), NOW + 30_000, NOW);
        let sees = NOW + 30_000 + FRESHNESS_MS;
        for number in [2, 3, 4] {
            for at in [NOW, NOW + GENERATION_MS, sees - 1] {
                assert_eq!(register.strike(&uid(number), at, at), Strike::Refused, "{number}");
            }
        }
        let sees = sees + FRESHNESS_MS;
        assert_eq!(register.strike(&uid(5), sees, sees), Strike::Fresh);
        // What can never be fresh again takes no room.
        register.note_late(&uid(6), sees - FRESHNESS_MS, sees);
        assert!(register.late.is_empty());
    }

    // spec-test: HS-74
    #[test]
    fn a_register_that_was_not_there_is_blind_for_a_while() {
        let mut register = StrikeRegister::new(NOW, 3, false);
        assert_eq!(register.strike(&uid(1), NOW, NOW), Strike::Refused);
        let later = NOW + BLIND_MS;
        assert_eq!(register.strike(&uid(1), later - 1, later - 1), Strike::Refused);
        assert_eq!(register.strike(&uid(2), later, later), Strike::Fresh);
    }

    // spec-test: HS-73, HS-74
    #[test]
    fn no_copy_outlasts_a_restart_at_any_moment() {
        // From the far future to the far past, and a clock that is set a second back on the way.
        for skew in [FRESHNESS_MS, FRESHNESS_MS - 1, 1, 0] {
            for back in [0, 1, 999] {
                let hello = NOW + skew;
                let mut before = StrikeRegister::new(NOW, 3, true);
                before.strike(&uid(1), hello, NOW);
                let start = NOW - back;
                let mut after = StrikeRegister::new(start, 3, false);
                for later in start..start + 2 * GENERATION_MS {
                    assert_ne!(after.strike(&uid(1), hello, later), Strike::Fresh, "{skew} {back}");
                }
            }
        }
    }

    fn key() -> Prf {
        Prf::new([9; 32])
    }

    // spec-test: HS-72, HS-74, HS-95, HS-96
    #[test]
    fn no_copy_outlasts_a_register_that_is_kept() {
        for (skew, age, away) in [(0, 0, 0), (9_999, 3_000, 17), (1, 19_999, 20_999), (5_000, 0, 1)]
        {
            let mut before = StrikeRegister::new(NOW, 100, true);
            let hello = NOW + skew;
            assert_eq!(before.strike(&uid(1), hello, NOW), Strike::Fresh);
            let stop = NOW + age;
            let saved = before.save(stop, &key());
            // It has ended: what it took afterwards would not be known.
            assert_eq!(before.strike(&uid(2), stop, stop), Strike::Refused);
            assert!(before.contains(&uid(1)));
            let start = stop + away;
            let mut after = StrikeRegister::restore(&saved, &key(), start, 100).unwrap();
            assert!(after.contains(&uid(1)));
            assert_eq!(after.strike(&uid(3), start, start), Strike::Fresh, "it is not blind");
            for later in (start..start + 2 * GENERATION_MS).step_by(250) {
                assert_ne!(after.strike(&uid(1), hello, later), Strike::Fresh, "{skew} {away}");
            }
        }
    }

    // spec-test: HS-72, HS-95
    #[test]
    fn a_kept_register_keeps_both_generations_and_its_time() {
        let mut before = StrikeRegister::new(NOW, 100, true);
        before.strike(&uid(1), NOW, NOW);
        let turn = NOW + GENERATION_MS;
        before.strike(&uid(2), turn, turn);
        before.note_late(&uid(7), turn + 3_000, turn);
        let saved = before.save(turn, &key());
        assert_eq!(saved.len(), 48 + 2 * 16 + 24 + 32);
        // The clock has gone back meanwhile: the register's time does not.
        let mut after = StrikeRegister::restore(&saved, &key(), NOW - 60_000, 100).unwrap();
        assert!(after.contains(&uid(1)) && after.contains(&uid(2)));
        assert_eq!(after.strike(&uid(3), NOW - 60_000, NOW - 60_000), Strike::Refused);
        assert_eq!(after.strike(&uid(3), turn, NOW - 60_000), Strike::Fresh);
        assert_eq!(after.strike(&uid(7), turn, NOW - 60_000), Strike::Refused);
        // The older ones go at the next turn, the recent ones a turn later.
        let turn = turn + GENERATION_MS;
        after.strike(&uid(4), turn, turn);
        assert!(!after.contains(&uid(1)) && after.contains(&uid(2)) && after.contains(&uid(4)));
    }

    // spec-test: HS-74, HS-95
    #[test]
    fn a_kept_register_that_was_blind_stays_it() {
        let mut before = StrikeRegister::new(NOW, 100, false);
        let saved = before.save(NOW + 500, &key());
        let mut after = StrikeRegister::restore(&saved, &key(), NOW + 600, 100).unwrap();
        let end = NOW + BLIND_MS;
        assert_eq!(after.strike(&uid(1), end - 1, end - 1), Strike::Refused);
        assert_eq!(after.strike(&uid(2), end, end), Strike::Fresh);
    }

    // spec-test: HS-95
    #[test]
    fn what_is_damaged_foreign_or_old_is_no_register() {
        let mut before = StrikeRegister::new(NOW, 100, true);
        before.strike(&uid(1), NOW, NOW);
        let saved = before.save(NOW, &key());
        let restore = |saved: &[u8], now| StrikeRegister::restore(saved, &key(), now, 100);
        assert!(restore(&saved, NOW + BLIND_MS - 1).is_some());
        assert!(restore(&saved, NOW + BLIND_MS).is_none());
        assert!(StrikeRegister::restore(&saved, &Prf::new([8; 32]), NOW, 100).is_none());
        for len in 0..saved.len() {
            assert!(restore(&saved[..len], NOW).is_none());
        }
        for bit in 0..saved.len() * 8 {
            let mut changed = saved.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(restore(&changed, NOW).is_none(), "bit {bit}");
        }
        // Under the right key, but of another form: a count that is too large, a piece of a number.
        let seal = |body: &[u8]| [body, &key().derive(LABEL, body)].concat();
        let body = &saved[..saved.len() - TAG_LEN];
        assert!(restore(&seal(body), NOW).is_some());
        for wrong in [&body[..47], &body[..49], &body[..48], &[]] {
            assert!(restore(&seal(wrong), NOW).is_none(), "{} bytes", wrong.len());
        }
    }

    // spec-test: HS-228
    #[test]
    fn what_is_known_is_kept_as_long_by_a_clock_that_is_set_ahead() {
        for leap in [1001, GENERATION_MS, 60_000, 86_400_000] {
            let mut register = StrikeRegister::new(NOW, 9, true);
            assert_eq!(register.strike(&uid(1), NOW, NOW), Strike::Fresh);
            let mut ahead = 0;
            for after in (0..GENERATION_MS).step_by(500) {
                if after == 5_000 || after == 12_000 {
                    ahead += leap;
                    register.on_set_ahead(leap);
                }
                let now = NOW + after + ahead;
                assert!(register.contains(&uid(1)), "{after} ms after a leap of {leap} ms");
                assert_eq!(register.strike(&uid(2), 0, now), Strike::Refused);
            }
            // It goes on as ever.
            let later = NOW + 3 * GENERATION_MS + ahead;
            assert_eq!(register.strike(&uid(3), later, later), Strike::Fresh);
            assert!(!register.contains(&uid(1)));
            let mut blind = StrikeRegister::new(NOW, 9, false);
            blind.on_set_ahead(leap);
            for after in (0..BLIND_MS).step_by(500) {
                let now = NOW + leap + after;
                assert_eq!(blind.strike(&uid(1), now, now), Strike::Refused);
            }
            let now = NOW + leap + BLIND_MS;
            assert_eq!(blind.strike(&uid(2), now, now), Strike::Fresh);
        }
    }

    // spec-test: HS-72
    #[test]
    fn a_clock_that_leaps_ahead_and_comes_back_makes_nothing_fresh_again() {
        for leap in [GENERATION_MS, 60_000, 86_400_000] {
            let mut register = StrikeRegister::new(NOW, 3, true);
            assert_eq!(register.strike(&uid(1), NOW, NOW), Strike::Fresh);
            // Two turns let go of everything.
            register.strike(&uid(2), NOW + leap, NOW + leap);
            register.strike(&uid(3), NOW + 2 * leap, NOW + 2 * leap);
            for later in (NOW..NOW + FRESHNESS_MS).step_by(100) {
                assert_ne!(register.strike(&uid(1), NOW, later), Strike::Fresh, "{leap} {later}");
            }
        }
    }
}
