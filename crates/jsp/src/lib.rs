//! JetStreamProto for tokio: one secure connection over UDP, many streams, each with its own way of
//! delivery.
//!
//! ```
//! use jsp::{Endpoint, Identity, StreamConfig};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let server = Endpoint::server("127.0.0.1:0", Identity::generate())?;
//!     let (addr, fingerprint) = (server.local_addr()?, server.fingerprint());
//!     tokio::spawn(async move {
//!         let stream = server.accept().await.unwrap().accept().await.unwrap();
//!         let question = stream.recv().await.unwrap().unwrap();
//!         stream.send(format!("you said: {}", question.text().unwrap())).await.unwrap();
//!         server.shutdown().await;
//!     });
//!     let stream = Endpoint::client()?.connect(addr, fingerprint).await?.open(StreamConfig::chat()).await?;
//!     stream.send("hello").await?;
//!     println!("{}", stream.recv().await?.unwrap().text().unwrap());
//!     Ok(())
//! }
//! ```
//!
//! # Endpoints, connections, streams
//!
//! An [`Endpoint`] is a UDP socket with a driver task: a server ([`Endpoint::server`]), a client
//! ([`Endpoint::client`]), or both. A [`Connection`] is encrypted and its server always proves its
//! [`Identity`]; [`Trust`] says which one the client goes on with. Either side opens [`Stream`]s
//! ([`Connection::open`], [`Connection::accept`]): opening costs no round trip and streams are
//! cheap, so one stream per message is fine ([`Connection::send_one`]).
//!
//! A stream carries messages ([`Stream::send`], [`Stream::recv`]) or bytes ([`Stream::write_all`],
//! [`Stream::read_chunk`], tokio's `AsyncRead` and `AsyncWrite`). Messages have any size up to a limit
//! ([`TransportConfig::message_len_max`], 16 MiB) in every mode; larger ones travel in pieces.
//!
//! # Delivery
//!
//! | [`Delivery`] | what it promises | for |
//! |---|---|---|
//! | `Reliable` | everything arrives | chat, files, requests |
//! | `Partial` | pieces are sent again until a number of times or a time is used up | video, telemetry |
//! | `Unreliable` | every piece is sent once | voice, positions |
//!
//! Each is ordered or not. An ordered stream hands messages up in the order of sending; an ordered
//! unreliable one never hands up a message older than the last. A message may bring its own
//! lifetime, number of retransmissions, or a key under which newer messages replace it
//! ([`Message`]). A message that is given up never holds back another.
//!
//! # Presets
//!
//! | [`StreamConfig`] | framing | delivery | order | priority |
//! |---|---|---|---|---|
//! | [`voice`](StreamConfig::voice) | messages | unreliable | none | real time, high weight |
//! | [`video`](StreamConfig::video) | messages | 150 ms | none | real time |
//! | [`chat`](StreamConfig::chat) | messages | reliable | as sent | interactive |
//! | [`telemetry`](StreamConfig::telemetry) | messages | one retransmission, 2 s | none | interactive, low weight |
//! | [`file`](StreamConfig::file) | bytes | reliable | as sent | what others leave |
//!
//! Real time goes before interactive, and interactive before what others leave, whenever a packet is built; but each
//! of the latter two gets 5 % of the bytes while it has data, so that nothing starves it. Inside a class
//! weights share; in real time the earliest deadline is first. [`StreamConfig::rate_cap`] keeps one
//! stream from taking the whole line.
//!
//! A connection that carries little but live media may choose [`CongestionControl::RealTime`] in its
//! [`TransportConfig`], which keeps queues short; with every choice,
//! [`Capacity::media_rate`] is what an encoder should aim at.
//!
//! # What became of a message
//!
//! [`Stream::send`] returns when the message is queued. [`SendStream::send_tracked`] gives a
//! [`Fate`] to await: arrived, expired, replaced, lost. [`SendStream::closed`] waits until a whole
//! finished stream has arrived. These tell that the peer's *transport* has the data;
//! [`RecvStream::consumed`] lets the peer's application say more (on two-way streams).
//!
//! # Waiting, and giving up waiting
//!
//! A slow receiver slows its sender: buffers are bounded on both sides ([`TransportConfig`],
//! [`StreamConfig::send_buffer`]), and `send` and `write` wait for room. On unreliable streams `send` waits for room
//! too, but a slow reader holds up nobody: it loses the oldest messages that wait for it
//! ([`TransportConfig::unreliable_buffer`]). The calls of [`SendStream`] and [`RecvStream`] say whether they are cancel-safe, that is, whether they may
//! be used in `tokio::select!` without losing data; all but `write_all`, `read_exact` and
//! `read_to_end` are.
//!
//! # Coming back
//!
//! A server gives its clients tickets, and an [`Endpoint`] keeps them ([`TicketStore`]): the next
//! connection to the same server is shorter and cheaper, without any call. [`Endpoint::connect_early`]
//! saves a round trip besides: what is sent on streams that are
//! [`replay_safe`](StreamConfig::replay_safe) leaves with the first datagram.
//!
//! ```no_run
//! # async fn example(client: jsp::Endpoint, server: jsp::Fingerprint) -> Result<(), Box<dyn std::error::Error>> {
//! use jsp::StreamConfig;
//!
//! let connection = client.connect_early("example.net:4433", server).await?;
//! let stream = connection.open(StreamConfig::messages().replay_safe()).await?;
//! stream.send("what is the weather like?").await?;
//! println!("{:?}", stream.recv().await?);
//! # Ok(())
//! # }
//! ```
//!
//! [`Connection::security`] tells at any moment what the keys are worth.
//!
//! # The end
//!
//! | call | what is under way |
//! |---|---|
//! | [`Connection::close`], [`Endpoint::close`] | is lost |
//! | [`Connection::shutdown`], [`Endpoint::shutdown`] | arrives; waits for it |
//! | dropping the last handle | arrives, if it does within 10 seconds |
//! | dropping a [`SendStream`] | arrives: it is [finished](SendStream::finish) |
//! | dropping a [`RecvStream`] | is not wanted: it is [stopped](RecvStream::stop) |
//!
//! What has arrived can be read after the connection's end.
//!
//! A connection on which nothing comes for 30 s ([`TransportConfig::idle_timeout`]) ends with
//! [`ConnectionError::TimedOut`], also where both sides are well and have nothing to say: one that is to outlast
//! pauses wants [`TransportConfig::keep_alive`] (off by default) on one side.
//!
//! # Errors
//!
//! One small enum for each operation: [`BindError`], [`ConnectError`], [`OpenError`],
//! [`SendError`], [`RecvError`]; and [`ConnectionError`] for why a connection is over. Their
//! messages say what to do.
//!
//! # What others see
//!
//! Contents are always secret; sizes and times of datagrams are not. [`TransportConfig::padding`] brings
//! datagrams to a few sizes ([`Padding::Buckets`]) or to a constant rate ([`Padding::ConstantRate`]);
//! [`Builder::obfuscation`] wraps them, so that the protocol does not show and strangers get no answer. What
//! that does and does not hide is in the specification, chapter 10.
//!
//! # Networks without UDP
//!
//! A server that also listens for streams ([`Builder::listen_tcp`], and with the features `tls` and `websocket`
//! the like) is reached where UDP is blocked: [`Builder::carriers`] says which [`Carrier`]s a client may use, and
//! [`Connection::capabilities`] what the one in use does. [`Builder::proxy`] goes through SOCKS5, HTTP or Tor.
//!
//! ```
//! # use jsp::{Carrier, CarrierPolicy, Endpoint, Identity};
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let server = Endpoint::builder().listen_tcp("127.0.0.1:0").identity(Identity::generate()).build()?;
//! let client = Endpoint::builder().carriers(CarrierPolicy::Only(vec![Carrier::tcp()])).build()?;
//! let connection = client.connect(server.local_addr()?, server.fingerprint()).await?;
//! assert!(connection.capabilities().reliable);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | what it brings |
//! |---|---|
//! | `native` (default) | encryption by `ring` and `aws-lc-rs`: the fast one; needs a C compiler for the target |
//! | `portable` | encryption in Rust alone: `default-features = false, features = ["portable"]` builds for any target that has `std` and tokio, without a C compiler |
//! | `tls` | the TLS carrier; brings `ring` whichever backend is chosen |
//! | `websocket` | the WebSocket carrier |
//! | `turn` | TURN servers of others for [`rendezvous`] |
//! | `port-mapping` | ports mapped by the router for [`rendezvous`] |
//! | `raptorq` | RaptorQ for large messages ([`FecPolicy::Fountain`]) |
//!
//! One backend must be on; where both are, `native` is used. They speak to each other, and all of this crate works with
//! either. The portable one takes two to five times as long for a packet (AES; ChaCha20 up to nine) and
//! three times as long for a handshake, and a small program is a megabyte smaller: `docs/PERFORMANCE.md`, "Size".
//!
//! # Testing on a bad network
//!
//! [`emulate`] has links with loss, delay, a rate and a queue, from a seed; with
//! `tokio::time::pause` such tests take no time.
#![forbid(unsafe_code)]

mod builder;
mod capacity;
pub mod carrier;
mod clock;
mod connect;
mod connection;
pub mod emulate;
mod endpoint;
mod error;
mod identity;
pub mod link;
pub mod monitor;
mod paths;
mod proxy;
mod race;
mod register;
mod remote;
pub mod rendezvous;
mod security;
mod shard;
mod stream;
mod switch;
mod task;

pub use builder::Builder;
pub use bytes::Bytes;
pub use carrier::{Capabilities, Carrier, CarrierKind, CarrierPolicy};
pub use connection::Connection;
pub use endpoint::Endpoint;
pub use error::{
    AddPathError, BindError, ConnectError, ConnectionError, IdentityError, OpenError, RecvError,
    RenewError, SendError,
};
pub use identity::{ClientAuth, Identity, IdentityCheck, Trust, delegate};
pub use jsp_crypto::{
    ClientTicket, Delegation, DelegationError, Fingerprint, HandshakeError, IssueError, Kem, Mode,
    ObfuscationKey, PeerIdentity, PublicIdentity, SignError, SignaturePolicy, SignatureScheme,
    Signer, Suite,
    identity::{DelegationFileError, FingerprintError, PublicTextError},
};
pub use jsp_proto::{
    Alarm, AlarmCause, AlarmLevel, Attributes, Buckets, Capacity, Class, CloseCode,
    CongestionControl, ConnectionStats, ConstantRate, Delivery, Duplicate, FecPolicy, Framing,
    Kind, Message, MessageFate, NetworkHint, Outlook, Padding, PathError, PathId, PathInfo,
    PathMemory, PathUse, PreferredAddresses, Received, RetryPolicy, Signals, StreamConfig,
    StreamId, StreamInfo, TicketMemory, TicketStore, Traffic, TransportConfig,
};
pub use proxy::{Proxy, ProxyError};
pub use register::{RegisterFile, RegisterStore};
pub use remote::Remote;
pub use security::Security;
pub use stream::{Fate, IntoChunk, RecvStream, SendStream, Stream};

/// The program in the README compiles and runs.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
