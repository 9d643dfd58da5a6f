//! Sessions and transcripts: two clients, two sessions of one server, and an adversary who splices.
//!
//! The adversary carries every message, changes offers, puts in shares and an identity of its own, and
//! joins signatures and MACs of one session with messages of another. Terms are symbols: a signature
//! or MAC is what it covers, and a key is known to the adversary when one of its two shares is its own.
//! This looks at several whole sessions at once, which the models of `verifpal/` only do in part.

use std::collections::BTreeSet;

use stateright::{Model, Property};

use crate::verdict::Family;

#[derive(Clone)]
struct Sessions {
    /// The clients know the server's identity; else they take any, and learn which.
    pinned: bool,
    signature_covers_hello: bool,
    signature_covers_answer: bool,
    /// FINISHED of the server is checked, and covers its identity.
    server_finished: bool,
    finished_covers_identity: bool,
    /// The server takes a session for complete only after FINISHED of the client.
    client_finished: bool,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Share {
    Client(u8),
    Server(u8),
    Adversary,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
enum Identity {
    Server,
    Adversary,
}

/// A client hello: its share, and whether it offers the strong suite beside the weak one.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Hello {
    share: Share,
    strong: bool,
}

/// A server hello: its share, and whether it chooses the strong suite.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Answer {
    share: Share,
    strong: bool,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Signature {
    by: Identity,
    hello: Option<Hello>,
    answer: Option<Answer>,
}

/// FINISHED of a server: the key is that of the shares.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Finished {
    key: (Share, Share),
    hello: Hello,
    answer: Answer,
    identity: Option<(Identity, Signature)>,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
struct Done {
    hello: Hello,
    answer: Answer,
    identity: Identity,
    signature: Signature,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    clients: [Option<Done>; 2],
    /// What each session of the server saw and answered.
    servers: [Option<(Hello, Answer)>; 2],
    completed: [bool; 2],
    signatures: BTreeSet<Signature>,
    finished: BTreeSet<Finished>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// A session of the server gets a hello.
    Greet(usize, Hello),
    /// A client gets a server hello and a flight.
    Answer(usize, Answer, Identity, Signature, Option<Finished>),
    /// A session of the server gets a client's FINISHED, or one that the adversary can make.
    Complete(usize),
}

impl Sessions {
    fn design() -> Self {
        Self {
            pinned: true,
            signature_covers_hello: true,
            signature_covers_answer: true,
            server_finished: true,
            finished_covers_identity: true,
            client_finished: true,
        }
    }

    fn sign(&self, by: Identity, hello: Hello, answer: Answer) -> Signature {
        Signature {
            by,
            hello: self.signature_covers_hello.then_some(hello),
            answer: self.signature_covers_answer.then_some(answer),
        }
    }

    fn finish(&self, done: &Done) -> Finished {
        Finished {
            key: (done.hello.share, done.answer.share),
            hello: done.hello,
            answer: done.answer,
            identity: self.finished_covers_identity.then_some((done.identity, done.signature)),
        }
    }

    /// What the session believes to be its flight.
    fn flight(&self, (hello, answer): (Hello, Answer)) -> Done {
        let signature = self.sign(Identity::Server, hello, answer);
        Done { hello, answer, identity: Identity::Server, signature }
    }
}

fn own_hello(client: usize) -> Hello {
    Hello { share: Share::Client(client as u8), strong: true }
}

fn is_known((one, other): (Share, Share)) -> bool {
    one == Share::Adversary || other == Share::Adversary
}

impl Model for Sessions {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            clients: [None, None],
            servers: [None, None],
            completed: [false, false],
            signatures: BTreeSet::new(),
            finished: BTreeSet::new(),
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for session in 0..2 {
            if state.servers[session].is_some() {
                if !state.completed[session] {
                    actions.push(Action::Complete(session));
                }
                continue;
            }
            for share in [Share::Client(0), Share::Client(1), Share::Adversary] {
                for strong in [true, false] {
                    actions.push(Action::Greet(session, Hello { share, strong }));
                }
            }
        }
        for client in 0..2 {
            if state.clients[client].is_some() {
                continue;
            }
            let hello = own_hello(client);
            for share in [Share::Server(0), Share::Server(1), Share::Adversary] {
                for strong in [true, false] {
                    let answer = Answer { share, strong };
                    let own = self.sign(Identity::Adversary, hello, answer);
                    for signature in state.signatures.iter().copied().chain([own]) {
                        let identity = signature.by;
                        let done = Done { hello, answer, identity, signature };
                        let wanted = self.finish(&done);
                        let has = is_known(wanted.key) || state.finished.contains(&wanted);
                        let finished = has.then_some(wanted);
                        actions.push(Action::Answer(client, answer, identity, signature, finished));
                    }
                }
            }
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Greet(session, hello) => {
                let share = Share::Server(session as u8);
                let seen = (hello, Answer { share, strong: hello.strong });
                let flight = self.flight(seen);
                next.servers[session] = Some(seen);
                next.signatures.insert(flight.signature);
                next.finished.insert(self.finish(&flight));
            }
            Action::Answer(client, answer, identity, signature, finished) => {
                let hello = own_hello(client);
                let trusted = !self.pinned || identity == Identity::Server;
                let signed = signature == self.sign(identity, hello, answer);
                let proved = !self.server_finished || finished.is_some();
                if !trusted || !signed || !proved {
                    return None;
                }
                next.clients[client] = Some(Done { hello, answer, identity, signature });
            }
            Action::Complete(session) => {
                let seen = state.servers[session]?;
                let flight = self.flight(seen);
                let by_client = state
                    .clients
                    .iter()
                    .flatten()
                    .any(|done| self.finish(done) == self.finish(&flight));
                let by_adversary = is_known((seen.0.share, seen.1.share));
                if self.client_finished && !by_client && !by_adversary {
                    return None;
                }
                next.completed[session] = true;
            }
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "a client that trusts the server shares its transcript",
                |_, s: &State| {
                    let clients = s.clients.iter().flatten();
                    clients.filter(|done| done.identity == Identity::Server).all(|done| {
                        s.servers.iter().flatten().any(|seen| *seen == (done.hello, done.answer))
                    })
                },
            ),
            Property::always("who shares a key agrees on who it is shared with", |_, s: &State| {
                s.clients.iter().flatten().all(|done| {
                    done.identity == Identity::Server || done.answer.share == Share::Adversary
                })
            }),
            Property::always("a session has one client", |_, s: &State| match &s.clients {
                [Some(one), Some(other)] => {
                    one.answer.share == Share::Adversary || one.answer.share != other.answer.share
                }
                _ => true,
            }),
            Property::always("a complete session has a complete client", |_, s: &State| {
                (0..2).filter(|session| s.completed[*session]).all(|session| {
                    let Some((hello, answer)) = s.servers[session] else { return false };
                    let is_partner = |done: &Done| (done.hello, done.answer) == (hello, answer);
                    hello.share == Share::Adversary || s.clients.iter().flatten().any(is_partner)
                })
            }),
        ]
    }
}

pub(crate) fn family() -> Family {
    let with = |change: fn(&mut Sessions)| {
        move || {
            let mut model = Sessions::design();
            change(&mut model);
            model
        }
    };
    let shares = "a client that trusts the server shares its transcript";
    let agrees = "who shares a key agrees on who it is shared with";
    Family::of("transcripts", Sessions::design)
        .design("clients without a pin", with(|m| m.pinned = false))
        .mutant(
            "the signature covers nothing",
            shares,
            with(|m| {
                m.signature_covers_hello = false;
                m.signature_covers_answer = false;
            }),
        )
        .mutant(
            "neither FINISHED nor the hello signed",
            shares,
            with(|m| {
                m.signature_covers_hello = false;
                m.server_finished = false;
            }),
        )
        .mutant(
            "FINISHED of the server is not checked",
            agrees,
            with(|m| {
                m.pinned = false;
                m.server_finished = false;
            }),
        )
        .mutant(
            "FINISHED without the identity",
            agrees,
            with(|m| {
                m.pinned = false;
                m.finished_covers_identity = false;
            }),
        )
        .mutant(
            "no FINISHED of the client",
            "a complete session has a complete client",
            with(|m| {
                m.client_finished = false;
            }),
        )
}
