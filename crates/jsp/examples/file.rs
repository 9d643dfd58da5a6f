//! A file over a byte stream, with tokio's own copy, and proof that it arrived whole.
//!
//! `cargo run -p jsp --example file`

use jsp::{Endpoint, Identity, StreamConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let content: Vec<u8> =
        (0..20_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let expected = blake3::hash(&content);

    let server = Endpoint::server("127.0.0.1:0", Identity::generate())?;
    let (addr, pin) = (server.local_addr()?, server.fingerprint());
    let receiver = tokio::spawn(async move {
        let mut stream = server.accept().await.unwrap().accept().await.unwrap();
        println!("receiving {}", stream.info().label);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match AsyncReadExt::read(&mut stream, &mut buffer).await {
                Ok(0) => return hasher.finalize(),
                Ok(len) => hasher.update(&buffer[..len]),
                Err(error) => panic!("{error}"),
            };
        }
    });

    let connection = Endpoint::client()?.connect(addr, pin).await?;
    let mut stream = connection.open(StreamConfig::file().labelled("holiday.raw")).await?;
    let started = std::time::Instant::now();
    tokio::io::copy(&mut &content[..], &mut stream).await?;
    stream.shutdown().await?;
    let (send, _recv) = stream.split();
    send.closed().await?;
    let rate = content.len() as f64 * 8.0 / started.elapsed().as_secs_f64() / 1e6;
    assert_eq!(receiver.await?, expected);
    println!("{} bytes arrived whole, {rate:.0} Mbit/s", content.len());
    Ok(())
}
