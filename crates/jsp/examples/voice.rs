//! Voice over a bad network: a packet every 20 ms, repaired for 60 ms, a few lost for good.
//!
//! `cargo run -p jsp --example voice`

use std::time::Duration;

use jsp::emulate::BadLink;
use jsp::link::UdpLink;
use jsp::{Endpoint, Identity, StreamConfig};
use tokio::time::Instant;

/// One second of voice.
const PACKETS: u64 = 50;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::server("127.0.0.1:0", Identity::generate())?;
    let (addr, pin) = (server.local_addr()?, server.fingerprint());
    let started = Instant::now();
    let listener = tokio::spawn(async move {
        let stream = server.accept().await.unwrap().accept().await.unwrap();
        let mut delays = Vec::new();
        while let Ok(Some(packet)) = stream.recv().await {
            let sent = Duration::from_millis(packet.attributes.timestamp_ms.unwrap_or(0));
            delays.push(started.elapsed().saturating_sub(sent));
        }
        delays
    });

    let bad = BadLink {
        loss: 0.05,
        one_way_delay: Duration::from_millis(30),
        jitter: Duration::from_millis(10),
        seed: 7,
        ..BadLink::default()
    };
    let udp = UdpLink::bind("127.0.0.1:0".parse()?)?;
    let client = Endpoint::builder().link(Box::new(bad.link(udp))).build()?;
    let connection = client.connect(addr, pin).await?;
    let stream = connection.open(StreamConfig::voice()).await?;
    let mut clock = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..PACKETS {
        clock.tick().await;
        let mut packet = jsp::Message::binary(vec![0x55; 80]);
        packet.attributes.timestamp_ms = Some(started.elapsed().as_millis() as u64);
        stream.send(packet).await?;
    }
    stream.finish()?;
    connection.shutdown().await;

    let mut delays = listener.await?;
    delays.sort();
    let worst = delays.last().copied().unwrap_or_default();
    println!("{} of {PACKETS} packets heard, the slowest after {worst:?}", delays.len());
    Ok(())
}
