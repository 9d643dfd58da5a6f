//! Boxes that translate addresses, and networks made of them.
//!
//! A [`Gateway`] is one box: its [`Behaviour`] says how it maps inner addresses to outer ones, whom
//! it lets in, and how long it remembers (RFC 4787). A [`Network`] is a tree of realms: the public
//! one at the root, a private one behind each box, hosts in any of them. [`Site`] lists the boxes
//! that people live behind.

mod behaviour;
mod gateway;
mod network;

pub use behaviour::{Allocation, Behaviour, Scope, Site};
pub use gateway::Gateway;
pub use network::{Arrival, BoxId, HostId, Network, Packet, RealmId};
