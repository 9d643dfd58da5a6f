//! Client hellos on their way to becoming connections: cookies checked, fragments joined, in memory
//! that has a bound.

use bytes::BytesMut;
use jsp_crypto::{Keys, Role};
use jsp_wire::{
    CloseCode, ConnectionId, Frame, FrameIter, Header, Instant, LongType, Route, limits,
};

use super::hello_table::{Carrier, HelloName, WholeHello};
use super::load::retry_is_due;
use super::source::Prefix;
use super::tickets::{Judgement, network_hash};
use super::time::cookie_seconds;
use super::{ConnectionHandle, Endpoint, peer_key};
use crate::config::{RetryPolicy, ServerSetup};
use crate::connection::{Connection, Incoming};
use crate::exchange::HandshakeIds;
use crate::path::Budget;
use crate::seal;

/// Who sent an Initial packet, as far as its header tells.
#[derive(Clone, Copy)]
pub(super) struct Stranger {
    pub(super) route: Route,
    pub(super) dcid: ConnectionId,
    pub(super) scid: ConnectionId,
}

/// What a token says about its sender.
enum Token {
    /// There is none.
    Missing,
    /// A valid cookie: the client is where it says it is.
    Cookie { original_destination: ConnectionId },
    /// A cookie that has served.
    Spent,
    /// No cookie of ours for this address.
    Invalid,
}

/// Keys that open a hello.
pub(super) struct OpeningKeys {
    pub(super) keys: Keys,
    /// They come from our identity's fingerprint: the client knows it.
    pub(super) pinned: bool,
}

impl Endpoint {
    /// An Initial packet of a client that has no connection yet. What costs little comes first: the
    /// header, the token, the load, then the packet's protection, and the key exchange last.
    pub(super) fn handle_hello(
        &mut self,
        now: Instant,
        stranger: Stranger,
        token: &[u8],
        datagram: &mut BytesMut,
    ) {
        let Some(setup) = self.config.server.clone() else { return };
        let Stranger { route, dcid, .. } = stranger;
        // spec: CON-1
        let too_small =
            datagram.len() < self.hello_len_min() || dcid.len() < limits::CONNECTION_ID_LEN_INITIAL;
        if !self.accepting || too_small {
            return;
        }
        self.hellos.expire(now);
        let original = match self.read_token(now, &route, &dcid, token) {
            Token::Cookie { original_destination } => Some(original_destination),
            Token::Missing => None,
            Token::Spent => return,
            Token::Invalid => return self.answer_invalid_token(now, &setup, &stranger, datagram),
        };
        let prefix = Prefix::of(&route);
        let asks_for_proof = original.is_none() && {
            self.hello_rate.note(now);
            self.asks_for_proof(&setup, &prefix)
        };
        // A silent server opens the packet first: nobody hears of it who does not know it.
        if asks_for_proof && !setup.silent {
            return self.answer_retry(now, &stranger);
        }
        let Some(OpeningKeys { keys, pinned }) = self.opening_keys(&setup, &dcid, datagram) else {
            let packet = first_packet(datagram).unwrap_or_default();
            return self.answer_not_this_server(now, &setup, &stranger, packet);
        };
        // spec: CON-63
        if setup.silent && !pinned {
            return;
        }
        if asks_for_proof {
            return self.answer_retry(now, &stranger);
        }
        let Some(whole) = self.take_pieces(now, &stranger, prefix, &keys, datagram) else {
            self.opened_last = Some((dcid, OpeningKeys { keys, pinned }));
            return;
        };
        let handle = self.accept_hello(now, &setup, stranger, keys, whole, original);
        if let Some(slot) = handle.and_then(|handle| self.connections.get_mut(&handle)) {
            // Early data stand behind the hello.
            let rest = behind_initial(datagram);
            slot.connection.handle_packets(now, route, None, rest);
        }
    }

    /// Whether a hello from `prefix` that brings no cookie is answered by a Retry alone.
    fn asks_for_proof(&self, setup: &ServerSetup, prefix: &Prefix) -> bool {
        retry_is_due(setup.retry, self.half_open, &self.hellos, &self.hello_rate, prefix)
    }

    /// The keys that open this datagram. Those of the datagram before serve again where it has the same
    /// id: the pieces of a hello come one after the other.
    fn opening_keys(
        &mut self,
        setup: &ServerSetup,
        dcid: &ConnectionId,
        datagram: &[u8],
    ) -> Option<OpeningKeys> {
        match self.opened_last.take() {
            Some((id, opening)) if id == *dcid && opens(&opening.keys, datagram) => Some(opening),
            _ => opening_keys(setup, dcid, datagram),
        }
    }

    // spec: CON-2, CON-60
    fn read_token(
        &mut self,
        now: Instant,
        route: &Route,
        dcid: &ConnectionId,
        token: &[u8],
    ) -> Token {
        if token.is_empty() {
            return Token::Missing;
        }
        // A cookie serves for the one id that came with it.
        if *dcid != self.retry_id(token) {
            return Token::Invalid;
        }
        let time = cookie_seconds(now);
        let cookie = self.cookies.verify(token, &route.to_cookie_bytes(), None, time);
        match cookie.ok().and_then(|original| ConnectionId::new(&original)) {
            None => Token::Invalid,
            Some(_) if self.spent.contains(time, dcid) => Token::Spent,
            Some(original_destination) => Token::Cookie { original_destination },
        }
    }

    /// Opens the datagram's Initial packets and keeps what they bring of the hello: of one, and few pieces, for each
    /// may have another hello give way, or whole messages hashed.
    // spec: CON-265
    fn take_pieces(
        &mut self,
        now: Instant,
        stranger: &Stranger,
        prefix: Prefix,
        keys: &Keys,
        datagram: &mut [u8],
    ) -> Option<WholeHello> {
        let mut uncounted = datagram.len().saturating_add(self.wrapping());
        let (mut pieces, mut hello) = (0_usize, None);
        let mut rest = datagram;
        while let Ok(Header::Long(header)) = Header::parse(rest) {
            if header.kind != LongType::Initial || header.dcid != stranger.dcid {
                break;
            }
            let (pn_offset, packet_len) = (header.pn_offset, header.packet_len);
            let (packet, tail) = rest.split_at_mut_checked(packet_len)?;
            if let Some((pn, range)) = seal::open_long(packet, pn_offset, 0, &keys.remote) {
                for frame in FrameIter::new(packet.get(range).unwrap_or_default()) {
                    match frame {
                        Ok(Frame::Handshake(piece)) => {
                            pieces = pieces.saturating_add(1);
                            let is_other = *hello.get_or_insert(piece.id) != piece.id;
                            if is_other || pieces > limits::HELLO_FRAGMENTS_MAX {
                                return None;
                            }
                            let peer = peer_key(&stranger.route);
                            let name = HelloName { peer, dcid: stranger.dcid, id: piece.id };
                            let carrier = Carrier { now, prefix, pn, len: uncounted };
                            uncounted = 0;
                            let whole = self.hellos.add(name, &carrier, &piece);
                            if whole.is_some() {
                                return whole;
                            }
                        }
                        Ok(Frame::Padding(_) | Frame::Ping | Frame::Ack(_)) => {}
                        Ok(_) | Err(_) => return None,
                    }
                }
            }
            rest = tail;
        }
        None
    }

    /// Whether early data are taken: a connection with some costs as much as any, for a client that need not be there.
    // spec: CON-201
    pub(super) fn takes_early(&self, setup: &ServerSetup, network: &Prefix) -> bool {
        setup.retry == RetryPolicy::Always || !self.asks_for_proof(setup, network)
    }

    /// Takes in the connection of a client that has yet to prove itself.
    fn admit(&mut self, connection: Connection, network: Prefix) -> ConnectionHandle {
        let handle = self.insert(connection);
        self.half_open = self.half_open.saturating_add(1);
        self.shares.enter(network);
        if let Some(slot) = self.connections.get_mut(&handle) {
            slot.is_unproved = true;
            slot.network = Some(network);
        }
        handle
    }

    fn accept_hello(
        &mut self,
        now: Instant,
        setup: &ServerSetup,
        stranger: Stranger,
        keys: Keys,
        whole: WholeHello,
        original: Option<ConnectionId>,
    ) -> Option<ConnectionHandle> {
        let network = Prefix::of(&stranger.route);
        if !self.shares.have_room(&network, self.open, setup.connections_max) {
            self.answer_close(&stranger, &keys, CloseCode::REFUSED, &[]);
            return None;
        }
        let resumption = match self.judge_ticket(now, setup, &whole.message, &network) {
            Judgement::Full => None,
            Judgement::Resume(resumption) => Some(*resumption),
            Judgement::Refused => {
                // spec: CON-50
                self.answer_close(&stranger, &keys, CloseCode::TICKET_REFUSED, &[]);
                return None;
            }
            Judgement::Copy(owner) => {
                self.adopt_route(now, owner, &stranger, whole.received);
                return None;
            }
        };
        let memory =
            resumption.as_ref().and_then(|r| r.path_memory(&network_hash(&stranger.route)));
        let struck = resumption.as_ref().filter(|r| r.accept_early).map(|r| *r.uid());
        // A hello that was refused for its ticket brings the cookie back with another.
        if original.is_some() {
            let time = cookie_seconds(now);
            self.spent.insert(time, stranger.dcid);
        }
        let local_id = self.fresh_local_id();
        let ids = HandshakeIds {
            original_destination: original.unwrap_or(stranger.dcid),
            retry_source: original.map(|_| stranger.dcid),
        };
        let budget = match original {
            Some(_) => Budget::Unlimited,
            None => Budget::for_received(whole.received),
        };
        let incoming = Incoming {
            route: stranger.route,
            crypto: setup.crypto.clone(),
            transport: self.config.transport.clone(),
            ids,
            local_id,
            reset_token: self.reset_token(&local_id, &stranger.route),
            preferred: self.preferred_id(&stranger.route),
            peer_id: stranger.scid,
            initial_keys: keys,
            hello: whole.message,
            received: whole.packets,
            budget,
            wrapping: self.wrapping(),
            unix_time: self.unix_time.clone(),
            resumption,
            memory,
        };
        let rng = self.rng.fork();
        let connection = Connection::answer(now, incoming, rng);
        let handle = self.admit(connection, network);
        if let Some(uid) = struck {
            self.note_early(uid, handle);
        }
        Some(handle)
    }
}

/// What follows the Initial packets of a datagram.
fn behind_initial(datagram: &BytesMut) -> BytesMut {
    let mut rest = &datagram[..];
    while let Ok(Header::Long(header)) = Header::parse(rest) {
        if header.kind != LongType::Initial {
            return BytesMut::from(rest);
        }
        rest = rest.get(header.packet_len..).unwrap_or_default();
    }
    BytesMut::new()
}

/// The packet with a long header that the datagram starts with.
fn first_packet(datagram: &[u8]) -> Option<&[u8]> {
    let Ok(Header::Long(header)) = Header::parse(datagram) else { return None };
    datagram.get(..header.packet_len)
}

/// The keys that open this datagram: those of a client that knows our identity, or of one that does
/// not.
pub(super) fn opening_keys(
    setup: &ServerSetup,
    dcid: &ConnectionId,
    datagram: &[u8],
) -> Option<OpeningKeys> {
    let pin = setup.crypto.fingerprint();
    [Some(&pin), None].into_iter().find_map(|pin| {
        let version = jsp_wire::VERSION_1;
        let keys = jsp_crypto::initial_keys(Role::Server, version, dcid.as_bytes(), pin);
        opens(&keys, datagram).then_some(OpeningKeys { keys, pinned: pin.is_some() })
    })
}

/// Whether these keys open the packet that the datagram starts with.
fn opens(keys: &Keys, datagram: &[u8]) -> bool {
    let Ok(Header::Long(header)) = Header::parse(datagram) else { return false };
    let Some(packet) = datagram.get(..header.packet_len) else { return false };
    seal::open_long(&mut packet.to_vec(), header.pn_offset, 0, &keys.remote).is_some()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jsp_crypto::{Identity, ServerConfig};
    use jsp_wire::frame::HandshakeFragment;
    use jsp_wire::header::LongFields;
    use jsp_wire::{Shape, Writer};

    use super::*;
    use crate::config::{EndpointConfig, TransportConfig};
    use crate::packet::Built;
    use crate::rng::SeededRng;

    /// A full datagram with these pieces, by somebody who does not know the server.
    fn datagram(dcid: ConnectionId, pieces: &[HandshakeFragment<'_>]) -> BytesMut {
        let keys =
            jsp_crypto::initial_keys(Role::Client, jsp_wire::VERSION_1, dcid.as_bytes(), None);
        let (kind, token) = (LongType::Initial, &[][..]);
        let fields = LongFields { kind, dcid, scid: dcid, token, pn: 0, pn_len: 1 };
        let mut room = [0; limits::MTU_BASE];
        let layout = seal::write_long_header(&mut room, &fields).unwrap();
        let mut writer = Writer::new(&mut room[layout.pn_offset + 1..]);
        for piece in pieces {
            Frame::Handshake(*piece).write(&mut writer).unwrap();
        }
        let (len, shape) = (writer.len(), Shape::Frames);
        let built = Built { len, shape, ack_eliciting: true, protection: None, content: (0, len) };
        seal::seal_long(&mut room, layout, &fields, built, &keys.local).unwrap();
        BytesMut::from(&room[..])
    }

    #[test]
    // spec-test: CON-265
    fn a_datagram_brings_few_pieces_of_one_hello() {
        let identity = Arc::new(Identity::generate(&mut SeededRng::new([1; 32])));
        let crypto = Arc::new(ServerConfig::new(identity));
        let (retry, connections_max, silent) = (RetryPolicy::Never, 1000, false);
        let server = Some(ServerSetup { crypto, retry, connections_max, silent });
        let transport = Arc::new(TransportConfig::default());
        let (seed, unix_seconds_at_zero) = ([2; 32], 0);
        let config = EndpointConfig { server, transport, seed, unix_seconds_at_zero };
        let mut endpoint = Endpoint::new(config);
        let dcid = ConnectionId::new(&[7; 8]).unwrap();
        let route = Route::udp("192.0.2.1:1".parse().unwrap());
        let stranger = Stranger { route, dcid, scid: dcid };
        let piece = |id: u8, data| HandshakeFragment { id: [id; 8], offset: 0, total: 4096, data };
        let many: Vec<_> = (0..60).map(|id| piece(id, &[1])).collect();
        endpoint.handle_hello(Instant::ZERO, stranger, &[], &mut datagram(dcid, &many));
        assert_eq!(endpoint.hellos.len(), 1, "hellos of one datagram");
        // Pieces of one name that contradict each other; those that come last are not looked at.
        let data = [[9], [9], [9], [9], [9], [1], [2]];
        let pieces: Vec<_> = data.iter().map(|data| piece(99, data)).collect();
        endpoint.handle_hello(Instant::ZERO, stranger, &[], &mut datagram(dcid, &pieces));
        assert_eq!(endpoint.hellos.len(), 2, "hellos of two datagrams");
    }
}
