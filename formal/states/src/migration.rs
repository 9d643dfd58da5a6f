//! Change of path: a client that moves, and somebody who sends its packets on from elsewhere.
//!
//! The server tries an address that the newest packet came from, and moves to it once a challenge
//! that was sent there comes back. The adversary may send any packet under way from an address of its
//! own (which may be a victim's that never answers), and lose packets. It may hear what is sent to
//! its address and hand it on to the client.

use stateright::{Model, Property};

use crate::verdict::Family;

/// Packets that the client sends, answers among them.
const PACKETS: u8 = 4;
const FORWARDS: u8 = 2;
const LOSSES: u8 = 1;
/// Challenges to one address.
const CHALLENGES: u8 = 2;
/// What an address that is not proved may be sent, per packet that came from it.
const FACTOR: u8 = 3;

#[derive(Clone)]
struct Migration {
    /// The server moves only after an answer.
    asks_first: bool,
    /// An answer counts for the challenge that it repeats.
    binds_answer: bool,
    /// Another address may take the place of one that is on trial.
    replaces: bool,
    /// A trial ends when its challenges are not answered.
    gives_up: bool,
    /// Bytes to an address on trial are bounded by what came from it.
    keeps_budget: bool,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Old,
    New,
    Elsewhere,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    number: u8,
    from: Place,
    answer: Option<u8>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Trial {
    place: Place,
    challenge: u8,
    sent: u8,
    received: u8,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    client: Place,
    next: u8,
    to_server: Vec<Packet>,
    /// Challenges on their way: where to, and which.
    to_client: Vec<(Place, u8)>,
    forwards: u8,
    losses: u8,
    seen: u32,
    active: Place,
    trial: Option<Trial>,
    challenges: u8,
    /// Places that a challenge has reached, as bits.
    heard: u8,
    overspent: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Send,
    Move,
    Arrive(Packet),
    Lose(Packet),
    Forward(Packet),
    Challenge,
    GiveUp,
    Hear(usize),
    Miss(usize),
    HandOn(usize),
}

impl Migration {
    fn design() -> Self {
        Self {
            asks_first: true,
            binds_answer: true,
            replaces: true,
            gives_up: true,
            keeps_budget: true,
        }
    }

    fn arrive(&self, state: &mut State, packet: Packet) {
        let bit = 1u32 << packet.number;
        if state.seen & bit != 0 {
            return;
        }
        let newest = state.seen < bit;
        state.seen |= bit;
        let on_trial = state.trial.is_some_and(|trial| trial.place == packet.from);
        if let Some(trial) = state.trial.as_mut().filter(|trial| trial.place == packet.from) {
            trial.received = (trial.received + 1).min(2);
        }
        if newest && packet.from != state.active && !on_trial {
            if !self.asks_first {
                state.active = packet.from;
            } else if state.trial.is_none() || self.replaces {
                let challenge = state.challenges;
                state.challenges += 1;
                state.trial = Some(Trial { place: packet.from, challenge, sent: 0, received: 1 });
            }
        }
        if let (Some(answer), Some(trial)) = (packet.answer, state.trial)
            && (answer == trial.challenge || !self.binds_answer)
        {
            state.active = trial.place;
            state.trial = None;
        }
    }

    /// What becomes of a state when the adversary keeps quiet and nothing more is lost: the client
    /// stays where it is and sends on.
    fn settle(&self, mut state: State) -> State {
        state.to_server.clear();
        state.to_client.clear();
        for _ in 0..2 * CHALLENGES + 2 {
            let packet = Packet { number: state.next, from: state.client, answer: None };
            state.next += 1;
            self.arrive(&mut state, packet);
            let Some(trial) = &mut state.trial else { continue };
            if trial.sent >= CHALLENGES {
                state.trial = if self.gives_up { None } else { state.trial };
                continue;
            }
            trial.sent += 1;
            if trial.place == state.client {
                let answer = Some(trial.challenge);
                let packet = Packet { number: state.next, from: state.client, answer };
                state.next += 1;
                self.arrive(&mut state, packet);
            }
        }
        state
    }

    fn answer(state: &mut State, challenge: u8) {
        if state.next < PACKETS {
            let packet = Packet { number: state.next, from: state.client, answer: Some(challenge) };
            state.to_server.push(packet);
            state.to_server.sort();
            state.next += 1;
        }
    }
}

impl Model for Migration {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            client: Place::Old,
            next: 0,
            to_server: Vec::new(),
            to_client: Vec::new(),
            forwards: FORWARDS,
            losses: LOSSES,
            seen: 0,
            active: Place::Old,
            trial: None,
            challenges: 0,
            heard: 1 << Place::Old as u8,
            overspent: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.to_server.len() < 2 && state.next < PACKETS {
            actions.push(Action::Send);
        }
        if state.client == Place::Old {
            actions.push(Action::Move);
        }
        for packet in &state.to_server {
            actions.push(Action::Arrive(*packet));
            if state.losses > 0 {
                actions.push(Action::Lose(*packet));
            }
            if state.forwards > 0 && packet.from != Place::Elsewhere {
                actions.push(Action::Forward(*packet));
            }
        }
        if let Some(trial) = state.trial {
            let paid = trial.sent < trial.received * FACTOR || !self.keeps_budget;
            if (trial.sent < CHALLENGES && paid) || (!self.keeps_budget && trial.sent <= FACTOR) {
                actions.push(Action::Challenge);
            }
            if trial.sent >= CHALLENGES && self.gives_up {
                actions.push(Action::GiveUp);
            }
        }
        for (index, (place, _)) in state.to_client.iter().enumerate() {
            if *place == state.client {
                actions.push(Action::Hear(index));
            } else {
                actions.push(Action::Miss(index));
            }
            if *place == Place::Elsewhere {
                actions.push(Action::HandOn(index));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let take = |packets: &mut Vec<Packet>, packet: Packet| {
            if let Some(place) = packets.iter().position(|other| *other == packet) {
                packets.remove(place);
            }
        };
        match action {
            Action::Send => {
                next.to_server.push(Packet {
                    number: state.next,
                    from: state.client,
                    answer: None,
                });
                next.to_server.sort();
                next.next += 1;
            }
            Action::Move => next.client = Place::New,
            Action::Arrive(packet) => {
                take(&mut next.to_server, packet);
                self.arrive(&mut next, packet);
            }
            Action::Lose(packet) => {
                take(&mut next.to_server, packet);
                next.losses -= 1;
            }
            Action::Forward(packet) => {
                next.forwards -= 1;
                next.to_server.push(Packet { from: Place::Elsewhere, ..packet });
                next.to_server.sort();
            }
            Action::Challenge => {
                let trial = next.trial.as_mut()?;
                trial.sent += 1;
                next.overspent |= trial.sent > trial.received * FACTOR;
                next.to_client.push((trial.place, trial.challenge));
                next.to_client.sort();
            }
            Action::GiveUp => next.trial = None,
            Action::Hear(index) => {
                let (place, challenge) = next.to_client.remove(index);
                next.heard |= 1 << place as u8;
                Self::answer(&mut next, challenge);
            }
            Action::Miss(index) => {
                let (place, _) = next.to_client.remove(index);
                next.heard |= u8::from(place == Place::Elsewhere) << place as u8;
            }
            Action::HandOn(index) => {
                let (place, challenge) = next.to_client.remove(index);
                next.heard |= 1 << place as u8;
                Self::answer(&mut next, challenge);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "data go to a place that has heard a challenge",
                |_, state: &State| state.heard & 1 << state.active as u8 != 0,
            ),
            Property::always(
                "a place on trial is sent three times what came from it",
                |_, state: &State| !state.overspent,
            ),
            Property::always("the client is found again", |model: &Self, state: &State| {
                let settled = model.settle(state.clone());
                settled.active == settled.client
            }),
        ]
    }
}

pub(crate) fn family() -> Family {
    let with = |change: fn(&mut Migration)| {
        move || {
            let mut model = Migration::design();
            change(&mut model);
            model
        }
    };
    let heard = "data go to a place that has heard a challenge";
    Family::of("migration", Migration::design)
        .mutant("the server moves at once", heard, with(|m| m.asks_first = false))
        .mutant("any answer counts", heard, with(|m| m.binds_answer = false))
        .mutant(
            "a trial is neither replaced nor ended",
            "the client is found again",
            with(|m| {
                m.replaces = false;
                m.gives_up = false;
            }),
        )
        .mutant(
            "challenges without a budget",
            "a place on trial is sent three times what came from it",
            with(|m| m.keeps_budget = false),
        )
}
