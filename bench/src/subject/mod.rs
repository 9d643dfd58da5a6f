//! What is measured: one trait for every transport, one file for each.

pub(crate) mod jsp;
#[cfg(feature = "peers")]
pub(crate) mod kcp;
#[cfg(feature = "peers")]
pub(crate) mod noq;
#[cfg(feature = "heavy")]
pub(crate) mod quiche;
pub(crate) mod quinn;
pub(crate) mod raw;
pub(crate) mod rustls_tcp;
#[cfg(feature = "peers")]
pub(crate) mod s2n;
#[cfg(feature = "peers")]
pub(crate) mod sans_io;
#[cfg(feature = "peers")]
pub(crate) mod str0m;
pub(crate) mod tls_config;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Result, bail};
use bytes::Bytes;

use crate::plan::{Exercise, Plan};
use crate::process::Desk;
use crate::workload::{client, server};

/// How a stream is used, said by both sides when it opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Bytes.
    Bytes,
    /// Messages in the subject's own framing; `gathered` in 16 KiB writes.
    Messages {
        /// Whether the application gathers them before it writes.
        gathered: bool,
    },
}

/// Bytes that a gathering application writes at a time.
pub(crate) const GATHER_BYTES: usize = 16 << 10;

impl Use {
    /// Bytes of messages to gather before a write.
    pub(crate) fn gather_bytes(self) -> usize {
        if self == (Self::Messages { gathered: true }) { GATHER_BYTES } else { 0 }
    }
}

/// One side's socket or listener. Cloned into every task that connects.
pub(crate) trait Endpoint: Clone + Send + Sync + 'static {
    /// A connection whose handshake is not done.
    type Pending: Send + 'static;
    /// An established connection.
    type Connection: Connection;

    /// The next client; `None` when the endpoint is closed.
    fn accept(&self) -> impl Future<Output = Option<Self::Pending>> + Send;
    /// Finishes the handshake with a client.
    fn establish(pending: Self::Pending) -> impl Future<Output = Result<Self::Connection>> + Send;
    /// Connects, full handshake, and authenticates the server.
    fn connect(&self, server: SocketAddr) -> impl Future<Output = Result<Self::Connection>> + Send;
}

/// An established connection; dropping the last clone closes it.
pub(crate) trait Connection: Clone + Send + Sync + 'static {
    /// A stream that both sides may write to.
    type Stream: Stream;

    /// Opens a stream.
    fn open(&self, using: Use) -> impl Future<Output = Result<Self::Stream>> + Send;
    /// The next stream from the peer; `None` or an error when the connection ended.
    fn accept(&self, using: Use) -> impl Future<Output = Result<Option<Self::Stream>>> + Send;

    /// Sends a message on a stream of its own.
    fn send_alone(&self, message: Bytes) -> impl Future<Output = Result<()>> + Send {
        async move { bail!("no stream per message ({} bytes) here", message.len()) }
    }
    /// The length of the next message that came on a stream of its own.
    fn recv_alone(&self) -> impl Future<Output = Result<Option<usize>>> + Send {
        async { bail!("no stream per message here") }
    }
    /// Sends an unreliable datagram, waiting while the subject has no room.
    fn send_datagram(&self, datagram: Bytes) -> impl Future<Output = Result<()>> + Send {
        async move { bail!("no datagrams ({} bytes) here", datagram.len()) }
    }
    /// The length of the next datagram.
    fn recv_datagram(&self) -> impl Future<Output = Result<Option<usize>>> + Send {
        async { bail!("no datagrams here") }
    }
}

/// A stream that both sides may write to.
pub(crate) trait Stream: Send + 'static {
    /// Writes all of `piece`.
    fn write(&mut self, piece: &Bytes) -> impl Future<Output = Result<()>> + Send;
    /// Reads what there is, in the subject's cheapest way, and forgets it; how many bytes
    /// that was, `None` at the end.
    fn consume(&mut self) -> impl Future<Output = Result<Option<usize>>> + Send;
    /// Sends one message.
    fn send_message(&mut self, message: &Bytes) -> impl Future<Output = Result<()>> + Send;
    /// The next message; `None` at the end.
    fn recv_message(&mut self) -> impl Future<Output = Result<Option<Bytes>>> + Send;
    /// Ends this side's writing, with all that waits sent before.
    fn finish(&mut self) -> impl Future<Output = Result<()>> + Send;
}

/// A library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    /// JetStreamProto.
    Jsp,
    /// QUIC.
    Quinn,
    /// QUIC, a fork of quinn; with the feature `peers`.
    Noq,
    /// QUIC, with the feature `peers`.
    S2n,
    /// QUIC, with the feature `heavy`.
    Quiche,
    /// KCP, sealed packet by packet; with the feature `peers`.
    Kcp,
    /// Data channels of WebRTC; with the feature `peers`.
    Str0m,
    /// TCP and TLS 1.3.
    Tls,
    /// UDP and AES-GCM and nothing else: the practical limit.
    Raw,
}

/// A setting of a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Profile {
    /// As it comes.
    Default,
    /// Set for this machine: large windows and buffers.
    Tuned,
    /// Tuned, with BBR.
    Bbr,
    /// As it comes, with aws-lc-rs in place of ring.
    AwsLc,
    /// As it comes, with the X25519MLKEM768 key exchange.
    PostQuantum,
    /// As it comes, but every client must prove its address first.
    Retry,
    /// As it comes, with two shards at the server.
    Sharded,
}

/// How the program around the library runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Flavour {
    /// Tokio's multi-thread runtime, what `#[tokio::main]` gives; raw: blocking calls.
    Usual,
    /// Tokio's current-thread runtime.
    CurrentThread,
    /// Busy polling, where a subject has it.
    Spin,
}

/// One column of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Subject {
    /// The library.
    pub(crate) family: Family,
    /// Its setting.
    pub(crate) profile: Profile,
    /// The program around it.
    pub(crate) flavour: Flavour,
}

/// Every subject by name: family, then setting, then flavour where they are not the usual. Not
/// all are built; see [`Subject::is_built`].
pub(crate) const NAMES: &[&str] = &[
    "jsp",
    "jsp-ct",
    "jsp-shards",
    "jsp-spin",
    "quinn",
    "quinn-ct",
    "quinn-tuned",
    "quinn-tuned-ct",
    "quinn-bbr",
    "quinn-bbr-ct",
    "quinn-aws",
    "quinn-aws-ct",
    "quinn-pq",
    "quinn-pq-ct",
    "quinn-retry",
    "noq",
    "noq-ct",
    "noq-tuned",
    "noq-tuned-ct",
    "noq-bbr",
    "s2n",
    "s2n-ct",
    "s2n-tuned",
    "s2n-tuned-ct",
    "quiche",
    "quiche-ct",
    "quiche-bbr",
    "quiche-pq",
    "kcp",
    "kcp-ct",
    "str0m",
    "str0m-ct",
    "tls",
    "tls-ct",
    "raw",
    "raw-spin",
];

impl FromStr for Subject {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        if !NAMES.contains(&name) {
            bail!("no subject {name:?}; there are {}", NAMES.join(", "));
        }
        let mut words = name.split('-');
        let family = match words.next() {
            Some("jsp") => Family::Jsp,
            Some("quinn") => Family::Quinn,
            Some("noq") => Family::Noq,
            Some("s2n") => Family::S2n,
            Some("quiche") => Family::Quiche,
            Some("kcp") => Family::Kcp,
            Some("str0m") => Family::Str0m,
            Some("tls") => Family::Tls,
            _ => Family::Raw,
        };
        let mut subject = Self { family, profile: Profile::Default, flavour: Flavour::Usual };
        for word in words {
            match word {
                "tuned" => subject.profile = Profile::Tuned,
                "bbr" => subject.profile = Profile::Bbr,
                "retry" => subject.profile = Profile::Retry,
                "shards" => subject.profile = Profile::Sharded,
                "aws" => subject.profile = Profile::AwsLc,
                "pq" => subject.profile = Profile::PostQuantum,
                "ct" => subject.flavour = Flavour::CurrentThread,
                _ => subject.flavour = Flavour::Spin,
            }
        }
        Ok(subject)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.family {
            Family::Jsp => "jsp",
            Family::Quinn => "quinn",
            Family::Noq => "noq",
            Family::S2n => "s2n",
            Family::Quiche => "quiche",
            Family::Kcp => "kcp",
            Family::Str0m => "str0m",
            Family::Tls => "tls",
            Family::Raw => "raw",
        })?;
        f.write_str(match self.profile {
            Profile::Default => "",
            Profile::Tuned => "-tuned",
            Profile::Bbr => "-bbr",
            Profile::AwsLc => "-aws",
            Profile::PostQuantum => "-pq",
            Profile::Retry => "-retry",
            Profile::Sharded => "-shards",
        })?;
        f.write_str(match self.flavour {
            Flavour::Usual => "",
            Flavour::CurrentThread => "-ct",
            Flavour::Spin => "-spin",
        })
    }
}

impl Subject {
    /// Whether the library can do `exercise` at all.
    pub(crate) fn supports(self, exercise: Exercise) -> bool {
        match self.family {
            Family::Jsp | Family::Quinn => true,
            Family::Noq | Family::S2n | Family::Quiche => exercise != Exercise::Flood,
            Family::Kcp => {
                matches!(exercise, Exercise::Transfer | Exercise::Messages | Exercise::Pingpong)
            }
            Family::Str0m => !matches!(exercise, Exercise::MessagePerStream | Exercise::Flood),
            Family::Tls => !matches!(
                exercise,
                Exercise::MessagePerStream
                    | Exercise::Datagrams
                    | Exercise::Paced
                    | Exercise::Flood
            ),
            Family::Raw => matches!(
                exercise,
                Exercise::Transfer
                    | Exercise::Messages
                    | Exercise::Datagrams
                    | Exercise::Pingpong
                    | Exercise::Flood
            ),
        }
    }

    /// Whether this program was built with it.
    pub(crate) fn is_built(self) -> bool {
        match self.family {
            Family::Noq | Family::S2n | Family::Kcp | Family::Str0m => cfg!(feature = "peers"),
            Family::Quiche => cfg!(feature = "heavy"),
            Family::Jsp | Family::Quinn | Family::Tls | Family::Raw => true,
        }
    }

    /// Whether its packets are UDP, so that an emulated path can carry them.
    pub(crate) fn is_udp(self) -> bool {
        self.family != Family::Tls
    }

    /// Whether it repairs losses.
    pub(crate) fn retransmits(self) -> bool {
        self.family != Family::Raw
    }

    /// Whether its streams are bytes, so that the application frames messages and may
    /// gather them.
    pub(crate) fn has_byte_streams(self) -> bool {
        !matches!(self.family, Family::Jsp | Family::Kcp | Family::Str0m | Family::Raw)
    }

    /// Whether a connection carries many streams.
    pub(crate) fn has_streams(self) -> bool {
        self.family != Family::Kcp
    }

    /// Runs the server of `exercise` until the runner ends it.
    pub(crate) fn serve(self, exercise: Exercise, plan: Plan, desk: &Desk) -> Result<()> {
        if self.family == Family::Raw {
            return raw::serve(exercise, self.flavour, plan, desk);
        }
        self.runtime()?.block_on(async {
            match self.family {
                Family::Jsp => {
                    let (endpoint, address, trust) = jsp::listen(self, plan)?;
                    server::run(endpoint, address, trust, exercise, plan, desk).await
                }
                Family::Quinn => {
                    let (endpoint, address, trust) = quinn::listen(self.profile, plan)?;
                    server::run(endpoint, address, trust, exercise, plan, desk).await
                }
                #[cfg(feature = "peers")]
                Family::Noq => {
                    let (endpoint, address, trust) = noq::listen(self.profile)?;
                    server::run(endpoint, address, trust, exercise, plan, desk).await
                }
                #[cfg(feature = "peers")]
                Family::S2n => {
                    let (endpoint, address, trust) = s2n::listen(self.profile)?;
                    server::run(endpoint, address, trust, exercise, plan, desk).await
                }
                #[cfg(feature = "heavy")]
                Family::Quiche => {
                    let (endpoint, address, trust) = quiche::listen(self.profile)?;
                    server::run(endpoint, address, trust, exercise, plan, desk).await
                }
                #[cfg(feature = "peers")]
                Family::Kcp => {
                    let (endpoint, address) = kcp::listen()?;
                    server::run(endpoint, address, String::new(), exercise, plan, desk).await
                }
                #[cfg(feature = "peers")]
                Family::Str0m => {
                    let (endpoint, address, trust) = str0m::listen()?;
                    server::run(endpoint, address, trust, exercise, plan, desk).await
                }
                Family::Tls => {
                    let (endpoint, address, trust) = rustls_tcp::listen(self.profile).await?;
                    server::run(endpoint, address, trust, exercise, plan, desk).await
                }
                _ => bail!("{self} was not built"),
            }
        })
    }

    /// Runs the client of `exercise` and reports to the runner.
    pub(crate) fn drive(
        self,
        exercise: Exercise,
        plan: Plan,
        address: SocketAddr,
        trust: &str,
        desk: &Desk,
    ) -> Result<()> {
        if self.family == Family::Raw {
            return raw::drive(exercise, self.flavour, plan, address, desk);
        }
        self.runtime()?.block_on(async {
            match self.family {
                Family::Jsp => {
                    let endpoint = jsp::dialler(self, trust, plan)?;
                    client::run(endpoint, address, exercise, plan, desk).await
                }
                Family::Quinn => {
                    let endpoint = quinn::dialler(self.profile, trust, plan)?;
                    client::run(endpoint, address, exercise, plan, desk).await
                }
                #[cfg(feature = "peers")]
                Family::Noq => {
                    let endpoint = noq::dialler(self.profile, trust)?;
                    client::run(endpoint, address, exercise, plan, desk).await
                }
                #[cfg(feature = "peers")]
                Family::S2n => {
                    let endpoint = s2n::dialler(self.profile, trust)?;
                    client::run(endpoint, address, exercise, plan, desk).await
                }
                #[cfg(feature = "heavy")]
                Family::Quiche => {
                    let endpoint = quiche::dialler(self.profile, trust)?;
                    client::run(endpoint, address, exercise, plan, desk).await
                }
                #[cfg(feature = "peers")]
                Family::Kcp => client::run(kcp::dialler(), address, exercise, plan, desk).await,
                #[cfg(feature = "peers")]
                Family::Str0m => {
                    let endpoint = str0m::dialler(trust)?;
                    client::run(endpoint, address, exercise, plan, desk).await
                }
                Family::Tls => {
                    let endpoint = rustls_tcp::dialler(self.profile, trust)?;
                    client::run(endpoint, address, exercise, plan, desk).await
                }
                _ => bail!("{self} was not built"),
            }
        })
    }

    fn runtime(self) -> Result<tokio::runtime::Runtime> {
        let mut builder = match self.flavour {
            Flavour::CurrentThread => tokio::runtime::Builder::new_current_thread(),
            Flavour::Usual | Flavour::Spin => tokio::runtime::Builder::new_multi_thread(),
        };
        Ok(builder.enable_all().build()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back() {
        for name in NAMES {
            assert_eq!(name.parse::<Subject>().unwrap().to_string(), *name);
        }
        assert!("quinn-fast".parse::<Subject>().is_err());
    }
}
