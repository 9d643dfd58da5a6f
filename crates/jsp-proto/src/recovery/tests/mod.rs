//! Recovery as a whole: the ledger against a plain model, and the rules of detection one by one.

mod acknowledgements;
mod ledger;
mod losses;
mod probes;
mod recovered;

use jsp_wire::{Frame, Payload, Shape, Writer, frame};

use super::*;

const DELAY_MAX: Duration = Duration::from_millis(25);
const SIZE: u16 = 1200;

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A recovery with what it needs around it.
struct Bench {
    recovery: Recovery,
    rtt: Rtt,
    delivery: DeliveryRate,
    fates: Vec<(Token, Fate)>,
    next_pn: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            recovery: Recovery::new(),
            rtt: Rtt::new(ms(333)),
            delivery: DeliveryRate::default(),
            fates: Vec::new(),
            next_pn: 0,
        }
    }

    /// One that has measured 100 ms, with nothing in flight.
    fn warm() -> Self {
        let mut bench = Self::new();
        bench.send(at(0));
        bench.ack(at(100), &[(0, 0)]);
        bench.fates.clear();
        bench
    }

    fn info(&self) -> SentInfo {
        SentInfo {
            pn: self.next_pn,
            size: SIZE,
            ack_eliciting: true,
            in_flight: true,
            ..SentInfo::default()
        }
    }

    /// Sends one packet whose only token bears its number.
    fn send(&mut self, now: Instant) -> u64 {
        let info = self.info();
        self.send_as(now, info)
    }

    fn send_as(&mut self, now: Instant, info: SentInfo) -> u64 {
        let tokens = [Token::NewConnectionId { sequence: info.pn }];
        self.recovery.on_sent(now, info, &tokens, false, &mut self.delivery).expect("no overload");
        self.next_pn = info.pn + 1;
        info.pn
    }

    fn try_ack(
        &mut self,
        now: Instant,
        delay: Duration,
        ranges: &[(u64, u64)],
    ) -> Result<AckOutcome, TransportError> {
        let mut buf = [0u8; 4096];
        let mut writer = Writer::new(&mut buf);
        let list = ranges.iter().rev().copied();
        let delay_8us = delay.as_micros() as u64 / 8;
        frame::write_ack(&mut writer, false, delay_8us, list, None, &[], &[]).expect("room");
        self.hear(now, Shape::Ack, writer.written())
    }

    /// Hears an ACK as it was written.
    fn hear(
        &mut self,
        now: Instant,
        shape: Shape,
        written: &[u8],
    ) -> Result<AckOutcome, TransportError> {
        let mut payload = Payload::read(shape, written).expect("an ACK");
        let Some(Ok(Frame::Ack(ack))) = payload.next() else { panic!("an ACK") };
        let Self { recovery, rtt, delivery, fates, .. } = self;
        recovery.on_ack(now, &ack, DELAY_MAX, rtt, delivery, fates)
    }

    /// An ACK of `ranges`, from the lowest up.
    fn ack(&mut self, now: Instant, ranges: &[(u64, u64)]) -> AckOutcome {
        self.try_ack(now, Duration::ZERO, ranges).expect("a true ACK")
    }

    fn timer(&self) -> Option<(Instant, TimerKind)> {
        self.recovery.poll_timeout(&self.rtt, DELAY_MAX, true)
    }

    fn timeout(&mut self, now: Instant) -> TimeoutOutcome {
        let Self { recovery, rtt, fates, .. } = self;
        recovery.on_timeout(now, rtt, DELAY_MAX, true, fates)
    }

    /// Numbers whose tokens have come back with `fate`, in order, once each.
    fn with(&self, fate: Fate) -> Vec<u64> {
        let of = |(token, f): &(Token, Fate)| match token {
            Token::NewConnectionId { sequence } if *f == fate => Some(*sequence),
            _ => None,
        };
        let mut numbers: Vec<u64> = self.fates.iter().filter_map(of).collect();
        numbers.sort_unstable();
        numbers
    }
}
