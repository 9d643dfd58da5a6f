//! Telemetry that is worth nothing when it is late: newer values take the place of older ones.
//!
//! `cargo run -p jsp --example telemetry`

use std::time::Duration;

use jsp::emulate::BadLink;
use jsp::link::UdpLink;
use jsp::{Endpoint, Identity, Message, MessageFate, StreamConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::server("127.0.0.1:0", Identity::generate())?;
    let (addr, pin) = (server.local_addr()?, server.fingerprint());
    let station = tokio::spawn(async move {
        let stream = server.accept().await.unwrap().accept().await.unwrap();
        let mut newest = String::new();
        let mut count = 0;
        while let Ok(Some(value)) = stream.recv().await {
            newest = value.text().unwrap_or_default().to_owned();
            count += 1;
        }
        (count, newest)
    });

    // 64 kbit/s: far too slow for all values.
    let slow = BadLink {
        rate: Some(64_000),
        one_way_delay: Duration::from_millis(40),
        ..BadLink::default()
    };
    let udp = UdpLink::bind("127.0.0.1:0".parse()?)?;
    let sensor = Endpoint::builder().link(Box::new(slow.link(udp))).build()?;
    let connection = sensor.connect(addr, pin).await?;
    let stream = connection.open(StreamConfig::telemetry()).await?;
    let mut fates = Vec::new();
    for reading in 0..400 {
        let mut value = Message::text(format!("temperature {reading}"));
        value.supersede_key = Some(1);
        fates.push(stream.send_tracked(value).await?);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut replaced = 0;
    for fate in fates {
        replaced += u32::from(fate.await == MessageFate::Superseded);
    }
    connection.shutdown().await;
    let (count, newest) = station.await?;
    println!(
        "{count} of 400 values arrived, {replaced} were replaced by newer ones; last: {newest}"
    );
    Ok(())
}
