//! Proportional rate reduction (RFC 9937): how the window comes down to its new size over one round
//! trip, instead of stalling and bursting.

/// One recovery.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Prr {
    /// Where the window ends, in bytes.
    target: u64,
    /// Bytes in flight when recovery began; at least 1.
    flight: u64,
    /// Bytes delivered since.
    delivered: u64,
    /// Bytes sent since.
    sent: u64,
}

impl Prr {
    /// Recovery begins with `flight` bytes in flight and is to end at `target`.
    pub(super) fn new(target: u64, flight: u64) -> Self {
        Self { target, flight: flight.max(1), delivered: 0, sent: 0 }
    }

    /// Bytes leave.
    pub(super) fn on_sent(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(bytes);
    }

    /// `acked` bytes arrived; `in_flight` are left. Answers the window until the next ACK.
    // spec: CC-9
    pub(super) fn on_ack(&mut self, acked: u64, in_flight: u64, has_losses: bool, mtu: u64) -> u64 {
        self.delivered = self.delivered.saturating_add(acked);
        let mut may_send = if in_flight > self.target {
            let share = u128::from(self.delivered)
                .saturating_mul(u128::from(self.target))
                .div_ceil(u128::from(self.flight));
            u64::try_from(share).unwrap_or(u64::MAX).saturating_sub(self.sent)
        } else {
            // Below the target: slow start back up to it, but only while nothing more is lost.
            let mut room = self.delivered.saturating_sub(self.sent).max(acked);
            if acked > 0 && !has_losses {
                room = room.saturating_add(mtu);
            }
            room.min(self.target.saturating_sub(in_flight))
        };
        if self.sent == 0 {
            // The first retransmission goes out whatever the share is.
            may_send = may_send.max(mtu);
        }
        in_flight.saturating_add(may_send)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MTU: u64 = 1000;

    #[test]
    /// spec-test: CC-9
    fn sending_is_spread_over_the_round_trip() {
        // 100 packets in flight, down to 70: 7 leave for 10 that arrive.
        let mut prr = Prr::new(70 * MTU, 100 * MTU);
        let mut in_flight = 99 * MTU;
        let mut sent = 0u64;
        for _ in 0..99 {
            if in_flight <= 70 * MTU {
                break;
            }
            in_flight -= MTU;
            let window = prr.on_ack(MTU, in_flight, false, MTU);
            while in_flight + MTU <= window {
                prr.on_sent(MTU);
                in_flight += MTU;
                sent += 1;
            }
        }
        assert!((65..=71).contains(&(in_flight / MTU)), "{}", in_flight / MTU);
        assert!((60..=70).contains(&sent), "{sent}");
    }

    #[test]
    /// spec-test: CC-9
    fn after_heavy_loss_the_window_grows_back_but_never_beyond_the_target() {
        let mut prr = Prr::new(70 * MTU, 100 * MTU);
        // 60 of 100 are lost with the first ACK.
        let mut in_flight = 39 * MTU;
        let first = prr.on_ack(MTU, in_flight, true, MTU);
        assert_eq!(first, 40 * MTU);
        let mut reached = first;
        for _ in 0..200 {
            while in_flight + MTU <= reached {
                prr.on_sent(MTU);
                in_flight += MTU;
            }
            in_flight -= MTU;
            reached = prr.on_ack(MTU, in_flight, false, MTU);
            assert!(reached <= 70 * MTU);
        }
        assert_eq!(reached, 70 * MTU);
    }

    #[test]
    /// spec-test: CC-9
    fn the_first_retransmission_is_never_held_back() {
        let mut prr = Prr::new(2 * MTU, 1000 * MTU);
        assert_eq!(prr.on_ack(1, 900 * MTU, true, MTU), 901 * MTU);
    }
}
