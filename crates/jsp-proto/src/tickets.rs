//! Where clients keep tickets between connections.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use jsp_crypto::ClientTicket;

/// Tickets of one server that are kept; the newest count.
const PER_SERVER: usize = 4;

/// Servers that are remembered; the one whose last ticket is oldest gives way.
const SERVERS: usize = 1024;

/// Where tickets are kept, by the name that the application has for a server. Must be quick, and must not call back: it is
/// asked while a connection is started and when tickets come, and everything else of its endpoint waits meanwhile. A store that outlives the program keeps
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A ticket in its stored form that is told from others by its transport parameters.
    fn ticket(number: u8) -> ClientTicket {
        let mut stored = vec![2, 1, 1, 0, 1, 1];
        stored.extend([0; 4 + 8 + 4 + 4 + 8 + 32 + 32 + 32]);
        // No ticket, the parameters, no protocol.
        stored.extend([0, 0, 0, 1, number, 0]);
        ClientTicket::from_bytes(&stored).unwrap()
    }

    fn take(memory: &TicketMemory, server: &str) -> Option<u8> {
        memory.take(server).map(|ticket| ticket.params()[0])
    }

    #[test]
    // spec-test: HS-66
    fn tickets_serve_once_the_newest_first_and_the_oldest_go() {
        let memory = TicketMemory::default();
        assert_eq!(take(&memory, "a"), None);
        for number in 1..=6 {
            memory.put("a", ticket(number));
        }
        memory.put("b", ticket(9));
        let taken: Vec<_> = (0..5).map(|_| take(&memory, "a")).collect();
        assert_eq!(taken, [Some(6), Some(5), Some(4), Some(3), None]);
        assert_eq!((take(&memory, "b"), take(&memory, "b")), (Some(9), None));
        // Nothing is left of servers without tickets.
        let servers = memory.servers.lock().unwrap();
        assert!(servers.tickets.is_empty() && servers.order.is_empty());
    }

    #[test]
    fn of_too_many_servers_the_one_that_was_met_longest_ago_goes() {
        let memory = TicketMemory::default();
        for number in 0..SERVERS {
            memory.put(&number.to_string(), ticket(1));
        }
        // Server 0 has news: server 1 is the oldest now.
        memory.put("0", ticket(2));
        assert_eq!(memory.servers.lock().unwrap().tickets.len(), SERVERS);
        memory.put("new", ticket(3));
        assert_eq!(memory.servers.lock().unwrap().tickets.len(), SERVERS);
        assert_eq!(
            (take(&memory, "0"), take(&memory, "1"), take(&memory, "2")),
            (Some(2), None, Some(1))
        );
        assert_eq!(take(&memory, "new"), Some(3));
        assert_eq!((PER_SERVER, SERVERS), (4, 1024));
    }
}
