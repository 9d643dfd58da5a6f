//! Between datagrams and streams: when a connection that may use both leaves the one for the other, and what follows
//! a stream that has ended.
//!
//! A [`Switch`] is asked by [`poll`](Switch::poll) whenever something about the connection has changed, or
//! its deadline has come; it says what is to be done, and hears what came of it.

use core::time::Duration;

use jsp_wire::{Instant, Route};

/// Time from one question whether datagrams pass again to the next.
// spec: CAR-33
const ASK_AFTER: Duration = Duration::from_secs(4);

/// Longest such time, after datagrams had no way often.
// spec: CAR-77
const ASK_SELDOM: Duration = Duration::from_secs(256);

/// Time that a way has to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// Rest after no stream could be opened.
const REST: Duration = Duration::from_secs(1);

/// How long a stream is kept after datagrams pass again, for what is under way in it.
const KEEP: Duration = Duration::from_secs(2);

/// A way that a connection may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Datagrams.
    Datagrams,
    /// A stream: whichever opens first of those that have not opened in this round. So many have, one after the
    /// other, and the server did not answer there.
    Stream(usize),
}

/// What there is to know of the connection.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The way of the path that is used first.
    pub route: Route,
    /// Those of all paths.
    pub ways: &'a [Route],
    /// The path that is used first has fallen silent.
    pub is_silent: bool,
    /// The stream in use is open still.
    pub is_held: bool,
    /// The handshake is complete, and the connection is not over.
    pub is_open: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Open a way, and tell by [`Switch::on_opened`].
    Open(Which),
    /// Ask the server there by a challenge, and tell by [`Switch::on_asked`].
    Ask(Route),
    /// Close the streams that no path uses.
    Close,
}

/// Where a connection is between its ways.
#[derive(Debug)]
pub struct Switch {
    /// How many streams there are to try.
    streams: usize,
    has_datagrams: bool,
    state: State,
    /// When datagrams are to be asked for, in a stream.
    ask_at: Option<Instant>,
    /// Time from one question to the next.
    ask_every: Duration,
    /// Where datagrams went last: the server may have led the connection there.
    last: Option<Route>,
    /// The next question goes there.
    asks_last: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// All is well.
    Watching,
    Opening(Which),
    Opened(Which, Route),
    /// The server is to answer there until then.
    Asked(Which, Route, Instant),
    /// It did not, or the way did not open.
    Failed(Which),
    /// Datagrams pass again; the stream is closed then.
    Keeping(Instant),
    /// Everything was tried.
    Resting(Instant),
}

impl Switch {
    /// For a connection that may use datagrams and so many streams.
    #[must_use]
    pub const fn new(streams: usize) -> Self {
        Self {
            streams,
            has_datagrams: true,
            state: State::Watching,
            ask_at: None,
            ask_every: ASK_AFTER,
            last: None,
            asks_last: false,
        }
    }

    /// For a connection that may use so many streams, and no datagrams.
    #[must_use]
    pub const fn without_datagrams(streams: usize) -> Self {
        Self { has_datagrams: false, ..Self::new(streams) }
    }

    /// What is to be done now; to be asked again after each step.
    // spec: CAR-31, CAR-33, CAR-75
    pub fn poll(&mut self, now: Instant, view: &View<'_>) -> Option<Step> {
        if matches!(view.route, Route::Udp { .. }) {
            (self.last, self.asks_last) = (Some(view.route), true);
        }
        if let State::Resting(until) = self.state
            && now >= until
        {
            self.state = State::Watching;
        }
        match self.state {
            State::Watching | State::Failed(Which::Datagrams) => self.watch(now, view),
            State::Opening(_) | State::Resting(_) => None,
            State::Opened(which, route) => {
                let is_stream = which != Which::Datagrams;
                // Datagrams came through after all, while the stream was opened.
                if is_stream && !view.route.is_reliable() && !view.is_silent {
                    self.state = State::Watching;
                    return Some(Step::Close);
                }
                self.state = State::Asked(which, route, now + ANSWER_MAX);
                Some(Step::Ask(route))
            }
            State::Asked(which, route, until) => {
                if view.ways.iter().any(|way| way.same_peer(&route)) {
                    return match which {
                        Which::Datagrams => {
                            self.state = State::Keeping(now + KEEP);
                            None
                        }
                        Which::Stream(_) => self.watch(now, view),
                    };
                }
                // While datagrams are asked for, the stream in use may end.
                let is_lost =
                    which == Which::Datagrams && view.route.is_reliable() && !view.is_held;
                if is_lost {
                    return self.watch(now, view);
                }
                if now < until {
                    return None;
                }
                self.state = State::Failed(which);
                Some(Step::Close)
            }
            State::Failed(Which::Stream(place)) => {
                self.open(now, Which::Stream(place.saturating_add(1)))
            }
            State::Keeping(until) if now >= until => {
                self.state = State::Watching;
                Some(Step::Close)
            }
            State::Keeping(_) => None,
        }
    }

    fn watch(&mut self, now: Instant, view: &View<'_>) -> Option<Step> {
        self.state = State::Watching;
        if !view.is_open {
            return None;
        }
        if !(view.route.is_reliable() && view.is_held) {
            self.ask_at = None;
            let is_over = view.route.is_reliable() || view.is_silent;
            return if is_over { self.open(now, Which::Stream(0)) } else { None };
        }
        if !self.has_datagrams {
            return None;
        }
        if now < *self.ask_at.get_or_insert(now + self.ask_every) {
            return None;
        }
        self.ask_at = Some(now + self.ask_every);
        self.open(now, Which::Datagrams)
    }

    fn open(&mut self, now: Instant, which: Which) -> Option<Step> {
        if let Which::Stream(place) = which
            && place >= self.streams
        {
            self.state = State::Resting(now + REST);
            return None;
        }
        self.state = State::Opening(which);
        Some(Step::Open(which))
    }

    /// The way to open for datagrams by plain UDP: where they went last, when that was asked in vain where the server
    /// was found at `first`, and so on in turn.
    // spec: CAR-33
    pub fn datagrams_to(&mut self, first: Route) -> Route {
        let last = self.last.filter(|_| self.asks_last);
        self.asks_last = !self.asks_last;
        last.unwrap_or(first)
    }

    /// A proxy does not relay datagrams: nobody asks it soon again. In place of [`on_opened`](Self::on_opened).
    // spec: CAR-77
    pub fn on_unsupported(&mut self) {
        if let State::Opening(Which::Datagrams) = self.state {
            self.ask_seldom(ASK_SELDOM);
            self.state = State::Failed(Which::Datagrams);
        }
    }

    fn ask_seldom(&mut self, every: Duration) {
        (self.ask_every, self.ask_at) = (every.min(ASK_SELDOM), None);
    }

    /// What came of [`Step::Open`]: nothing when none has opened.
    // spec: CAR-76, CAR-77
    pub fn on_opened(&mut self, route: Option<Route>) {
        let State::Opening(which) = self.state else { return };
        self.state = match (route, which) {
            (Some(route), which) => {
                if which == Which::Datagrams {
                    self.ask_every = ASK_AFTER;
                }
                State::Opened(which, route)
            }
            (None, Which::Datagrams) => {
                self.ask_seldom(self.ask_every * 2);
                State::Failed(which)
            }
            // All that were left have been tried.
            (None, Which::Stream(_)) => State::Failed(Which::Stream(self.streams)),
        };
    }

    /// Where the server is to answer, while it is waited for.
    #[must_use]
    pub const fn asked(&self) -> Option<Route> {
        match self.state {
            State::Asked(_, route, _) => Some(route),
            _ => None,
        }
    }

    /// The stream in which the server was to answer has ended.
    pub fn on_ended(&mut self) {
        if let State::Asked(which @ Which::Stream(_), ..) = self.state {
            self.state = State::Failed(which);
        }
    }

    /// What came of [`Step::Ask`]: false when the connection is there already, or cannot move.
    pub fn on_asked(&mut self, now: Instant, is_asked: bool) {
        if let State::Asked(..) = self.state
            && !is_asked
        {
            // What was opened is closed by the way that leads there.
            self.state = State::Keeping(now);
        }
    }

    /// When [`poll`](Self::poll) is to be called although nothing has changed.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Watching => self.ask_at,
            State::Asked(_, _, at) | State::Keeping(at) | State::Resting(at) => Some(at),
            State::Failed(_) | State::Opened(..) => Some(Instant::ZERO),
            State::Opening(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use core::net::SocketAddr;

    use super::*;

    const STREAM: Route = Route::Tunnel { id: 7 };

    fn udp() -> Route {
        Route::udp(SocketAddr::from(([192, 0, 2, 2], 2)))
    }

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    fn view(ways: &[Route], is_silent: bool) -> View<'_> {
        View { route: ways[0], ways, is_silent, is_held: true, is_open: true }
    }

    #[test]
    // spec-test: CAR-31, CAR-33
    fn a_silent_connection_goes_to_a_stream_and_asks_for_datagrams_from_there() {
        let (mut switch, here, there) = (Switch::new(1), [udp()], [STREAM]);
        assert_eq!(switch.poll(at(0), &view(&here, false)), None);
        assert_eq!(switch.poll(at(1), &view(&here, true)), Some(Step::Open(Which::Stream(0))));
        assert_eq!(switch.poll(at(2), &view(&here, true)), None);
        switch.on_opened(Some(STREAM));
        assert_eq!(switch.poll(at(3), &view(&here, true)), Some(Step::Ask(STREAM)));
        switch.on_asked(at(3), true);
        assert_eq!(switch.poll(at(4), &view(&there, false)), None);
        assert_eq!(switch.poll(at(5), &view(&there, false)), None);
        assert_eq!(switch.poll_timeout(), Some(at(4004)));
        let ask = switch.poll(at(4004), &view(&there, false));
        assert_eq!(ask, Some(Step::Open(Which::Datagrams)));
        switch.on_opened(Some(udp()));
        assert_eq!(switch.poll(at(4004), &view(&there, false)), Some(Step::Ask(udp())));
        // No answer comes: the next question is 4 s after the first.
        assert_eq!(switch.poll_timeout(), Some(at(7004)));
        assert_eq!(switch.poll(at(7004), &view(&there, false)), Some(Step::Close));
        assert_eq!(switch.poll(at(7004), &view(&there, false)), None);
        assert_eq!(switch.poll_timeout(), Some(at(8004)));
        let ask = switch.poll(at(8004), &view(&there, false));
        assert_eq!(ask, Some(Step::Open(Which::Datagrams)));
        switch.on_opened(Some(udp()));
        assert_eq!(switch.poll(at(8004), &view(&there, false)), Some(Step::Ask(udp())));
        assert_eq!(switch.poll(at(8100), &view(&here, false)), None);
        assert_eq!(switch.poll_timeout(), Some(at(10_100)));
        assert_eq!(switch.poll(at(10_100), &view(&here, false)), Some(Step::Close));
    }

    #[test]
    // spec-test: CAR-33
    fn datagrams_are_asked_for_where_they_went_last_and_where_the_server_was_found() {
        let first = Route::udp(SocketAddr::from(([192, 0, 2, 9], 9)));
        let (mut switch, here, there) = (Switch::new(1), [udp()], [STREAM]);
        assert_eq!(switch.datagrams_to(first), first);
        for _ in 0..2 {
            assert_eq!(switch.poll(at(0), &view(&here, false)), None);
            assert_eq!(switch.poll(at(1), &view(&there, false)), None);
            let asked = [(); 4].map(|()| switch.datagrams_to(first));
            assert_eq!(asked, [udp(), first, udp(), first]);
        }
    }

    #[test]
    // spec-test: CAR-77
    fn datagrams_that_have_no_way_are_asked_for_less_and_less_often() {
        let (mut switch, there) = (Switch::new(1), [STREAM]);
        let mut now = at(0);
        let mut pause = |switch: &mut Switch| {
            let since = now;
            assert_eq!(switch.poll(now, &view(&there, false)), None);
            now = switch.poll_timeout().unwrap();
            let asks = switch.poll(now, &view(&there, false));
            assert_eq!(asks, Some(Step::Open(Which::Datagrams)));
            now.since(since).as_secs()
        };
        for expected in [4, 8, 16, 32, 64, 128, 256, 256] {
            assert_eq!(pause(&mut switch), expected);
            switch.on_opened(None);
        }
        let mut switch = Switch::new(1);
        assert_eq!(pause(&mut switch), 4);
        switch.on_unsupported();
        assert_eq!(pause(&mut switch), 256);
        // There is a relay after all.
        switch.on_opened(Some(udp()));
        assert_eq!(switch.ask_every, ASK_AFTER);
    }

    #[test]
    fn streams_are_tried_in_turn_and_left_when_datagrams_come_through() {
        let (mut switch, here) = (Switch::new(2), [udp()]);
        assert_eq!(switch.poll(at(0), &view(&here, true)), Some(Step::Open(Which::Stream(0))));
        switch.on_opened(Some(STREAM));
        assert_eq!(switch.poll(at(1), &view(&here, true)), Some(Step::Ask(STREAM)));
        assert_eq!(switch.poll(at(3001), &view(&here, true)), Some(Step::Close));
        assert_eq!(switch.poll(at(3001), &view(&here, true)), Some(Step::Open(Which::Stream(1))));
        switch.on_opened(Some(STREAM));
        assert_eq!(switch.poll(at(3100), &view(&here, true)), Some(Step::Ask(STREAM)));
        assert_eq!(switch.asked(), Some(STREAM));
        switch.on_ended();
        assert_eq!(switch.poll(at(3200), &view(&here, true)), None);
        assert_eq!(switch.poll(at(4200), &view(&here, true)), Some(Step::Open(Which::Stream(0))));
        switch.on_opened(None);
        // None of them opens: the other one does not, either.
        assert_eq!(switch.poll(at(5000), &view(&here, true)), None);
        assert_eq!(switch.poll(at(6000), &view(&here, true)), Some(Step::Open(Which::Stream(0))));
        switch.on_opened(Some(STREAM));
        assert_eq!(switch.poll(at(6002), &view(&here, false)), Some(Step::Close));
        assert_eq!(switch.poll(at(9000), &view(&here, false)), None);
    }

    #[test]
    fn a_stream_that_has_ended_is_followed_by_another() {
        let (mut switch, there) = (Switch::new(1), [STREAM]);
        let ended = View { is_held: false, ..view(&there, false) };
        assert_eq!(switch.poll(at(0), &ended), Some(Step::Open(Which::Stream(0))));
        let closed = View { is_open: false, ..ended };
        assert_eq!(Switch::new(1).poll(at(0), &closed), None);
        // Also while datagrams are asked for.
        let mut switch = Switch::new(1);
        assert_eq!(switch.poll(at(0), &view(&there, false)), None);
        let ask = switch.poll(at(4000), &view(&there, false));
        assert_eq!(ask, Some(Step::Open(Which::Datagrams)));
        switch.on_opened(Some(udp()));
        assert_eq!(switch.poll(at(4000), &view(&there, false)), Some(Step::Ask(udp())));
        switch.on_asked(at(4000), true);
        assert_eq!(switch.poll(at(4001), &ended), Some(Step::Open(Which::Stream(0))));
    }

    #[test]
    // spec-test: CAR-75
    fn without_datagrams_streams_follow_each_other_and_nothing_else_is_asked_for() {
        const NEXT: Route = Route::Tunnel { id: 8 };
        let (mut switch, there) = (Switch::without_datagrams(1), [STREAM]);
        assert_eq!(switch.poll(at(0), &view(&there, false)), None);
        assert_eq!(switch.poll(at(60_000), &view(&there, false)), None);
        assert_eq!(switch.poll_timeout(), None);
        let ended = View { is_held: false, ..view(&there, false) };
        assert_eq!(switch.poll(at(60_001), &ended), Some(Step::Open(Which::Stream(0))));
        switch.on_opened(None);
        assert_eq!(switch.poll(at(60_002), &ended), None, "it is not asked for all the time");
        assert_eq!(switch.poll_timeout(), Some(at(61_002)));
        assert_eq!(switch.poll(at(61_002), &ended), Some(Step::Open(Which::Stream(0))));
        switch.on_opened(Some(NEXT));
        assert_eq!(switch.poll(at(61_050), &ended), Some(Step::Ask(NEXT)));
        switch.on_asked(at(61_050), true);
        assert_eq!(switch.poll(at(61_100), &view(&[NEXT], false)), None);
        assert_eq!(switch.poll_timeout(), None);
    }
}
