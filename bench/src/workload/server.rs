//! The server's side of every exercise, over any subject.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use bytes::Bytes;

use crate::plan::{Exercise, Plan};
use crate::process::{Counters, Desk, Event};
use crate::subject::{Connection, Endpoint, Stream, Use};

/// What a server answers once it has all of a stream or count.
const CONFIRMATION: &[u8] = b"k";

/// Serves until the process ends.
pub(crate) async fn run<E: Endpoint>(
    endpoint: E,
    address: SocketAddr,
    trust: String,
    exercise: Exercise,
    plan: Plan,
    desk: &Desk,
) -> Result<()> {
    desk.say(&Event::Ready { address, trust });
    let held = Arc::new(Mutex::new(Vec::new()));
    while let Some(pending) = endpoint.accept().await {
        let (counters, held) = (Arc::clone(&desk.counters), Arc::clone(&held));
        tokio::spawn(async move {
            let served = async {
                let connection = E::establish(pending).await?;
                if exercise == Exercise::Idle {
                    held.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
                    return Ok(());
                }
                serve(connection, exercise, plan, counters).await
            };
            if let Err(error) = served.await {
                note(&error);
            }
        });
    }
    Ok(())
}

/// A client that went away at the end of its exercise is no failure of the server; the
/// figures come from the client, so the sentence is enough.
fn note(error: &anyhow::Error) {
    if std::env::var_os("JSP_BENCH_VERBOSE").is_some() {
        eprintln!("jsp-bench: server: {error:#}");
    }
}

async fn serve<C: Connection>(
    connection: C,
    exercise: Exercise,
    plan: Plan,
    counters: Arc<Counters>,
) -> Result<()> {
    match exercise {
        Exercise::MessagePerStream => alone(&connection, plan, &counters).await,
        Exercise::Datagrams => datagrams(&connection, &counters).await,
        Exercise::Paced if plan.unreliable => datagrams(&connection, &counters).await,
        Exercise::Messages | Exercise::Paced => {
            let using = Use::Messages { gathered: plan.gathered };
            while let Some(stream) = connection.accept(using).await? {
                let counters = Arc::clone(&counters);
                tokio::spawn(async move { messages(stream, &counters).await });
            }
            Ok(())
        }
        Exercise::Pingpong | Exercise::Flood => {
            while let Some(stream) = connection.accept(Use::Messages { gathered: false }).await? {
                tokio::spawn(echo(stream));
            }
            Ok(())
        }
        Exercise::Transfer
        | Exercise::Connect
        | Exercise::ConnectMany
        | Exercise::Hello
        | Exercise::Idle
        | Exercise::Crowd => {
            while let Some(stream) = connection.accept(Use::Bytes).await? {
                let counters = Arc::clone(&counters);
                tokio::spawn(async move { sink(stream, &counters).await });
            }
            Ok(())
        }
    }
}

/// Takes all of a stream of bytes and confirms it.
async fn sink(mut stream: impl Stream, counters: &Counters) -> Result<()> {
    while let Some(length) = stream.consume().await? {
        counters.add(0, length as u64);
    }
    stream.write(&Bytes::from_static(CONFIRMATION)).await?;
    stream.finish().await
}

/// Takes all messages of a stream and confirms them.
async fn messages(mut stream: impl Stream, counters: &Counters) -> Result<()> {
    let (mut count, mut bytes) = (0, 0);
    while let Some(message) = stream.recv_message().await? {
        count += 1;
        bytes += message.len() as u64;
    }
    counters.add(count, bytes);
    stream.send_message(&Bytes::from_static(CONFIRMATION)).await?;
    stream.finish().await
}

async fn echo(mut stream: impl Stream) -> Result<()> {
    while let Some(message) = stream.recv_message().await? {
        stream.send_message(&message).await?;
    }
    stream.finish().await
}

/// Takes the announced number of messages, each on its own stream, and confirms them on
/// the stream that the client opened first.
async fn alone(connection: &impl Connection, plan: Plan, counters: &Counters) -> Result<()> {
    let Some(mut answer) = connection.accept(Use::Bytes).await? else { return Ok(()) };
    let mut count = 0;
    while count < plan.count {
        let Some(length) = connection.recv_alone().await? else { break };
        count += 1;
        counters.add(1, length as u64);
    }
    answer.write(&Bytes::from_static(CONFIRMATION)).await?;
    answer.finish().await?;
    // The connection lives until the client has the answer.
    while answer.consume().await?.is_some() {}
    Ok(())
}

async fn datagrams(connection: &impl Connection, counters: &Counters) -> Result<()> {
    while let Some(length) = connection.recv_datagram().await? {
        counters.add(1, length as u64);
        counters.stamp();
    }
    Ok(())
}
