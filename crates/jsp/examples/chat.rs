//! A chat room: the server hands each line to everybody else.
//!
//! `cargo run -p jsp --example chat`

use jsp::{Endpoint, Identity, StreamConfig, Trust};
use tokio::sync::broadcast;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let server = Endpoint::server("127.0.0.1:0", Identity::generate())?;
    let addr = server.local_addr()?;
    let pin = server.fingerprint();
    tokio::spawn(room(server));

    let talkers = [("ada", "hello all"), ("bob", "hi ada"), ("eve", "what did I miss?")];
    let tasks = talkers.map(|(name, line)| tokio::spawn(talk(addr, pin.into(), name, line)));
    for task in tasks {
        let heard = task.await??;
        println!("{heard}");
    }
    Ok(())
}

/// Joins, says one line, and listens until everybody has spoken.
async fn talk(
    addr: std::net::SocketAddr,
    trust: Trust,
    name: &str,
    line: &str,
) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let client = Endpoint::client()?;
    let connection = client.connect(addr, trust).await?;
    let stream = connection.open(StreamConfig::chat().labelled(name)).await?;
    stream.send(line).await?;
    let mut heard = format!("{name} heard:");
    for _ in 0..2 {
        if let Some(message) = stream.recv().await? {
            heard += &format!(" [{}]", message.text().unwrap_or_default());
        }
    }
    connection.shutdown().await;
    Ok(heard)
}

/// Waits for three guests, then passes on what each says to the other two.
async fn room(server: Endpoint) {
    let (say, _) = broadcast::channel::<(String, String)>(64);
    let mut guests = Vec::new();
    while guests.len() < 3 {
        let Some(connection) = server.accept().await else { return };
        let Ok(stream) = connection.accept().await else { continue };
        guests.push((stream, say.subscribe()));
    }
    let mut tasks = Vec::new();
    for (stream, mut hear) in guests {
        let say = say.clone();
        tasks.push(tokio::spawn(async move {
            let name = stream.info().label.clone();
            loop {
                tokio::select! {
                    line = stream.recv() => {
                        let Ok(Some(line)) = line else { return };
                        let text = format!("{name}: {}", line.text().unwrap_or_default());
                        let _ = say.send((name.clone(), text));
                    }
                    Ok((from, text)) = hear.recv() => {
                        if from != name && stream.send(text).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }));
    }
    for task in tasks {
        let _ = task.await;
    }
    server.shutdown().await;
}
