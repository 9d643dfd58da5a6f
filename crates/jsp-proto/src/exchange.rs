//! The handshake of a connection: the cryptographic machine, its messages under way, and what the
//! two sides have told each other.

mod rest;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use jsp_crypto::{Fingerprint, Handshake, Kem, KemPolicy, Role, Security, hello_id};
use jsp_wire::params::feature;
use jsp_wire::{CloseCode, ConnectionId, PreferredAddress, Route, TransportParams, Writer, limits};

use crate::batch::Ecn;
use crate::bounded::Bounded;
use crate::config::TransportConfig;
use crate::early_data::EarlyData;
use crate::error::TransportError;
use crate::event::CloseReason;
use crate::handshake::{Flight, UnheardFlight};
use crate::keys::SpaceId;
use crate::pack::packed;
use crate::session::Session;
use crate::streams::Streams;
use crate::unix_time::UnixTime;
pub(crate) use rest::RestingExchange;

/// The key exchange and what came of it.
pub(crate) struct Exchange {
    /// Gone when the handshake is confirmed.
    pub(crate) machine: Option<Box<Handshake>>,
    initial: Option<Box<Flight>>,
    handshake: Option<Box<Flight>>,
    ids: HandshakeIds,
    /// What there is to remember while the handshake goes on, and often nothing is.
    meanwhile: Option<Box<Meanwhile>>,
    /// What the peer told us.
    pub(crate) peer: Option<TransportParams>,
    /// What was negotiated; present when the handshake is complete, and at a server that accepts
    /// early data before.
    pub(crate) security: Option<Box<Security>>,
    complete: bool,
    pub(crate) early_data: EarlyData,
    /// What goes on after the handshake.
    pub(crate) session: Session,
    /// Features that we have said we know.
    own_features: u64,
    /// The identity that a client would show, or that its ticket stands for.
    pub(crate) own: Option<Fingerprint>,
    /// The identity that the client expects: part of its first keys.
    pub(crate) pin: Option<Fingerprint>,
    pub(crate) unix_time: UnixTime,
}

/// What a handshake keeps that does not go straight on.
#[derive(Default)]
struct Meanwhile {
    /// The cookie that the server asked us to bring back.
    token: Bytes,
    /// Sources of the Retries that a client has obeyed.
    retries: Bounded<ConnectionId, RETRIES_MAX>,
    /// Retries that are obeyed when those before lead nowhere.
    waiting_retries: Bounded<Retry, RETRIES_MAX>,
    /// 1-RTT packets that came before the handshake was complete.
    early: Bounded<Early, EARLY_PACKETS_MAX>,
    /// Why the last candidate for the server was refused.
    rejection: Option<CloseReason>,
    /// Names of the Initial packets that a client with a pin has sent, the latest last.
    hellos: Bounded<[u8; 8], HELLOS_MAX>,
}

/// A 1-RTT packet that came before the handshake was complete.
pub(crate) struct Early {
    pub(crate) route: Route,
    pub(crate) ecn: Option<Ecn>,
    pub(crate) packet: BytesMut,
}

/// 1-RTT packets kept while the handshake is not complete: a first flight's worth.
const EARLY_PACKETS_MAX: usize = 10;

/// What a Retry asks for.
struct Retry {
    source: ConnectionId,
    token: Bytes,
}

/// Retries that a client obeys for one hello: three forgeries and the server's.
pub(crate) const RETRIES_MAX: usize = 4;

/// Initial packets that a client remembers by name: several times a whole hello.
const HELLOS_MAX: usize = 4 * limits::HELLO_FRAGMENTS_MAX;

/// Bytes of them all: they are not authentic yet, and half-open connections must stay cheap.
const EARLY_BYTES_MAX: usize = 16 * 1024;

/// Ids that were used before the peer could be believed; its parameters must repeat them.
#[derive(Clone, Copy)]
pub(crate) struct HandshakeIds {
    /// Destination of the client's very first packet.
    pub(crate) original_destination: ConnectionId,
    /// Source of the Retry, when there was one.
    pub(crate) retry_source: Option<ConnectionId>,
}
packed!(HandshakeIds { original_destination, retry_source });

impl HandshakeIds {
    /// Where the client's hello goes at present.
    pub(crate) fn hello_destination(&self) -> ConnectionId {
        self.retry_source.unwrap_or(self.original_destination)
    }
}

/// The exchange of a server that waits for its client's flight.
pub(crate) struct UnheardExchange {
    machine: Option<Box<Handshake>>,
    initial: Option<UnheardFlight>,
    handshake: Option<UnheardFlight>,
    ids: HandshakeIds,
    /// As they are written: a third of the bytes.
    peer: Box<[u8]>,
    early: VecDeque<Early>,
    features: u64,
    unix_time: UnixTime,
    bytes: usize,
}

impl UnheardExchange {
    /// The exchange as it was.
    pub(crate) fn into_exchange(self) -> Exchange {
        let flight = |flight: UnheardFlight| Box::new(flight.into_flight());
        let mut exchange = Exchange {
            initial: self.initial.map(flight),
            handshake: self.handshake.map(flight),
            peer: TransportParams::read(&self.peer).ok(),
            ..Exchange::of(self.machine, self.ids, None, self.unix_time)
        };
        self.early.into_iter().for_each(|early| exchange.keep_early(early));
        exchange.session.on_bytes(self.bytes);
        exchange.with_features(self.features)
    }

    /// Bytes that packets hold which cannot be read yet.
    pub(crate) fn early_len(&self) -> usize {
        self.early.iter().map(|early| size_of::<Early>().saturating_add(early.packet.len())).sum()
    }

    /// Lets go of them: they will be sent again.
    pub(crate) fn forget_early(&mut self) {
        self.early = VecDeque::new();
    }
}

impl Exchange {
    pub(crate) fn new(
        machine: Handshake,
        ids: HandshakeIds,
        pin: Option<Fingerprint>,
        unix_time: UnixTime,
    ) -> Self {
        Self::of(Some(Box::new(machine)), ids, pin, unix_time)
    }

    fn of(
        machine: Option<Box<Handshake>>,
        ids: HandshakeIds,
        pin: Option<Fingerprint>,
        unix_time: UnixTime,
    ) -> Self {
        Self {
            machine,
            initial: Some(Box::default()),
            handshake: Some(Box::default()),
            ids,
            meanwhile: None,
            peer: None,
            security: None,
            complete: false,
            early_data: EarlyData::default(),
            session: Session::default(),
            own_features: 0,
            own: None,
            pin,
            unix_time,
        }
    }

    /// True at a server that has its flight, and nothing of its client's.
    pub(crate) fn is_unheard(&self) -> bool {
        let flights = [&self.initial, &self.handshake];
        let sent = flights.into_iter().flatten().filter(|flight| flight.is_unheard()).count() == 2;
        let only_early = |meanwhile: &Meanwhile| meanwhile.rejection.is_none();
        let is_plain = self.meanwhile.as_deref().is_none_or(only_early) && self.security.is_none();
        let is_first = self.peer.is_some() && !self.complete && self.early_data.is_none();
        sent && is_plain && is_first && self.machine.is_some() && self.session.is_new()
    }

    /// The same in few bytes: see [`Exchange::is_unheard`].
    pub(crate) fn into_unheard(mut self) -> UnheardExchange {
        let mut early = self.take_early();
        early.shrink_to_fit();
        UnheardExchange {
            early,
            machine: self.machine,
            initial: self.initial.and_then(|flight| flight.into_unheard()),
            handshake: self.handshake.and_then(|flight| flight.into_unheard()),
            ids: self.ids,
            peer: self.peer.map(|peer| encode_params(&peer, 0).into()).unwrap_or_default(),
            features: self.own_features,
            unix_time: self.unix_time,
            bytes: self.session.bytes(),
        }
    }

    /// Keeps a packet that cannot be read yet; those that find no room will be sent again.
    // spec: CON-19
    pub(crate) fn keep_early(&mut self, early: Early) {
        let kept = &mut self.meanwhile().early;
        let bytes: usize = kept.iter().map(|early| early.packet.len()).sum();
        if bytes.saturating_add(early.packet.len()) <= EARLY_BYTES_MAX {
            kept.push_if_room(early);
        }
    }

    /// Packets that can be read now.
    pub(crate) fn take_early(&mut self) -> VecDeque<Early> {
        self.meanwhile.as_mut().map(|meanwhile| meanwhile.early.take()).unwrap_or_default()
    }

    /// A server that was not the expected one answered; the expected one may follow.
    pub(crate) fn note_rejection(&mut self, reason: CloseReason) {
        self.meanwhile().rejection = Some(reason);
    }

    /// Remembers an Initial packet as it leaves, where another server than the pinned one may have
    /// to say that it cannot open it.
    pub(crate) fn note_hello(&mut self, packet: &[u8]) {
        if self.pin.is_some() {
            self.meanwhile().hellos.push_evicting(hello_id(packet));
        }
    }

    /// True when a packet of this name has left.
    pub(crate) fn has_sent_hello(&self, name: &[u8]) -> bool {
        let hellos = self.meanwhile.as_ref().map(|meanwhile| &meanwhile.hellos);
        hellos.is_some_and(|hellos| hellos.iter().any(|own| own == name))
    }

    /// The pinned server was heard after all; answers whether it was held to be another.
    pub(crate) fn forget_wrong_server(&mut self) -> bool {
        let rejection = self.meanwhile.as_mut().map(|meanwhile| &mut meanwhile.rejection);
        let is_pinned = |reason: &mut CloseReason| *reason == CloseReason::NotThePinnedServer;
        rejection.is_some_and(|rejection| rejection.take_if(is_pinned).is_some())
    }

    /// A handshake that ran out of time because every answer was refused says why.
    pub(crate) fn explain(&mut self, reason: CloseReason) -> CloseReason {
        let rejection = self.meanwhile.as_mut().and_then(|meanwhile| meanwhile.rejection.take());
        match (reason, rejection) {
            (CloseReason::HandshakeTimeout, Some(rejection)) => rejection,
            (reason, _) => reason,
        }
    }

    /// The messages that travel in packets of this space.
    pub(crate) fn flight(&mut self, space: SpaceId) -> Option<&mut Flight> {
        match space {
            SpaceId::Initial => self.initial.as_deref_mut(),
            SpaceId::Handshake => self.handshake.as_deref_mut(),
            SpaceId::Data => None,
        }
    }

    pub(crate) fn flight_wants(&self, space: SpaceId) -> bool {
        let flight = match space {
            SpaceId::Initial => &self.initial,
            SpaceId::Handshake => &self.handshake,
            SpaceId::Data => return false,
        };
        flight.as_ref().is_some_and(|flight| flight.wants())
    }

    pub(crate) fn discard(&mut self, space: SpaceId) {
        match space {
            SpaceId::Initial => {
                self.initial = None;
                if let Some(meanwhile) = &mut self.meanwhile {
                    meanwhile.hellos = Bounded::default();
                }
            }
            SpaceId::Handshake => {
                self.handshake = None;
                self.machine = None;
            }
            SpaceId::Data => {}
        }
    }

    pub(crate) fn ids(&self) -> &HandshakeIds {
        &self.ids
    }

    /// What we can do beyond the base of version 1, as our parameters say it.
    pub(crate) fn with_features(mut self, features: u64) -> Self {
        self.own_features = features;
        self
    }

    /// True when both sides have said that they know a feature.
    // spec: FEC-1
    pub(crate) fn has_feature(&self, feature: u64) -> bool {
        let peer = self.peer.map_or(0, |peer| peer.features);
        peer & self.own_features & feature != 0
    }

    /// Remembers a Retry. Whoever has seen the hello can make one, so a few are kept.
    // spec: CON-15
    pub(crate) fn note_retry(&mut self, source: ConnectionId, token: &[u8]) {
        let Meanwhile { retries, waiting_retries, .. } = self.meanwhile();
        let is_known =
            waiting_retries.iter().any(|retry| retry.source == source) || retries.contains(&source);
        if !is_known {
            let token = Bytes::copy_from_slice(token);
            waiting_retries.push_if_room(Retry { source, token });
        }
    }

    /// The next Retry is obeyed: where the hello goes then, with its token.
    pub(crate) fn next_retry(&mut self) -> Option<ConnectionId> {
        let meanwhile = self.meanwhile.as_mut().filter(|meanwhile| !meanwhile.retries.is_full())?;
        let Retry { source, token } = meanwhile.waiting_retries.pop_front()?;
        meanwhile.retries.push_if_room(source);
        meanwhile.token = token;
        self.ids.retry_source = Some(source);
        Some(source)
    }

    /// Both sides are who they should be.
    pub(crate) fn complete(&mut self, security: Security) {
        self.security = Some(Box::new(security));
        self.complete = true;
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// True when 1-RTT packets may be sent: a server that accepts early data answers them before the
    /// client's flight has come, to whom else than the ticket's holder they are of no use.
    // spec: CON-56
    pub(crate) fn may_send_data(&self) -> bool {
        self.complete || self.early_data.is_accepting()
    }

    /// Nothing happens: what the handshake had to remember is forgotten.
    pub(crate) fn rest(&mut self) {
        if self.machine.is_none() {
            self.meanwhile = None;
        }
    }

    fn has_obeyed(&self, source: &ConnectionId) -> bool {
        self.meanwhile.as_ref().is_some_and(|meanwhile| meanwhile.retries.contains(source))
    }

    fn meanwhile(&mut self) -> &mut Meanwhile {
        self.meanwhile.get_or_insert_default()
    }

    /// The cookie that goes with packets of the handshake.
    pub(crate) fn token(&self) -> Bytes {
        self.meanwhile.as_ref().map(|meanwhile| meanwhile.token.clone()).unwrap_or_default()
    }

    /// Takes the peer's parameters, which must repeat the ids that its packets showed.
    // spec: CON-5, CON-6
    pub(crate) fn on_peer_params(
        &mut self,
        role: Role,
        bytes: &[u8],
        peer_source: &ConnectionId,
    ) -> Result<TransportParams, TransportError> {
        let refuse = |reason| TransportError::new(CloseCode::PARAMETERS, reason);
        let params = TransportParams::read(bytes)
            .map_err(|_| refuse("the transport parameters could not be read"))?;
        if params.initial_source_id != *peer_source {
            return Err(refuse("the parameters name another connection id than the packets"));
        }
        match role {
            Role::Client => {
                // Without one, the server has answered the first hello, and whoever sent a Retry lied.
                let retry_is_known = params
                    .retry_source_id
                    .is_none_or(|id| self.ids.retry_source == Some(id) || self.has_obeyed(&id));
                let same = params.original_destination_id == Some(self.ids.original_destination)
                    && retry_is_known;
                if !same {
                    return Err(refuse("the parameters do not match the first packets"));
                }
                if params.preferred.is_some() && peer_source.is_empty() {
                    return Err(refuse("a server without connection ids prefers an address"));
                }
            }
            Role::Server => {
                let claims = params.original_destination_id.is_some()
                    || params.retry_source_id.is_some()
                    || params.reset_token.is_some()
                    || params.preferred.is_some();
                if claims {
                    return Err(refuse("a client sent parameters of a server"));
                }
            }
        }
        self.peer = Some(params);
        Ok(params)
    }
}

/// What we can do beyond the base of version 1.
pub(crate) fn features(config: &TransportConfig, kem: KemPolicy) -> u64 {
    let fec = if config.fec { feature::FEC } else { 0 };
    let has_hybrid = kem.kems().contains(&Kem::X25519MlKem768);
    let objects =
        if config.objects && crate::streams::OBJECTS_PRESENT { feature::OBJECTS } else { 0 };
    feature::ACK_TIMES | fec | objects | if has_hybrid { feature::EXCHANGE } else { 0 }
}

/// Parameters as the handshake carries them.
pub(crate) fn encode_params(params: &TransportParams, grease: u16) -> Vec<u8> {
    let mut buf = [0; 512];
    let mut writer = Writer::new(&mut buf);
    // 512 bytes hold every parameter at its longest.
    let written = params.write(&mut writer, grease).is_ok();
    debug_assert!(written);
    writer.written().to_vec()
}

/// Our parameters, as the handshake carries them.
pub(crate) fn own_params(
    config: &TransportConfig,
    streams: &Streams,
    source: ConnectionId,
    server: Option<(&HandshakeIds, [u8; 16])>,
    preferred: Option<PreferredAddress>,
    (features, grease): (u64, u16),
) -> Vec<u8> {
    let mut params = TransportParams {
        initial_source_id: source,
        original_destination_id: server.map(|(ids, _)| ids.original_destination),
        retry_source_id: server.and_then(|(ids, _)| ids.retry_source),
        reset_token: server.map(|(_, token)| token),
        idle_timeout_ms: config.idle_timeout.as_millis() as u64,
        datagram_len_max: limits::MTU_MAX as u64,
        ack_delay_max_us: config.ack_delay_max.as_micros() as u64,
        connection_ids_max: 4,
        features,
        paths_max: config.paths_max,
        preferred,
        ..TransportParams::default()
    };
    streams.advertise(&mut params);
    encode_params(&params, grease)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jsp_crypto::{ClientConfig, ServerIdentity};

    use super::*;
    use crate::rng::SeededRng;

    fn id(n: u8) -> ConnectionId {
        ConnectionId::new(&[n; 8]).unwrap()
    }

    fn exchange(retry_source: Option<ConnectionId>) -> Exchange {
        let config = Arc::new(ClientConfig::new(ServerIdentity::AnyInsecure));
        let machine = Handshake::client(config, &[], &mut SeededRng::new([1; 32])).unwrap();
        let ids = HandshakeIds { original_destination: id(1), retry_source };
        Exchange::new(machine, ids, None, UnixTime::starting(0))
    }

    fn encode(params: &TransportParams) -> Vec<u8> {
        let mut buf = [0; 512];
        let mut writer = Writer::new(&mut buf);
        params.write(&mut writer, 7).unwrap();
        writer.written().to_vec()
    }

    fn check(role: Role, retry: Option<ConnectionId>, params: &TransportParams) -> bool {
        let result = exchange(retry).on_peer_params(role, &encode(params), &id(3));
        if let Err(error) = &result {
            assert_eq!(error.code, CloseCode::PARAMETERS);
        }
        result.is_ok()
    }

    #[test]
    // spec-test: CON-5
    fn a_server_must_repeat_the_ids_of_the_first_packets() {
        let plain = TransportParams {
            initial_source_id: id(3),
            original_destination_id: Some(id(1)),
            ..TransportParams::default()
        };
        let retried = TransportParams { retry_source_id: Some(id(2)), ..plain };
        let client = Role::Client;
        assert!(check(client, None, &plain));
        assert!(check(client, Some(id(2)), &retried));
        assert!(check(client, Some(id(2)), &plain));
        assert!(!check(client, None, &retried));
        assert!(!check(client, Some(id(4)), &retried));
        assert!(!check(client, None, &TransportParams { initial_source_id: id(4), ..plain }));
        let other = TransportParams { original_destination_id: Some(id(4)), ..plain };
        assert!(!check(client, None, &other));
        assert!(!check(client, None, &TransportParams { original_destination_id: None, ..plain }));
        assert!(exchange(None).on_peer_params(client, &[0xff], &id(3)).is_err());
    }

    #[test]
    // spec-test: CON-6
    fn a_client_must_not_speak_like_a_server() {
        let plain = TransportParams { initial_source_id: id(3), ..TransportParams::default() };
        let server = Role::Server;
        assert!(check(server, None, &plain));
        assert!(!check(server, None, &TransportParams { initial_source_id: id(4), ..plain }));
        let claims = [
            TransportParams { original_destination_id: Some(id(1)), ..plain },
            TransportParams { retry_source_id: Some(id(1)), ..plain },
            TransportParams { reset_token: Some([0; 16]), ..plain },
        ];
        for params in claims {
            assert!(!check(server, None, &params));
        }
    }

    #[test]
    // spec-test: CON-19
    fn early_packets_are_few_and_small() {
        let early = |len: usize| Early {
            route: Route::udp("192.0.2.1:1".parse().unwrap()),
            ecn: None,
            packet: BytesMut::zeroed(len),
        };
        let mut exchange = exchange(None);
        (0..20).for_each(|_| exchange.keep_early(early(1200)));
        assert_eq!(exchange.take_early().len(), EARLY_PACKETS_MAX);
        (0..20).for_each(|_| exchange.keep_early(early(5000)));
        assert_eq!(exchange.take_early().len(), EARLY_BYTES_MAX / 5000);
        assert!(exchange.take_early().is_empty());
    }
}
