//! The first program: a server and a client in one, and a message each way.
//!
//! `cargo run -p jsp --example first`

use jsp::{Endpoint, Identity, StreamConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::server("127.0.0.1:0", Identity::generate())?;
    let (addr, fingerprint) = (server.local_addr()?, server.fingerprint());
    tokio::spawn(async move {
        let stream = server.accept().await.unwrap().accept().await.unwrap();
        let question = stream.recv().await.unwrap().unwrap();
        stream.send(format!("you said: {}", question.text().unwrap())).await.unwrap();
        server.shutdown().await;
    });
    let connection = Endpoint::client()?.connect(addr, fingerprint).await?;
    let stream = connection.open(StreamConfig::chat()).await?;
    stream.send("hello").await?;
    println!("{}", stream.recv().await?.unwrap().text().unwrap());
    Ok(())
}
