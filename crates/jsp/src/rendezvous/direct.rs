//! From the relay to a direct way, and back when it is lost: the task of one relayed connection.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use jsp_crypto::Prf;
use jsp_nat::candidate::{Offer, gather};
use jsp_nat::punch::{Event, KEY_LABEL, Puncher, Role, Sealer};
use jsp_proto::NetworkHint;
use jsp_wire::{Instant, Route};
use tokio::sync::mpsc;

use super::link::{Punched, Switch};
use super::{Shared, random};
use crate::connection::{Connection, Inner};
use crate::stream::Stream;

/// Time between two punches.
const PACE: Duration = Duration::from_millis(20);
/// Punches that wait to be looked at.
const PUNCHES_MAX: usize = 64;
/// How long the peer may take to say where it can be reached.
const OFFER_WAIT: Duration = Duration::from_secs(10);
/// How often it is looked whether the connection still lives.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Probe timeouts within a time that the direct way may cost.
const TIMEOUTS_MAX: u64 = 4;
const PATIENCE: Duration = Duration::from_secs(5);

/// Begins to look for a direct way for a relayed connection, over the stream of candidates.
pub(super) fn spawn(connection: &Connection, offers: Stream, role: Role, shared: Arc<Shared>) {
    let relayed = connection.route();
    let mut key = [0; 32];
    if connection.export(KEY_LABEL, b"", &mut key).is_err() {
        return;
    }
    let inner = Arc::downgrade(&connection.inner);
    let own = own_offer(&shared);
    // Before anything of the application's: the peer waits for it.
    if offers.try_send(own.encode()).is_err() {
        return;
    }
    tokio::spawn(async move {
        let (to, punches) = mpsc::channel(PUNCHES_MAX);
        shared.switch.expect(own.token, to);
        if let Some(peer) = peers_offer(offers).await {
            let switch = Arc::clone(&shared.switch);
            let search = Search { inner, relayed, role, switch, punches, patience: None };
            search.run((&own, &peer), sealer(key)).await;
        }
        shared.switch.expect_no_more(own.token);
        shared.switch.redirect(&relayed, None);
    });
}

/// Punches are sealed under the key that both peers take from their connection.
fn sealer(key: [u8; 32]) -> Sealer {
    let prf = Prf::new(key);
    Sealer::new(move |punch| {
        let [a, b, c, d, e, f, g, h, ..] = prf.derive("punch", punch);
        [a, b, c, d, e, f, g, h]
    })
}

fn own_offer(shared: &Shared) -> Offer {
    let own = shared.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Offer { token: random(), candidates: gather(shared.policy, &own, &seen) }
}

/// Hears where the peer may be reached. The stream is held no longer, so that the connection ends when
/// the application drops it.
async fn peers_offer(offers: Stream) -> Option<Offer> {
    let received = tokio::time::timeout(OFFER_WAIT, offers.recv()).await;
    Offer::decode(&received.ok()?.ok()??.payload).ok()
}

/// The search for one connection.
struct Search {
    inner: Weak<Inner>,
    relayed: Route,
    role: Role,
    switch: Arc<Switch>,
    punches: mpsc::Receiver<Punched>,
    /// Since when probe timeouts are counted on the direct way, and how many there were before.
    patience: Option<(Instant, u64)>,
}

impl Search {
    /// Goes on until the connection ends or no way is found.
    async fn run(mut self, both: (&Offer, &Offer), sealer: Sealer) {
        let Some(now) = self.now() else { return };
        let mut puncher = Puncher::new(now, self.role, both, sealer, PACE, &mut random);
        let mut direct = None;
        loop {
            let Some(now) = self.now() else { return };
            if direct.is_some() && self.brings_nothing(now) {
                return;
            }
            if let Some(from) = direct.filter(|from| self.switch.had_traffic(*from)) {
                puncher.on_traffic(now, from);
            }
            while let Some(out) = puncher.poll_transmit(now, &mut random) {
                self.switch.send(out.to, &out.payload);
            }
            while let Some(event) = puncher.poll_event() {
                match event {
                    Event::Open(way) => direct = Some(way),
                    Event::Lost(_) => direct = None,
                    // The other side may still find one: its punches are waited for.
                    Event::Failed => return,
                }
                self.switch.redirect(&self.relayed, direct);
                self.follow();
            }
            self.wait(&mut puncher).await;
        }
    }

    /// The time; `None` when the connection is over.
    fn now(&self) -> Option<Instant> {
        let inner = self.inner.upgrade()?;
        let mut core = inner.shard.lock();
        let lives = core.state(inner.key).is_some_and(|state| state.error().is_none());
        lives.then(|| inner.shard.clock.now())
    }

    /// Whether what goes by the direct way is not acknowledged. Who forwards punches need not forward
    /// packets: then the connection stays on the relay.
    fn brings_nothing(&mut self, now: Instant) -> bool {
        let Some(inner) = self.inner.upgrade() else { return false };
        let timeouts = Connection { inner }.stats().traffic.probe_timeouts;
        let (since, before) = *self.patience.get_or_insert((now, timeouts));
        if now.since(since) >= PATIENCE {
            self.patience = Some((now, timeouts));
        }
        timeouts.saturating_sub(before) >= TIMEOUTS_MAX
    }

    /// Sends something at once, so that the other end challenges the way and follows.
    fn follow(&self) {
        if let (Role::Controlling, Some(inner)) = (self.role, self.inner.upgrade()) {
            Connection { inner }.hint(NetworkHint::InterfaceUp);
        }
    }

    /// Until something is due, or a punch has come.
    async fn wait(&mut self, puncher: &mut Puncher) {
        let Some(clock) = self.inner.upgrade().map(|inner| inner.shard.clock) else { return };
        let look = clock.now() + LOOK_EVERY;
        let until = puncher.poll_timeout().map_or(look, |at| at.min(look));
        let until = clock.to_runtime(until);
        let Ok(Some(punched)) = tokio::time::timeout_at(until, self.punches.recv()).await else {
            return;
        };
        let (from, punch): (SocketAddr, Vec<u8>) = punched;
        puncher.handle_datagram(clock.now(), from, &punch, &mut random);
    }
}
