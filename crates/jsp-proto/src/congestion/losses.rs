//! What losses say: nothing while nothing waits in queues, unless they follow from our own rate.
//!
//! A radio loses at any rate; a policer loses what is above its rate. Both lose without a queue. To
//! tell one from the other, slow down a little: a policer loses nothing then, a radio as much.

use crate::pack::{packed, packed_enum};

/// Packets over which a share of losses is measured.
const PACKETS_MEASURED: u64 = 40;

/// Weight of a measurement in the usual share.
const WEIGHT: f64 = 1.0 / 8.0;

/// A usual share above one and a half of what is proven and this is looked into.
const DOUBTFUL: f64 = 0.02;

/// Losses that a trial should see if they do not follow from the rate: enough to tell half of them
/// from all.
const TRIAL_LOSSES: f64 = 30.0;

/// A trial is over as soon as it has seen this many, if they are no fewer than before.
const TRIAL_LOSSES_ENOUGH: u64 = 12;

/// At most this share of losses is made up for by sending more.
const COMPENSATED_MAX: f64 = 0.5;

/// A share may exceed what is proven by this factor and still be made up for.
const PROVEN_SLACK: f64 = 1.2;

/// Rounds for which a policer is believed to stay.
const POLICED_ROUNDS: u64 = 500;

/// What a controller saw in a round trip.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Bytes acknowledged.
    pub(super) acked: u64,
    /// Highest delivery rate, in bytes a second.
    pub(super) rate_max: u64,
    /// The application set the pace at some time, so that losses say little of the rate.
    pub(super) app_limited: bool,
}

/// What comes of a measurement.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Verdict {
    /// Nothing new.
    Nothing,
    /// Slow down a little below this delivery rate, in bytes a second, and see.
    Try(u64),
    /// A policer: the delivery rate is what it lets pass.
    Policed,
    /// No policer, or none any more: return to what was.
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Watching,
    /// Going slower, since so many packets were lost; bytes seen since.
    Trial {
        before: f64,
        seen: Option<Share>,
    },
    /// Until this round, or until as much as before the trial is lost again.
    Policed {
        before: f64,
        until_round: u64,
    },
}
packed_enum!(State { Watching, Trial { before, seen } = 1, Policed { before, until_round } = 2 });

/// Some of how many bytes were lost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Share {
    lost: u64,
    total: u64,
}
packed!(Share { lost, total });

impl Share {
    fn add(&mut self, lost: u64, acked: u64) {
        self.lost = self.lost.saturating_add(lost);
        self.total = self.total.saturating_add(lost).saturating_add(acked);
    }

    fn value(self) -> f64 {
        self.lost as f64 / self.total.max(1) as f64
    }
}

/// Losses of a path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Losses {
    /// Bytes and packets lost in the current round.
    lost: u64,
    packets: u32,
    /// The current measurement, and the highest delivery rate in it.
    measured: Share,
    rate_max: u64,
    /// The share of bytes that is lost while packets do not wait.
    usual: f64,
    /// How much of it is known not to follow from our own rate.
    proven: f64,
    state: State,
}
packed!(Losses { lost, packets, measured, rate_max, usual, proven, state });

impl Losses {
    pub(super) fn new() -> Self {
        Self {
            lost: 0,
            packets: 0,
            measured: Share::default(),
            rate_max: 0,
            usual: 0.0,
            proven: 0.0,
            state: State::Watching,
        }
    }

    pub(super) fn on_loss(&mut self, bytes: u64, packets: u32) {
        self.lost = self.lost.saturating_add(bytes);
        self.packets = self.packets.saturating_add(packets);
    }

    /// Packets that had been held lost have arrived.
    pub(super) fn on_spurious(&mut self, bytes: u64, packets: u32) {
        self.lost = self.lost.saturating_sub(bytes);
        self.packets = self.packets.saturating_sub(packets);
        self.measured.lost = self.measured.lost.saturating_sub(bytes);
    }

    /// Losses of the current round are more than the path's own: `share` of all bytes above the
    /// usual, and at least `packets`.
    pub(super) fn exceed(&self, acked: u64, share: f64, packets: u32) -> bool {
        let mut round = Share::default();
        round.add(self.lost, acked);
        if self.packets < packets || self.lost == 0 {
            return false;
        }
        // Twice the deviation that the usual share has by chance.
        let sent = round.total as f64 * f64::from(self.packets) / self.lost as f64;
        let chance = 2.0 * (self.usual * (1.0 - self.usual) / sent.max(1.0)).sqrt();
        round.value() > self.usual + share + chance
    }

    /// A round has ended. `steady` says that nothing waited in it, and that it tells of packets
    /// that left at the rate that the path was known to deliver.
    // spec: CC-18
    pub(super) fn on_round(&mut self, round: Seen, rounds: u64, mtu: u64, steady: bool) -> Verdict {
        let lost = core::mem::take(&mut self.lost);
        self.packets = 0;
        if let State::Policed { until_round, .. } = self.state
            && rounds >= until_round
        {
            self.state = State::Watching;
            return Verdict::Over;
        }
        if !steady || round.app_limited {
            // Congestion, our own doing, or too little to tell.
            self.measured = Share::default();
            self.rate_max = 0;
            return Verdict::Nothing;
        }
        self.measured.add(lost, round.acked);
        self.rate_max = self.rate_max.max(round.rate_max);
        if self.measured.total < mtu.saturating_mul(PACKETS_MEASURED) {
            return Verdict::Nothing;
        }
        let measured = core::mem::take(&mut self.measured);
        let rate_max = core::mem::take(&mut self.rate_max);
        self.judge(measured, rate_max, rounds, mtu)
    }

    fn judge(&mut self, measured: Share, rate_max: u64, rounds: u64, mtu: u64) -> Verdict {
        match &mut self.state {
            State::Watching => {
                self.usual += (measured.value() - self.usual) * WEIGHT;
                if self.usual <= self.proven * 1.5 + DOUBTFUL {
                    return Verdict::Nothing;
                }
                self.state = State::Trial { before: self.usual, seen: None };
                Verdict::Try(rate_max)
            }
            // The first measurement still tells of packets from before.
            State::Trial { seen: seen @ None, .. } => {
                *seen = Some(Share::default());
                Verdict::Nothing
            }
            State::Trial { before, seen: Some(seen) } => {
                seen.add(measured.lost, measured.total.saturating_sub(measured.lost));
                let (before, share) = (*before, seen.value());
                let fewer = share * 2.0 < before;
                let enough = !fewer && seen.lost >= mtu.saturating_mul(TRIAL_LOSSES_ENOUGH);
                if !enough && (seen.total / mtu.max(1)) as f64 * before < TRIAL_LOSSES {
                    return Verdict::Nothing;
                }
                if fewer {
                    self.usual = 0.0;
                    let until_round = rounds.saturating_add(POLICED_ROUNDS);
                    self.state = State::Policed { before, until_round };
                    return Verdict::Policed;
                }
                self.acquit(share)
            }
            State::Policed { before, .. } => {
                let before = *before;
                self.usual += (measured.value() - self.usual) * WEIGHT;
                if self.usual * 2.0 < before { Verdict::Nothing } else { self.acquit(self.usual) }
            }
        }
    }

    /// This share is lost at any rate.
    fn acquit(&mut self, share: f64) -> Verdict {
        self.usual = share;
        self.proven = share;
        self.state = State::Watching;
        Verdict::Over
    }

    /// The path loses so much by itself that a loss tells nothing of what was in flight.
    pub(super) fn is_lossy(&self, share: f64) -> bool {
        self.usual > share
    }

    /// Something polices us, or may: do not ask for more.
    pub(super) fn is_policed(&self) -> bool {
        self.state != State::Watching
    }

    /// What must be sent for one byte to arrive.
    // spec: CC-17
    pub(super) fn compensation(&self) -> f64 {
        if self.is_policed() {
            return 1.0;
        }
        let share = self.usual.min(self.proven * PROVEN_SLACK).min(COMPENSATED_MAX);
        1.0 / (1.0 - share)
    }
}
