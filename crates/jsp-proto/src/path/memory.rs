//! What is worth knowing of a path when it is taken again.

use core::net::IpAddr;
use core::time::Duration;

use jsp_wire::Instant;

use crate::pack::packed;
use crate::recovery::RateSample;

/// What a path carried, so that a later connection over it need not begin from nothing
/// (Careful Resume, RFC 9959). It is a hint: it is tried with care, and only where the round-trip time
/// is still about the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub struct PathMemory {
    /// Highest delivery rate of the last tens of seconds, in KiB (1024 bytes) of UDP payload a second.
    pub delivery_rate_kib: u32,
    /// Shortest round-trip time, in microseconds.
    pub rtt_min_micros: u32,
}
packed!(PathMemory { delivery_rate_kib, rtt_min_micros });

impl PathMemory {
    /// Of a rate in bytes a second; `None` where that is too little to matter.
    fn new(rate: u64, rtt_min: Duration) -> Option<Self> {
        let delivery_rate_kib = u32::try_from(rate / 1024).unwrap_or(u32::MAX);
        let rtt_min_micros = u32::try_from(rtt_min.as_micros()).unwrap_or(u32::MAX);
        (delivery_rate_kib > 0 && rtt_min_micros > 0)
            .then_some(Self { delivery_rate_kib, rtt_min_micros })
    }

    /// Bytes a second.
    pub(crate) fn delivery_rate(self) -> u64 {
        u64::from(self.delivery_rate_kib) * 1024
    }

    pub(crate) fn rtt_min(self) -> Duration {
        Duration::from_micros(u64::from(self.rtt_min_micros))
    }
}

/// A rate that was not seen again for one to two of these is forgotten; time in which the application sets the
/// pace does not count.
const SLOT: Duration = Duration::from_secs(10);

/// The highest rate at which a path has delivered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RateMemory {
    /// Bytes a second, of this slot and the one before.
    best: [u64; 2],
    slot_began: Instant,
}
packed!(RateMemory { best, slot_began });

impl RateMemory {
    /// Takes a sample. A quiet application does not make the path slower.
    pub(crate) fn on_sample(&mut self, now: Instant, sample: &RateSample) {
        let [current, before] = self.best;
        if sample.app_limited && sample.rate <= current.max(before) {
            return;
        }
        if now.since(self.slot_began) >= SLOT {
            self.slot_began = now;
            self.best = [sample.rate, current];
        } else {
            self.best = [current.max(sample.rate), before];
        }
    }

    /// What to remember of the path, whose shortest round-trip time this is.
    pub(crate) fn memory(&self, rtt_min: Duration) -> Option<PathMemory> {
        let [current, before] = self.best;
        PathMemory::new(current.max(before), rtt_min)
    }
}

/// Paths that a connection remembers.
const PATHS: usize = 4;

/// For how long it does.
const LIFETIME: Duration = Duration::from_secs(600);

/// The paths that a connection has left, by the peer's address: one that goes to and fro between two networks
/// finds both as they were.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PastPaths {
    paths: [Option<(Instant, IpAddr, PathMemory)>; PATHS],
    next: usize,
}

impl PastPaths {
    /// The path to this address is left.
    pub(crate) fn leave(&mut self, now: Instant, peer: IpAddr, memory: PathMemory) {
        let known = self.paths.iter().position(|path| path.is_some_and(|(_, at, _)| at == peer));
        let index = known.unwrap_or(self.next);
        if let Some(slot) = self.paths.get_mut(index) {
            *slot = Some((now, peer, memory));
        }
        if known.is_none() {
            self.next = (self.next + 1) % PATHS;
        }
    }

    /// What is known of the path to this address.
    pub(crate) fn recall(&self, now: Instant, peer: IpAddr) -> Option<PathMemory> {
        let found = self.paths.iter().flatten().find(|(_, at, _)| *at == peer);
        found.filter(|(left, ..)| now.since(*left) < LIFETIME).map(|(.., memory)| *memory)
    }
}

#[cfg(test)]
mod tests {
    use jsp_wire::Route;

    use super::*;
    use crate::config::TransportConfig;
    use crate::congestion::AckSample;
    use crate::path::{Budget, Path};

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }

    fn sample(rate: u64, app_limited: bool) -> RateSample {
        RateSample {
            rate,
            delivered: 1000,
            prior_delivered: 0,
            sent_in_flight: 0,
            interval: Duration::from_millis(50),
            app_limited,
        }
    }

    #[test]
    fn the_rate_is_what_the_path_delivered_and_not_what_was_asked_of_it() {
        let rtt = Duration::from_millis(50);
        let mut rates = RateMemory::default();
        assert_eq!(rates.memory(rtt), None);
        rates.on_sample(at(1), &sample(1_024_000, false));
        let known = PathMemory { delivery_rate_kib: 1000, rtt_min_micros: 50_000 };
        assert_eq!(rates.memory(rtt), Some(known));
        for second in 2..600 {
            rates.on_sample(at(second), &sample(10_240, true));
        }
        assert_eq!(rates.memory(rtt), Some(known));
        for second in 600..630 {
            rates.on_sample(at(second), &sample(102_400, false));
        }
        assert_eq!(rates.memory(rtt).map(|memory| memory.delivery_rate_kib), Some(100));
        assert_eq!(rates.memory(Duration::ZERO), None);
    }

    #[test]
    fn a_path_is_found_again_for_a_while() {
        let peer = |last: u8| IpAddr::from([192, 0, 2, last]);
        let memory = |rate| PathMemory { delivery_rate_kib: rate, rtt_min_micros: 1 };
        let mut past = PastPaths::default();
        past.leave(at(1), peer(1), memory(1));
        past.leave(at(2), peer(1), memory(2));
        assert_eq!(past.recall(at(3), peer(1)), Some(memory(2)));
        assert_eq!(past.recall(at(3), peer(2)), None);
        assert_eq!(past.recall(at(602), peer(1)), None, "too long ago");
        for last in 2..=5 {
            past.leave(at(3), peer(last), memory(u32::from(last)));
        }
        assert_eq!(past.recall(at(4), peer(1)), None, "others took its place");
        assert_eq!(past.recall(at(4), peer(5)), Some(memory(5)));
    }

    /// What an ACK of a full first flight makes of the window.
    fn window_after_first_flight(path: &mut Path) -> u64 {
        path.rtt.update(at(20), Duration::from_millis(50), Duration::ZERO);
        let window = path.congestion.window();
        let ack = AckSample {
            bytes_acked: window,
            in_flight: window,
            largest_sent_at: at(20),
            has_losses: false,
            has_rtt_sample: true,
            app_limited: false,
            queue_delay: None,
            rate: None,
            packets_acked: 1,
        };
        path.congestion.on_ack(at(20), &ack, &path.rtt);
        path.congestion.window()
    }

    #[test]
    /// spec-test: CC-46
    fn a_path_that_returns_begins_where_it_was() {
        let config = TransportConfig::default();
        let route = |last: u8| Route::udp((IpAddr::from([192, 0, 2, last]), 443).into());
        let mut path = Path::new(route(1), Budget::Unlimited, &config);
        assert_eq!(path.path_memory(), None);
        path.rtt.update(at(1), Duration::from_millis(50), Duration::ZERO);
        path.rates.on_sample(at(1), &sample(4_096_000, false));
        let known = path.path_memory().expect("it was measured");
        assert_eq!(known, PathMemory { delivery_rate_kib: 4000, rtt_min_micros: 50_000 });
        path.move_to(at(10), route(2), &config, 1452);
        assert_eq!(path.path_memory(), None, "another path");
        assert!(window_after_first_flight(&mut path) < 40_000);
        path.move_to(at(20), route(1), &config, 1452);
        assert_eq!(window_after_first_flight(&mut path), 102_400, "half of 50 ms of the rate");
        // An application may say the same of a path that it knows.
        let config = TransportConfig { initial_path_memory: Some(known), ..config };
        let mut path = Path::new(route(1), Budget::Unlimited, &config);
        assert_eq!(window_after_first_flight(&mut path), 102_400);
    }
}
