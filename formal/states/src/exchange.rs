//! The in-band exchange beside key updates: the secret goes into the same generation at both ends.
//!
//! The client offers, the server answers and folds the secret into its next generation, the client does the
//! same when the answer is there and then steps. Updates without a secret may come at any time before. Time is
//! left out: a packet is lost once a generation that follows its own has been left behind (`keys` looks at
//! that), and an update waits for an acknowledgement alone.

use stateright::{Model, Property};

use crate::verdict::Family;

/// Packets that each end sends; updates of each end beside the step of the exchange.
const PACKETS: u8 = 5;
const UPDATES: u8 = 1;
const CLIENT: usize = 0;

#[derive(Clone)]
struct Exchange {
    /// The client makes no update between its offer and the step.
    client_waits: bool,
    /// The server makes none between its answer and the client's step.
    server_waits: bool,
}

/// Keys: the number of the generation, and the generation from which the secret is in them.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Generation {
    number: u8,
    folded_at: Option<u8>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Data,
    Offer,
    Answer,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    from: u8,
    number: u8,
    keys: Generation,
    content: Content,
    acks: Option<u8>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
enum Stage {
    Idle,
    /// The offer, or the answer, is to be sent until it is known to have arrived.
    Waits,
    /// The secret is in the next generation.
    Folded,
    Done,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct End {
    present: Generation,
    next: Generation,
    previous: Option<Generation>,
    below: u8,
    sent: u8,
    seen: u8,
    largest: Option<u8>,
    first: Option<u8>,
    confirmed: bool,
    updates: u8,
    stage: Stage,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    ends: [End; 2],
    network: Vec<Packet>,
    failed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Begin,
    Send(usize),
    Update(usize),
    /// The client steps to the generation with the secret.
    Step,
    Arrive(Packet),
}

impl End {
    fn step(&mut self, below: u8) {
        self.previous = Some(self.present);
        self.present = self.next;
        self.next = Generation { number: self.present.number + 1, ..self.present };
        self.below = below;
        self.first = None;
        self.confirmed = false;
        if self.present.folded_at.is_some() {
            self.stage = Stage::Done;
        }
    }

    fn fold(&mut self) {
        self.next.folded_at = Some(self.next.number);
        self.stage = Stage::Folded;
    }

    fn is_settled(&self) -> bool {
        self.previous.is_none() || self.confirmed
    }
}

impl State {
    /// What is too old to be under way any more.
    fn forget_old(&mut self) {
        let newest = self.ends.iter().map(|end| end.present.number).max().unwrap_or(0);
        self.network.retain(|packet| packet.keys.number + 1 >= newest);
    }
}

impl Exchange {
    fn may_update(&self, state: &State, at: usize) -> bool {
        let end = &state.ends[at];
        let waits = if at == CLIENT {
            self.client_waits && matches!(end.stage, Stage::Waits | Stage::Folded)
        } else {
            self.server_waits && end.stage == Stage::Folded
        };
        end.updates < UPDATES && end.confirmed && !waits
    }

    fn arrive(&self, state: &mut State, packet: Packet) {
        let at = usize::from(1 - packet.from);
        let end = &mut state.ends[at];
        if end.seen & 1 << packet.number != 0 {
            return;
        }
        let same_bit = (packet.keys.number ^ end.present.number) & 1 == 0;
        let is_old = end.previous.is_some() && packet.number < end.below;
        let wanted = match (same_bit, is_old, end.previous) {
            (true, _, _) => end.present,
            (false, true, Some(previous)) => previous,
            _ => end.next,
        };
        if packet.keys != wanted {
            state.failed = true;
            return;
        }
        end.seen |= 1 << packet.number;
        end.largest = end.largest.max(Some(packet.number));
        if same_bit {
            end.below = end.below.min(packet.number);
        }
        end.confirmed |= packet.acks.zip(end.first).is_some_and(|(acked, first)| acked >= first);
        if !same_bit && !is_old {
            end.step(packet.number);
        }
        match packet.content {
            Content::Offer if end.stage == Stage::Idle => end.fold(),
            Content::Answer if end.stage == Stage::Waits => end.fold(),
            _ => {}
        }
        state.forget_old();
    }
}

impl Model for Exchange {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let keys = |number| Generation { number, folded_at: None };
        let end = End {
            present: keys(0),
            next: keys(1),
            previous: None,
            below: PACKETS,
            sent: 0,
            seen: 0,
            largest: None,
            first: None,
            confirmed: false,
            updates: 0,
            stage: Stage::Idle,
        };
        vec![State { ends: [end, end], network: Vec::new(), failed: false }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.ends[CLIENT].stage == Stage::Idle {
            actions.push(Action::Begin);
        }
        if state.ends[CLIENT].stage == Stage::Folded && state.ends[CLIENT].is_settled() {
            actions.push(Action::Step);
        }
        for at in 0..2 {
            if state.ends[at].sent < PACKETS && state.network.len() < 2 {
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
            Action::Begin => next.ends[CLIENT].stage = Stage::Waits,
            Action::Send(at) => {
                let end = &mut next.ends[at];
                let content = match (at, end.stage) {
                    (CLIENT, Stage::Waits) => Content::Offer,
                    (1, Stage::Folded) => Content::Answer,
                    _ => Content::Data,
                };
                next.network.push(Packet {
                    from: at as u8,
                    number: end.sent,
                    keys: end.present,
                    content,
                    acks: end.largest,
                });
                next.network.sort();
                end.first.get_or_insert(end.sent);
                end.sent += 1;
            }
            Action::Update(at) => {
                next.ends[at].updates += 1;
                next.ends[at].step(PACKETS);
                next.forget_old();
            }
            Action::Step => {
                next.ends[CLIENT].step(PACKETS);
                next.forget_old();
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
            Property::always("packets open", |_, state: &State| !state.failed),
            Property::always("the secret begins in one generation", |_, state: &State| {
                let folded = state.ends.map(|end| end.next.folded_at);
                !matches!(folded, [Some(one), Some(other)] if one != other)
            }),
        ]
    }
}

pub(crate) fn family() -> Family {
    let design = || Exchange { client_waits: true, server_waits: true };
    Family::of("exchange", design)
        .mutant("the client updates after its offer", "packets open", || Exchange {
            client_waits: false,
            server_waits: true,
        })
        .mutant("the server updates after its answer", "packets open", || Exchange {
            client_waits: true,
            server_waits: false,
        })
}
