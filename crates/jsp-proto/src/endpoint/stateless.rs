//! Answers that need no connection: Retry, version negotiation, stateless reset, refusal.

use core::time::Duration;

use jsp_crypto::{Keys, Prf, Role, Zeroizing};
use jsp_wire::frame::Close;
use jsp_wire::header::{self, LongFields};
use jsp_wire::{CloseCode, ConnectionId, Frame, Instant, LongType, Route, Writer, limits};

use super::Endpoint;
use super::hello::{Stranger, opening_keys};
use super::time::cookie_seconds;
use crate::batch::Batch;
use crate::config::ServerSetup;
use crate::packet::PacketBuilder;
use crate::seal;

/// Answers that may wait to be sent; more are not made.
pub(super) const ANSWERS_MAX: usize = 256;

/// Bytes of the shortest stateless reset: like the smallest packet (RFC 9000, section 10.3).
const RESET_LEN_MIN: usize = 21;

/// How long cookies are made with one key; the key before it still serves for as long again.
const COOKIE_KEYS_LIFE: Duration = Duration::from_secs(600);

/// Least packet number of a refusal that keeps no state, and how many there are.
const REFUSAL_PN_MIN: u64 = 1 << 30;

/// A datagram that is ready.
pub(super) struct Answer {
    route: Route,
    datagram: Vec<u8>,
}

impl Endpoint {
    /// The same endpoint, whose tokens of stateless resets follow from `key`: secret, and as good as random. With the
    /// key of the server that was there before it, clients of that one hear at once that it is gone. To be called
    /// before anything else. Two servers at a time must not have the same key: who sees an id that one of them uses
    /// could have the other end that connection.
    // spec: CON-203
    #[must_use]
    pub fn with_reset_key(mut self, key: [u8; 32]) -> Self {
        self.reset_key = Zeroizing::new(key);
        self
    }

    fn queue_answer(&mut self, route: Route, datagram: Vec<u8>) {
        self.answers.push_if_room(Answer { route, datagram });
    }

    /// Moves the oldest answer into an empty batch.
    pub(super) fn write_answer(&mut self, batch: &mut Batch) -> bool {
        let Some(Answer { route, datagram }) = self.answers.pop_front() else { return false };
        let padding = self.answer_padding();
        if let Some(room) = batch.room(padding.saturating_add(datagram.len())) {
            let (zeros, content) = room.split_at_mut(padding);
            zeros.fill(0);
            content.copy_from_slice(&datagram);
            batch.commit(route, None, padding.saturating_add(datagram.len()));
        }
        !batch.is_empty()
    }

    pub(super) fn answer_version_negotiation(&mut self, route: Route, dcid: &[u8], scid: &[u8]) {
        let mut buf = [0; 600];
        let mut writer = Writer::new(&mut buf);
        let versions = [jsp_wire::VERSION_1];
        if header::write_version_negotiation(&mut writer, dcid, scid, &versions).is_ok() {
            let datagram = writer.written().to_vec();
            self.queue_answer(route, datagram);
        }
    }

    /// Asks for a proof of address. A pure function of address, id and time: the pieces of a hello,
    /// and their doubles, all get the same answer.
    pub(super) fn answer_retry(&mut self, now: Instant, stranger: &Stranger) {
        if self.answers.is_full() {
            return;
        }
        let Stranger { route, dcid, scid } = *stranger;
        let Ok(original) = <[u8; 8]>::try_from(dcid.as_bytes()) else { return };
        let address = route.to_cookie_bytes();
        let time = cookie_seconds(now);
        if now >= self.cookies_until {
            self.cookies.rotate(&mut self.rng);
            self.cookies_until = now + COOKIE_KEYS_LIFE;
        }
        let cookie = self.cookies.mint(&address, &original, None, time);
        let source = self.retry_id(&cookie);
        let mut buf = [0; 256];
        let mut writer = Writer::new(&mut buf);
        if header::write_retry(&mut writer, &scid, &source, &cookie).is_err() {
            return;
        }
        let mut datagram = writer.written().to_vec();
        let version = jsp_wire::VERSION_1;
        let tag = jsp_crypto::retry_integrity_tag(version, dcid.as_bytes(), &datagram);
        datagram.extend_from_slice(&tag);
        self.queue_answer(route, datagram);
    }

    /// The id that a Retry with this cookie gives the client to write to.
    pub(super) fn retry_id(&self, cookie: &[u8]) -> ConnectionId {
        let id = Prf::new(*self.reset_key).derive("retry id", cookie);
        let id = id.get(..limits::CONNECTION_ID_LEN_INITIAL);
        let id = id.and_then(ConnectionId::new).unwrap_or(ConnectionId::EMPTY);
        // Whoever made the cookie checks it.
        self.shard.mark(id)
    }

    /// Tells a peer whose connection we do not know that it is gone. Shorter than what it answers,
    /// so that two endpoints never keep answering each other.
    // spec: CON-36
    pub(super) fn answer_reset(&mut self, now: Instant, route: Route, stray: &[u8]) {
        let end = limits::CONNECTION_ID_LEN_LOCAL.saturating_add(1);
        let Some(id) = stray.get(1..end).and_then(ConnectionId::new) else { return };
        let len = stray.len().saturating_sub(1).min(64);
        // Without ids of ours nobody can have been told a token; and whoever has to be silent must
        // not betray himself to those who make up an id.
        let may_have_issued = self.config.server.as_ref().is_some_and(|setup| !setup.silent);
        if len < RESET_LEN_MIN || !may_have_issued || !self.limit.allows(now, &route) {
            return;
        }
        let random: [u8; 64] = self.rng.array();
        let mut datagram = random.get(..len).unwrap_or_default().to_vec();
        if let Some(first) = datagram.first_mut() {
            *first = *first & 0x3f | 0x40;
        }
        let token = self.reset_token(&id, &route);
        let token_at = len.saturating_sub(limits::RESET_TOKEN_LEN);
        if let Some(slot) = datagram.get_mut(token_at..) {
            slot.copy_from_slice(&token);
        }
        self.queue_answer(route, datagram);
    }

    /// Tells a client that its hello is for another identity than ours: it has pinned the wrong
    /// one. A hello that was damaged on the way looks the same, so the answer names the packet: the
    /// client knows which it sent. Whoever can read the packet can make this answer, so the client
    /// only takes it as a hint.
    // spec: CON-29
    pub(super) fn answer_not_this_server(
        &mut self,
        now: Instant,
        setup: &ServerSetup,
        stranger: &Stranger,
        packet: &[u8],
    ) {
        if !setup.silent && self.limit.allows(now, &stranger.route) {
            let (version, dcid) = (jsp_wire::VERSION_1, stranger.dcid.as_bytes());
            let keys = jsp_crypto::initial_keys(Role::Server, version, dcid, None);
            let name = jsp_crypto::hello_id(packet);
            self.answer_close(stranger, &keys, CloseCode::IDENTITY, &name);
        }
    }

    /// Tells a client that its cookie is of no use, because it is too old or was made for another
    /// address: it must start anew.
    // spec: CON-37
    pub(super) fn answer_invalid_token(
        &mut self,
        now: Instant,
        setup: &ServerSetup,
        stranger: &Stranger,
        datagram: &[u8],
    ) {
        // A token that was damaged on the way keeps its packet from being opened.
        if self.limit.allows(now, &stranger.route)
            && let Some(opening) = opening_keys(setup, &stranger.dcid, datagram)
            && (opening.pinned || !setup.silent)
        {
            self.answer_close(stranger, &opening.keys, CloseCode::INVALID_TOKEN, &[]);
        }
    }

    /// Turns a client away without keeping anything of it.
    pub(super) fn answer_close(
        &mut self,
        stranger: &Stranger,
        keys: &Keys,
        code: CloseCode,
        reason: &[u8],
    ) {
        let Stranger { route, dcid, scid } = *stranger;
        // A connection of this client may come to use the same keys, with numbers from 0.
        // spec: CON-184
        let pn = REFUSAL_PN_MIN | (self.rng.u64() % REFUSAL_PN_MIN);
        let close = Frame::Close(Close { by_application: false, code, reason });
        let fields = LongFields {
            kind: LongType::Initial,
            dcid: scid,
            scid: dcid,
            token: &[],
            pn,
            pn_len: 4,
        };
        let mut room = [0; 256];
        let Ok(layout) = seal::write_long_header(&mut room, &fields) else { return };
        let start = layout.pn_offset.saturating_add(fields.pn_len);
        let end = room.len().saturating_sub(limits::TAG_LEN);
        let mut tokens = Vec::new();
        let payload = room.get_mut(start..end).unwrap_or_default();
        let mut packet = PacketBuilder::new(payload, &mut tokens, false);
        if close.write(packet.writer()).is_err() {
            return;
        }
        let built = packet.finish();
        if let Ok(len) = seal::seal_long(&mut room, layout, &fields, built, &keys.local) {
            self.queue_answer(route, room.get(..len).unwrap_or_default().to_vec());
        }
    }
}
