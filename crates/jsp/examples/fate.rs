//! What became of each message: arrived, or too late to be worth sending.
//!
//! `cargo run -p jsp --example fate`

use std::time::Duration;

use jsp::emulate::BadLink;
use jsp::link::UdpLink;
use jsp::{Endpoint, Identity, Message, MessageFate, StreamConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::server("127.0.0.1:0", Identity::generate())?;
    let (addr, pin) = (server.local_addr()?, server.fingerprint());
    tokio::spawn(async move {
        let stream = server.accept().await.unwrap().accept().await.unwrap();
        while let Ok(Some(_)) = stream.recv().await {}
    });

    let udp = UdpLink::bind("127.0.0.1:0".parse()?)?;
    let narrow = BadLink { rate: Some(500_000), ..BadLink::default() };
    let client = Endpoint::builder().link(Box::new(narrow.link(udp))).build()?;
    let connection = client.connect(addr, pin).await?;
    let stream = connection.open(StreamConfig::video()).await?;

    // 40 kB at 500 kbit/s take 640 ms; each message is worth sending for 300 ms.
    let mut fates = Vec::new();
    for _ in 0..40 {
        let frame = Message::binary(vec![0; 1000]).with_lifetime(Duration::from_millis(300));
        fates.push(stream.send_tracked(frame).await?);
    }
    let (mut arrived, mut expired, mut other) = (0, 0, 0);
    for fate in fates {
        match fate.await {
            MessageFate::Acknowledged => arrived += 1,
            MessageFate::Expired => expired += 1,
            _ => other += 1,
        }
    }
    println!("of 40 messages {arrived} arrived, {expired} expired, {other} ended otherwise");
    Ok(())
}
