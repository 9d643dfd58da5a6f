//! From hello to oblivion: the states of a connection and the deadlines that belong to them.

use core::time::Duration;

use jsp_wire::{Instant, frame};

use crate::error::TransportError;
use crate::event::CloseReason;
use crate::pack::packed;

/// How long a client goes on listening at least after a server was refused: long enough for the true server
/// to be heard behind a forger, and for a hello that was lost to go again; short enough for a person to wait.
const REFUSED_GRACE: Duration = Duration::from_millis(1500);

/// The same in probe time-outs, the first of which is a second: a Retry and the hello behind it take two round
/// trips.
const REFUSED_GRACE_PTOS: u32 = 3;

/// A connection that is silent for so long gives memory back: longer than those pause who send sounds, pictures or the
/// moves of a game, and what is given back is had again in microseconds. Short, so that of many that begin together
/// few are whole at a time.
const REST_AFTER: Duration = Duration::from_millis(100);

/// A connection that has ended is remembered for no longer: behind a queue of half a minute, as the buffers of a
/// stream can be, three probe time-outs are minutes, and what comes later is answered without state.
// spec: CON-81
const REMEMBERED_MAX: Duration = Duration::from_secs(10);

/// For how long a connection that has ended is remembered.
fn remembered(pto: Duration) -> Duration {
    pto.saturating_mul(3).min(REMEMBERED_MAX)
}

/// Where a connection stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Keys are being agreed.
    Handshaking { deadline: Instant, refused_until: Option<Instant> },
    /// Both identities are settled.
    Established,
    /// We have closed: whatever comes is answered with CLOSE, more and more rarely.
    Closing { until: Instant, answer: Answer },
    /// The peer has closed, or there is nobody: nothing is sent any more.
    Draining { until: Instant },
    /// Nothing is left to be done.
    Drained,
}

/// Whether a CLOSE is to be sent, and how many packets must come before the next one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    due: bool,
    heard: u32,
    next_at: u32,
}

/// What the CLOSE frame says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Farewell {
    pub(crate) by_application: bool,
    pub(crate) code: jsp_wire::CloseCode,
    pub(crate) reason: Vec<u8>,
}

impl Farewell {
    pub(crate) fn frame(&self) -> frame::Frame<'_> {
        frame::Frame::Close(frame::Close {
            by_application: self.by_application,
            code: self.code,
            reason: &self.reason,
        })
    }

    pub(crate) fn from_error(error: &TransportError) -> Self {
        Self { by_application: false, code: error.code, reason: error.reason.as_bytes().to_vec() }
    }
}

/// What a handshake that waits for its peer knows of time; all else follows from the configuration.
pub(crate) struct Waiting {
    deadline: Instant,
    active_at: Instant,
    busy_at: Instant,
    sent_since_heard: bool,
}

/// State, idle clock and farewell of a connection.
pub(crate) struct Lifecycle {
    state: State,
    farewell: Option<Farewell>,
    idle_timeout: Option<Duration>,
    keep_alive: Option<Duration>,
    /// When something authentic last arrived, or the first packet since then was sent.
    active_at: Instant,
    /// Set by the first ack-eliciting packet sent after something arrived.
    sent_since_heard: bool,
    /// When something was last sent or heard: what keep-alive counts from.
    busy_at: Instant,
    /// Nothing was sent or heard since the connection came to rest.
    is_resting: bool,
}
packed!(Lifecycle {
    idle_timeout, keep_alive, active_at, sent_since_heard, busy_at, is_resting; farewell,
    state = State::Established
});

impl Lifecycle {
    pub(crate) fn new(
        now: Instant,
        handshake_timeout: Duration,
        idle_timeout: Duration,
        keep_alive: Option<Duration>,
    ) -> Self {
        Self {
            state: State::Handshaking { deadline: now + handshake_timeout, refused_until: None },
            farewell: None,
            idle_timeout: (!idle_timeout.is_zero()).then_some(idle_timeout),
            keep_alive,
            active_at: now,
            sent_since_heard: false,
            busy_at: now,
            is_resting: false,
        }
    }

    /// True for a handshake that nothing speaks against.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Handshaking { refused_until: None, .. })
    }

    /// What there is to keep of it: see [`Lifecycle::is_waiting`].
    pub(crate) fn waiting(&self) -> Waiting {
        let Self { active_at, busy_at, sent_since_heard, .. } = *self;
        let deadline = match self.state {
            State::Handshaking { deadline, .. } => deadline,
            _ => active_at,
        };
        Waiting { deadline, active_at, busy_at, sent_since_heard }
    }

    /// The state as it was.
    pub(crate) fn resumed(self, waiting: &Waiting) -> Self {
        let Waiting { deadline, active_at, busy_at, sent_since_heard } = *waiting;
        let state = State::Handshaking { deadline, refused_until: None };
        Self { state, active_at, busy_at, sent_since_heard, ..self }
    }

    /// Data may be sent and received.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Handshaking { .. } | State::Established)
    }

    pub(crate) fn is_established(&self) -> bool {
        self.state == State::Established
    }

    pub(crate) fn is_drained(&self) -> bool {
        self.state == State::Drained
    }

    /// The smaller of both sides' idle times holds.
    // spec: CON-30
    pub(crate) fn on_peer_idle_timeout(&mut self, milliseconds: u64) {
        if milliseconds > 0 {
            let peer = Duration::from_millis(milliseconds);
            self.idle_timeout = Some(self.idle_timeout.map_or(peer, |own| own.min(peer)));
        }
    }

    /// An answer came that cannot lead to a connection: another one must come soon.
    // spec: CON-25
    pub(crate) fn hasten(&mut self, now: Instant, pto: Duration) {
        if let State::Handshaking { refused_until, .. } = &mut self.state {
            let grace = pto.saturating_mul(REFUSED_GRACE_PTOS).max(REFUSED_GRACE);
            refused_until.get_or_insert(now + grace);
        }
    }

    /// The true server was heard after all: what looked like a refusal was a forgery, or the answer
    /// to a damaged packet.
    pub(crate) fn take_time(&mut self) {
        if let State::Handshaking { refused_until, .. } = &mut self.state {
            *refused_until = None;
        }
    }

    /// The handshake must be complete by then, if not before.
    pub(crate) fn shorten_handshake(&mut self, until: Instant) {
        if let State::Handshaking { deadline, .. } = &mut self.state {
            *deadline = until.min(*deadline);
        }
    }

    pub(crate) fn on_established(&mut self, now: Instant) {
        if matches!(self.state, State::Handshaking { .. }) {
            self.state = State::Established;
            self.active_at = now;
        }
    }

    /// Something authentic arrived.
    pub(crate) fn on_received(&mut self, now: Instant) {
        self.active_at = now;
        self.busy_at = now;
        self.is_resting = false;
        self.sent_since_heard = false;
        if let State::Closing { answer, .. } = &mut self.state {
            answer.on_heard();
        }
    }

    pub(crate) fn on_sent(&mut self, now: Instant, ack_eliciting: bool) {
        self.is_resting = false;
        if ack_eliciting {
            self.busy_at = now;
            if !self.sent_since_heard {
                self.sent_since_heard = true;
                self.active_at = now;
            }
        }
    }

    /// We close: the farewell is sent at once, and again in answer to what still comes.
    // spec: CON-33
    pub(crate) fn close(&mut self, now: Instant, farewell: Farewell, pto: Duration) {
        if self.is_open() {
            self.farewell = Some(farewell);
            let answer = Answer { due: true, heard: 0, next_at: 1 };
            self.state = State::Closing { until: now + remembered(pto), answer };
        }
    }

    /// The peer has closed.
    // spec: CON-34
    pub(crate) fn drain(&mut self, now: Instant, pto: Duration) {
        if !matches!(self.state, State::Drained | State::Draining { .. }) {
            self.state = State::Draining { until: now + remembered(pto) };
        }
    }

    /// Nobody is there any more: no last words.
    pub(crate) fn vanish(&mut self) {
        self.state = State::Drained;
    }

    /// The farewell, when it is due.
    pub(crate) fn farewell(&self) -> Option<&Farewell> {
        match &self.state {
            State::Closing { answer, .. } if answer.due => self.farewell.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn on_farewell_sent(&mut self) {
        if let State::Closing { answer, .. } = &mut self.state {
            answer.due = false;
        }
    }

    /// When a PING keeps the connection alive.
    // spec: CON-31
    pub(crate) fn keep_alive_at(&self) -> Option<Instant> {
        match (&self.state, self.keep_alive) {
            (State::Established, Some(interval)) => Some(self.busy_at + interval),
            _ => None,
        }
    }

    /// A PING was asked for: the next one waits for another interval.
    pub(crate) fn on_kept_alive(&mut self, now: Instant) {
        self.busy_at = now;
    }

    /// When an established connection that says and hears nothing comes to rest.
    pub(crate) fn rests_at(&self) -> Option<Instant> {
        let is_awake = !self.is_resting && matches!(self.state, State::Established);
        is_awake.then_some(self.busy_at + REST_AFTER)
    }

    /// True while it rests.
    pub(crate) fn is_resting(&self) -> bool {
        self.is_resting
    }

    /// The connection rests until something is sent or heard.
    pub(crate) fn rest(&mut self) {
        self.is_resting = true;
    }

    /// The next deadline of the state. Silence is measured in idle time-outs, but never less than
    /// three probe time-outs.
    pub(crate) fn poll_timeout(&self, pto: Duration) -> Option<Instant> {
        match &self.state {
            State::Handshaking { deadline, refused_until } => {
                Some(refused_until.map_or(*deadline, |at| at.min(*deadline)))
            }
            State::Established => {
                self.idle_timeout.map(|idle| self.active_at + idle.max(pto.saturating_mul(3)))
            }
            State::Closing { until, .. } | State::Draining { until } => Some(*until),
            State::Drained => None,
        }
    }

    /// Acts on a deadline that has passed; answers the reason when the connection is lost by it.
    pub(crate) fn handle_timeout(&mut self, now: Instant, pto: Duration) -> Option<CloseReason> {
        if self.poll_timeout(pto).is_none_or(|deadline| now < deadline) {
            return None;
        }
        let reason = match self.state {
            State::Handshaking { .. } => Some(CloseReason::HandshakeTimeout),
            State::Established => Some(CloseReason::IdleTimeout),
            State::Closing { .. } | State::Draining { .. } | State::Drained => None,
        };
        self.state = State::Drained;
        reason
    }
}

impl Answer {
    /// One answer for 1, 2, 4, 8 .. packets heard.
    fn on_heard(&mut self) {
        self.heard = self.heard.saturating_add(1);
        if self.heard >= self.next_at {
            self.due = true;
            self.next_at = self.next_at.saturating_mul(2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PTO: Duration = Duration::from_millis(100);

    // spec-test: CON-25
    #[test]
    fn a_better_answer_is_waited_for_as_long_as_a_retry_takes() {
        for (pto, grace) in [(PTO, 1500), (Duration::from_secs(1), 3000)] {
            let (now, mut lifecycle) = lifecycle();
            lifecycle.hasten(now, pto);
            lifecycle.hasten(now + PTO, pto);
            assert_eq!(lifecycle.poll_timeout(pto), Some(now + Duration::from_millis(grace)));
        }
    }

    fn lifecycle() -> (Instant, Lifecycle) {
        let now = Instant::from_nanos(7);
        let (ten, idle) = (Duration::from_secs(10), Duration::from_secs(30));
        (now, Lifecycle::new(now, ten, idle, Some(Duration::from_secs(3))))
    }

    #[test]
    // spec-test: CON-33
    fn the_1st_2nd_4th_8th_packet_is_answered() {
        let (now, mut lifecycle) = lifecycle();
        lifecycle.on_established(now);
        let farewell =
            Farewell { by_application: true, code: jsp_wire::CloseCode(1), reason: Vec::new() };
        lifecycle.close(now, farewell, PTO);
        assert!(lifecycle.farewell().is_some());
        lifecycle.on_farewell_sent();
        let mut answered = Vec::new();
        for n in 1..=40 {
            lifecycle.on_received(now);
            if lifecycle.farewell().is_some() {
                answered.push(n);
                lifecycle.on_farewell_sent();
            }
        }
        assert_eq!(answered, [1, 2, 4, 8, 16, 32]);
        assert_eq!(lifecycle.poll_timeout(PTO), Some(now + PTO * 3));
        assert_eq!(lifecycle.handle_timeout(now + PTO * 3, PTO), None);
        assert!(lifecycle.is_drained());
    }

    #[test]
    // spec-test: CON-81
    fn an_end_behind_a_long_queue_is_remembered_for_ten_seconds() {
        let (now, mut lifecycle) = lifecycle();
        let most = Some(now + Duration::from_secs(10));
        let slow = Duration::from_secs(45);
        let farewell =
            Farewell { by_application: true, code: jsp_wire::CloseCode(0), reason: Vec::new() };
        lifecycle.close(now, farewell, slow);
        assert_eq!(lifecycle.poll_timeout(slow), most);
        lifecycle.drain(now, slow);
        assert_eq!(lifecycle.poll_timeout(slow), most);
    }

    #[test]
    // spec-test: CON-30, CON-31
    fn silence_is_measured_from_what_was_heard_and_first_sent() {
        let (now, mut lifecycle) = lifecycle();
        lifecycle.on_established(now);
        lifecycle.on_peer_idle_timeout(20_000);
        let idle = Duration::from_secs(20);
        assert_eq!(lifecycle.poll_timeout(PTO), Some(now + idle));
        // Never before three probe time-outs.
        assert_eq!(lifecycle.poll_timeout(idle), Some(now + idle * 3));
        let later = now + Duration::from_secs(5);
        lifecycle.on_sent(later, true);
        assert_eq!(lifecycle.poll_timeout(PTO), Some(later + idle));
        assert_eq!(lifecycle.keep_alive_at(), Some(later + Duration::from_secs(3)));
        // What is sent after that moves nothing until something is heard.
        lifecycle.on_sent(later + PTO, true);
        assert_eq!(lifecycle.poll_timeout(PTO), Some(later + idle));
        lifecycle.on_received(later + PTO * 2);
        assert_eq!(lifecycle.poll_timeout(PTO), Some(later + PTO * 2 + idle));
        let end = later + PTO * 2 + idle;
        assert_eq!(lifecycle.handle_timeout(end, PTO), Some(CloseReason::IdleTimeout));
    }
}
