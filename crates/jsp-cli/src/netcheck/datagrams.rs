//! What UDP does between this machine and the coordinator.

use std::net::SocketAddr;
use std::time::Duration;

use jsp::rendezvous::{Filtering, Mapping, Peer, Policy, Registration};
use jsp::{Endpoint, Fingerprint, Identity, Message, TransportConfig};
use tokio::time::{Instant, sleep, timeout};

use crate::exit::{Exit, Failure};
use crate::output::milliseconds;
use crate::protocol::{APPLICATION_PROTOCOL, ping_stream};
use crate::session;

/// Largest datagrams that are tried: those of Ethernet, by UDP payload.
const CEILING_V4: usize = 1472;
const CEILING_V6: usize = 1452;
/// The search for the largest datagram is over when nothing larger has passed for so long, in round trips
/// and at least.
const STEADY_ROUND_TRIPS: u32 = 20;
const STEADY_MIN: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Messages there and back over the relay; the fastest counts.
const ECHOES: usize = 5;

/// What was found out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Datagrams {
    /// This machine's address on the way to the coordinator, and the one that the coordinator sees.
    pub(crate) own: Option<SocketAddr>,
    pub(crate) seen: Option<SocketAddr>,
    /// `None` where one server alone cannot tell.
    pub(crate) mapping: Option<Mapping>,
    pub(crate) filtering: Option<Filtering>,
    pub(crate) hairpin: Option<bool>,
    /// Another server that was asked.
    pub(crate) other: Option<SocketAddr>,
    /// The largest datagram that passes, in bytes of UDP payload, and whether it was the largest tried.
    pub(crate) payload: usize,
    pub(crate) is_ceiling: bool,
    /// To the coordinator and back, the fastest of all packets, in milliseconds.
    pub(crate) round_trip_ms: f64,
    /// Between two peers here, there and back over the relay; or why not.
    pub(crate) relay_ms: Result<f64, String>,
}

/// Looks closer, over the coordinator's address that answers.
pub(crate) async fn try_datagrams(
    coordinator: SocketAddr,
    fingerprint: Fingerprint,
    stun: Option<SocketAddr>,
    patience: Duration,
) -> Result<Datagrams, Failure> {
    let ceiling = match coordinator.ip().to_canonical().is_ipv4() {
        true => CEILING_V4,
        false => CEILING_V6,
    };
    let (peer, registration) = register(coordinator, fingerprint, ceiling, patience).await?;
    let port = peer.endpoint().local_addr().map(|own| own.port());
    let ip = session::own_address(coordinator);
    let own = ip.zip(port.ok()).map(|(ip, port)| SocketAddr::new(ip, port));
    let seen = registration.observed();
    let other = stun.or_else(|| registration.other_stun());
    // A port of its own: what strangers have sent to a port makes some boxes map it anew.
    let stranger = build(ceiling, patience)?;
    let (relay_ms, payload, report, filtering) = tokio::join!(
        relay(&registration, coordinator, fingerprint, patience),
        largest(&registration, ceiling, patience),
        async { timeout(patience, peer.discover([coordinator, other?])).await.ok()?.ok() },
        async { timeout(patience, stranger.filtering([coordinator, other?])).await.ok()?.ok()? },
    );
    let is_own = own.is_some() && own == seen;
    let mapping = report.and_then(|report| report.mapping);
    let found = Datagrams {
        own,
        seen,
        mapping: mapping.or(is_own.then_some(Mapping::None)),
        filtering,
        hairpin: report.and_then(|report| report.hairpin),
        other,
        payload,
        is_ceiling: payload >= ceiling,
        round_trip_ms: milliseconds(registration.stats().rtt_min),
        relay_ms: relay_ms.map_err(|failure| failure.sentence),
    };
    peer.endpoint().close(0, b"");
    Ok(found)
}

/// A peer on a port of its own, which uses the relay alone.
fn build(ceiling: usize, patience: Duration) -> Result<Peer, Failure> {
    let transport = TransportConfig { mtu_ceiling: ceiling, ..session::transport(patience) };
    let builder = Endpoint::builder()
        .identity(Identity::generate())
        .application_protocol(APPLICATION_PROTOCOL)
        .transport(transport);
    Ok(Peer::build(builder, Policy::RelayOnly)?)
}

async fn register(
    coordinator: SocketAddr,
    fingerprint: Fingerprint,
    ceiling: usize,
    patience: Duration,
) -> Result<(Peer, Registration), Failure> {
    let peer = build(ceiling, patience)?;
    let registration = peer.register(coordinator, fingerprint).await?;
    Ok((peer, registration))
}

/// The largest datagram to the coordinator, once it grows no more.
async fn largest(registration: &Registration, ceiling: usize, patience: Duration) -> usize {
    let end = Instant::now() + patience;
    let (mut largest, mut since) = (0, Instant::now());
    loop {
        let stats = registration.stats();
        let now = Instant::now();
        if stats.datagram_len > largest {
            (largest, since) = (stats.datagram_len, now);
        }
        let steady = STEADY_MIN.max(stats.rtt * STEADY_ROUND_TRIPS);
        if largest >= ceiling || now >= end || now >= since + steady {
            return largest;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// A second peer of this machine is called over the relay, and sends back what it gets.
async fn relay(
    registration: &Registration,
    coordinator: SocketAddr,
    fingerprint: Fingerprint,
    patience: Duration,
) -> Result<f64, Failure> {
    let (other, _stays) = register(coordinator, fingerprint, CEILING_V6, patience).await?;
    let name = other.endpoint().fingerprint();
    let echo = async {
        let connection = other.accept().await?;
        let stream = connection.accept().await.ok()?;
        while let Ok(Some(message)) = stream.recv().await {
            stream.try_send(message.payload).ok()?;
        }
        Some(())
    };
    let ask = async {
        let failed = |error: &dyn std::fmt::Display| {
            Failure::new(Exit::Unreachable, format!("no way over the relay: {error}"))
        };
        let connection = registration.connect(name).await.map_err(|error| failed(&error))?;
        let stream = connection.open(ping_stream()).await?;
        let mut fastest = Duration::MAX;
        for number in 0..ECHOES {
            let sent = Instant::now();
            stream.send(Message::binary(vec![number as u8; 16])).await?;
            if let Ok(Ok(Some(_))) = timeout(patience / ECHOES as u32, stream.recv()).await {
                fastest = fastest.min(sent.elapsed());
            }
        }
        connection.close(0, b"");
        match fastest {
            Duration::MAX => Err(failed(&"nothing comes back")),
            fastest => Ok(milliseconds(fastest)),
        }
    };
    tokio::pin!(ask);
    let asked = tokio::select! {
        asked = &mut ask => asked,
        _ = echo => ask.await,
    };
    other.endpoint().close(0, b"");
    asked
}
