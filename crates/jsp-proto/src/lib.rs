//! The JetStreamProto transport as a machine without I/O.
//!
//! [`Endpoint`] holds the connections of one socket and speaks five verbs: `handle_datagram`,
//! `handle_timeout`, `poll_transmit`, `poll_event`, `poll_timeout`. Time is an argument
//! ([`Instant`]), randomness follows from a seed, and nothing here knows a socket or a runtime: the
//! same machine runs under tokio (crate `jsp`), in a simulator, and wherever else a driver is
//! written for it.
//!
//! # The corridor
//!
//! Data takes one straight way through the crate. Outwards: `streams` hold what the application
//! gave ([`Connection::send`]); `permit` says whether and how much may leave; `compose` fills a
//! packet, in which the streams' scheduler decides whose bytes go first; `packet` and `seal` number
//! and protect it; `recovery` remembers it; `batch` lays datagrams side by side. Inwards:
//! `endpoint` finds the connection; `seal` is undone; `space` drops what came twice; `path` notes
//! where it came from; `dispatch` hands each frame to its owner; fates and data go up as events.
#![forbid(unsafe_code)]
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::panic
)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::panic
    )
)]

// The modules that may compute plainly do so with our own measurements, or with numbers that credit and
// windows have bounded; builds for tests and simulations check every overflow in them.
mod ack;
mod ack_request;
mod batch;
mod bounded;
#[allow(clippy::arithmetic_side_effects)]
mod capacity;
mod cid;
mod compose;
mod config;
#[allow(clippy::arithmetic_side_effects)]
mod congestion;
mod connection;
mod control;
mod early_data;
mod endpoint;
mod error;
mod event;
mod exchange;
#[allow(clippy::arithmetic_side_effects)]
mod fec;
#[allow(clippy::arithmetic_side_effects)]
mod forecast;
#[cfg(feature = "fuzzing")]
mod fuzzing;
mod handshake;
mod hold;
mod keys;
mod lifecycle;
#[allow(clippy::arithmetic_side_effects)]
mod pacer;
mod pack;
mod packet;
mod padding;
#[allow(clippy::arithmetic_side_effects)]
mod path;
mod permit;
mod pieces;
mod probes;
#[allow(clippy::arithmetic_side_effects)]
mod qlog;
#[allow(clippy::arithmetic_side_effects)]
mod recovery;
mod restraint;
mod rng;
mod seal;
mod session;
mod space;
mod spaces;
mod stats;
#[allow(clippy::arithmetic_side_effects)]
mod streams;
mod tickets;
mod token;
#[allow(clippy::arithmetic_side_effects)]
mod trickle;
mod unix_time;

pub use batch::{Batch, Ecn};
pub use capacity::Capacity;
pub use config::{
    CongestionControl, EndpointConfig, PreferredAddresses, RetryPolicy, ServerSetup,
    TransportConfig,
};
pub use connection::{Connection, Reason};
pub use endpoint::{
    ConnectError, ConnectionHandle, Datagram, Deferred, Endpoint, LONG_ID_AT, SHARDS_MAX,
    SHORT_ID_AT, Shard,
};
pub use error::{OpenError, PathError, RecvError, SendError, TransportError};
pub use event::{CloseReason, Event, PathEnd};
#[doc(hidden)]
pub use fec::BareFec;
pub use forecast::{Alarm, AlarmCause, AlarmLevel, NetworkHint, Outlook, Signals};
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use fuzzing::{BareLedger, BareStreams, Fates};
pub use padding::{Buckets, ConstantRate, Padding};
pub use path::memory::PathMemory;
pub use stats::{ConnectionStats, PathInfo, Traffic};
pub use streams::Side;
pub use streams::config::{
    Delivery, Duplicate, FecPolicy, Message, MessageFate, Received, StreamConfig, StreamInfo,
};
pub use tickets::{TicketMemory, TicketStore};

pub use jsp_wire::frame::{Attributes, Kind, PathUse};
pub use jsp_wire::stream::{Class, Framing};
pub use jsp_wire::{CloseCode, Instant, PathId, Route, StreamId};
