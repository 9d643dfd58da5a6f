//! From the relay to a direct way, and back when it is lost: the task of one relayed connection.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use jsp_nat::candidate::{Offer, gather};
use jsp_nat::punch::{Event, Puncher, Role};
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
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Begins to look for a direct way for a relayed connection, over the stream of candidates.
pub(super) fn spawn(connection: &Connection, offers: Stream, role: Role, shared: Arc<Shared>) {
    let relayed = connection.route();
    let inner = Arc::downgrade(&connection.inner);
    tokio::spawn(async move {
        let own = own_offer(&shared);
        let (to, punches) = mpsc::channel(PUNCHES_MAX);
        shared.switch.expect(own.token, to);
        if let Some(peer) = exchange(offers, &own).await {
            let switch = Arc::clone(&shared.switch);
            Search { inner, relayed, role, switch, punches }.run(&own, &peer).await;
        }
        shared.switch.expect_no_more(own.token);
        shared.switch.redirect(&relayed, None);
    });
}

fn own_offer(shared: &Shared) -> Offer {
    let own = shared.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Offer { token: random(), candidates: gather(shared.policy, &own, &seen) }
}

/// Tells the peer where this one may be reached, and hears the same. The stream is held no longer, so
/// that the connection ends when the application drops it.
async fn exchange(offers: Stream, own: &Offer) -> Option<Offer> {
    let both = async {
        offers.send(own.encode()).await.ok()?;
        let message = offers.recv().await.ok()??;
        Offer::decode(&message.payload).ok()
    };
    tokio::time::timeout(OFFER_WAIT, both).await.ok()?
}

/// The search for one connection.
struct Search {
    inner: Weak<Inner>,
    relayed: Route,
    role: Role,
    switch: Arc<Switch>,
    punches: mpsc::Receiver<Punched>,
}

impl Search {
    /// Goes on until the connection ends or no way is found.
    async fn run(mut self, own: &Offer, peer: &Offer) {
        let Some(now) = self.now() else { return };
        let mut puncher = Puncher::new(now, self.role, own, peer, PACE, &mut random);
        let mut direct = None;
        loop {
            let Some(now) = self.now() else { return };
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
