//! Replay of early data: the strike register, home shards, the time window, restarts, and a register
//! that is kept over one.
//!
//! One ticket and one captured first flight. The adversary delivers it to any shard at any time, as
//! often as it likes. Time goes in ticks; the flight is fresh while the server's clock is at most
//! [`HALF`] ticks away from the time that the client claims, on either side (HS-73: in ticks, what is
//! nearer than 10 s). A shard remembers what it
//! accepted in two generations, and forgets a generation at each turn of a period.
//!
//! The client itself goes on until the adversary lets it: refused for its time, for want of room, or by a
//! refusal that the adversary made up, it says the same after the handshake with its home, which notes that
//! (HS-208).
//!
//! Not modelled: that the ticket is sealed and bound to the client (the models of the handshake look
//! at that), and a server whose wall clock goes back over a restart by more than it allows for, but for
//! the mutant that shows it. Nor is it promised that data come once over a restart without the register: of
//! early data that the client does not know to be taken, and of a hello that was refused as one from the
//! future. Other shards than the home do not know of each other either.

use stateright::{Model, Property};

use crate::verdict::Family;

/// Ticks that the server's clock may be off the claimed time, on either side.
const HALF: u8 = 2;
/// What the client claims: in the middle of the time that is modelled.
const CLAIMED: u8 = 4;
/// Ticks that the clock may be behind after a restart, which the quiet allows for (HS-74).
const BEHIND: u8 = 1;
/// End of the modelled time: no flight is fresh any more.
const END: u8 = CLAIMED + HALF + BEHIND + 3;
const SHARDS: usize = 2;
/// Restarts of each shard: one that keeps, one that takes, and one that must not take the same.
const RESTARTS: u8 = 2;

#[derive(Clone)]
struct EarlyData {
    /// Ticks between two turns of the generations.
    period: u8,
    /// Ticks after a start in which early data is refused.
    quiet_after_start: u8,
    bound_to_home: bool,
    single_use: bool,
    /// Whether a full register refuses early data rather than letting it pass.
    full_refuses: bool,
    /// Ticks that the clock may be behind after a restart.
    clock_step: u8,
    /// A register that is kept takes no more early data.
    kept_ends: bool,
    /// A kept register is gone once a server has taken it.
    kept_serves_once: bool,
    /// A kept register comes with its own quiet, and its time.
    kept_stays_quiet: bool,
    /// A kept register comes with its notes of what was refused.
    kept_notes: bool,
    /// What is refused and comes after the handshake is noted.
    notes: bool,
    /// The notes go when the generations turn, and not when the flight is fresh no more.
    notes_turn: bool,
    /// Without room for a note nothing is accepted for as long.
    full_blinds: bool,
    /// The client waits for its answer for so many ticks at most (CON-57).
    patience: u8,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct State {
    now: u8,
    /// Ticks since the generations turned last.
    turned: u8,
    shards: [Shard; SHARDS],
    accepted: u8,
    /// When it was accepted first.
    accepted_at: u8,
    /// The client has said it after the handshake, and whether its hello was from the future then.
    completed: bool,
    from_future: bool,
    /// The home has begun without the register that would have known.
    forgot: bool,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Shard {
    /// The flight is remembered in the present generation, in the one before.
    present: bool,
    before: bool,
    /// It was refused, and came after the handshake.
    late: bool,
    /// When the shard accepts early data again.
    opens_at: u8,
    full: bool,
    restarts: u8,
    /// Ticks that its clock is behind.
    behind: u8,
    /// Its register was kept: it waits for its end.
    ended: bool,
    kept: Option<Kept>,
}

/// What a server left behind.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct Kept {
    at: u8,
    present: bool,
    before: bool,
    late: bool,
    opens_at: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    Tick,
    Deliver(usize),
    /// The client, refused by its home or by the adversary, says the same after the handshake.
    Complete,
    /// The register is kept, for a server to come.
    Keep(usize),
    /// The process ends, and another starts with what was kept, if anything was.
    Restart(usize),
    /// Other clients fill the register.
    Fill(usize),
}

impl EarlyData {
    fn design() -> Self {
        Self {
            // A flight that is accepted at the start of its window must be remembered to its end: a
            // generation lasts as long as the whole window, the quiet after a start longer.
            period: 2 * HALF,
            quiet_after_start: 2 * HALF + BEHIND + 1,
            bound_to_home: true,
            single_use: true,
            full_refuses: true,
            clock_step: BEHIND,
            kept_ends: true,
            kept_serves_once: true,
            kept_stays_quiet: true,
            kept_notes: true,
            notes: true,
            notes_turn: false,
            full_blinds: true,
            patience: HALF,
        }
    }

    fn accepts(&self, state: &State, at: usize) -> bool {
        let shard = &state.shards[at];
        let clock = state.now - shard.behind;
        let home = at == 0 || !self.bound_to_home;
        let fresh = clock.abs_diff(CLAIMED) <= HALF;
        let seen = self.single_use && (shard.present || shard.before);
        let room = !shard.full || !self.full_refuses;
        let ended = shard.ended && self.kept_ends;
        home && fresh && !seen && !shard.late && room && !ended && state.now >= shard.opens_at
    }

    /// Whether the home goes on with a handshake after which the client says what was early.
    fn completes(&self, state: &State) -> bool {
        let shard = &state.shards[0];
        let seen = shard.present || shard.before;
        let waits = state.accepted == 0 || state.now - state.accepted_at <= self.patience;
        let is_over = state.completed || seen || (shard.ended && self.kept_ends);
        waits && !is_over
    }

    /// The home notes that nothing of the flight is early any more.
    fn note(&self, shard: &mut Shard) {
        if !self.notes {
            return;
        }
        if shard.full {
            let until = CLAIMED + HALF + 1 + shard.behind;
            shard.opens_at =
                if self.full_blinds { until.max(shard.opens_at) } else { shard.opens_at };
        } else {
            shard.late = true;
        }
    }

    /// The shard after a restart: with the register that was kept, or without and quiet for a while.
    fn restarted(&self, state: &State, at: usize) -> Shard {
        let old = &state.shards[at];
        let quiet = state.now + self.quiet_after_start;
        let kept = old.kept.as_ref().filter(|kept| state.now < kept.at + self.quiet_after_start);
        let opens_at = match kept {
            Some(kept) if self.kept_stays_quiet => kept.opens_at,
            Some(_) => 0,
            None => quiet,
        };
        Shard {
            present: kept.is_some_and(|kept| kept.present),
            before: kept.is_some_and(|kept| kept.before),
            late: kept.is_some_and(|kept| kept.late && self.kept_notes),
            opens_at,
            full: false,
            restarts: old.restarts + 1,
            // A register that goes on does not let its time go back.
            behind: if kept.is_some() { old.behind } else { self.clock_step },
            ended: false,
            kept: old.kept.clone().filter(|_| !self.kept_serves_once),
        }
    }
}

impl Model for EarlyData {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let shard = Shard {
            present: false,
            before: false,
            late: false,
            opens_at: 0,
            full: false,
            restarts: 0,
            behind: 0,
            ended: false,
            kept: None,
        };
        let shards = [shard.clone(), shard];
        let state = |turned| State {
            now: 0,
            turned,
            shards: shards.clone(),
            accepted: 0,
            accepted_at: 0,
            completed: false,
            from_future: false,
            forgot: false,
        };
        (0..self.period).map(state).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.now < END {
            actions.push(Action::Tick);
        }
        actions.push(Action::Complete);
        for at in 0..SHARDS {
            actions.push(Action::Deliver(at));
            // A shard that is not the home takes nothing whatever it has been through.
            if at > 0 && self.bound_to_home {
                continue;
            }
            if state.shards[at].restarts < RESTARTS && state.now >= self.clock_step {
                actions.push(Action::Keep(at));
                actions.push(Action::Restart(at));
            }
            actions.push(Action::Fill(at));
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Tick => {
                next.now += 1;
                next.turned = (state.turned + 1) % self.period;
                if next.turned == 0 {
                    for shard in &mut next.shards {
                        shard.before = std::mem::replace(&mut shard.present, false);
                        shard.full = false;
                        shard.late &= !self.notes_turn;
                        if let Some(kept) = &mut shard.kept {
                            kept.before = std::mem::replace(&mut kept.present, false);
                        }
                    }
                }
            }
            Action::Deliver(at) => {
                if self.accepts(state, at) && state.accepted < 2 {
                    next.accepted += 1;
                    if state.accepted == 0 {
                        next.accepted_at = state.now;
                    }
                    // A register without room that lets data pass remembers nothing.
                    next.shards[at].present |= !state.shards[at].full;
                }
            }
            Action::Complete => {
                if self.completes(state) {
                    let home = &mut next.shards[0];
                    next.completed = true;
                    next.from_future = state.now - home.behind < CLAIMED - HALF;
                    self.note(home);
                }
            }
            Action::Keep(at) => {
                let shard = &mut next.shards[at];
                let Shard { present, before, late, opens_at, .. } = *shard;
                shard.kept = Some(Kept { at: state.now, present, before, late, opens_at });
                shard.ended = true;
            }
            Action::Restart(at) => {
                next.shards[at] = self.restarted(state, at);
                let goes_on = state.shards[at].kept.as_ref();
                let goes_on =
                    goes_on.is_some_and(|kept| state.now < kept.at + self.quiet_after_start);
                let knew = state.accepted > 0 || state.from_future;
                next.forgot |= at == 0 && !goes_on && knew;
            }
            Action::Fill(at) => next.shards[at].full = true,
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("accepted at most once", |_, state: &State| state.accepted <= 1),
            Property::always("heard at most once", |_, state: &State| {
                state.forgot || state.accepted + u8::from(state.completed) <= 1
            }),
        ]
    }
}

pub(crate) fn family() -> Family {
    let with = |change: fn(&mut EarlyData)| {
        move || {
            let mut model = EarlyData::design();
            change(&mut model);
            model
        }
    };
    let once = "accepted at most once";
    let heard = "heard at most once";
    Family::of("early-data", EarlyData::design)
        .mutant("no register", once, with(|m| m.single_use = false))
        .mutant("tickets serve at every shard", once, with(|m| m.bound_to_home = false))
        .mutant("early data at once after a restart", once, with(|m| m.quiet_after_start = 0))
        .mutant(
            "half a window of quiet after a restart",
            once,
            with(|m| {
                m.quiet_after_start = HALF;
            }),
        )
        .mutant(
            "exactly a window of quiet after a restart",
            once,
            with(|m| {
                m.quiet_after_start = 2 * HALF;
                m.clock_step = 0;
            }),
        )
        .mutant(
            "a quiet that trusts the clock",
            once,
            with(|m| {
                m.quiet_after_start = 2 * HALF + 1;
            }),
        )
        .mutant("generations of half a window", once, with(|m| m.period = HALF))
        .mutant("a full register lets pass", once, with(|m| m.full_refuses = false))
        .mutant("a register that goes on after it was kept", once, with(|m| m.kept_ends = false))
        .mutant("a kept register that serves twice", once, with(|m| m.kept_serves_once = false))
        .mutant(
            "a kept register that forgets its quiet",
            once,
            with(|m| m.kept_stays_quiet = false),
        )
        .mutant("the clock is further behind", once, with(|m| m.clock_step = BEHIND + 1))
        .mutant("a refusal leaves no note", heard, with(|m| m.notes = false))
        .mutant("notes go with a generation", heard, with(|m| m.notes_turn = true))
        .mutant("a note without room is forgotten", heard, with(|m| m.full_blinds = false))
        .mutant("a kept register without its notes", heard, with(|m| m.kept_notes = false))
        .mutant("a client that does not give up", heard, with(|m| m.patience = END))
}
