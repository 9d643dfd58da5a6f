//! Key updates: phase bits, three generations of keys, packets that overtake each other.
//!
//! Both ends may update; a packet lives for a bounded time and arrives in any order or not at all.
//! Ends reckon probe time-outs of their own, which may be far apart. Constants keep the ratio of the
//! specification: an update waits for twice what its receiver insists on, and one constant is the most of
//! the latter and the least of the former.

use stateright::{Model, Property};

use crate::verdict::Family;

/// Packets that each end sends.
const PACKETS: u8 = 3;
/// Ticks that a packet may be under way: less than an update waits. One that is older does not open
/// any more, and counts as a forgery.
const LIFE: u8 = 1;
/// Updates of each end.
const UPDATES: u8 = 2;

#[derive(Clone)]
struct Keys {
    /// Probe time-out of each end, in ticks.
    pto: [u8; 2],
    /// Probe time-outs after an update within which the next of the peer is not followed.
    settle: u8,
    /// The most ticks that this comes to.
    settle_max: u8,
    /// Probe time-outs between the confirmation of a generation and the next update.
    confirmed: u8,
    /// The least ticks that this comes to.
    confirmed_min: u8,
    /// An update waits for an acknowledgement in the present generation.
    waits_for_ack: bool,
    /// The previous keys open only packets with lower numbers than the present ones have opened.
    splits_by_number: bool,
    /// The second end updates whenever it likes.
    hostile: bool,
    /// Ticks that are modelled.
    end: u8,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    from: u8,
    number: u8,
    generation: u8,
    sent_at: u8,
    /// The highest number that its sender has seen.
    acks: Option<u8>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct End {
    generation: u8,
    next: u8,
    seen: u8,
    largest: Option<u8>,
    /// Previous keys: when the next update may be followed, and below which number they serve.
    settles_at: u8,
    below: Option<u8>,
    first: Option<u8>,
    confirmed_at: Option<u8>,
    updates: u8,
    /// When an update of the peer was followed last.
    followed_at: Option<u8>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    now: u8,
    ends: [End; 2],
    network: Vec<Packet>,
    /// An honest packet did not open with the keys that its bit and number called for.
    failed: bool,
    /// An honest update was dropped because it came too soon.
    dropped: bool,
    followed_too_soon: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Send(usize),
    Update(usize),
    Arrive(Packet),
}

impl Keys {
    fn design() -> Self {
        Self {
            pto: [1, 3],
            settle: 1,
            settle_max: 2,
            confirmed: 2,
            confirmed_min: 2,
            waits_for_ack: true,
            splits_by_number: true,
            hostile: false,
            end: 5,
        }
    }

    /// Ticks after an update within which the end follows no other of its peer.
    fn settles_in(&self, at: usize) -> u8 {
        (self.settle * self.pto[at]).min(self.settle_max)
    }

    fn step(&self, state: &mut State, at: usize, below: u8) {
        let (now, settles_in) = (state.now, self.settles_in(at));
        let end = &mut state.ends[at];
        end.generation += 1;
        end.settles_at = now + settles_in;
        end.below = Some(below);
        end.first = None;
        end.confirmed_at = None;
    }

    fn may_update(&self, state: &State, at: usize) -> bool {
        let end = &state.ends[at];
        let settled = match (end.confirmed_at, self.waits_for_ack) {
            (Some(since), true) => {
                state.now >= since + (self.confirmed * self.pto[at]).max(self.confirmed_min)
            }
            (None, true) => false,
            (_, false) => true,
        };
        end.updates < UPDATES && (settled || (self.hostile && at == 1))
    }

    fn arrive(&self, state: &mut State, packet: Packet) {
        let at = usize::from(1 - packet.from);
        let now = state.now;
        let end = &mut state.ends[at];
        if end.seen & 1 << packet.number != 0 {
            return;
        }
        let same_bit = (packet.generation ^ end.generation) & 1 == 0;
        let is_old = match end.below {
            Some(below) => packet.number < below || !self.splits_by_number,
            None => false,
        };
        let honest = !(self.hostile && packet.from == 1);
        if !same_bit && !is_old && end.below.is_some() && now < end.settles_at {
            state.dropped |= honest;
            return;
        }
        let wanted = match (same_bit, is_old) {
            (true, _) => end.generation,
            (false, true) => end.generation.wrapping_sub(1),
            (false, false) => end.generation + 1,
        };
        if packet.generation != wanted {
            state.failed |= honest;
            return;
        }
        end.seen |= 1 << packet.number;
        end.largest = end.largest.max(Some(packet.number));
        if same_bit && let Some(below) = &mut end.below {
            *below = packet.number.min(*below);
        }
        if let (Some(acked), Some(first), None) = (packet.acks, end.first, end.confirmed_at)
            && acked >= first
        {
            end.confirmed_at = Some(now);
        }
        if !same_bit && !is_old {
            let again =
                end.followed_at.is_some_and(|last| now < last + self.pto[at].min(self.settle_max));
            end.followed_at = Some(now);
            state.followed_too_soon |= again;
            self.step(state, at, packet.number);
        }
    }
}

impl Model for Keys {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let end = End {
            generation: 0,
            next: 0,
            seen: 0,
            largest: None,
            settles_at: 0,
            below: None,
            first: None,
            confirmed_at: None,
            updates: 0,
            followed_at: None,
        };
        vec![State {
            now: 0,
            ends: [end, end],
            network: Vec::new(),
            failed: false,
            dropped: false,
            followed_too_soon: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < self.end {
            actions.push(Action::Tick);
        }
        for at in 0..2 {
            if state.ends[at].next < PACKETS && state.network.len() < 2 {
                actions.push(Action::Send(at));
            }
            if self.may_update(state, at) {
                actions.push(Action::Update(at));
            }
        }
        actions.extend(state.network.iter().map(|packet| Action::Arrive(*packet)));
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Tick => {
                next.now += 1;
                next.network.retain(|packet| packet.sent_at + LIFE >= next.now);
            }
            Action::Send(at) => {
                let end = &mut next.ends[at];
                let packet = Packet {
                    from: at as u8,
                    number: end.next,
                    generation: end.generation,
                    sent_at: state.now,
                    acks: end.largest,
                };
                end.first.get_or_insert(end.next);
                end.next += 1;
                next.network.push(packet);
                next.network.sort();
            }
            Action::Update(at) => {
                next.ends[at].updates += 1;
                self.step(&mut next, at, PACKETS);
            }
            Action::Arrive(packet) => {
                let place = next.network.iter().position(|other| *other == packet)?;
                next.network.remove(place);
                self.arrive(&mut next, packet);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("honest packets open", |model: &Self, state: &State| {
                model.hostile || !state.failed
            }),
            Property::always("honest updates are followed", |_, state: &State| !state.dropped),
            Property::always("one generation apart at most", |model: &Self, state: &State| {
                model.hostile || state.ends[0].generation.abs_diff(state.ends[1].generation) <= 1
            }),
            Property::always("updates are followed seldom", |_, state: &State| {
                !state.followed_too_soon
            }),
        ]
    }
}

pub(crate) fn family() -> Family {
    let with = |change: fn(&mut Keys)| {
        move || {
            let mut model = Keys::design();
            change(&mut model);
            model
        }
    };
    Family::of("key-updates", Keys::design)
        .design(
            "a hostile peer",
            with(|m| {
                m.hostile = true;
                m.end = 3;
            }),
        )
        .mutant(
            "no wait for an acknowledgement",
            "one generation apart at most",
            with(|m| {
                m.waits_for_ack = false;
            }),
        )
        .mutant(
            "previous keys for any number",
            "honest packets open",
            with(|m| {
                m.splits_by_number = false;
            }),
        )
        .mutant(
            "an update does not wait",
            "honest updates are followed",
            with(|m| {
                m.confirmed = 0;
                m.confirmed_min = 0;
            }),
        )
        .mutant(
            "an end insists on its own time-out",
            "honest updates are followed",
            with(|m| {
                m.settle_max = u8::MAX;
            }),
        )
        .mutant(
            "a hostile peer is followed at once",
            "updates are followed seldom",
            with(|m| {
                m.hostile = true;
                m.settle = 0;
            }),
        )
}
