//! The meeting point of peers, as a daemon: it knows who is there by their identities, tells them
//! the address that it sees, and forwards sealed datagrams between two of them until they have found
//! a direct way. It holds no key that opens what it forwards.
//!
//! [`Daemon`] is the whole of it; `jspd` reads a [`Config`] and runs one.
#![forbid(unsafe_code)]

mod config;
mod daemon;
mod hall;
mod lender;
mod link;

pub use config::{CertificateConfig, Config, ConfigError, StreamsConfig, TurnConfig};
pub use daemon::{Daemon, StartError, Status};
