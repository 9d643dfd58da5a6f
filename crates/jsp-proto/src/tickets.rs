//! Where clients keep tickets between connections.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use jsp_crypto::ClientTicket;

/// Tickets of one server that are kept; the newest count.
const PER_SERVER: usize = 4;

/// Servers that are remembered; the one whose last ticket is oldest gives way.
const SERVERS: usize = 1024;

/// Where tickets are kept, by the name that the application has for a server. Must be quick: it is
/// asked while a connection is started. A store that outlives the program keeps
/// [`ClientTicket::to_bytes`] as it would keep a key.
pub trait TicketStore: Send + Sync {
    /// Keeps a ticket.
    fn put(&self, server: &str, ticket: ClientTicket);

    /// Takes the newest ticket out: each serves once.
    fn take(&self, server: &str) -> Option<ClientTicket>;
}

/// A store in memory: four tickets a server, 1024 servers.
#[derive(Default)]
pub struct TicketMemory {
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    tickets: BTreeMap<String, VecDeque<ClientTicket>>,
    /// Names by the age of their last ticket, the oldest first.
    order: VecDeque<String>,
}

impl TicketStore for TicketMemory {
    fn put(&self, server: &str, ticket: ClientTicket) {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let Servers { tickets, order } = &mut *servers;
        order.retain(|name| name != server);
        if order.len() >= SERVERS
            && let Some(oldest) = order.pop_front()
        {
            tickets.remove(&oldest);
        }
        order.push_back(server.to_owned());
        let kept = tickets.entry(server.to_owned()).or_default();
        if kept.len() >= PER_SERVER {
            kept.pop_front();
        }
        kept.push_back(ticket);
    }

    // spec: HS-66
    fn take(&self, server: &str) -> Option<ClientTicket> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        let Servers { tickets, order } = &mut *servers;
        let kept = tickets.get_mut(server)?;
        let ticket = kept.pop_back();
        if kept.is_empty() {
            tickets.remove(server);
            order.retain(|name| name != server);
        }
        ticket
    }
}

impl core::fmt::Debug for TicketMemory {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TicketMemory")
    }
}
