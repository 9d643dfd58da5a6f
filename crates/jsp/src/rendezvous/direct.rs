//! From the relay to a way past it, and back when that is lost: the task of one relayed connection.

use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use jsp_crypto::Prf;
use jsp_nat::Way;
use jsp_nat::candidate::{Candidate, Offer};
use jsp_nat::punch::{Event, KEY_LABEL, Puncher, Role, Sealer};
use jsp_proto::{Message, NetworkHint};
use jsp_wire::{Instant, Route, StreamId};
use tokio::sync::mpsc;

use super::control::Channel;
use super::link::Punched;
use super::{Passage, Shared, random};
use crate::connection::{Connection, Inner, Waiting};
use crate::shard::Place;
use crate::stream::{recv_now, send_now};

/// Time between two punches.
const PACE: Duration = Duration::from_millis(20);
/// Punches that wait to be looked at.
const PUNCHES_MAX: usize = 64;
/// How long the peer may take to say where it can be reached.
const OFFER_WAIT: Duration = Duration::from_secs(10);
/// How often it is looked whether the connection still lives.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks for a direct way for a relayed connection, as long as it lives, over the stream of candidates;
/// closes its way through the coordinator afterwards.
pub(super) fn spawn(
    connection: &Connection,
    offers: Option<StreamId>,
    role: Role,
    shared: Arc<Shared>,
    way: Option<Channel>,
) {
    let search = offers.and_then(|offers| Search::begin(connection, offers, role, &shared));
    let inner = Arc::downgrade(&connection.inner);
    tokio::spawn(async move {
        if let Some((search, key)) = search {
            search.run(key).await;
        }
        while lives(&inner) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        drop(way);
    });
}

fn lives(inner: &Weak<Inner>) -> bool {
    let Some(inner) = inner.upgrade() else { return false };
    let mut core = inner.shard.lock();
    core.state(inner.key).is_some_and(|state| state.error().is_none())
}

/// Punches are sealed under the key that both peers take from their connection.
fn sealer(key: [u8; 32]) -> Sealer {
    let prf = Prf::new(key);
    Sealer::new(move |punch| {
        let [a, b, c, d, e, f, g, h, ..] = prf.derive("punch", punch);
        [a, b, c, d, e, f, g, h]
    })
}

/// The stream of candidates. Only its number is held, so that the connection ends when the application
/// drops it.
#[derive(Clone, Copy)]
struct Offers(StreamId);

impl Offers {
    fn tell(self, inner: &Inner, offer: &Offer) -> bool {
        let now = inner.shard.clock.now();
        let mut message = Message::from(offer.encode());
        let mut core = inner.shard.lock();
        send_now(&mut core, inner, self.0, &mut message, false, now, |_, _| {}).is_ok()
    }

    /// What the peer has told since.
    fn hear(self, inner: &Inner) -> Option<Offer> {
        let now = inner.shard.clock.now();
        match recv_now(&mut inner.shard.lock(), inner, self.0, now) {
            Poll::Ready(Ok(Some(message))) => Offer::decode(&message.payload).ok(),
            Poll::Ready(_) | Poll::Pending => None,
        }
    }

    /// Waits for what the peer tells first; nothing where it tells nothing.
    async fn first(self, inner: Weak<Inner>) -> Offer {
        let first = poll_fn(|cx| {
            // Held no longer than it takes to look: a connection that is dropped meanwhile ends.
            let Some(inner) = inner.upgrade() else { return Poll::Ready(None) };
            let mut waiting = Waiting::shared(&inner, Place::Readable(self.0));
            let heard = waiting.poll(cx, |core, inner, now| recv_now(core, inner, self.0, now));
            waiting.keep();
            heard.map(|message| Offer::decode(&message.ok()??.payload).ok())
        });
        let first = tokio::time::timeout(OFFER_WAIT, first).await.ok().flatten();
        first.unwrap_or(Offer { token: 0, candidates: Vec::new() })
    }
}

/// The search for one connection.
struct Search {
    inner: Weak<Inner>,
    relayed: Route,
    role: Role,
    shared: Arc<Shared>,
    offers: Offers,
    /// What this peer has told last.
    own: Offer,
    punches: mpsc::Receiver<Punched>,
}

impl Search {
    /// Tells where this peer may be reached; with the search comes the key of its punches.
    fn begin(
        connection: &Connection,
        offers: StreamId,
        role: Role,
        shared: &Arc<Shared>,
    ) -> Option<(Self, [u8; 32])> {
        let mut key = [0; 32];
        connection.export(KEY_LABEL, b"", &mut key).ok()?;
        let own = Offer { token: random(), candidates: shared.candidates() };
        // Before anything of the application's: the peer waits for it.
        let offers = Offers(offers);
        if !offers.tell(&connection.inner, &own) {
            return None;
        }
        let (to, punches) = mpsc::channel(PUNCHES_MAX);
        shared.switch.expect(own.token, to);
        let (inner, relayed) = (Arc::downgrade(&connection.inner), connection.route());
        let shared = Arc::clone(shared);
        Some((Self { inner, relayed, role, shared, offers, own, punches }, key))
    }

    /// Goes on until the connection ends.
    async fn run(mut self, key: [u8; 32]) {
        let peer = self.offers.first(self.inner.clone()).await;
        self.search(&peer, sealer(key)).await;
        self.shared.switch.expect_no_more(self.own.token);
        self.shared.switch.redirect(&self.relayed, None);
    }

    async fn search(&mut self, peer: &Offer, sealer: Sealer) {
        let Some(now) = self.now() else { return };
        let both = (&self.own, peer);
        let mut puncher = Puncher::new(now, self.role, both, sealer, PACE, &mut random);
        let mut direct: Option<Way> = None;
        while let Some(now) = self.now() {
            self.note_changes(now, &mut puncher);
            let switch = &self.shared.switch;
            if let Some(from) = direct.filter(|from| switch.had_traffic(&self.relayed, *from)) {
                puncher.on_traffic(now, from);
            }
            while let Some((way, punch)) = puncher.poll_transmit(now, &mut random) {
                self.shared.switch.send(way, &punch);
            }
            while let Some(event) = puncher.poll_event() {
                match event {
                    Event::Open(way) => direct = Some(way),
                    Event::Lost(_) => direct = None,
                    // One may come yet.
                    Event::Failed => continue,
                }
                let past = direct.map(|way| match puncher.is_relayed(&way) {
                    true => (way, Passage::Turn),
                    false => (way, Passage::Direct),
                });
                self.shared.switch.redirect(&self.relayed, past);
                self.follow();
            }
            self.wait(&mut puncher).await;
        }
    }

    /// The time; `None` when the connection is over.
    fn now(&self) -> Option<Instant> {
        let clock = self.inner.upgrade().map(|inner| inner.shard.clock);
        clock.filter(|_| lives(&self.inner)).map(|clock| clock.now())
    }

    /// Whether this peer or the other may be reached elsewhere now, and whether what is sent arrives.
    fn note_changes(&mut self, now: Instant, puncher: &mut Puncher) {
        let Some(inner) = self.inner.upgrade() else { return };
        let own = self.shared.candidates();
        if !same_addresses(&own, &self.own.candidates) {
            let own = Offer { token: self.own.token, candidates: own };
            // A stream without room for it is asked again the next time.
            if self.offers.tell(&inner, &own) {
                puncher.set_own(now, &own.candidates, &mut random);
                self.own = own;
            }
        }
        while let Some(peer) = self.offers.hear(&inner) {
            puncher.set_peer(now, peer, &mut random);
        }
        if let Ok((connection, _)) = inner.shard.lock().live(inner.key) {
            puncher.on_timeouts(now, connection.timeouts_in_a_row());
        }
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
        let (from, punch): Punched = punched;
        puncher.handle_datagram(clock.now(), from, &punch, &mut random);
    }
}

fn same_addresses(one: &[Candidate], other: &[Candidate]) -> bool {
    let all_in = |one: &[Candidate], other: &[Candidate]| {
        one.iter().all(|a| other.iter().any(|b| a.address == b.address))
    };
    all_in(one, other) && all_in(other, one)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use jsp_proto::StreamConfig;

    use super::*;
    use crate::emulate::pair;
    use crate::{Endpoint, Identity};

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_an_offer_does_not_hold_the_connection() {
        let (near, far) = pair();
        let server = Endpoint::builder().link(Box::new(far)).identity(Identity::generate());
        let server = server.build().unwrap();
        let client = Endpoint::builder().link(Box::new(near)).build().unwrap();
        let to = server.local_addr().unwrap();
        let (connection, _there) =
            tokio::join!(client.connect(to, server.fingerprint()), server.accept());
        let connection = connection.unwrap();
        let inner = &connection.inner;
        let (config, now) = (StreamConfig::messages(), inner.shard.clock.now());
        let offers = Offers(inner.try_open(&mut inner.shard.lock(), &config, now).unwrap());
        let inner = Arc::downgrade(inner);
        let mut first = pin!(offers.first(Weak::clone(&inner)));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut cx).is_pending());
        drop(connection);
        assert_eq!(inner.strong_count(), 0);
        let Poll::Ready(nothing) = first.as_mut().poll(&mut cx) else { panic!("it waits on") };
        assert!(nothing.candidates.is_empty());
    }
}
