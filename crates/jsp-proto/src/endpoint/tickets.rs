//! Tickets of a server: made, checked, and struck when they bring early data.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jsp_crypto::{
    Prf, RefusedTicket, Resumption, Strike, StrikeRegister, TicketContents, TicketError,
    TicketGrant, TicketKeys, Zeroizing, hello_id,
};
use jsp_wire::{Instant, Route};

use super::hello::Stranger;
use super::names::HelloNames;
use super::source::Prefix;
use super::{ConnectionHandle, Endpoint, Reason, peer_key, release};
use crate::config::ServerSetup;
use crate::rng::SeededRng;

/// Tickets in the eyes of one shard.
pub(super) struct Tickets {
    /// Made when the first ticket is needed. All shards of a server have the same.
    office: Arc<Mutex<Option<Office>>>,
    /// Connections whose early data were taken, and whose clients are not proved to be there.
    early: HashMap<[u8; 16], ConnectionHandle>,
    /// The table is tidied when it has so many entries.
    tidy_at: usize,
    /// When the keys that this shard has used last are of no use any more.
    void_at: Instant,
}

/// The ticket keys of a server, and the tickets that have brought early data.
struct Office {
    keys: Arc<TicketKeys>,
    register: StrikeRegister,
    /// The latest time at `Instant::ZERO` that the register was told, in milliseconds since 1970 UTC.
    at_zero_ms: u64,
    /// What a kept register is authenticated with; there is none for keys that begin and end here.
    register_key: Option<Prf>,
    /// The server's number among those that take each other's tickets.
    shard: u16,
    /// The register was kept for the next server: this one takes no hello any more, by none of its shards.
    is_kept: bool,
}

impl Default for Tickets {
    fn default() -> Self {
        let void_at = Instant::FAR_FUTURE;
        Self { office: Arc::default(), early: HashMap::new(), tidy_at: EARLY_TIDY_MIN, void_at }
    }
}

impl Tickets {
    /// Those of another shard of the same server.
    pub(super) fn beside(&self) -> Self {
        Self { office: Arc::clone(&self.office), ..Self::default() }
    }
}

fn lock(office: &Mutex<Option<Office>>) -> MutexGuard<'_, Option<Office>> {
    office.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Entries of the table of early connections that are not worth a tidying.
const EARLY_TIDY_MIN: usize = 64;

impl Tickets {
    /// The time was set: milliseconds since 1970 UTC at `Instant::ZERO`. Each shard tells it for itself, and a clock that
    /// was set ahead and back may be set ahead again: what the register was told before does not count once more.
    // spec: HS-228
    pub(super) fn on_time_set(&mut self, at_zero_ms: u64) {
        if let Some(office) = lock(&self.office).as_mut() {
            office.register.on_set_ahead(at_zero_ms.saturating_sub(office.at_zero_ms));
            office.at_zero_ms = office.at_zero_ms.max(at_zero_ms);
            self.void_at = office.void_at(at_zero_ms);
        }
    }

    /// When keys that nobody has needed since are wiped.
    pub(super) fn poll_timeout(&self) -> Option<(Instant, Reason)> {
        (self.void_at != Instant::FAR_FUTURE).then_some((self.void_at, Reason::TicketKeys))
    }

    /// Wipes keys whose tickets are all over. Those that others have too go on from the next.
    // spec: HS-64
    pub(super) fn handle_timeout(&mut self, now: Instant, at_zero_ms: u64) {
        if now < self.void_at {
            return;
        }
        let mut office = lock(&self.office);
        // Another shard may have used them since.
        let is_void = |office: &Office| office.void_at(at_zero_ms) <= now;
        if let Some(kept) = office.as_mut().filter(|office| is_void(office)) {
            if kept.begins_here() {
                *office = None;
            } else {
                kept.keep_up(at_zero_ms.saturating_add(now.as_nanos() / 1_000_000));
            }
        }
        let void_at = office.as_ref().map(|office| office.void_at(at_zero_ms));
        self.void_at = void_at.unwrap_or(Instant::FAR_FUTURE);
    }
}

/// What becomes of a hello.
pub(super) enum Judgement {
    /// It has no ticket.
    Full,
    /// The connection is resumed.
    Resume(Box<Resumption>),
    /// Its ticket is of no use: a full hello is asked for.
    Refused,
    /// The early data of its ticket were taken before, by this connection if it is still there.
    Copy(Option<ConnectionHandle>),
}

/// What the office makes of a hello.
enum Judged {
    /// The early data of this ticket were taken before.
    Known([u8; 16]),
    New(Judgement),
}

impl Office {
    /// Steps to the keys of this time, in milliseconds since 1970 UTC.
    fn keep_up(&mut self, now_ms: u64) {
        if !self.keys.are_of(now_ms / 1000) {
            Arc::make_mut(&mut self.keys).advance(now_ms / 1000);
        }
    }

    /// The keys were made here, and nobody else has them.
    fn begins_here(&self) -> bool {
        self.register_key.is_none() && !self.is_kept
    }

    /// When no ticket of these keys is good any more, where `at_zero_ms` is the time at `Instant::ZERO`.
    fn void_at(&self, at_zero_ms: u64) -> Instant {
        let from_zero = self.keys.void_ms().saturating_sub(at_zero_ms);
        Instant::from_nanos(from_zero.saturating_mul(1_000_000))
    }

    /// What becomes of a hello that names a ticket as refused, or brings one; `suits` says whether its early data may
    /// be taken.
    fn judge(
        &mut self,
        now_ms: u64,
        refused: Option<RefusedTicket>,
        checked: Result<Option<Resumption>, TicketError>,
        suits: impl FnOnce(&Resumption) -> bool,
    ) -> Judged {
        // spec: HS-96
        if self.is_kept {
            return Judged::New(Judgement::Copy(None));
        }
        // spec: HS-76, HS-208
        if let Some(RefusedTicket { uid, home_shard, hello_ms_max }) = refused {
            if self.register.contains(&uid) {
                return Judged::Known(uid);
            }
            if home_shard == self.shard {
                self.register.note_late(&uid, hello_ms_max, now_ms);
            }
        }
        let mut resumption = match checked {
            Ok(None) => return Judged::New(Judgement::Full),
            Err(_) => return Judged::New(Judgement::Refused),
            Ok(Some(resumption)) => resumption,
        };
        let uid = *resumption.uid();
        // spec: HS-72
        if self.register.contains(&uid) {
            return Judged::Known(uid);
        }
        let hello_ms = resumption.hello_ms();
        // A ticket of another server is never early here.
        // spec: HS-75, HS-208
        if resumption.wants_early() && resumption.home_shard() == self.shard {
            if suits(&resumption) {
                let strike = self.register.strike(&uid, hello_ms, now_ms);
                resumption.accept_early = strike == Strike::Fresh;
            } else {
                self.register.note_late(&uid, hello_ms, now_ms);
            }
        }
        Judged::New(Judgement::Resume(Box::new(resumption)))
    }
}

impl Endpoint {
    /// Shares tickets with other servers of the same identity, and with those that were here before:
    /// all are given the same secret, uniformly random, for the same epoch
    /// ([`TicketKeys::epoch_at`]); `shard` is this server's number among them.
    ///
    /// `kept` is what [`Endpoint::keep_register`] gave the server that was this shard last, with the
    /// same secret, and nobody has used since. Without it, or when it is of no use, early data are
    /// refused for 21 s from now on: what was taken before is not known here. That is enough unless the
    /// clock was set back by more than a second meanwhile, or a client's is more than 10 s ahead: where that
    /// matters, give a new secret at each start. Answers whether the register goes on.
    pub fn share_tickets(
        &mut self,
        now: Instant,
        secret: [u8; 32],
        epoch: u32,
        shard: u16,
        kept: Option<&[u8]>,
    ) -> bool {
        let now_ms = self.unix_ms(now);
        let most = self.config.transport.early_tickets_max;
        let secret = Zeroizing::new(secret);
        let key = Prf::new(Prf::new(*secret).derive("register of a shard", &shard.to_be_bytes()));
        let kept = kept.and_then(|kept| StrikeRegister::restore(kept, &key, now_ms, most));
        let is_kept = kept.is_some();
        let at_zero_ms = self.unix_time.at_zero_ms();
        // Looked at as soon as anything is: they may be of an epoch before.
        self.tickets.void_at = now;
        *lock(&self.tickets.office) = Some(Office {
            keys: Arc::new(TicketKeys::new(*secret, epoch)),
            at_zero_ms,
            // spec: HS-95
            register: kept.unwrap_or_else(|| StrikeRegister::new(now_ms, most, false)),
            register_key: Some(key),
            shard,
            is_kept: false,
        });
        is_kept
    }

    /// Accepts no more connections, for what they bring could not be kept, and answers what the next
    /// server with these ticket keys must know of early data that came to this one. `None` without
    /// [`Endpoint::share_tickets`], for then the keys end here too, and when it has been asked before.
    // spec: HS-95
    pub fn keep_register(&mut self, now: Instant) -> Option<Vec<u8>> {
        let now_ms = self.unix_ms(now);
        let mut office = lock(&self.tickets.office);
        let office = office.as_mut()?;
        let key = office.register_key.take()?;
        // spec: HS-96
        self.accepting = false;
        office.is_kept = true;
        Some(office.register.save(now_ms, &key))
    }

    /// Acts with the ticket keys and the register, which are made now if there are none.
    fn with_office<R>(
        &mut self,
        now_ms: u64,
        act: impl FnOnce(&mut Office, &mut SeededRng) -> R,
    ) -> R {
        let (rng, at_zero_ms) = (&mut self.rng, self.unix_time.at_zero_ms());
        let most = self.config.transport.early_tickets_max;
        let mut office = lock(&self.tickets.office);
        let office = office.get_or_insert_with(|| Office {
            keys: Arc::new(TicketKeys::new(rng.array(), TicketKeys::epoch_at(now_ms / 1000))),
            at_zero_ms,
            // The keys begin here as well: no ticket of theirs was used before.
            register: StrikeRegister::new(now_ms, most, true),
            register_key: None,
            shard: 0,
            is_kept: false,
        });
        office.keep_up(now_ms);
        self.tickets.void_at = office.void_at(at_zero_ms);
        act(office, rng)
    }

    pub(super) fn judge_ticket(
        &mut self,
        now: Instant,
        setup: &ServerSetup,
        hello: &[u8],
        network: &Prefix,
    ) -> Judgement {
        let now_ms = self.unix_ms(now);
        let takes_early = self.takes_early(setup, network);
        let transport = Arc::clone(&self.config.transport);
        // Other shards wait for the office: what takes time, and asks the application, is done outside.
        let keys = self.with_office(now_ms, |office, _| Arc::clone(&office.keys));
        let refused = Resumption::refused(&keys, &setup.crypto, hello);
        let checked = Resumption::check(&keys, &setup.crypto, hello, now_ms);
        let suits = |resumption: &Resumption| {
            takes_early
                && transport.early_data_max > 0
                && *resumption.params_hash() == transport.early_hash(resumption.protocol())
        };
        let judged =
            self.with_office(now_ms, |office, _| office.judge(now_ms, refused, checked, suits));
        match judged {
            Judged::Known(uid) => Judgement::Copy(self.tickets.early.get(&uid).copied()),
            Judged::New(judgement) => judgement,
        }
    }

    /// This connection has taken the early data of a ticket.
    pub(super) fn note_early(&mut self, uid: [u8; 16], handle: ConnectionHandle) {
        let connections = &self.connections;
        let tickets = &mut self.tickets;
        // Tidied when it has doubled, so that each connection pays for a constant part of it.
        if tickets.early.len() >= tickets.tidy_at {
            tickets.early.retain(|_, handle| {
                connections.get(handle).is_some_and(|slot| slot.connection.is_half_resumed())
            });
            tickets.tidy_at = tickets.early.len().saturating_mul(2).max(EARLY_TIDY_MIN);
        }
        tickets.early.insert(uid, handle);
    }

    /// The same hello came by another route. Its client may be there: whoever holds the keys of the
    /// hello can use the answer, nobody else, so that it goes there too. Early data are taken once.
    // spec: CON-58
    pub(super) fn adopt_route(
        &mut self,
        now: Instant,
        owner: Option<ConnectionHandle>,
        stranger: &Stranger,
        received: usize,
    ) {
        let Stranger { route, dcid, .. } = *stranger;
        let Some(handle) = owner else { return };
        let Some(slot) = self.connections.get_mut(&handle) else { return };
        if !slot.connection.adopt_route(now, route, received) {
            return;
        }
        if let Some(names) = slot.hello.take() {
            for id in names.ids.into_iter().flatten() {
                release(&mut self.by_hello, &(names.route, id), handle);
            }
        }
        let names = HelloNames { route: peer_key(&route), ids: [Some(dcid), None] };
        self.by_hello.insert((names.route, dcid), handle);
        if let Some(slot) = self.connections.get_mut(&handle) {
            slot.hello = Some(Box::new(names));
        }
        self.schedule.touch(handle);
    }

    /// Makes the ticket that a connection is to give.
    pub(super) fn issue_ticket(&mut self, now: Instant, handle: ConnectionHandle) {
        let is_due =
            self.connections.get(&handle).is_some_and(|slot| slot.connection.ticket_is_due(now));
        if !is_due {
            return;
        }
        let now_ms = self.unix_ms(now);
        let Some(setup) = self.config.server.clone() else { return };
        let Some(slot) = self.connections.get_mut(&handle) else { return };
        let route = slot.connection.route();
        let grant = slot.connection.ticket_contents(now).and_then(|(mut contents, nonce)| {
            contents.prefix_hash = network_hash(&route);
            let own = setup.crypto.credential.delegation().map(|delegation| delegation.period().1);
            let theirs = contents.client.and_then(|client| client.until);
            limit_to_delegations(&mut contents, [own, theirs], now_ms);
            let server = setup.crypto.fingerprint();
            let ticket = self.with_office(now_ms, |office, rng| {
                contents.home_shard = office.shard;
                office.keys.seal(&contents, &server, rng)
            })?;
            let (lifetime_s, max_early_data) = (contents.lifetime_s, contents.max_early_data);
            Some(TicketGrant { lifetime_s, max_early_data, nonce, ticket })
        });
        if let Some(slot) = self.connections.get_mut(&handle) {
            slot.connection.give_ticket(now, grant.as_ref());
        }
    }
}

/// A ticket ends with the delegation of the server that gives it, and with that of its client.
// spec: HS-66, HS-210
fn limit_to_delegations(contents: &mut TicketContents, ends: [Option<u64>; 2], now_ms: u64) {
    for until in ends.into_iter().flatten() {
        let left = u32::try_from(until.saturating_sub(now_ms / 1000)).unwrap_or(u32::MAX);
        contents.lifetime_s = contents.lifetime_s.min(left);
    }
}

/// Hash of the network that an address belongs to: 24 bits of IPv4, 48 of IPv6.
pub(super) fn network_hash(route: &Route) -> [u8; 4] {
    let mut prefix = b"jsp1 network".to_vec();
    match route.remote().map(|remote| remote.ip().to_canonical()) {
        Some(IpAddr::V4(ip)) => prefix.extend(ip.octets().iter().take(3)),
        Some(IpAddr::V6(ip)) => prefix.extend(ip.octets().iter().take(6)),
        None => {}
    }
    let hash = hello_id(&prefix);
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_24_bits_of_an_ipv4_address_and_48_of_an_ipv6_one() {
        let hash = |address: &str| network_hash(&Route::udp(address.parse().unwrap()));
        let one = hash("192.0.2.1:1000");
        assert_eq!([hash("192.0.2.254:2000"), hash("[::ffff:192.0.2.9]:1")], [one; 2]);
        let six = hash("[2001:db8:7::1]:1000");
        assert_eq!(hash("[2001:db8:7:ffff::9]:1"), six);
        let others = [one, six, hash("192.0.3.1:1000"), hash("[2001:db8:8::1]:1000")];
        let distinct: std::collections::HashSet<_> = others.into_iter().collect();
        assert_eq!(distinct.len(), others.len());
    }
}
