//! What the network in front of this machine lets through, asked of a coordinator.

mod carry;
mod datagrams;
mod report;
mod turn;

pub(crate) use carry::{Passage, Streams, try_streams, try_udp};
pub(crate) use datagrams::{Datagrams, try_datagrams};
pub(crate) use report::Report;
pub(crate) use turn::{Lent, try_turn};
