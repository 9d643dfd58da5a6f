//! Door 4: whose bytes go next.
//!
//! Control goes before real time, real time before interactive, interactive before scavenger.
//! Inside a class: control takes turns, real time goes by the earliest deadline, the other two share
//! by weight (deficit round robin that may overdraw, so that a turn is a whole packet). Interactive
//! and scavenger streams have a floor, so that nothing above but control starves them.
//!
//! Only streams that have something to send stand here; idle ones cost nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use jsp_wire::{Class, Instant};

use super::table::Key;

/// Bytes that one unit of weight is worth in one round at least. The usual weight of 16 gives two packets.
const QUANTUM_MIN: i64 = 128;

/// The same at most: the usual weight gives 64 KiB, a batch. Whoever reads a stream then has the more of it at once,
/// and a batch concerns few of them.
const QUANTUM_MAX: i64 = 4096;

/// The weight that a turn's length is told for.
const WEIGHT_USUAL: i64 = 16;

/// Share of all bytes but those of control that each of the two lower classes gets at least while it has
/// data, in percent.
const FLOOR_PERCENT: i64 = 5;

/// A floor is paid out in portions of this many bytes: one packet.
const FLOOR_PORTION: i64 = 1200;

/// Portions that are owed at most: where floors had to wait, the rest is forgiven.
const PORTIONS_MAX: i64 = 8;

#[derive(Debug)]
struct Turn {
    key: Key,
    weight: u8,
    deficit: i64,
}

/// Streams of one class that share by weight.
#[derive(Default, Debug)]
struct Ring {
    turns: VecDeque<Turn>,
    /// What the class is owed of its floor, in bytes times 100.
    owed: i64,
    /// A stream of the class stands aside.
    is_aside: bool,
}

impl Ring {
    fn head(&mut self, quantum: i64) -> Option<Key> {
        loop {
            let turn = self.turns.front_mut()?;
            if turn.deficit > 0 {
                return Some(turn.key);
            }
            turn.deficit += i64::from(turn.weight) * quantum;
            if turn.deficit <= 0 {
                self.turns.rotate_left(1);
            }
        }
    }

    fn charge_head(&mut self, bytes: i64) {
        if let Some(turn) = self.turns.front_mut() {
            turn.deficit -= bytes;
            if turn.deficit <= 0 {
                self.turns.rotate_left(1);
            }
        }
    }

    fn set_aside(&mut self) -> Option<Turn> {
        self.is_aside = true;
        self.turns.pop_front()
    }

    fn bring_back(&mut self, turn: Turn) {
        self.is_aside = false;
        self.turns.push_front(turn);
    }

    fn is_owed(&self) -> bool {
        !self.turns.is_empty() && self.owed >= FLOOR_PORTION * 100
    }

    fn note_bytes(&mut self, own: bool, bytes: i64) {
        if self.turns.is_empty() && !self.is_aside {
            self.owed = 0;
        } else if own {
            self.owed = (self.owed - bytes * (100 - FLOOR_PERCENT)).max(0);
        } else {
            self.owed = (self.owed + bytes * FLOOR_PERCENT).min(PORTIONS_MAX * FLOOR_PORTION * 100);
        }
    }
}

/// The streams that have something to send.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    /// Bytes that one unit of weight is worth in one round, and the least where nobody has said.
    quantum: i64,
    control: VecDeque<Key>,
    realtime: BinaryHeap<Reverse<(Instant, u64, Key)>>,
    interactive: Ring,
    scavenger: Ring,
    /// Streams whose rate cap holds them back, by when it lets them go on.
    capped: BinaryHeap<Reverse<(Instant, Key)>>,
    /// Streams that let others have what is left of a packet, and what real-time streams are sorted by.
    aside: Vec<(Class, Turn, Instant)>,
    /// Keeps real-time streams with equal deadlines in order.
    arrivals: u64,
    /// The packet at hand leaves for the sake of urgent data alone: nobody else goes before them.
    floors_wait: bool,
}

impl Scheduler {
    /// True when no stream is in any line.
    pub(super) fn is_empty(&self) -> bool {
        let rings = [&self.interactive, &self.scavenger];
        self.control.is_empty()
            && self.realtime.is_empty()
            && rings.into_iter().all(|ring| ring.turns.is_empty())
            && self.capped.is_empty()
            && self.aside.is_empty()
    }

    /// Turns of a stream with the usual weight are to have about this many bytes.
    pub(super) fn set_turn(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.quantum = (bytes / WEIGHT_USUAL).clamp(QUANTUM_MIN, QUANTUM_MAX);
    }

    /// Lets a stream stand in line. It must not stand there yet.
    pub(super) fn push(&mut self, class: Class, key: Key, weight: u8, due: Instant) {
        let turn = Turn { key, weight: weight.max(1), deficit: 0 };
        match class {
            Class::Control => self.control.push_back(key),
            Class::RealTime => {
                self.arrivals += 1;
                self.realtime.push(Reverse((due, self.arrivals, key)));
            }
            Class::Interactive => self.interactive.turns.push_back(turn),
            Class::Scavenger => self.scavenger.turns.push_back(turn),
        }
    }

    /// From here on the floors wait, or do not.
    pub(super) fn let_floors_wait(&mut self, wait: bool) {
        self.floors_wait = wait;
    }

    /// The stream that goes next, and the class whose turn it is.
    // spec: STR-40, STR-41, STR-42
    pub(super) fn head(&mut self) -> Option<(Class, Key)> {
        let quantum = self.quantum.max(QUANTUM_MIN);
        if let Some(key) = self.control.front() {
            return Some((Class::Control, *key));
        }
        if self.scavenger.is_owed() && !self.floors_wait {
            return self.scavenger.head(quantum).map(|key| (Class::Scavenger, key));
        }
        if self.interactive.is_owed() && !self.floors_wait {
            return self.interactive.head(quantum).map(|key| (Class::Interactive, key));
        }
        if let Some(Reverse((_, _, key))) = self.realtime.peek() {
            return Some((Class::RealTime, *key));
        }
        if let Some(key) = self.interactive.head(quantum) {
            return Some((Class::Interactive, key));
        }
        self.scavenger.head(quantum).map(|key| (Class::Scavenger, key))
    }

    /// Takes the head of a class out of the line.
    pub(super) fn pop(&mut self, class: Class) {
        match class {
            Class::Control => drop(self.control.pop_front()),
            Class::RealTime => drop(self.realtime.pop()),
            Class::Interactive => drop(self.interactive.turns.pop_front()),
            Class::Scavenger => drop(self.scavenger.turns.pop_front()),
        }
    }

    /// Takes a stream out of the line of a class, wherever it stands.
    pub(super) fn remove(&mut self, class: Class, key: Key) {
        match class {
            Class::Control => self.control.retain(|other| *other != key),
            Class::RealTime => self.realtime.retain(|Reverse((_, _, other))| *other != key),
            Class::Interactive => self.interactive.turns.retain(|turn| turn.key != key),
            Class::Scavenger => self.scavenger.turns.retain(|turn| turn.key != key),
        }
    }

    /// The head of a class lets others have what is left of a packet; it keeps its place.
    pub(super) fn set_aside(&mut self, class: Class) {
        let alone = |key| Turn { key, weight: 1, deficit: 0 };
        let due = self.head_due().unwrap_or(Instant::FAR_FUTURE);
        let turn = match class {
            Class::Control => self.control.pop_front().map(alone),
            Class::RealTime => self.realtime.pop().map(|Reverse((_, _, key))| alone(key)),
            Class::Interactive => self.interactive.set_aside(),
            Class::Scavenger => self.scavenger.set_aside(),
        };
        self.aside.extend(turn.map(|turn| (class, turn, due)));
    }

    /// Streams that stand aside go first again.
    pub(super) fn bring_back(&mut self) {
        while let Some((class, turn, due)) = self.aside.pop() {
            match class {
                Class::Control => self.control.push_front(turn.key),
                Class::RealTime => self.realtime.push(Reverse((due, 0, turn.key))),
                Class::Interactive => self.interactive.bring_back(turn),
                Class::Scavenger => self.scavenger.bring_back(turn),
            }
        }
    }

    /// The head of `class` sent `bytes` and stays in line; a real-time stream now waits for `due`.
    pub(super) fn charge(&mut self, class: Class, bytes: usize, due: Instant) {
        self.charge_leaving(class, bytes);
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 1000);
        match class {
            Class::Control => {
                if self.control.len() > 1 {
                    self.control.rotate_left(1);
                }
            }
            Class::RealTime => {
                if let Some(mut top) = self.realtime.peek_mut()
                    && top.0.0 != due
                {
                    top.0.0 = due;
                }
            }
            Class::Interactive => self.interactive.charge_head(bytes),
            Class::Scavenger => self.scavenger.charge_head(bytes),
        }
    }

    /// What the real-time stream that goes first is sorted by.
    pub(super) fn head_due(&self) -> Option<Instant> {
        self.realtime.peek().map(|Reverse((due, _, _))| *due)
    }

    /// The head of `class` sent `bytes` and is about to leave the line.
    pub(super) fn charge_leaving(&mut self, class: Class, bytes: usize) {
        if class == Class::Control {
            return;
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX / 1000);
        self.interactive.note_bytes(class == Class::Interactive, bytes);
        self.scavenger.note_bytes(class == Class::Scavenger, bytes);
    }

    /// True when some stream stands in line.
    pub(super) fn has_any(&self) -> bool {
        !self.control.is_empty()
            || !self.realtime.is_empty()
            || !self.interactive.turns.is_empty()
            || !self.scavenger.turns.is_empty()
    }

    /// True when a stream stands in line whose data is late soon.
    pub(super) fn has_urgent(&self) -> bool {
        !self.control.is_empty() || !self.realtime.is_empty()
    }

    /// Bytes that the stream at the head may send before another one's turn.
    pub(super) fn head_share(&mut self) -> usize {
        let ring = match self.head() {
            Some((Class::Interactive, _)) => &self.interactive,
            Some((Class::Scavenger, _)) => &self.scavenger,
            _ => return 0,
        };
        let deficit = ring.turns.front().map_or(0, |turn| turn.deficit);
        usize::try_from(deficit).unwrap_or(0)
    }

    /// True when another stream than the head stands in line.
    pub(super) fn has_others(&self) -> bool {
        self.control.len()
            + self.realtime.len()
            + self.interactive.turns.len()
            + self.scavenger.turns.len()
            > 1
    }

    /// Lets a stream wait until its rate cap lets it go on.
    pub(super) fn hold(&mut self, until: Instant, key: Key) {
        self.capped.push(Reverse((until, key)));
    }

    /// A stream whose waiting is over.
    pub(super) fn release(&mut self, now: Instant) -> Option<Key> {
        let Reverse((until, _)) = self.capped.peek()?;
        if *until > now {
            return None;
        }
        self.capped.pop().map(|Reverse((_, key))| key)
    }

    /// When the next rate cap lets its stream go on.
    pub(super) fn next_release(&self) -> Option<Instant> {
        self.capped.peek().map(|Reverse((until, _))| *until)
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}
