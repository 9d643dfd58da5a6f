//! One stream per message: a thousand requests at once, none waits for another.
//!
//! `cargo run -p jsp --example streams`

use jsp::{Endpoint, Identity, StreamConfig};

const REQUESTS: u64 = 1000;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Endpoint::server("127.0.0.1:0", Identity::generate())?;
    let (addr, pin) = (server.local_addr()?, server.fingerprint());
    tokio::spawn(async move {
        let connection = server.accept().await.unwrap();
        while let Ok(stream) = connection.accept().await {
            tokio::spawn(async move {
                let request = stream.recv().await.unwrap().unwrap();
                let number: u64 = request.text().unwrap().parse().unwrap();
                stream.send_last(format!("{}", number * number)).await.unwrap();
            });
        }
    });

    let connection = Endpoint::client()?.connect(addr, pin).await?;
    let started = std::time::Instant::now();
    let mut requests = Vec::new();
    for number in 0..REQUESTS {
        let connection = connection.clone();
        requests.push(tokio::spawn(async move {
            let stream = connection.open(StreamConfig::messages()).await.unwrap();
            stream.send_last(format!("{number}")).await.unwrap();
            let answer = stream.recv().await.unwrap().unwrap();
            answer.text().unwrap().parse::<u64>().unwrap()
        }));
    }
    let mut sum = 0;
    for request in requests {
        sum += request.await?;
    }
    println!("{REQUESTS} requests in {:?}, sum of squares {sum}", started.elapsed());
    Ok(())
}
