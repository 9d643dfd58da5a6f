//! Where a datagram goes: which link it takes, by the interface of a client that it leaves or is for.

use super::{REBIND_LATER, Task, World};
use crate::flow::{Pair, Side};
use crate::link::Datagram;
use crate::topology::{
    SERVER_ADDRESS, SERVER_OTHER, client_address, interface_of, pair_of, second_address,
};

impl World {
    /// A client opens its second path, or tries again later.
    pub(super) fn open_second(&mut self, client: usize) {
        let Some(second) = &self.topology.clients[client].second else { return };
        let is_over = self.checkers.ledger().is_over(client as Pair);
        let is_late = second.ends_at.is_some_and(|at| at <= self.now);
        if !self.nodes[client + 1].open_second(self.now, second) && !is_over && !is_late {
            self.put_down(self.now + REBIND_LATER, Task::OpenSecond(client));
        }
        self.pump(client + 1);
    }

    /// The node that the address leads to, unless it has moved away or is gone.
    pub(super) fn receiver_of(&self, datagram: &Datagram) -> Option<usize> {
        let index = match pair_of(datagram.to) {
            None => {
                let server = *self.servers.get(pair_of(datagram.from)? as usize)?;
                let is_there = datagram.to == SERVER_ADDRESS || self.topology.server.has_other();
                is_there.then_some(server)?
            }
            Some(pair) => {
                let current = client_address(pair, self.changes[pair as usize]);
                let is_second = datagram.to == second_address(pair);
                (datagram.to == current || is_second).then_some(pair as usize + 1)?
            }
        };
        (!self.nodes[index].is_gone()).then_some(index)
    }

    pub(super) fn send(&mut self, from: usize, mut datagram: Datagram) {
        let is_client = self.nodes_of(Side::Client).contains(&from);
        let pair = if is_client { u32::try_from(from - 1).ok() } else { pair_of(datagram.to) };
        let Some(pair) = pair else { return };
        let paths = &self.topology.paths;
        // A route of a client names the interface, where it has two.
        let named = if is_client { datagram.from } else { datagram.to };
        let interface = if pair_of(named) == Some(pair) { interface_of(named.ip()) } else { 0 };
        let mut of_client =
            paths.iter().enumerate().filter(|(_, path)| path.clients.contains(&pair));
        let Some((path, _)) = of_client.nth(interface) else { return };
        datagram.from = match interface {
            _ if !is_client && datagram.from.ip() == *SERVER_OTHER.ip() => SERVER_OTHER.into(),
            _ if !is_client => SERVER_ADDRESS,
            0 => client_address(pair, self.changes[pair as usize]),
            _ => second_address(pair),
        };
        datagram.beyond = self.topology.clients[pair as usize].access;
        let link = path * 2 + usize::from(!is_client);
        self.links[link].push(self.now, datagram);
        self.arm_link(link);
    }
}
