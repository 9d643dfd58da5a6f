//! The programs that run on the hosts: sinks on the right one, sources on the left one. A sink tells
//! where it listens on its first line of output, and what it found on the last.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clap::Subcommand;
use jsp::{Connection, Delivery, Endpoint, Identity, RecvError, StreamConfig};
use serde_json::json;
use socket2::SockRef;

/// Bytes handed over in one call.
const PIECE: usize = 64 << 10;
/// Bytes of a message.
const MESSAGE: usize = 200;
/// Between two messages.
pub(crate) const PACE: Duration = Duration::from_millis(10);

#[derive(Subcommand)]
pub(crate) enum Role {
    /// Takes what one JetStreamProto client sends.
    SinkJsp { address: SocketAddr },
    /// Takes what one TCP client sends.
    SinkTcp { address: SocketAddr },
    /// Sends bytes over JetStreamProto for so long.
    BulkJsp { address: SocketAddr, fingerprint: String, seconds: u64 },
    /// Sends bytes over TCP for so long, with this congestion control.
    BulkTcp { address: SocketAddr, control: String, seconds: u64 },
    /// Sends 200-byte messages, 100 a second, over JetStreamProto.
    Messages { address: SocketAddr, fingerprint: String, seconds: u64 },
    /// Sends one client 200-byte messages, 100 a second, over JetStreamProto.
    Serve { address: SocketAddr, seconds: u64 },
    /// Takes what a server sends, and sends nothing itself.
    Listen {
        address: SocketAddr,
        fingerprint: String,
        /// It stops then, whatever it has.
        seconds: u64,
        /// Learns of a change of its network by silence alone.
        #[arg(long)]
        unwatched: bool,
    },
}

pub(crate) fn run(role: Role) -> Result<()> {
    match role {
        Role::SinkTcp { address } => sink_tcp(address),
        Role::BulkTcp { address, control, seconds } => bulk_tcp(address, &control, seconds),
        role => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(run_jsp(role))
        }
    }
}

async fn run_jsp(role: Role) -> Result<()> {
    match role {
        Role::SinkJsp { address } => sink_jsp(address).await,
        Role::BulkJsp { address, fingerprint, seconds } => {
            bulk_jsp(address, &fingerprint, seconds).await
        }
        Role::Messages { address, fingerprint, seconds } => {
            messages(address, &fingerprint, seconds).await
        }
        Role::Serve { address, seconds } => serve(address, seconds).await,
        Role::Listen { address, fingerprint, seconds, unwatched } => {
            listen(address, &fingerprint, seconds, unwatched).await
        }
        Role::SinkTcp { .. } | Role::BulkTcp { .. } => Ok(()),
    }
}

/// A line that the other side waits for must not stay in a buffer.
fn say(line: &str) {
    println!("{line}");
    let _ = std::io::stdout().flush();
}

fn sink_tcp(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    say("tcp");
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; PIECE];
    while stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
    Ok(())
}

fn bulk_tcp(address: SocketAddr, control: &str, seconds: u64) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    SockRef::from(&stream)
        .set_tcp_congestion(control.as_bytes())
        .with_context(|| format!("the kernel has no congestion control `{control}`"))?;
    let (piece, start) = (vec![0; PIECE], Instant::now());
    while start.elapsed() < Duration::from_secs(seconds) {
        stream.write_all(&piece)?;
    }
    Ok(())
}

async fn sink_jsp(address: SocketAddr) -> Result<()> {
    let endpoint = Endpoint::server(address, Identity::generate())?;
    say(&endpoint.fingerprint().to_string());
    let connection = endpoint.accept().await.context("no client came")?;
    let mut taken = Taken::default();
    taken.take_all(&connection).await?;
    say(&taken.report());
    Ok(())
}

/// What has come.
#[derive(Default)]
struct Taken {
    bytes: usize,
    latencies: Vec<Duration>,
    /// The longest time between two messages.
    gap: Duration,
}

impl Taken {
    /// Takes everything that the peer sends, until the connection is over.
    async fn take_all(&mut self, connection: &Connection) -> Result<()> {
        while let Ok(stream) = connection.accept().await {
            let mut last: Option<Instant> = None;
            loop {
                match stream.recv().await {
                    Ok(Some(message)) => {
                        let now = Instant::now();
                        self.gap = self.gap.max(last.map_or(Duration::ZERO, |last| now - last));
                        last = Some(now);
                        self.latencies.push(age(&message.payload)?);
                    }
                    Err(RecvError::WrongFraming) => {
                        while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX).await {
                            self.bytes += chunk.len();
                        }
                        break;
                    }
                    Ok(None) | Err(_) => break,
                }
            }
        }
        Ok(())
    }

    fn report(mut self) -> String {
        self.latencies.sort_unstable();
        let rank = |share: f64| -> Option<f64> {
            let index = ((self.latencies.len() as f64 * share).ceil() as usize).saturating_sub(1);
            self.latencies.get(index).map(|latency| latency.as_secs_f64() * 1e3)
        };
        json!({ "bytes": self.bytes, "messages": self.latencies.len(), "p50": rank(0.5),
            "p99": rank(0.99), "gap": self.gap.as_secs_f64() * 1e3 })
        .to_string()
    }
}

/// Both hosts share the machine's clock.
fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn age(payload: &[u8]) -> Result<Duration> {
    let stamp = payload.first_chunk().context("a message without a time")?;
    Ok(wall().saturating_sub(Duration::from_nanos(u64::from_be_bytes(*stamp))))
}

async fn bulk_jsp(address: SocketAddr, fingerprint: &str, seconds: u64) -> Result<()> {
    let endpoint = Endpoint::client()?;
    let connection = endpoint.connect(address, fingerprint.parse::<jsp::Fingerprint>()?).await?;
    let stream = connection.open(StreamConfig::bytes()).await?;
    let (piece, start) = (Bytes::from(vec![0; PIECE]), Instant::now());
    while start.elapsed() < Duration::from_secs(seconds) {
        stream.write_all(piece.clone()).await?;
    }
    connection.close(0, b"");
    endpoint.shutdown().await;
    Ok(())
}

async fn messages(address: SocketAddr, fingerprint: &str, seconds: u64) -> Result<()> {
    let endpoint = Endpoint::client()?;
    let connection = endpoint.connect(address, fingerprint.parse::<jsp::Fingerprint>()?).await?;
    talk(&endpoint, connection, seconds).await
}

async fn serve(address: SocketAddr, seconds: u64) -> Result<()> {
    let endpoint = Endpoint::server(address, Identity::generate())?;
    say(&endpoint.fingerprint().to_string());
    let connection = endpoint.accept().await.context("no client came")?;
    talk(&endpoint, connection, seconds).await
}

async fn listen(
    address: SocketAddr,
    fingerprint: &str,
    seconds: u64,
    unwatched: bool,
) -> Result<()> {
    let builder = match unwatched {
        true => Endpoint::builder().without_network_monitor(),
        false => Endpoint::builder(),
    };
    let endpoint = builder.build()?;
    let connection = endpoint.connect(address, fingerprint.parse::<jsp::Fingerprint>()?).await?;
    let mut taken = Taken::default();
    let all = taken.take_all(&connection);
    match tokio::time::timeout(Duration::from_secs(seconds), all).await {
        Ok(taken) => taken?,
        Err(_) => connection.close(0, b""),
    }
    say(&taken.report());
    Ok(())
}

/// Sends messages at a steady pace, ends the connection, and says how many there were.
async fn talk(endpoint: &Endpoint, connection: Connection, seconds: u64) -> Result<()> {
    let config = StreamConfig {
        delivery: Delivery::Reliable,
        ordered: false,
        class: jsp::Class::RealTime,
        ..StreamConfig::messages()
    };
    let stream = connection.open(config).await?;
    let count = Duration::from_secs(seconds).as_millis() / PACE.as_millis();
    let mut ticks = tokio::time::interval(PACE);
    let mut payload = vec![0; MESSAGE];
    for _ in 0..count {
        ticks.tick().await;
        payload[..8].copy_from_slice(&(wall().as_nanos() as u64).to_be_bytes());
        stream.send(payload.clone()).await?;
    }
    stream.finish()?;
    let end = connection.shutdown().await;
    ensure!(
        matches!(end, jsp::ConnectionError::ClosedLocally { .. }),
        "the connection ended by itself: {end}"
    );
    endpoint.shutdown().await;
    say(&json!({ "sent": count }).to_string());
    Ok(())
}
