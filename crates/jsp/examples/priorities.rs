//! A chat stays quick while a file fills a slow line.
//!
//! `cargo run -p jsp --example priorities`

use std::time::{Duration, Instant};

use jsp::emulate::BadLink;
use jsp::link::UdpLink;
use jsp::{Endpoint, Framing, Identity, StreamConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::server("127.0.0.1:0", Identity::generate())?;
    let (addr, pin) = (server.local_addr()?, server.fingerprint());
    tokio::spawn(async move {
        let connection = server.accept().await.unwrap();
        while let Ok(stream) = connection.accept().await {
            tokio::spawn(async move {
                if stream.info().profile.framing == Framing::Bytes {
                    while let Ok(Some(_)) = stream.read_chunk(usize::MAX).await {}
                    return;
                }
                while let Ok(Some(line)) = stream.recv().await {
                    if stream.send(line.payload).await.is_err() {
                        return;
                    }
                }
            });
        }
    });

    // 8 Mbit/s with a short queue, 40 ms round trip.
    let line = BadLink {
        rate: Some(8_000_000),
        queue: 32 << 10,
        one_way_delay: Duration::from_millis(20),
        ..BadLink::default()
    };
    let udp = UdpLink::bind("127.0.0.1:0".parse()?)?;
    let client = Endpoint::builder().link(Box::new(line.link(udp))).build()?;
    let connection = client.connect(addr, pin).await?;
    let chat = connection.open(StreamConfig::chat()).await?;
    println!("alone:       {:?}", round_trip(&chat).await?);

    let file = connection.open(StreamConfig::file()).await?;
    let started = Instant::now();
    let upload = tokio::spawn(async move {
        file.write_all(vec![0; 2_000_000]).await?;
        file.finish()?;
        file.split().0.closed().await
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    println!("with a file: {:?}", round_trip(&chat).await?);
    upload.await??;
    println!("the file:    2 MB in {:?}", started.elapsed());
    Ok(())
}

/// The median of ten questions and answers.
async fn round_trip(chat: &jsp::Stream) -> Result<Duration, Box<dyn std::error::Error>> {
    let mut times = Vec::new();
    for _ in 0..10 {
        let asked = Instant::now();
        chat.send("are you there?").await?;
        chat.recv().await?;
        times.push(asked.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    times.sort();
    Ok(times[5])
}
