//! Sends three messages to the echo server and prints what comes back.
//!
//! `cargo run -p jsp --example echo_client -- 127.0.0.1:PORT FINGERPRINT`

use jsp::{Endpoint, Fingerprint, StreamConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(server), Some(pin)) = (args.next(), args.next()) else {
        println!("usage: echo_client HOST:PORT FINGERPRINT (echo_server prints both)");
        return Ok(());
    };
    let client = Endpoint::client()?;
    let connection = client.connect(server, pin.parse::<Fingerprint>()?).await?;
    let stream = connection.open(StreamConfig::messages()).await?;
    for word in ["one", "two", "three"] {
        stream.send(word.as_bytes()).await?;
        if let Some(echo) = stream.recv().await? {
            println!("{word} -> {}", String::from_utf8_lossy(&echo.payload));
        }
    }
    let suite = connection.security().map(|security| security.suite);
    println!("round trip {:?}, {suite:?}", connection.rtt());
    client.shutdown().await;
    Ok(())
}
