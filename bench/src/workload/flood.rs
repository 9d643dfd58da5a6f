//! A flood of hellos from addresses that are not the flooder's, and what it does to others: clients
//! that connect, and a connection that is open.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use tokio::time::{sleep, timeout};

use super::client::Values;
use crate::plan::Plan;
use crate::process::Desk;
use crate::stats::percentile;
use crate::subject::{Connection, Endpoint, Stream, Use};

/// Datagrams that are thrown in a second, if a core can send so many.
const RATE: u64 = 100_000;
/// Sources: sockets bound to addresses all over 127/8, of as many networks as there are sockets.
const SOURCES: u16 = 256;
/// Different hellos, taken from the subject's own clients.
const HELLOS: usize = 200;
/// Silence after which a client's hello is complete.
const HELLO_PAUSE: Duration = Duration::from_millis(5);
/// Flood before anything is measured: servers have noticed it then.
pub(crate) const WARM_UP: Duration = Duration::from_secs(1);
/// Bytes of its message.
pub(crate) const PING_BYTES: usize = 64;
/// Between two round trips of the open connection.
pub(crate) const PING_PAUSE: Duration = Duration::from_millis(2);
/// Between two clients that connect.
const CLIENT_PAUSE: Duration = Duration::from_millis(10);
/// How long a client tries before it tries anew, and how often it does.
const TRY: Duration = Duration::from_secs(3);
const TRIES: u32 = 3;

/// Measures a connection in peace, then it and connecting clients under the flood.
pub(crate) async fn run<E: Endpoint>(
    endpoint: &E,
    server: SocketAddr,
    plan: Plan,
    desk: &Desk,
) -> Result<Values> {
    let time = Duration::from_millis(plan.millis);
    let connection = endpoint.connect(server).await?;
    let mut stream = connection.open(Use::Messages { gathered: false }).await?;
    round_trips(&mut stream, WARM_UP).await?;
    let mut calm = round_trips(&mut stream, time).await?;
    let hellos = hellos(endpoint).await?;
    desk.phase("start").await;
    let flood = Flood::start(server, hellos)?;
    sleep(WARM_UP).await;
    let (flooded, clients) =
        tokio::join!(round_trips(&mut stream, time), clients(endpoint, server, time));
    let rate = flood.stop();
    desk.phase("end").await;
    Ok(values(rate, Some(clients), &mut calm, &mut flooded?))
}

/// The figures by name.
pub(crate) fn values(
    rate: f64,
    clients: Option<Clients>,
    calm: &mut [f64],
    flooded: &mut [f64],
) -> Values {
    let clients = clients.as_ref();
    let share = |count: u64, of: &Clients| count as f64 * 100.0 / of.total.max(1) as f64;
    let figures = [
        ("rate", Some(rate)),
        ("clients", clients.map(|clients| clients.total as f64)),
        ("first_percent", clients.map(|clients| share(clients.first, clients))),
        ("within_percent", clients.map(|clients| share(clients.within, clients))),
        ("calm_p99_us", percentile(calm, 99.0)),
        ("flooded_p50_us", percentile(flooded, 50.0)),
        ("flooded_p99_us", percentile(flooded, 99.0)),
    ];
    let named = |(name, value): (&str, Option<f64>)| Some((name.to_owned(), value?));
    figures.into_iter().filter_map(named).collect()
}

/// Round trips of one message for a while; microseconds.
async fn round_trips(stream: &mut impl Stream, time: Duration) -> Result<Vec<f64>> {
    let message = Bytes::from_static(&[0x5a; PING_BYTES]);
    let (mut micros, begin) = (Vec::new(), Instant::now());
    while begin.elapsed() < time {
        let start = Instant::now();
        stream.send_message(&message).await?;
        if stream.recv_message().await?.is_none() {
            bail!("the open connection was lost");
        }
        micros.push(start.elapsed().as_secs_f64() * 1e6);
        sleep(PING_PAUSE).await;
    }
    Ok(micros)
}

/// How it went for those who wanted to connect.
#[derive(Default)]
pub(crate) struct Clients {
    total: u64,
    first: u64,
    within: u64,
}

async fn clients(endpoint: &impl Endpoint, server: SocketAddr, time: Duration) -> Clients {
    let (mut clients, begin) = (Clients::default(), Instant::now());
    while begin.elapsed() < time {
        clients.total += 1;
        for attempt in 0..TRIES {
            if matches!(timeout(TRY, endpoint.connect(server)).await, Ok(Ok(_))) {
                clients.first += u64::from(attempt == 0);
                clients.within += 1;
                break;
            }
        }
        sleep(CLIENT_PAUSE).await;
    }
    clients
}

/// The first datagrams of clients of this subject: they write to a socket that never answers.
async fn hellos<E: Endpoint>(endpoint: &E) -> Result<Vec<Vec<Vec<u8>>>> {
    let sink = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = sink.local_addr()?;
    let mut hellos = Vec::new();
    let mut buffer = vec![0; 2048];
    for _ in 0..HELLOS {
        let client = endpoint.clone();
        let attempt = tokio::spawn(async move { client.connect(address).await.map(drop) });
        let mut datagrams = Vec::new();
        // The first piece may take its time, the others follow it.
        let mut patience = TRY;
        while let Ok(read) = timeout(patience, sink.recv(&mut buffer)).await {
            datagrams.push(buffer[..read?].to_vec());
            patience = HELLO_PAUSE;
        }
        attempt.abort();
        if datagrams.is_empty() {
            bail!("a client said nothing");
        }
        hellos.push(datagrams);
    }
    Ok(hellos)
}

/// A thread that throws hellos until it is stopped.
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    begin: Instant,
    thread: thread::JoinHandle<()>,
}

impl Flood {
    /// Throws these hellos, each of some datagrams, at the server.
    pub(crate) fn start(server: SocketAddr, hellos: Vec<Vec<Vec<u8>>>) -> Result<Self> {
        let bind = |n: u16| -> Result<UdpSocket> {
            let [high, low] = n.to_be_bytes();
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 1 + high, low, 7), 0))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let sources = (0..SOURCES).map(bind).collect::<Result<Vec<_>>>()?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counter) = (Arc::clone(&stop), Arc::clone(&sent));
        let begin = Instant::now();
        let thread = thread::spawn(move || {
            let mut turn = 0usize;
            while !stopped.load(Ordering::Relaxed) {
                let due = (begin.elapsed().as_secs_f64() * RATE as f64) as u64;
                while counter.load(Ordering::Relaxed) < due {
                    let source = &sources[turn % sources.len()];
                    // All pairs of a source and a hello come by in time.
                    let hello = &hellos[(turn + turn / sources.len()) % hellos.len()];
                    turn += 1;
                    for datagram in hello {
                        // What the kernel does not take is not sent.
                        let taken = source.send_to(datagram, server).is_ok();
                        counter.fetch_add(u64::from(taken), Ordering::Relaxed);
                    }
                    if stopped.load(Ordering::Relaxed) {
                        return;
                    }
                }
                thread::sleep(Duration::from_micros(200));
            }
        });
        Ok(Self { stop, sent, begin, thread })
    }

    /// Ends the flood; datagrams a second.
    pub(crate) fn stop(self) -> f64 {
        let rate = self.sent.load(Ordering::Relaxed) as f64 / self.begin.elapsed().as_secs_f64();
        self.stop.store(true, Ordering::Relaxed);
        // It panics nowhere; a rate is told in any case.
        let _ = self.thread.join();
        rate
    }
}
