//! The client's side of every exercise, over any subject.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::plan::{Exercise, Plan};
use crate::process::{Desk, Event};
use crate::stats::{jain, percentile};
use crate::subject::{Connection, Endpoint, Stream, Use};

/// Bytes handed to a subject per call in a transfer.
const PIECE_BYTES: usize = 64 << 10;
/// Messages between two looks at the clock, which costs as much as a cheap message.
const CLOCK_EVERY: usize = 64;
/// Round trips before those that count.
const PINGPONG_WARM_UP: u64 = 500;
/// Connections before those that count: code, caches and allocator are then warm.
const CONNECT_WARM_UP: u64 = 5;
/// Between two sequential connections, so that the goodbye of one does not weigh on the next.
const CONNECT_PAUSE: Duration = Duration::from_millis(1);
/// Messages before those whose bytes count: handshake, path MTU probes and windows are done.
const PACED_WARM_UP: u64 = 300;
/// Between two paced messages.
const PACE: Duration = Duration::from_millis(1);
/// Silence after which acknowledgements, tickets and datagrams under way have arrived.
const SETTLE: Duration = Duration::from_millis(300);
/// Connections before those that the idle exercise counts.
const IDLE_WARM_UP: usize = 32;
/// Connecting tasks at once in the idle exercise.
const IDLE_TASKS: usize = 8;
/// Silence before idle connections are looked at: what still follows from how they began is over.
const IDLE_SETTLE: Duration = Duration::from_secs(2);

/// Figures by name.
pub(crate) type Values = BTreeMap<String, f64>;

/// Runs the exercise and reports its figures.
pub(crate) async fn run<E: Endpoint>(
    endpoint: E,
    server: SocketAddr,
    exercise: Exercise,
    plan: Plan,
    desk: &Desk,
) -> Result<()> {
    let values = match exercise {
        Exercise::Connect => connect(&endpoint, server, plan, desk).await?,
        Exercise::ConnectMany => connect_many(&endpoint, server, plan, desk).await?,
        Exercise::Hello => hello(&endpoint, server, desk).await?,
        Exercise::Idle => idle(&endpoint, server, plan, desk).await?,
        Exercise::Crowd => crowd(&endpoint, server, plan, desk).await?,
        Exercise::Flood => super::flood::run(&endpoint, server, plan, desk).await?,
        _ => {
            let connection = endpoint.connect(server).await?;
            match exercise {
                Exercise::Messages => messages(&connection, plan, desk).await?,
                Exercise::MessagePerStream => alone(&connection, plan, desk).await?,
                Exercise::Datagrams => datagrams(&connection, plan, desk).await?,
                Exercise::Pingpong => pingpong(&connection, plan, desk).await?,
                Exercise::Paced => paced(&connection, plan, desk).await?,
                _ => transfer(&connection, plan, desk).await?,
            }
        }
    };
    desk.say(&Event::Done { values });
    Ok(())
}

fn elapsed(start: Instant) -> Values {
    Values::from([("elapsed_s".to_owned(), start.elapsed().as_secs_f64())])
}

/// Sends the bytes over the streams and waits for all confirmations, or for the time limit.
async fn transfer<C: Connection>(connection: &C, plan: Plan, desk: &Desk) -> Result<Values> {
    let mut streams = Vec::new();
    for _ in 0..plan.streams {
        streams.push(connection.open(Use::Bytes).await?);
    }
    desk.phase("start").await;
    let start = Instant::now();
    let share = plan.bytes / u64::from(plan.streams.max(1));
    let mut tasks = JoinSet::new();
    for stream in streams {
        tasks.spawn(send_all(stream, share));
    }
    let all = async {
        while let Some(sent) = tasks.join_next().await {
            sent??;
        }
        anyhow::Ok(())
    };
    if plan.millis > 0 {
        // A transfer that does not end in time is judged by what arrived.
        if let Ok(sent) = timeout(Duration::from_millis(plan.millis), all).await {
            sent?;
        }
    } else {
        all.await?;
    }
    let values = elapsed(start);
    desk.phase("end").await;
    Ok(values)
}

/// Sends on a stream of each connection until the time is over; says how evenly they were served.
async fn crowd<E: Endpoint>(
    endpoint: &E,
    server: SocketAddr,
    plan: Plan,
    desk: &Desk,
) -> Result<Values> {
    let mut held = Vec::new();
    hold(endpoint, server, plan.streams as usize, &mut held).await?;
    let mut streams = Vec::new();
    for connection in &held {
        streams.push(connection.open(Use::Bytes).await?);
    }
    desk.phase("start").await;
    let (start, limit) = (Instant::now(), Duration::from_millis(plan.millis));
    let mut tasks = JoinSet::new();
    for stream in streams {
        tasks.spawn(send_until(stream, start + limit));
    }
    let mut shares = Vec::new();
    while let Some(sent) = tasks.join_next().await {
        shares.push(sent?? as f64);
    }
    let mut values = elapsed(start);
    values.insert("fairness".to_owned(), jain(&shares));
    desk.phase("end").await;
    Ok(values)
}

/// How many bytes the stream took before `end`; the server has confirmed them.
async fn send_until(mut stream: impl Stream, end: Instant) -> Result<u64> {
    let piece = Bytes::from(vec![0x5a; PIECE_BYTES]);
    let mut sent = 0;
    while Instant::now() < end {
        stream.write(&piece).await?;
        sent += PIECE_BYTES as u64;
    }
    confirmed(stream).await?;
    Ok(sent)
}

async fn send_all(mut stream: impl Stream, bytes: u64) -> Result<()> {
    let piece = Bytes::from(vec![0x5a; PIECE_BYTES]);
    let mut left = bytes;
    while left > 0 {
        let length = left.min(PIECE_BYTES as u64);
        stream.write(&piece.slice(..length as usize)).await?;
        left -= length;
    }
    confirmed(stream).await
}

/// Ends the stream and waits until the server has all of it.
async fn confirmed(mut stream: impl Stream) -> Result<()> {
    stream.finish().await?;
    if stream.consume().await?.is_none() {
        bail!("the server ended a stream without confirming it");
    }
    Ok(())
}

async fn messages<C: Connection>(connection: &C, plan: Plan, desk: &Desk) -> Result<Values> {
    let mut stream = connection.open(Use::Messages { gathered: plan.gathered }).await?;
    let message = Bytes::from(vec![0x5a; plan.message_bytes]);
    desk.phase("start").await;
    let (start, limit) = (Instant::now(), Duration::from_millis(plan.millis));
    while start.elapsed() < limit {
        for _ in 0..CLOCK_EVERY {
            stream.send_message(&message).await?;
        }
    }
    stream.finish().await?;
    if stream.recv_message().await?.is_none() {
        bail!("the server did not confirm the messages");
    }
    let values = elapsed(start);
    desk.phase("end").await;
    Ok(values)
}

async fn alone<C: Connection>(connection: &C, plan: Plan, desk: &Desk) -> Result<Values> {
    let mut answer = connection.open(Use::Bytes).await?;
    // A peer learns of a stream by its first byte.
    answer.write(&Bytes::from_static(b"n")).await?;
    let message = Bytes::from(vec![0x5a; plan.message_bytes]);
    desk.phase("start").await;
    let start = Instant::now();
    for _ in 0..plan.count {
        connection.send_alone(message.clone()).await?;
    }
    if answer.consume().await?.is_none() {
        bail!("the server did not confirm the messages");
    }
    let values = elapsed(start);
    desk.phase("end").await;
    Ok(values)
}

async fn datagrams<C: Connection>(connection: &C, plan: Plan, desk: &Desk) -> Result<Values> {
    let datagram = Bytes::from(vec![0x5a; plan.message_bytes]);
    desk.phase("start").await;
    let (start, limit) = (Instant::now(), Duration::from_millis(plan.millis));
    let mut sent = 0_u64;
    while start.elapsed() < limit {
        connection.send_datagram(datagram.clone()).await?;
        sent += 1;
    }
    let mut values = elapsed(start);
    values.insert("sent".to_owned(), sent as f64);
    sleep(SETTLE).await;
    desk.phase("end").await;
    Ok(values)
}

async fn pingpong<C: Connection>(connection: &C, plan: Plan, desk: &Desk) -> Result<Values> {
    let mut stream = connection.open(Use::Messages { gathered: false }).await?;
    let message = Bytes::from(vec![0x5a; plan.message_bytes]);
    let mut micros = Vec::new();
    for round in 0..PINGPONG_WARM_UP + plan.count {
        if round == PINGPONG_WARM_UP {
            desk.phase("start").await;
        }
        let start = Instant::now();
        stream.send_message(&message).await?;
        if stream.recv_message().await?.is_none_or(|echo| echo.len() != message.len()) {
            bail!("the server did not echo the message");
        }
        if round >= PINGPONG_WARM_UP {
            micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    desk.phase("end").await;
    Ok(percentiles(&mut micros))
}

/// p50 and p99 of samples in microseconds.
pub(crate) fn percentiles(micros: &mut [f64]) -> Values {
    let named = [("p50_us", 50.0), ("p99_us", 99.0)];
    named
        .into_iter()
        .filter_map(|(name, percent)| Some((name.to_owned(), percentile(micros, percent)?)))
        .collect()
}

async fn connect<E: Endpoint>(
    endpoint: &E,
    server: SocketAddr,
    plan: Plan,
    desk: &Desk,
) -> Result<Values> {
    let mut micros = Vec::new();
    for round in 0..CONNECT_WARM_UP + plan.count {
        if round == CONNECT_WARM_UP {
            desk.phase("start").await;
        }
        let start = Instant::now();
        let connection = endpoint.connect(server).await?;
        let took = start.elapsed().as_secs_f64() * 1e6;
        if round >= CONNECT_WARM_UP {
            micros.push(took);
        }
        drop(connection);
        sleep(CONNECT_PAUSE).await;
    }
    desk.phase("end").await;
    Ok(percentiles(&mut micros))
}

async fn connect_many<E: Endpoint>(
    endpoint: &E,
    server: SocketAddr,
    plan: Plan,
    desk: &Desk,
) -> Result<Values> {
    drop(endpoint.connect(server).await?);
    desk.phase("start").await;
    let (start, limit) = (Instant::now(), Duration::from_millis(plan.millis));
    let mut tasks = JoinSet::new();
    for _ in 0..plan.streams {
        let endpoint = endpoint.clone();
        tasks.spawn(async move {
            let mut made = 0_u64;
            while start.elapsed() < limit {
                drop(endpoint.connect(server).await?);
                made += 1;
            }
            anyhow::Ok(made)
        });
    }
    let mut made = 0;
    while let Some(task) = tasks.join_next().await {
        made += task??;
    }
    let mut values = elapsed(start);
    values.insert("connections".to_owned(), made as f64);
    desk.phase("end").await;
    Ok(values)
}

async fn hello<E: Endpoint>(endpoint: &E, server: SocketAddr, desk: &Desk) -> Result<Values> {
    desk.phase("start").await;
    let connection = endpoint.connect(server).await?;
    // Before path probes: the handshake with its confirmation and nothing after it.
    desk.phase("connected").await;
    sleep(SETTLE).await;
    desk.phase("settled").await;
    drop(connection);
    Ok(Values::new())
}

async fn paced<C: Connection>(connection: &C, plan: Plan, desk: &Desk) -> Result<Values> {
    let mut stream = connection.open(Use::Messages { gathered: false }).await?;
    let message = Bytes::from(vec![0x5a; plan.message_bytes]);
    for round in 0..PACED_WARM_UP + plan.count {
        if round == PACED_WARM_UP {
            desk.phase("start").await;
        }
        // Not an interval, which makes up for late ticks with early ones.
        sleep(PACE).await;
        if plan.unreliable {
            connection.send_datagram(message.clone()).await?;
        } else {
            stream.send_message(&message).await?;
        }
    }
    sleep(SETTLE).await;
    desk.phase("end").await;
    Ok(Values::new())
}

async fn idle<E: Endpoint>(
    endpoint: &E,
    server: SocketAddr,
    plan: Plan,
    desk: &Desk,
) -> Result<Values> {
    let mut held = Vec::with_capacity(plan.count as usize + IDLE_WARM_UP);
    hold(endpoint, server, IDLE_WARM_UP, &mut held).await?;
    sleep(SETTLE).await;
    desk.phase("start").await;
    hold(endpoint, server, plan.count as usize, &mut held).await?;
    sleep(IDLE_SETTLE).await;
    desk.phase("end").await;
    let watch = Duration::from_millis(plan.millis);
    sleep(watch).await;
    desk.phase("watched").await;
    let values = Values::from([("watched_s".to_owned(), watch.as_secs_f64())]);
    drop(held);
    Ok(values)
}

/// Makes `count` connections, a few at a time, and keeps them.
async fn hold<E: Endpoint>(
    endpoint: &E,
    server: SocketAddr,
    count: usize,
    held: &mut Vec<E::Connection>,
) -> Result<()> {
    let mut tasks = JoinSet::new();
    for made in 0..count {
        if made >= IDLE_TASKS
            && let Some(connection) = tasks.join_next().await
        {
            held.push(connection??);
        }
        let endpoint = endpoint.clone();
        tasks.spawn(async move { endpoint.connect(server).await });
    }
    while let Some(connection) = tasks.join_next().await {
        held.push(connection??);
    }
    Ok(())
}
