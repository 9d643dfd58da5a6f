//! Between datagrams and streams, and what leaves by either.

use bytes::BytesMut;
use jsp_nat::switch::{Step, View, Which};
use jsp_wire::{Instant, Route};

use super::{Client, LINGER};
use crate::roaming::net::{CLIENT, Net};
use crate::roaming::server::datagram;
use crate::topology::SERVER_ADDRESS;

impl Client {
    pub(super) fn switch(&mut self, now: Instant, net: &mut Net) {
        let Some(live) = &mut self.live else { return };
        loop {
            let Some(connection) = self.endpoint.connection(live.handle) else { return };
            let route = connection.route();
            let ways: Vec<Route> = connection.paths().map(|path| path.route).collect();
            let is_held = |(id, _): &(u64, _)| route == (Route::Tunnel { id: *id });
            let view = View {
                route,
                ways: &ways,
                is_silent: connection.is_silent(),
                is_held: self.streams.iter().any(is_held),
                is_open: !connection.is_closed(),
            };
            match live.switch.poll(now, &view) {
                None => return,
                Some(Step::Open(Which::Datagrams)) => {
                    let route = live.switch.datagrams_to(Route::udp(live.server_at));
                    live.switch.on_opened(Some(route));
                }
                Some(Step::Open(Which::Stream(_))) => self.dialing = Some(net.dial(now)),
                Some(Step::Ask(route)) => {
                    let is_asked = self.endpoint.try_route(now, live.handle, route);
                    live.switch.on_asked(now, is_asked);
                }
                Some(Step::Close) => {
                    for (id, closes) in &mut self.streams {
                        if !ways.contains(&Route::Tunnel { id: *id }) {
                            closes.get_or_insert(now + LINGER);
                        }
                    }
                }
            }
        }
    }

    /// Closes streams that are of no use any more.
    pub(super) fn part_with_streams(&mut self, now: Instant, net: &mut Net) {
        let mut used: Vec<Route> = Vec::new();
        let attempts = self.race.iter().flat_map(|race| &race.attempts);
        for handle in attempts {
            used.extend(self.endpoint.connection(*handle).map(|connection| connection.route()));
        }
        let is_idle = self.live.is_none();
        let mut over = Vec::new();
        for (id, closes) in &mut self.streams {
            let is_used = used.contains(&Route::Tunnel { id: *id });
            if is_idle && !is_used {
                closes.get_or_insert(now + LINGER);
            }
            if closes.is_some_and(|at| at <= now) {
                over.push(*id);
            }
        }
        for id in over {
            net.close(now, id, CLIENT);
            self.on_closed(now, id);
        }
    }

    pub(super) fn transmit(&mut self, now: Instant, net: &mut Net) -> bool {
        let mut any = false;
        while self.endpoint.poll_transmit(now, &mut self.batch) {
            any = true;
            let Some(route) = self.batch.route() else { continue };
            for payload in self.batch.contents().chunks(self.batch.segment_len().max(1)) {
                let payload = BytesMut::from(payload);
                match route {
                    Route::Tunnel { id } => net.write(now, id, CLIENT, payload),
                    Route::Udp { local, remote } => {
                        let own = local.map_or(SERVER_ADDRESS, |own| (own, 0).into());
                        let ecn = self.batch.ecn();
                        net.send(now, CLIENT, datagram(own, remote, ecn, payload, now));
                    }
                    Route::Relayed { .. } => {}
                }
            }
            self.batch.clear();
        }
        any
    }
}
