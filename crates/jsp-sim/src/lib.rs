//! Seeded simulator with checkers for JetStreamProto.
//!
//! A [`topology::Topology`] lists a server, clients with scripts, and paths between them. A
//! [`world::World`] runs it in virtual time: real [`jsp_proto::Endpoint`]s with real cryptography,
//! links that are machines themselves ([`link`]), applications that follow a plan ([`app`]), and
//! [`checkers`] that watch all of it. Everything follows from the seed and the code, so that a
//! failure is reproduced by its seed.
//!
//! [`random_world`] makes a topology from a seed; [`trial`] lives it through; [`runner`] does that
//! for many seeds; [`lab`] measures on named networks, beside the transports of [`peer`].

pub mod app;
pub mod checkers;
pub mod flow;
pub mod lab;
pub mod link;
pub mod nat;
mod node;
pub mod observation;
pub mod peer;
pub mod privacy;
pub mod random;
mod random_privacy;
pub mod random_script;
pub mod random_world;
pub mod report;
pub mod resumption;
pub mod roaming;
pub mod runner;
pub mod topology;
pub mod trial;
pub mod world;
