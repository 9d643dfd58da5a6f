//! Boxes that translate addresses, and networks made of them.
//!
//! A [`Gateway`] is one box: its [`Behaviour`] says how it maps inner addresses to outer ones, whom
//! it lets in, and how long it remembers (RFC 4787). A [`Network`] is a tree of realms: the public
//! one at the root, a private one behind each box, hosts in any of them. [`Site`] lists the boxes
//! that people live behind.
//!
//! A [`Meeting`] has two peers at two sites talk, with a coordinator in the public realm; [`matrix`]
//! does that for every pair of sites.

mod behaviour;
mod gateway;
mod hub;
pub mod matrix;
mod meeting;
mod network;
mod peer;
mod post;

pub use behaviour::{Allocation, Behaviour, Scope, Site};
pub use gateway::Gateway;
pub use meeting::{DELAY, Meeting, Outcome};
pub use network::{Arrival, BoxId, HostId, Network, Packet, RealmId};
