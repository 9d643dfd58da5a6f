//! Which way the datagrams of a relayed connection take: through the relay, or past it once a direct
//! way is open. The transport knows both ends of the connection by the relay's route; the peer that
//! was called learns of the direct one from what arrives by it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jsp_wire::Route;

use crate::relay::{self, HEADER_LEN};
use crate::{Leg, Way};

/// How a datagram leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As it is, to this address.
    Plain(SocketAddr),
    /// To this address by way of the TURN server.
    Turn(SocketAddr),
    /// Behind this header, to the relay.
    Relayed(SocketAddr, [u8; HEADER_LEN]),
}

/// The ways past the relay of relayed connections.
#[derive(Clone, Debug, Default)]
pub struct Detours(BTreeMap<(SocketAddr, u64), Way>);

impl Detours {
    /// A way past the relay is open.
    pub fn open(&mut self, relay: SocketAddr, channel: u64, direct: Way) {
        self.0.insert((relay, channel), direct);
    }

    /// Back to the relay.
    pub fn close(&mut self, relay: SocketAddr, channel: u64) {
        self.0.remove(&(relay, channel));
    }

    /// The way past the relay of a relayed route, where one is open.
    pub fn of(&self, route: &Route) -> Option<Way> {
        match route {
            Route::Relayed { via, peer } => self.0.get(&(*via, *peer)).copied(),
            Route::Udp { .. } | Route::Tunnel { .. } => None,
        }
    }

    /// How datagrams for a route leave; `None` for those of other carriers.
    pub fn exit(&self, route: &Route) -> Option<Exit> {
        match route {
            Route::Udp { remote, .. } => Some(Exit::Plain(*remote)),
            Route::Relayed { via, peer } => Some(match self.of(route) {
                Some(Way { leg: Leg::Socket, remote }) => Exit::Plain(remote),
                Some(Way { leg: Leg::Turn, remote }) => Exit::Turn(remote),
                None => Exit::Relayed(*via, relay::header(*peer)),
            }),
            Route::Tunnel { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_past_the_relay_while_a_way_is_open() {
        let [relay, direct] = ["192.0.2.1:1", "192.0.2.2:2"].map(|a| a.parse().unwrap());
        let route = Route::Relayed { via: relay, peer: 7 };
        let mut detours = Detours::default();
        let relayed = Some(Exit::Relayed(relay, relay::header(7)));
        assert_eq!(detours.exit(&route), relayed);
        detours.open(relay, 7, direct.into());
        assert_eq!(detours.exit(&route), Some(Exit::Plain(direct)));
        assert_eq!(detours.exit(&Route::udp(direct)), Some(Exit::Plain(direct)));
        let other = Route::Relayed { via: relay, peer: 8 };
        assert_eq!(detours.exit(&other), Some(Exit::Relayed(relay, relay::header(8))));
        detours.open(relay, 7, Way::turn(direct));
        assert_eq!(detours.exit(&route), Some(Exit::Turn(direct)));
        detours.close(relay, 7);
        assert_eq!(detours.exit(&route), relayed);
        assert_eq!(detours.exit(&Route::Tunnel { id: 1 }), None);
    }
}
