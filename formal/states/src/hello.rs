//! A client hello in two datagrams, with and without Retry: every order, double and loss connects.
//!
//! The network delivers in any order, and loses and doubles a few datagrams. The server may turn
//! from calm (hellos are joined) to loaded (an address must be proved by a cookie first) and back
//! at any time, and the two-second bucket that cookies are made from may turn. The client sends its
//! hello again when nothing is under way, and gives up when that has not helped [`ROUNDS`] times.

use stateright::{Model, Property};

use crate::verdict::Family;

/// Datagrams that the network may lose; doubles that it may make.
const LOSSES: u8 = 2;
const DOUBLES: u8 = 2;
/// Times that the server may turn between calm and loaded.
const TURNS: u8 = 2;
/// Buckets of the cookies' time.
const BUCKETS: u8 = 2;
/// Transmissions of the hello after which the client gives up: more than losses can spoil.
const ROUNDS: u8 = LOSSES + 1;

#[derive(Clone)]
struct Hello {
    /// Every piece of the retried hello carries the cookie.
    cookie_in_every_piece: bool,
    /// Retry is obeyed only once.
    obeyed_once: bool,
    /// The id in a Retry follows from address, id and bucket.
    pure_id: bool,
    /// Pieces without a cookie wait at a loaded server too.
    waits_under_load: bool,
    /// Pieces are joined in any order.
    any_order: bool,
    /// Buckets in which a cookie is accepted after its own.
    cookie_life: u8,
}

/// An id that the client writes to: its own random one, or that of a Retry.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Original,
    Retry { bucket: u8, salt: u8 },
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Datagram {
    Piece {
        index: u8,
        to: Id,
        cookie: bool,
    },
    Retry(Id),
    /// What a server that has the whole hello answers; only who uses this id can read it.
    Flight(Id),
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    network: Vec<Datagram>,
    losses: u8,
    doubles: u8,
    turns: u8,
    bucket: u8,
    loaded: bool,
    /// Pieces at the server by id, as bits.
    joining: Vec<(Id, u8)>,
    connections: Vec<Id>,
    retries_sent: u8,
    stored_without_proof: bool,
    to: Id,
    rounds: u8,
    connected: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Deliver(Datagram),
    Lose(Datagram),
    Double(Datagram),
    Turn,
    NextBucket,
    SendAgain,
}

impl Hello {
    fn design() -> Self {
        Self {
            cookie_in_every_piece: true,
            obeyed_once: true,
            pure_id: true,
            waits_under_load: false,
            any_order: true,
            cookie_life: BUCKETS,
        }
    }

    fn send_hello(&self, state: &mut State) {
        for index in 0..2 {
            let retried = state.to != Id::Original;
            let cookie = retried && (index == 0 || self.cookie_in_every_piece);
            state.send(Datagram::Piece { index, to: state.to, cookie });
        }
        state.rounds += 1;
    }

    fn server_takes(&self, state: &mut State, index: u8, to: Id, cookie: bool) {
        if state.connections.contains(&to) {
            // The connection's own timer would send its flight again.
            state.send(Datagram::Flight(to));
            return;
        }
        let proof = match to {
            Id::Retry { bucket, .. } if cookie => state.bucket < bucket + self.cookie_life,
            _ => false,
        };
        if cookie && !proof {
            return;
        }
        if !proof && state.loaded && !self.waits_under_load {
            let salt = if self.pure_id { 0 } else { state.retries_sent };
            state.retries_sent = (state.retries_sent + 1).min(3);
            state.send(Datagram::Retry(Id::Retry { bucket: state.bucket, salt }));
            return;
        }
        state.stored_without_proof |= !proof && state.loaded;
        let place = state.joining.iter().position(|(id, _)| *id == to);
        let had = place.map_or(0, |place| state.joining.remove(place).1);
        if had == 0 && index == 1 && !self.any_order {
            return;
        }
        let has = had | 1 << index;
        if has == 3 {
            state.connections.push(to);
            state.connections.sort();
            state.send(Datagram::Flight(to));
        } else {
            state.joining.push((to, has));
            state.joining.sort();
        }
    }

    fn client_takes_retry(&self, state: &mut State, id: Id) {
        let may = state.to == Id::Original || !self.obeyed_once;
        if may && !state.connected && state.to != id {
            state.to = id;
            state.rounds = state.rounds.saturating_sub(1);
            self.send_hello(state);
        }
    }
}

impl State {
    fn send(&mut self, datagram: Datagram) {
        self.network.push(datagram);
        self.network.sort();
    }

    fn take(&mut self, datagram: Datagram) {
        if let Some(place) = self.network.iter().position(|other| *other == datagram) {
            self.network.remove(place);
        }
    }
}

impl Model for Hello {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            network: Vec::new(),
            losses: LOSSES,
            doubles: DOUBLES,
            turns: TURNS,
            bucket: 0,
            loaded: false,
            joining: Vec::new(),
            connections: Vec::new(),
            retries_sent: 0,
            stored_without_proof: false,
            to: Id::Original,
            rounds: 0,
            connected: false,
        };
        self.send_hello(&mut state);
        vec![state.clone(), State { loaded: true, ..state }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.connected {
            return;
        }
        let mut distinct = state.network.clone();
        distinct.dedup();
        for datagram in distinct {
            actions.push(Action::Deliver(datagram));
            if state.losses > 0 {
                actions.push(Action::Lose(datagram));
            }
            if state.doubles > 0 {
                actions.push(Action::Double(datagram));
            }
        }
        if state.turns > 0 {
            actions.push(Action::Turn);
        }
        if state.bucket + 1 < BUCKETS {
            actions.push(Action::NextBucket);
        }
        if state.network.is_empty() && state.rounds <= ROUNDS {
            actions.push(Action::SendAgain);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Deliver(datagram) => {
                next.take(datagram);
                match datagram {
                    Datagram::Piece { index, to, cookie } => {
                        self.server_takes(&mut next, index, to, cookie);
                    }
                    Datagram::Retry(id) => self.client_takes_retry(&mut next, id),
                    Datagram::Flight(id) => next.connected |= id == state.to,
                }
            }
            Action::Lose(datagram) => {
                next.take(datagram);
                next.losses -= 1;
            }
            Action::Double(datagram) => {
                next.send(datagram);
                next.doubles -= 1;
            }
            Action::Turn => {
                next.loaded = !state.loaded;
                next.turns -= 1;
            }
            Action::NextBucket => next.bucket += 1,
            Action::SendAgain => self.send_hello(&mut next),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("connects", |_, state: &State| state.rounds <= ROUNDS),
            Property::always("nothing waits without proof under load", |_, state: &State| {
                !state.stored_without_proof
            }),
            Property::always("a retried hello makes one connection", |_, state: &State| {
                let retried = |id: &&Id| **id != Id::Original;
                state.connections.iter().filter(retried).count() <= 1
            }),
        ]
    }
}

pub(crate) fn family() -> Family {
    let with = |change: fn(&mut Hello)| {
        move || {
            let mut model = Hello::design();
            change(&mut model);
            model
        }
    };
    Family::of("hello", Hello::design)
        .mutant(
            "cookie in the first piece only",
            "connects",
            with(|m| {
                m.cookie_in_every_piece = false;
            }),
        )
        .mutant("pieces only in order", "connects", with(|m| m.any_order = false))
        .mutant("a cookie dies with its bucket", "connects", with(|m| m.cookie_life = 1))
        .mutant(
            "pieces wait under load",
            "nothing waits without proof under load",
            with(|m| {
                m.waits_under_load = true;
            }),
        )
        .mutant(
            "an id for each Retry, and all obeyed",
            "a retried hello makes one connection",
            with(|m| {
                m.pure_id = false;
                m.obeyed_once = false;
            }),
        )
}
