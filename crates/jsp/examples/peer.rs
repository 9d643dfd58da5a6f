//! Two peers that find each other through a coordinator (`jspd`), wherever they are.
//!
//!     peer COORDINATOR ITS-FINGERPRINT            waits to be called, and prints its own fingerprint
//!     peer COORDINATOR ITS-FINGERPRINT FRIEND     calls the peer with that fingerprint
//!
//! The caller says a number ten times a second, the other says it back; both print which way the
//! connection takes.

use std::time::{Duration, Instant};

use jsp::rendezvous::{Peer, Policy};
use jsp::{Connection, Endpoint, Identity, StreamConfig};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [coordinator, fingerprint, friend @ ..] = arguments.as_slice() else {
        return Err("usage: peer COORDINATOR ITS-FINGERPRINT [FRIEND]".into());
    };
    let identity = Identity::generate();
    println!("I am {}", identity.fingerprint());
    let peer = Peer::build(Endpoint::builder().identity(identity), Policy::Any)?;
    let registration = peer.register(coordinator.as_str(), fingerprint.parse()?).await?;
    println!("the coordinator sees {:?}", registration.observed());
    match friend {
        [] => {
            while let Some(connection) = peer.accept().await {
                tokio::spawn(answer(connection));
            }
        }
        [friend, ..] => call(registration.connect(friend.parse()?).await?).await?,
    }
    Ok(())
}

async fn call(connection: Connection) -> Result<(), Box<dyn std::error::Error>> {
    let stream = connection.open(StreamConfig::messages()).await?;
    for number in 0..100u32 {
        let start = Instant::now();
        stream.send(number.to_string()).await?;
        stream.recv().await?;
        println!("{number}: {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    connection.shutdown().await;
    Ok(())
}

async fn answer(connection: Connection) {
    println!("called, by {}", connection.route());
    let Ok(stream) = connection.accept().await else { return };
    let mut route = connection.route();
    while let Ok(Some(message)) = stream.recv().await {
        if connection.route() != route {
            route = connection.route();
            println!("now by {route}");
        }
        if stream.send(message.payload).await.is_err() {
            return;
        }
    }
}
