//! An echo server. It keeps its identity in a file and prints the command for the client.
//!
//! `cargo run -p jsp --example echo_server`, and then the printed line in another terminal. It ends
//! when its client has left.

use jsp::{Connection, Endpoint, Identity};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let identity = Identity::load_or_generate(std::env::temp_dir().join("jsp-echo-identity"))?;
    let server = Endpoint::server("127.0.0.1:0", identity)?;
    let addr = server.local_addr()?;
    println!("cargo run -p jsp --example echo_client -- {addr} {}", server.fingerprint());
    if let Some(connection) = server.accept().await {
        println!("{} is here", connection.remote_addr());
        echo(&connection).await;
        println!("it left: {}", connection.closed().await);
    }
    server.shutdown().await;
    Ok(())
}

/// Sends each message of each stream back, until the client leaves.
async fn echo(connection: &Connection) {
    while let Ok(stream) = connection.accept().await {
        tokio::spawn(async move {
            while let Ok(Some(message)) = stream.recv().await {
                if stream.send(message.payload).await.is_err() {
                    return;
                }
            }
        });
    }
}
