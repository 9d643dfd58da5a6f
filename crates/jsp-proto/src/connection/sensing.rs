//! What the path's senses are fed with, and who hears of what they say.

use jsp_wire::Instant;

use super::Connection;
use crate::ack_request::Traffic;
use crate::capacity::Capacity;
use crate::event::Event;
use crate::forecast::{Alarm, NetworkHint, Outlook};
use crate::recovery::AckOutcome;
use crate::streams::Overdue;

impl Connection {
    /// Tells what the application knows about the network of the path in use before packets can.
    pub fn hint(&mut self, now: Instant, hint: NetworkHint) {
        self.hint_here(now, hint);
        self.return_to_first();
    }

    /// What the network carries, as far as it can be known. Changes are told by
    /// [`Event::CapacityChanged`].
    pub fn capacity(&self, now: Instant) -> Capacity {
        let path = &self.paths.active;
        path.meter.capacity(now, &path.senses())
    }

    /// What the forecaster says about the path.
    pub fn alarm(&self) -> Alarm {
        self.paths.active.forecast.alarm()
    }

    /// What the next 100 to 300 ms bring, if things go on as they do.
    pub fn outlook(&self, now: Instant) -> Outlook {
        self.paths.active.outlook(now, self.peer_ack_delay_max())
    }

    /// An ACK of 1-RTT packets.
    pub(super) fn sense_ack(&mut self, now: Instant, outcome: &AckOutcome) {
        if !outcome.newly_acked {
            return;
        }
        let delay_max = self.peer_ack_delay_max();
        let path = &mut *self.paths.active;
        if let Some(silence) = &mut path.silence {
            silence.on_acked(now);
        }
        path.forecast.on_ack(now, outcome.rtt_sample.is_some(), outcome.packets_acked);
        if let Some(sample) = &outcome.rate_sample {
            path.meter.on_sample(now, sample);
        }
        let traffic = Traffic {
            acked: outcome.packets_acked,
            received: path.numbers.acks.received(),
            loss: path.forecast.loss(),
            delay_max,
            realtime: self.streams.has_realtime(),
        };
        path.ack_request.on_ack(now, traffic);
        self.look(now);
    }

    /// Asks the forecaster, and tells the application when the alarm has changed.
    pub(super) fn look(&mut self, now: Instant) {
        let delay = self.peer_ack_delay_max();
        if self.config.forecast
            && self.lifecycle.is_established()
            && let Some(alarm) = self.paths.active.look(now, delay)
        {
            self.events.push_back(Event::Alarm(alarm));
        }
        let path = &mut *self.paths.active;
        let senses = path.senses();
        if let Some(capacity) = path.meter.news(now, &senses) {
            self.events.push_back(Event::CapacityChanged(capacity));
        }
    }

    /// When time alone may change what the forecaster says.
    pub(super) fn look_at(&self, now: Instant) -> Option<Instant> {
        let watched = self.config.forecast && self.lifecycle.is_established();
        let path = &self.paths.active;
        watched
            .then(|| path.forecast.poll_timeout(&path.scene(now, self.peer_ack_delay_max())))
            .flatten()
    }

    /// Which messages should ride along once more in a packet that leaves anyway; `None` when there
    /// are none.
    // spec: SEN-6
    pub(super) fn overdue(&mut self, now: Instant, may_bundle: bool) -> Option<Overdue> {
        if !may_bundle || !self.streams.may_bundle() {
            return None;
        }
        let held = self.peer_ack_delay_max();
        let path = &self.paths.active;
        let forecast = &path.forecast;
        // What repair protects need not go twice.
        let repaired = path.fec.as_ref().is_some_and(|fec| fec.is_protecting());
        // spec: CAR-11
        let carried = path.route.is_reliable();
        let may_bundle = self.config.bundling && !repaired && !carried;
        let after = forecast.ack_due_after(&path.rtt, held).filter(|_| may_bundle)?;
        let (eager, path) = (forecast.loses_much(), path.id);
        let before = now - after;
        let overdue = Overdue { before, eager, path, crosses: false, before_doubled: before };
        self.streams.has_overdue(now, overdue).then_some(overdue)
    }
}
