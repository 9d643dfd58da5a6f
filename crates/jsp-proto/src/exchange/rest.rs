//! What two ends have told each other, in few bytes, while their connection rests.

use jsp_crypto::{ClientTicket, Fingerprint, Security};
use jsp_wire::{PreferredAddress, TransportParams};

use super::{Exchange, HandshakeIds};
use crate::early_data::EarlyData;
use crate::pack::{Pack, Packer, Unpacker, packed};
use crate::session::Session;
use crate::unix_time::UnixTime;

/// The exchange of a connection that rests, but for what is packed.
pub(crate) struct RestingExchange {
    preferred: Option<Box<PreferredAddress>>,
    security: Option<Box<Security>>,
    tickets: Box<[ClientTicket]>,
    own: Option<Box<Fingerprint>>,
    unix_time: UnixTime,
}

/// What is packed of it.
struct Agreed {
    ids: HandshakeIds,
    peer: Option<TransportParams>,
    complete: bool,
    early_data: EarlyData,
    own_features: u64,
    session: Session,
}
packed!(Agreed { ids, peer, complete, early_data, own_features, session });

packed!(TransportParams {
    initial_source_id, original_destination_id, retry_source_id, idle_timeout_ms, datagram_len_max, data_max,
    stream_data_max, streams_max, message_len_max, ack_delay_max_us, connection_ids_max, reset_token, features,
    paths_max; preferred
});

impl RestingExchange {
    /// The exchange as it was.
    pub(crate) fn into_exchange(self, packed: &mut Unpacker<'_>) -> Exchange {
        let mut agreed = Agreed::unpack(packed);
        agreed.session.put_back(self.tickets);
        if let Some(peer) = &mut agreed.peer {
            peer.preferred = self.preferred.map(|preferred| *preferred);
        }
        Exchange {
            machine: None,
            initial: None,
            handshake: None,
            ids: agreed.ids,
            meanwhile: None,
            peer: agreed.peer,
            security: self.security,
            complete: agreed.complete,
            early_data: agreed.early_data,
            session: agreed.session,
            own_features: agreed.own_features,
            own: self.own.map(|own| *own),
            // It made the keys of the hello, and that is over.
            pin: None,
            unix_time: self.unix_time,
        }
    }
}

impl Exchange {
    /// True when nothing of the handshake is left.
    pub(crate) fn can_rest(&self) -> bool {
        let flights = self.initial.is_none() && self.handshake.is_none();
        self.machine.is_none() && flights && self.meanwhile.is_none() && self.session.can_rest()
    }

    /// The same in few bytes: see [`Exchange::can_rest`].
    pub(crate) fn into_resting(mut self, packer: &mut Packer) -> RestingExchange {
        let tickets = self.session.take_apart();
        let agreed = Agreed {
            ids: self.ids,
            peer: self.peer,
            complete: self.complete,
            early_data: self.early_data,
            own_features: self.own_features,
            session: self.session,
        };
        agreed.pack(packer);
        RestingExchange {
            tickets,
            preferred: self.peer.and_then(|peer| peer.preferred).map(Box::new),
            security: self.security,
            own: self.own.map(Box::new),
            unix_time: self.unix_time,
        }
    }
}
