//! Door 8, and its counterpart on the way in: which packets are in flight, which have arrived, which
//! are lost, and when to probe. One [`Recovery`] for each packet number space of a path.
//!
//! 1. [`Recovery::on_sent`] enters a packet with its tokens.
//! 2. [`Recovery::on_ack`] settles packets, samples the round-trip time and the delivery rate, and
//!    finds what is lost because something sent later has arrived.
//! 3. [`Recovery::on_timeout`] finds what is lost because the reorder window has passed, or says
//!    that a probe is due; [`Recovery::probe_tokens`] gives the probe something to carry.
//!
//! A token comes back with [`Fate::Lost`] at most once for each packet that carried it, and with
//! [`Fate::Acked`] or [`Fate::Late`] at most once. `Late` follows `Lost`: the packet was held lost
//! too soon. What [`Recovery::probe_tokens`] gives is no fate.

mod detection;
mod ecn;
mod loss;
mod outcome;
mod overdue;
mod rate;
mod rtt;
mod runs;
mod sent;
mod surrender;
#[cfg(test)]
mod tests;
mod unheard;

use core::time::Duration;

use jsp_wire::frame::{Ack, ReceiveTimes, RecoveredNumbers};
use jsp_wire::{CloseCode, Instant};

pub(crate) use ecn::EcnValidation;
pub(crate) use outcome::{AckOutcome, Arrival, LossOutcome, SentInfo, TimeoutOutcome, TimerKind};
pub(crate) use rate::{DeliveryRate, RateMark, RateSample};
pub(crate) use rtt::Rtt;

use crate::error::TransportError;
use crate::pack::packed;
use crate::token::{Fate, Token};
use loss::{LostRun, ReorderWindow};
use runs::LossRuns;
use sent::{Ledger, Packet, State};
pub(crate) use unheard::Unheard;

/// A lost packet stays in the ledger for this many probe timeouts, so that a late acknowledgement
/// of it is understood.
const KEEP_LOST_PTOS: u32 = 3;

/// The probe timeout doubles at most this often.
const BACKOFF_DOUBLINGS_MAX: u32 = 16;

/// The probe timeout with back-off, at most (RFC 6298, section 2.5 allows no less).
const PTO_MAX: Duration = Duration::from_secs(60);

/// Numbers whose skipping is remembered. An acknowledgement that is made up names recent ones.
const SKIPPED_MAX: usize = 8;

/// No packet has this number.
const NO_PN: u64 = u64::MAX;

/// Packets that ask for no acknowledgement and have none: a peer that acknowledges the PINGs
/// between them never lets it come to this many.
const QUIET_MAX: usize = 16_384;

/// Loss recovery of one packet number space of a path.
#[derive(Debug)]
pub(crate) struct Recovery {
    ledger: Ledger,
    reorder: ReorderWindow,
    lost_run: LostRun,
    /// Everything below has been looked at for loss and is settled.
    scan_from: u64,
    /// When the first packet of those not settled, sent before an acknowledged one, is lost.
    loss_at: Option<Instant>,
    largest_acked: Option<u64>,
    bytes_in_flight: u64,
    /// Packets without fate that must be acknowledged.
    eliciting: usize,
    /// Packets without fate that need not be.
    quiet: usize,
    /// When an ack-eliciting packet was last acknowledged.
    acked_at: Instant,
    /// When the newest ack-eliciting packet left that the probe timeout counts from.
    eliciting_sent_at: Option<Instant>,
    /// Probe timeouts since the last acknowledgement.
    pto_count: u32,
    /// Probe even when nothing is in flight: the peer may be waiting for our bytes to be allowed
    /// to answer.
    guard_deadlock: bool,
    /// The latest numbers that were never sent, in a ring.
    skipped: [u64; SKIPPED_MAX],
    skipped_at: usize,
    /// The minimum round-trip time is from before persistent congestion.
    rtt_min_stale: bool,
    /// Packets sent up to here belong to the current loss episode.
    episode_end: Option<u64>,
    /// The path is another one since then: what left before says nothing of it.
    since: Instant,
    /// Both sides know receive times.
    takes_times: bool,
    /// Present once somebody wants to know how packets are lost.
    runs: Option<Box<LossRuns>>,
}
packed!(Recovery {
    reorder, lost_run, scan_from, loss_at, largest_acked, bytes_in_flight, eliciting, quiet,
    acked_at, eliciting_sent_at, pto_count, guard_deadlock, skipped, skipped_at, rtt_min_stale,
    episode_end, since, takes_times; ledger, runs
});

/// What is not packed of it.
pub(crate) struct SentApart {
    ledger: Ledger,
    runs: Option<Box<LossRuns>>,
}

impl Recovery {
    /// Nothing sent yet.
    pub(crate) fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            reorder: ReorderWindow::new(),
            lost_run: LostRun::default(),
            scan_from: 0,
            loss_at: None,
            largest_acked: None,
            bytes_in_flight: 0,
            eliciting: 0,
            quiet: 0,
            acked_at: Instant::ZERO,
            eliciting_sent_at: None,
            pto_count: 0,
            guard_deadlock: false,
            skipped: [NO_PN; SKIPPED_MAX],
            skipped_at: 0,
            rtt_min_stale: false,
            episode_end: None,
            since: Instant::ZERO,
            takes_times: false,
            runs: None,
        }
    }

    /// Takes out what is not packed.
    pub(crate) fn take_apart(&mut self) -> SentApart {
        self.ledger.shrink();
        SentApart { ledger: core::mem::take(&mut self.ledger), runs: self.runs.take() }
    }

    /// Puts it back.
    pub(crate) fn put_back(&mut self, apart: SentApart) {
        SentApart { ledger: self.ledger, runs: self.runs } = apart;
    }

    /// True when no packet is under way that asks for an acknowledgement, and none is wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.eliciting == 0 && self.bytes_in_flight == 0 && !self.guard_deadlock
    }

    /// Nothing happens: the ledger shrinks to what is under way.
    pub(crate) fn rest(&mut self) {
        if self.ledger.rest() {
            (self.scan_from, self.quiet) = (self.ledger.end(), 0);
        }
    }

    /// The path leads elsewhere now: what is under way went to the old one. It has its fates, and says
    /// nothing of the new path's times, rates and losses.
    // spec: CON-13
    pub(crate) fn on_moved(&mut self, now: Instant) {
        self.since = now;
    }

    /// Both sides know receive times: from here on they are read.
    pub(crate) fn take_times(&mut self) {
        self.takes_times = true;
    }

    /// Enters a packet that leaves now, with what it carries. `app_limited` says that the
    /// application, not the network, sets the pace at the moment.
    ///
    /// # Errors
    /// `EXCESSIVE_LOAD` when the peer makes us acknowledge without ever acknowledging us.
    // spec: REC-4
    pub(crate) fn on_sent(
        &mut self,
        now: Instant,
        info: SentInfo,
        tokens: &[Token],
        app_limited: bool,
        delivery: &mut DeliveryRate,
    ) -> Result<(), TransportError> {
        while self.ledger.end() < info.pn {
            self.skip(self.ledger.end());
        }
        debug_assert_eq!(self.ledger.end(), info.pn, "packet numbers only rise");
        let mark = delivery.on_sent(now, self.bytes_in_flight, app_limited);
        self.ledger.push(Packet::new(now, mark, &info), tokens);
        if info.in_flight {
            self.bytes_in_flight = self.bytes_in_flight.saturating_add(u64::from(info.size));
        }
        if info.ack_eliciting {
            // spec: REC-37
            if self.eliciting == 0 || tokens.iter().any(Token::may_go_again) {
                self.eliciting_sent_at = Some(now);
            }
            self.eliciting = self.eliciting.saturating_add(1);
            return Ok(());
        }
        self.quiet = self.quiet.saturating_add(1);
        if self.quiet > QUIET_MAX {
            let reason = "the peer asks for acknowledgements but sends none";
            return Err(TransportError::new(CloseCode::EXCESSIVE_LOAD, reason));
        }
        Ok(())
    }

    /// Packets without fate that need no acknowledgement.
    pub(crate) fn quiet(&self) -> usize {
        self.quiet
    }

    /// Notes that the next number, `pn`, is never sent: an ACK that names it is made up.
    pub(crate) fn skip(&mut self, pn: u64) {
        debug_assert_eq!(self.ledger.end(), pn);
        self.ledger.push_skipped(Instant::ZERO, RateMark::default());
        if let Some(slot) = self.skipped.get_mut(self.skipped_at) {
            *slot = pn;
        }
        self.skipped_at = (self.skipped_at + 1) % SKIPPED_MAX;
    }

    /// Takes an ACK frame. `ack_delay_max` bounds the delay that the frame reports: what the peer
    /// promised in its parameters, zero for handshake packets. Fates are appended to `fates`.
    ///
    /// # Errors
    /// `ACK_OF_UNSENT` when the frame names a number that was never sent, `FRAME_ENCODING` when its
    /// receive times or its recovered numbers cannot be read; nothing has changed then.
    pub(crate) fn on_ack(
        &mut self,
        now: Instant,
        ack: &Ack<'_>,
        ack_delay_max: Duration,
        rtt: &mut Rtt,
        delivery: &mut DeliveryRate,
        fates: &mut Vec<(Token, Fate)>,
    ) -> Result<AckOutcome, TransportError> {
        self.check_was_sent(ack)?;
        let section = if self.takes_times { ack.times } else { &[] };
        let times = ReceiveTimes::read(ack.largest, section)?;
        let recovered = RecoveredNumbers::read(ack.recovered, ack.largest)?;
        let mut outcome = AckOutcome::default();
        let newest = self.settle_acked(now, (ack, times, &recovered), rtt, &mut outcome, fates);
        if let Some((newest_pn, newest)) = newest {
            outcome.newly_acked = true;
            if outcome.newly_acked_eliciting {
                self.acked_at = now;
            }
            outcome.largest_newly_acked_sent_at = Some(newest.sent_at);
            outcome.app_limited = newest.mark.app_limited();
            let is_of_path = newest.sent_at >= self.since;
            if self.largest_acked.is_none_or(|largest| ack.largest > largest) {
                outcome.advanced = true;
                outcome.ecn = ack.ecn;
                self.largest_acked = Some(ack.largest);
                self.reorder.set_reference(now.since(newest.sent_at));
                if newest_pn == ack.largest && outcome.newly_acked_eliciting && is_of_path {
                    let delay = Duration::from_micros(ack.delay_8us.saturating_mul(8));
                    let sample = now.since(newest.sent_at);
                    self.sample_rtt(now, sample, delay.min(ack_delay_max), rtt);
                    outcome.rtt_sample = Some(sample);
                }
            }
            if outcome.bytes_acked > 0 {
                let newest = (newest.sent_at, newest.mark);
                outcome.rate_sample = delivery.on_ack(now, outcome.bytes_acked, newest, rtt.min());
            }
            // spec: REC-14
            if outcome.newly_acked_eliciting && !self.guard_deadlock {
                self.pto_count = 0;
            }
        }
        outcome.lost = self.detect_lost(now, rtt, ack_delay_max, fates);
        self.ledger.trim(now, rtt.pto_base(ack_delay_max).saturating_mul(KEEP_LOST_PTOS));
        Ok(outcome)
    }

    // spec: REC-10, REC-11
    fn check_was_sent(&self, ack: &Ack<'_>) -> Result<(), TransportError> {
        let unsent = |reason| Err(TransportError::new(CloseCode::ACK_OF_UNSENT, reason));
        if ack.largest >= self.ledger.end() {
            return unsent("an ACK names a packet that was never sent");
        }
        for (low, high) in ack.ranges() {
            if self.skipped.iter().any(|pn| (low..=high).contains(pn)) {
                return unsent("an ACK names a packet number that was left out");
            }
        }
        Ok(())
    }

    /// Marks what the frame names, and answers the newest packet that was not known to have
    /// arrived.
    fn settle_acked(
        &mut self,
        now: Instant,
        (ack, times, recovered): (&Ack<'_>, ReceiveTimes<'_>, &RecoveredNumbers<'_>),
        rtt: &Rtt,
        outcome: &mut AckOutcome,
        fates: &mut Vec<(Token, Fate)>,
    ) -> Option<(u64, Packet)> {
        let mut newest = None;
        let mut times = times.peekable();
        let Self { ledger, reorder, lost_run, largest_acked, since, .. } = self;
        let (eliciting, quiet) = (&mut self.eliciting, &mut self.quiet);
        let bytes_in_flight = &mut self.bytes_in_flight;
        let is_marked = |pn| recovered.clone().any(|number| number == pn);
        for (low, high) in ack.ranges() {
            ledger.ack_range(low, high, is_marked, |pn, packet, tokens, is_marked| {
                // Both go from the highest number down.
                // spec: ACK-15
                while times.next_if(|(told, _)| *told > pn).is_some() {}
                let told = times.next_if(|(told, _)| *told == pn);
                let was_lost = matches!(packet.state, State::Lost { .. });
                let fate = if was_lost { Fate::Late } else { Fate::Acked };
                // What repair puts together is without its acknowledgements.
                // spec: FEC-8
                let arrived = |token: &Token| !(is_marked && matches!(token, Token::Ack { .. }));
                for token in tokens.filter(arrived) {
                    fates.push((token, fate));
                }
                // The network lost it all the same, which its time will show.
                // spec: FEC-8
                if is_marked || (was_lost && packet.recovered) {
                    return;
                }
                newest = newest.or(Some((pn, *packet)));
                let is_of_path = packet.sent_at >= *since;
                outcome.note_arrived(packet, told.map(|(_, stamp)| stamp), is_of_path);
                if largest_acked.is_some_and(|largest| pn < largest) {
                    reorder.on_reordered(now);
                }
                if was_lost {
                    // spec: REC-9
                    if packet.in_flight && is_of_path {
                        outcome.spurious = outcome.spurious.saturating_add(1);
                    }
                    reorder.on_spurious(now, packet.sent_at, rtt);
                    lost_run.interrupt();
                    return;
                }
                if packet.ack_eliciting {
                    outcome.newly_acked_eliciting = true;
                    *eliciting = eliciting.saturating_sub(1);
                } else {
                    *quiet = quiet.saturating_sub(1);
                }
                if packet.in_flight {
                    let size = u64::from(packet.size);
                    if is_of_path {
                        outcome.packets_acked = outcome.packets_acked.saturating_add(1);
                        outcome.bytes_acked = outcome.bytes_acked.saturating_add(size);
                    }
                    *bytes_in_flight = bytes_in_flight.saturating_sub(size);
                }
            });
        }
        newest
    }

    fn sample_rtt(&mut self, now: Instant, sample: Duration, delay: Duration, rtt: &mut Rtt) {
        if core::mem::take(&mut self.rtt_min_stale) {
            rtt.forget_min();
        }
        rtt.update(now, sample, delay);
    }

    /// When something must happen if nothing is heard. `may_probe` is false for application data
    /// before the handshake is confirmed (RFC 9002, section 6.2.1).
    // spec: REC-12, REC-13
    pub(crate) fn poll_timeout(
        &self,
        rtt: &Rtt,
        ack_delay_max: Duration,
        may_probe: bool,
    ) -> Option<(Instant, TimerKind)> {
        if let Some(at) = self.loss_at {
            return Some((at, TimerKind::Loss));
        }
        let waits = self.eliciting > 0 || self.guard_deadlock;
        if !may_probe || !waits {
            return None;
        }
        let at = self.eliciting_sent_at? + self.pto(rtt, ack_delay_max);
        Some((at, TimerKind::Probe))
    }

    /// The probe timeout with its back-off.
    // spec: REC-13
    fn pto(&self, rtt: &Rtt, ack_delay_max: Duration) -> Duration {
        let factor = 1u32 << self.pto_count.min(BACKOFF_DOUBLINGS_MAX);
        let base = rtt.pto_base(ack_delay_max);
        base.saturating_mul(factor).min(PTO_MAX.max(base))
    }

    /// Handles the deadline of [`Recovery::poll_timeout`]; does nothing before it.
    pub(crate) fn on_timeout(
        &mut self,
        now: Instant,
        rtt: &Rtt,
        ack_delay_max: Duration,
        may_probe: bool,
        fates: &mut Vec<(Token, Fate)>,
    ) -> TimeoutOutcome {
        let mut outcome = TimeoutOutcome::default();
        match self.poll_timeout(rtt, ack_delay_max, may_probe) {
            Some((at, TimerKind::Loss)) if at <= now => {
                outcome.lost = self.detect_lost(now, rtt, ack_delay_max, fates);
            }
            Some((at, TimerKind::Probe)) if at <= now => {
                // One probe costs little; when it was not enough, the path is lossy.
                outcome.probes = if self.pto_count == 0 { 1 } else { 2 };
                self.pto_count = self.pto_count.saturating_add(1);
                // The next timeout counts from here, even if no probe can be sent.
                self.eliciting_sent_at = Some(now);
            }
            _ => {}
        }
        self.ledger.trim(now, rtt.pto_base(ack_delay_max).saturating_mul(KEEP_LOST_PTOS));
        outcome
    }

    /// Appends what the oldest packet without fate carried, so that a probe can carry it again, and
    /// answers whether there was one. The packet is not declared lost: it stays in flight, and its
    /// fate is still to come. When the probe's own acknowledgement decides it, the fates of the
    /// probe come first, so that owners see that nothing is missing. A packet is asked for once.
    // spec: REC-16
    pub(crate) fn probe_tokens(&mut self, out: &mut Vec<Token>) -> bool {
        let oldest = self.ledger.iter_from(self.scan_from).find(|(_, packet)| {
            packet.state == State::Outstanding && packet.ack_eliciting && !packet.resent
        });
        let Some((pn, packet)) = oldest else { return false };
        out.extend(self.ledger.tokens(packet));
        if let Some(packet) = self.ledger.get_mut(pn) {
            packet.resent = true;
        }
        true
    }

    /// True of packets that repair may still bring: of which nothing is known; and, where the second argument
    /// says so, of those that are held lost.
    // spec: FEC-14
    pub(crate) fn wants_repair(&self) -> impl Fn(u64, bool) -> bool + '_ {
        |pn, though_lost| match self.ledger.get(pn) {
            Some(Packet { state: State::Outstanding, .. }) => true,
            Some(Packet { state: State::Lost { .. }, recovered, .. }) => though_lost && !recovered,
            _ => false,
        }
    }

    /// Keys are dropped: everything leaves flight, without fate.
    pub(crate) fn discard(&mut self) {
        self.ledger.clear();
        self.scan_from = self.ledger.end();
        self.loss_at = None;
        self.bytes_in_flight = 0;
        self.eliciting = 0;
        self.quiet = 0;
        self.eliciting_sent_at = None;
        self.pto_count = 0;
        self.guard_deadlock = false;
    }

    /// The path works again, or another one is used: probe timeouts count from one.
    pub(crate) fn reset_backoff(&mut self) {
        self.pto_count = 0;
    }

    /// Whether to probe even with nothing in flight (RFC 9002, section 6.2.2.1): a client does
    /// until it knows that the server has validated its address. While set, acknowledgements do
    /// not end the back-off.
    pub(crate) fn set_deadlock_guard(&mut self, guard: bool) {
        self.guard_deadlock = guard;
    }

    /// Probe timeouts since the last acknowledgement.
    pub(crate) fn pto_count(&self) -> u32 {
        self.pto_count
    }

    /// Bytes without fate that count against the congestion window.
    pub(crate) fn bytes_in_flight(&self) -> u64 {
        self.bytes_in_flight
    }

    /// The highest number that the peer has acknowledged.
    pub(crate) fn largest_acked(&self) -> Option<u64> {
        self.largest_acked
    }

    /// The highest number that was sent or skipped.
    #[cfg(test)]
    pub(crate) fn largest_sent(&self) -> Option<u64> {
        self.ledger.end().checked_sub(1)
    }

    /// An acknowledgement is being waited for.
    #[cfg(test)]
    pub(crate) fn has_ack_eliciting_in_flight(&self) -> bool {
        self.eliciting > 0
    }
}
