//! Clients on the move, with everything that can go wrong with them in one world: addresses that change,
//! a second interface, networks where UDP does not pass and streams take its place, outages that outlive
//! every connection, processes, at both ends, that are killed and started again.
//!
//! Above the transport there is a session (`jsp_app`), beside it a call whose messages have fates. The
//! real machines do all of it: endpoints, [`jsp_nat::switch`], sessions, registries. What is made up here
//! is what no machine is: the network, streams, disks and applications.
//!
//! [`plan`] makes a world from a seed, [`world`] lives it through, [`figures`] measures certain ones.

mod bearer;
mod call;
mod client;
mod disk;
pub mod figures;
mod net;
mod pipe;
pub mod plan;
mod server;
mod story;
pub mod world;
