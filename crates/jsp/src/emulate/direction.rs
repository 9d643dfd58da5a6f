//! One direction of an emulated network: which datagram arrives, and when.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::BadLink;
use crate::link::Datagram;

/// What a direction has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams that entered.
    pub datagrams: u64,
    /// Their bytes of UDP payload.
    pub bytes: u64,
    /// Datagrams lost at random or by a cut.
    pub lost: u64,
    /// Datagrams dropped because the queue was full.
    pub dropped: u64,
}

#[derive(Debug)]
pub(super) struct Direction {
    config: BadLink,
    random: Random,
    in_burst: bool,
    is_cut: bool,
    /// When the last queued byte will have left the queue.
    free_at: Option<Instant>,
    /// The arrival of the last datagram that kept its place.
    last_arrival: Option<Instant>,
    /// By arrival, then by number.
    under_way: BTreeMap<(Instant, u64), Datagram>,
    entered: u64,
    traffic: Traffic,
}

impl Direction {
    pub(super) fn new(config: BadLink) -> Self {
        Self {
            config,
            random: Random(config.seed),
            in_burst: false,
            is_cut: false,
            free_at: None,
            last_arrival: None,
            under_way: BTreeMap::new(),
            entered: 0,
            traffic: Traffic::default(),
        }
    }

    pub(super) fn reconfigure(&mut self, config: BadLink) {
        self.config = config;
    }

    pub(super) fn cut(&mut self, cut: bool) {
        self.is_cut = cut;
    }

    pub(super) fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// When the next datagram arrives.
    pub(super) fn next(&self) -> Option<Instant> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    /// A datagram that has arrived by `now`.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Datagram> {
        let entry = self.under_way.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// A datagram enters.
    pub(super) fn push(&mut self, now: Instant, datagram: Datagram) {
        let len = datagram.payload.len();
        self.traffic.datagrams += 1;
        self.traffic.bytes += len as u64;
        if self.is_lost() {
            self.traffic.lost += 1;
            return;
        }
        let Some(leaves) = self.leave_queue(now, len) else {
            self.traffic.dropped += 1;
            return;
        };
        let jitter = self.config.jitter.mul_f64(self.random.fraction());
        let mut arrival = leaves + self.config.one_way_delay + jitter;
        if self.random.fraction() < self.config.reorder {
            arrival = now + self.config.one_way_delay.mul_f64(self.random.fraction());
        } else {
            arrival = self.last_arrival.map_or(arrival, |last| arrival.max(last));
            self.last_arrival = Some(arrival);
        }
        if self.random.fraction() < self.config.duplicate {
            let copy = Datagram {
                route: datagram.route,
                ecn: datagram.ecn,
                payload: datagram.payload.clone(),
            };
            self.entered += 1;
            self.under_way.insert((arrival, self.entered), copy);
        }
        self.entered += 1;
        self.under_way.insert((arrival, self.entered), datagram);
    }

    fn is_lost(&mut self) -> bool {
        let mut lost = self.random.fraction() < self.config.loss;
        if let Some(bursts) = self.config.bursts {
            let turn = if self.in_burst { bursts.leave } else { bursts.enter };
            self.in_burst ^= self.random.fraction() < turn;
            lost |= self.in_burst && self.random.fraction() < bursts.loss;
        }
        lost || self.is_cut
    }

    /// When a datagram of `len` bytes has passed the rate; `None` when the queue is full.
    fn leave_queue(&mut self, now: Instant, len: usize) -> Option<Instant> {
        let Some(rate) = self.config.rate.filter(|rate| *rate > 0) else { return Some(now) };
        let start = self.free_at.map_or(now, |free| free.max(now));
        let waiting_bits = (start - now).as_secs_f64() * rate as f64;
        if waiting_bits / 8.0 + len as f64 > self.config.queue.max(len) as f64 {
            return None;
        }
        let leaves = start + Duration::from_secs_f64(len as f64 * 8.0 / rate as f64);
        self.free_at = Some(leaves);
        Some(leaves)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): enough for dice, nothing for secrets.
#[derive(Debug)]
struct Random(u64);

impl Random {
    /// In [0, 1).
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::Bursts;
    use super::*;
    use bytes::BytesMut;
    use jsp_wire::Route;

    fn datagram(len: usize) -> Datagram {
        let route = Route::udp("127.0.0.1:1".parse().unwrap());
        Datagram { route, ecn: None, payload: BytesMut::zeroed(len) }
    }

    fn lost_of_10_000(config: BadLink) -> u64 {
        let now = Instant::now();
        let mut direction = Direction::new(config);
        (0..10_000).for_each(|_| direction.push(now, datagram(10)));
        direction.traffic().lost
    }

    #[test]
    fn loss_comes_at_its_rate_and_repeats_by_seed() {
        let config = BadLink { loss: 0.05, seed: 7, ..BadLink::default() };
        let lost = lost_of_10_000(config);
        assert!((430..570).contains(&lost), "{lost}");
        assert_eq!(lost, lost_of_10_000(config));
        assert_eq!(lost_of_10_000(BadLink::default()), 0);
    }

    #[test]
    fn bursts_lose_their_share() {
        let bursts = Some(Bursts { enter: 0.01, leave: 0.25, loss: 1.0 });
        // Stationary share of the bad state: 0.01 / (0.01 + 0.25) = 3.8 %.
        let lost = lost_of_10_000(BadLink { bursts, ..BadLink::default() });
        assert!((250..530).contains(&lost), "{lost}");
    }

    #[test]
    fn rate_and_queue_hold() {
        let now = Instant::now();
        // 8 Mbit/s is 1000 bytes a millisecond; the queue holds 5 of the datagrams.
        let delay = Duration::from_millis(30);
        let config = BadLink {
            rate: Some(8_000_000),
            queue: 5000,
            one_way_delay: delay,
            ..BadLink::default()
        };
        let mut direction = Direction::new(config);
        (0..8).for_each(|_| direction.push(now, datagram(1000)));
        assert_eq!(direction.traffic().dropped, 3);
        for nth in 1..=5 {
            let arrival = now + delay + Duration::from_millis(nth);
            assert_eq!(direction.next(), Some(arrival));
            assert!(direction.pop(arrival - Duration::from_nanos(1)).is_none());
            assert!(direction.pop(arrival).is_some());
        }
        assert_eq!(direction.next(), None);
    }

    #[test]
    fn jitter_keeps_the_order_and_a_cut_stops_all() {
        let now = Instant::now();
        let config = BadLink { jitter: Duration::from_millis(50), ..BadLink::default() };
        let mut direction = Direction::new(config);
        (1..100).for_each(|len| direction.push(now, datagram(len)));
        let later = now + Duration::from_secs(1);
        let lens: Vec<_> =
            std::iter::from_fn(|| direction.pop(later)).map(|d| d.payload.len()).collect();
        assert_eq!(lens, (1..100).collect::<Vec<_>>());
        direction.cut(true);
        direction.push(now, datagram(1));
        assert_eq!((direction.next(), direction.traffic().lost), (None, 1));
    }
}
