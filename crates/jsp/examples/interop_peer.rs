//! The other side of `interop/python`: an echo server that asks for a proof of address, or a client of one.
//!
//! `cargo run -p jsp --example interop_peer -- serve ed25519` (or `ml-dsa-65`) prints its address and fingerprint, and serves until it is
//! killed; `-- echo ADDRESS FINGERPRINT` sends messages and compares what comes back.

use std::error::Error;
use std::time::Duration;

use jsp::{
    Connection, Endpoint, Fingerprint, Identity, RetryPolicy, SignaturePolicy, SignatureScheme,
    StreamConfig,
};

/// Both ends give up after this long: a peer that hangs fails the run, and does not stop it.
const PATIENCE: Duration = Duration::from_secs(120);
const PROTOCOL: &str = "interop/1";
const MESSAGES: usize = 100;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["serve", scheme] => tokio::time::timeout(PATIENCE, serve(scheme)).await?,
        ["echo", address, pin] => tokio::time::timeout(PATIENCE, echo(address, pin)).await?,
        _ => Err("usage: interop_peer serve SCHEME | interop_peer echo ADDRESS FINGERPRINT".into()),
    }
}

/// Echoes messages, behind a Retry, until it is killed or patience ends.
async fn serve(scheme: &str) -> Result<(), Box<dyn Error>> {
    let scheme = SignatureScheme::ALL.into_iter().find(|known| known.name() == scheme);
    let server = Endpoint::builder()
        .bind("127.0.0.1:0")
        .identity(Identity::generate_with(scheme.ok_or("no such scheme")?))
        .application_protocol(PROTOCOL)
        .retry(RetryPolicy::Always)
        .build()?;
    println!("{} {}", server.local_addr()?, server.fingerprint());
    while let Some(connection) = server.accept().await {
        tokio::spawn(echo_each(connection));
    }
    Ok(())
}

/// Sends each message of each stream back, and says how the connection ended.
async fn echo_each(connection: Connection) {
    while let Ok(stream) = connection.accept().await {
        while let Ok(Some(message)) = stream.recv().await {
            if stream.send(message.payload).await.is_err() {
                break;
            }
        }
    }
    println!("{}", connection.closed().await);
}

/// Sends messages of many sizes and compares what comes back.
async fn echo(address: &str, pin: &str) -> Result<(), Box<dyn Error>> {
    let client = Endpoint::builder()
        .application_protocol(PROTOCOL)
        .signatures(SignaturePolicy::Any)
        .build()?;
    let connection = client.connect(address, pin.parse::<Fingerprint>()?).await?;
    let stream = connection.open(StreamConfig::messages()).await?;
    for number in 0..MESSAGES {
        let payload = vec![u8::try_from(number)?; number * 131];
        stream.send(payload.clone()).await?;
        let back = stream.recv().await?.ok_or("the stream has ended early")?;
        if back.payload != payload {
            return Err(format!("message {number} came back as another").into());
        }
    }
    stream.finish()?;
    if stream.recv().await?.is_some() {
        return Err("more messages than were sent".into());
    }
    println!("{MESSAGES} messages, round trip {:?}", connection.rtt());
    client.shutdown().await;
    Ok(())
}
