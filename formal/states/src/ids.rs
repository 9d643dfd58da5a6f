//! Connection ids: issuing, taking, retiring, while frames are lost, doubled and overtaken.
//!
//! One side issues ids up to what the other keeps; the other takes a fresh one for each new path and
//! says so. A frame that is held lost is written again, although it may still arrive: the network
//! may do both. Sequences stand for ids.

use stateright::{Model, Property};

use crate::verdict::Family;

/// Ids that the user keeps at once.
const WANTED: usize = 3;
/// Changes of path.
const MOVES: u8 = 3;
/// Frames that are lost, and frames that are held lost but arrive all the same.
const LOSSES: u8 = 2;
const SPURIOUS: u8 = 2;

#[derive(Clone)]
struct Ids {
    /// What was taken once is not taken again.
    remembers_taken: bool,
    /// A lost retirement is written again.
    repeats_retirement: bool,
    /// The issuer removes an id only when its user has retired it.
    waits_for_retirement: bool,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Frame {
    New(u8),
    Retire(u8),
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    network: Vec<Frame>,
    losses: u8,
    spurious: u8,
    issued: Vec<u8>,
    announce: Vec<u8>,
    next: u8,
    current: u8,
    spare: Vec<u8>,
    retire: Vec<u8>,
    taken: Vec<u8>,
    /// Ids in the order of the paths that they were used on.
    used: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Issue,
    Announce,
    Move,
    TellRetired,
    Deliver(Frame),
    Lose(Frame),
    /// Held lost, and still under way.
    HoldLost(Frame),
}

impl Ids {
    fn design() -> Self {
        Self { remembers_taken: true, repeats_retirement: true, waits_for_retirement: true }
    }

    fn write_again(&self, state: &mut State, frame: Frame) {
        match frame {
            Frame::New(id) if state.issued.contains(&id) => state.announce.push(id),
            Frame::New(_) => {}
            Frame::Retire(id) if self.repeats_retirement => state.retire.push(id),
            Frame::Retire(_) => {}
        }
    }

    fn deliver(&self, state: &mut State, frame: Frame) {
        match frame {
            Frame::New(id) => {
                let held = state.current == id || state.spare.contains(&id);
                let known = if self.remembers_taken { state.taken.contains(&id) } else { held };
                if !known {
                    state.taken.push(id);
                    state.taken.sort_unstable();
                    state.spare.push(id);
                }
            }
            Frame::Retire(id) => state.issued.retain(|issued| *issued != id),
        }
    }
}

fn send(network: &mut Vec<Frame>, frame: Frame) {
    network.push(frame);
    network.sort();
}

impl Model for Ids {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            network: Vec::new(),
            losses: LOSSES,
            spurious: SPURIOUS,
            issued: vec![0],
            announce: Vec::new(),
            next: 1,
            current: 0,
            spare: Vec::new(),
            retire: Vec::new(),
            taken: vec![0],
            used: vec![0],
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let room = state.issued.len() < WANTED || !self.waits_for_retirement;
        if room && state.next < MOVES + WANTED as u8 {
            actions.push(Action::Issue);
        }
        if !state.announce.is_empty() {
            actions.push(Action::Announce);
        }
        if !state.spare.is_empty() && state.used.len() <= usize::from(MOVES) {
            actions.push(Action::Move);
        }
        if !state.retire.is_empty() {
            actions.push(Action::TellRetired);
        }
        let mut distinct = state.network.clone();
        distinct.dedup();
        for frame in distinct {
            actions.push(Action::Deliver(frame));
            if state.losses > 0 {
                actions.push(Action::Lose(frame));
            }
            if state.spurious > 0 {
                actions.push(Action::HoldLost(frame));
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        let take = |network: &mut Vec<Frame>, frame: Frame| {
            if let Some(place) = network.iter().position(|other| *other == frame) {
                network.remove(place);
            }
        };
        match action {
            Action::Issue => {
                if state.issued.len() >= WANTED {
                    next.issued.remove(0);
                }
                next.issued.push(state.next);
                next.announce.push(state.next);
                next.next += 1;
            }
            Action::Announce => {
                let id = next.announce.remove(0);
                send(&mut next.network, Frame::New(id));
            }
            Action::Move => {
                next.retire.push(state.current);
                next.current = next.spare.remove(0);
                next.used.push(next.current);
            }
            Action::TellRetired => {
                let id = next.retire.remove(0);
                send(&mut next.network, Frame::Retire(id));
            }
            Action::Deliver(frame) => {
                take(&mut next.network, frame);
                self.deliver(&mut next, frame);
            }
            Action::Lose(frame) => {
                take(&mut next.network, frame);
                next.losses -= 1;
                self.write_again(&mut next, frame);
            }
            Action::HoldLost(frame) => {
                next.spurious -= 1;
                self.write_again(&mut next, frame);
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the id in use is known", |_, state: &State| {
                state.issued.contains(&state.current)
            }),
            Property::always("each path has its own id", |_, state: &State| {
                (1..state.used.len()).all(|n| !state.used[..n].contains(&state.used[n]))
            }),
            Property::always("no more ids than the user keeps", |_, state: &State| {
                state.issued.len() <= WANTED && state.spare.len() < WANTED
            }),
            Property::always("spare ids come again", |_, state: &State| {
                let quiet = state.network.is_empty()
                    && state.announce.is_empty()
                    && state.retire.is_empty()
                    && (state.issued.len() >= WANTED || state.next >= MOVES + WANTED as u8);
                !quiet || state.spare.len() + 1 == state.issued.len()
            }),
        ]
    }
}

pub(crate) fn family() -> Family {
    let with = |change: fn(&mut Ids)| {
        move || {
            let mut model = Ids::design();
            change(&mut model);
            model
        }
    };
    Family::of("connection-ids", Ids::design)
        .mutant(
            "what was retired is taken again",
            "each path has its own id",
            with(|m| {
                m.remembers_taken = false;
            }),
        )
        .mutant(
            "a lost retirement is not repeated",
            "spare ids come again",
            with(|m| {
                m.repeats_retirement = false;
            }),
        )
        .mutant(
            "the issuer drops its oldest id",
            "the id in use is known",
            with(|m| {
                m.waits_for_retirement = false;
            }),
        )
}
