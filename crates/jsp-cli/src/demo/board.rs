//! What has been sent and has arrived, shared by all parts of the demonstration.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How far back the dashboard looks.
const RECENT: usize = 100;

/// What one stream has done.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    /// Messages; of the file, bytes.
    pub(super) sent: u64,
    pub(super) arrived: u64,
    pub(super) bytes: u64,
    /// Arrived, but after the deadline.
    pub(super) late: u64,
    /// One-way latencies of all that arrived.
    pub(super) latencies: Vec<Duration>,
    /// The last of them, for the dashboard.
    pub(super) recent: VecDeque<Duration>,
    /// The receiver has seen the end of the stream.
    pub(super) ended: bool,
}

impl Track {
    /// A message has arrived.
    fn arrive(&mut self, latency: Duration, bytes: usize, deadline: Duration) {
        self.arrived += 1;
        self.bytes += bytes as u64;
        self.late += u64::from(latency > deadline);
        self.latencies.push(latency);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(latency);
    }

    /// The latency that this share of the messages stayed within; `None` without messages.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted.get(rank.saturating_sub(1)).copied()
    }
}

/// The file, beside its track.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hashes {
    pub(super) sent: Option<blake3::Hash>,
    pub(super) arrived: Option<blake3::Hash>,
    /// When the last byte arrived, since the beginning.
    pub(super) done_after: Duration,
}

/// A moment of the board.
#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub(super) voice: Track,
    pub(super) chat: Track,
    /// Chat messages that came out of order, twice or changed.
    pub(super) chat_wrong: u64,
    pub(super) last_line: String,
    pub(super) file: Track,
    pub(super) hashes: Hashes,
}

/// The board itself.
#[derive(Debug)]
pub(super) struct Board {
    begun: OnceLock<Instant>,
    picture: Mutex<Picture>,
    changed: Notify,
}

/// A stream of the demonstration.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Voice,
    Chat,
    File,
}

impl Picture {
    fn track(&mut self, part: Part) -> &mut Track {
        match part {
            Part::Voice => &mut self.voice,
            Part::Chat => &mut self.chat,
            Part::File => &mut self.file,
        }
    }
}

impl Board {
    pub(super) fn new() -> Self {
        Self { begun: OnceLock::new(), picture: Mutex::default(), changed: Notify::new() }
    }

    /// Starts the clock.
    pub(super) fn begin(&self) {
        self.begun.get_or_init(Instant::now);
    }

    /// Time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.get_or_init(Instant::now).elapsed()
    }

    /// The time as a message carries it: sender and receiver have the same clock here.
    pub(super) fn stamp(&self) -> [u8; 8] {
        u64::try_from(self.elapsed().as_nanos()).unwrap_or(u64::MAX).to_be_bytes()
    }

    /// How long ago a stamp was made.
    pub(super) fn since(&self, stamp: [u8; 8]) -> Duration {
        self.elapsed().saturating_sub(Duration::from_nanos(u64::from_be_bytes(stamp)))
    }

    fn lock(&self) -> MutexGuard<'_, Picture> {
        self.picture.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn picture(&self) -> Picture {
        self.lock().clone()
    }

    pub(super) fn sent(&self, part: Part, amount: u64) {
        self.lock().track(part).sent += amount;
    }

    pub(super) fn arrived(&self, part: Part, latency: Duration, bytes: usize, deadline: Duration) {
        self.lock().track(part).arrive(latency, bytes, deadline);
    }

    pub(super) fn ended(&self, part: Part) {
        self.lock().track(part).ended = true;
        self.changed.notify_waiters();
    }

    /// Changes what has no call of its own.
    pub(super) fn change(&self, change: impl FnOnce(&mut Picture)) {
        change(&mut self.lock());
    }

    /// Returns when the receivers have seen the ends of all streams.
    pub(super) async fn all_ended(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let picture = self.lock();
                if picture.voice.ended && picture.chat.ended && picture.file.ended {
                    return;
                }
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let mut track = Track::default();
        assert_eq!(track.quantile(0.99), None);
        let deadline = Duration::from_millis(90);
        for ms in (1..=100).rev() {
            track.arrive(Duration::from_millis(ms), 1, deadline);
        }
        assert_eq!(track.quantile(0.0), Some(Duration::from_millis(1)));
        assert_eq!(track.quantile(0.5), Some(Duration::from_millis(50)));
        assert_eq!(track.quantile(0.99), Some(Duration::from_millis(99)));
        assert_eq!(track.quantile(1.0), Some(Duration::from_millis(100)));
        assert_eq!((track.late, track.arrived, track.recent.len()), (10, 100, RECENT));
    }
}
