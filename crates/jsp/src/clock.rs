//! The endpoint's clock: the runtime's monotonic time, counted from one origin, and the system's time beside it.

use std::time::{Duration, Instant as SystemInstant, SystemTime, UNIX_EPOCH};

use jsp_wire::Instant;

/// Turns the runtime's time into the transport's and back. It follows `tokio::time::pause`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    origin: tokio::time::Instant,
    /// The same moment by both clocks of the system.
    began: (SystemInstant, Duration),
}

impl Clock {
    pub(crate) fn start() -> Self {
        let began = (SystemInstant::now(), since_1970());
        Self { origin: tokio::time::Instant::now(), began }
    }

    pub(crate) fn now(&self) -> Instant {
        let nanos = self.origin.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Unix time in seconds when the clock started.
    pub(crate) fn unix_seconds_at_zero(&self) -> u64 {
        self.began.1.as_secs()
    }

    /// Unix time at `now`, as time since 1970 UTC: the runtime's, and by how much the system's own time was set or went
    /// on while the monotonic one stood still, as it does in a host that sleeps.
    pub(crate) fn unix_time(&self, now: Instant) -> Duration {
        let (began, began_unix) = self.began;
        let even = began_unix.saturating_add(began.elapsed());
        let runtime = began_unix.saturating_add(now.since(Instant::ZERO));
        let system = since_1970();
        match system.checked_sub(even) {
            Some(ahead) => runtime.saturating_add(ahead),
            None => runtime.saturating_sub(even.saturating_sub(system)),
        }
    }

    /// The runtime's name for an instant; an instant beyond the runtime's reach is a year away.
    pub(crate) fn to_runtime(self, instant: Instant) -> tokio::time::Instant {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        let since_origin = instant.since(Instant::ZERO);
        self.origin
            .checked_add(since_origin.min(self.origin.elapsed() + YEAR))
            .unwrap_or(self.origin)
    }
}

/// Seconds since 1970, for the dates in identities; 0 when the system's clock stands before that.
pub(crate) fn unix_seconds() -> u64 {
    since_1970().as_secs()
}

/// The system's time since 1970.
fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    #[cfg(test)]
    let now = now + tests::LEAP.get();
    now
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{ConnectError, DelegationError, Endpoint, HandshakeError, Identity, delegate};
    use std::cell::Cell;

    thread_local! {
        /// How far the system's time of this thread has leapt.
        pub(crate) static LEAP: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test(start_paused = true)]
    async fn unix_time_follows_the_runtime_and_the_system() {
        let clock = Clock::start();
        let start = clock.began.1;
        let passed = || clock.unix_time(clock.now()).as_secs() - start.as_secs();
        tokio::time::advance(HOUR).await;
        assert!((3600..3602).contains(&passed()));
        LEAP.set(2 * HOUR);
        assert!((3 * 3600..3 * 3600 + 2).contains(&passed()));
        assert_eq!(clock.now(), Instant::ZERO + HOUR);
        LEAP.set(Duration::ZERO);
        assert!((3600..3602).contains(&passed()), "set back");
    }
    #[tokio::test]
    // spec-test: HS-227
    async fn a_host_that_slept_knows_which_delegations_hold() {
        let (long_term, online) = (Identity::generate(), Identity::generate());
        let pin = long_term.fingerprint();
        let issue = || {
            let delegation = delegate(long_term.signer(), online.public(), 2 * HOUR).unwrap();
            online.clone().delegated(delegation).unwrap()
        };
        let server = Endpoint::server("127.0.0.1:0", issue()).unwrap();
        let addr = server.local_addr().unwrap();
        let client = Endpoint::client().unwrap();
        let refused_for = |result: Result<_, ConnectError>| match result {
            Err(ConnectError::Handshake { error: HandshakeError::Delegation(error), .. }) => error,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("accepted"),
        };
        LEAP.set(3 * HOUR);
        let ended = client.connect(addr, pin).await;
        assert_eq!(refused_for(ended), DelegationError::Expired);
        server.renew_identity(&issue()).unwrap();
        client.connect(addr, pin).await.unwrap();
        LEAP.set(Duration::ZERO);
        let early = client.connect(addr, pin).await;
        assert_eq!(refused_for(early), DelegationError::NotYetValid);
    }
}
