//! What a listening `jsp` does for a connection: each stream's label names the service.

use std::sync::Arc;

use jsp::{Connection, Endpoint, Stream};
use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::commands::chat::Room;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::perf;
use crate::protocol::{OVER_LIMIT, REFUSED, label};
use crate::transfer::Summary;
use crate::transfer::folder::Folder;
use crate::transfer::receive::receive;

/// Transfers that store at once, over all connections; each has five threads. Further ones wait.
const TRANSFERS_MAX: usize = 8;
/// Transfers of one connection among them: who sends nothing keeps others out of few places.
const TRANSFERS_EACH: usize = 2;
/// Streams of one connection that are served at once; further ones are refused.
const STREAMS_MAX: usize = 1024;

/// The services that are offered.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) folder: Option<Arc<Folder>>,
    pub(crate) chat: Option<Arc<Room>>,
    pub(crate) perf: bool,
    pub(crate) output: Output,
}

/// What came of a connection.
#[derive(Debug)]
pub(crate) struct Served {
    /// What was received, where something was sent.
    pub(crate) transfer: Option<Result<Summary, Failure>>,
    /// The client has chatted.
    pub(crate) chatted: bool,
}

#[derive(Serialize)]
struct ClientEvent<'a> {
    event: &'static str,
    client: &'a str,
}

/// Accepts connections until the endpoint closes, or `enough` says so of one that has ended.
pub(crate) async fn serve(
    endpoint: &Endpoint,
    services: Services,
    enough: impl Fn(&Served) -> bool,
) -> Result<Option<Served>, Failure> {
    let transfers = Arc::new(Semaphore::new(TRANSFERS_MAX));
    let (ended_in, mut ended) = mpsc::channel(16);
    loop {
        tokio::select! {
            connection = endpoint.accept() => {
                let Some(connection) = connection else { return Ok(None) };
                let (services, transfers) = (services.clone(), Arc::clone(&transfers));
                let ended_in = ended_in.clone();
                tokio::spawn(async move {
                    let served = attend(connection, services, transfers).await;
                    let _ = ended_in.send(served).await;
                });
            }
            Some(served) = ended.recv() => {
                if enough(&served) {
                    return Ok(Some(served));
                }
            }
        }
    }
}

/// Serves one connection to its end: what came of the transfer on it.
pub(crate) async fn receive_one(
    connection: Connection,
    services: Services,
) -> Result<Summary, Failure> {
    let served = attend(connection, services, Arc::new(Semaphore::new(1))).await;
    served.transfer.unwrap_or_else(|| {
        Err(Failure::new(Exit::PeerVanished, "the sender went before it sent anything"))
    })
}

/// What a task of a connection has done.
enum Done {
    Transfer(Result<Summary, Failure>),
    Chat,
    Other,
}

async fn attend(connection: Connection, services: Services, transfers: Arc<Semaphore>) -> Served {
    let output = services.output;
    let client = connection.remote_addr().to_string();
    output.object(&ClientEvent { event: "connected", client: &client });
    output.line(output.tinted(Tone::Quiet, format!("{client} connected")));
    let mut tasks: JoinSet<Done> = JoinSet::new();
    let meter = Arc::new(perf::Meter::default());
    let own = Arc::new(Semaphore::new(TRANSFERS_EACH));
    let mut served = Served { transfer: None, chatted: false };
    loop {
        tokio::select! {
            stream = connection.accept() => match stream {
                Ok(stream) if tasks.len() >= STREAMS_MAX => refuse(&stream, OVER_LIMIT),
                Ok(stream) => {
                    start(&mut tasks, &connection, stream, &services, [&own, &transfers], &meter);
                }
                Err(_) => break,
            },
            Some(done) = tasks.join_next() => served.note(done.ok()),
        }
    }
    // Transfers tidy up; the others see that the connection is gone.
    while let Some(done) = tasks.join_next().await {
        served.note(done.ok());
    }
    output.object(&ClientEvent { event: "disconnected", client: &client });
    output.line(output.tinted(Tone::Quiet, format!("{client} disconnected")));
    served
}

impl Served {
    fn note(&mut self, done: Option<Done>) {
        match done {
            Some(Done::Transfer(transfer)) => self.transfer = Some(transfer),
            Some(Done::Chat) => self.chatted = true,
            Some(Done::Other) | None => {}
        }
    }
}

fn start(
    tasks: &mut JoinSet<Done>,
    connection: &Connection,
    stream: Stream,
    services: &Services,
    transfers: [&Arc<Semaphore>; 2],
    meter: &Arc<perf::Meter>,
) {
    let output = services.output;
    match stream.info().label.as_str() {
        label::FILE => match services.folder.clone() {
            Some(folder) => {
                let [own, all] = transfers.map(Arc::clone);
                tasks.spawn(async move {
                    let _permits = (own.acquire_owned().await, all.acquire_owned().await);
                    let result = receive(stream, folder, output).await;
                    report(&result, output);
                    Done::Transfer(result)
                });
            }
            None => refuse(&stream, REFUSED),
        },
        label::CHAT => match services.chat.clone() {
            Some(room) => {
                let name = connection.remote_addr().to_string();
                tasks.spawn(async move {
                    room.attend(stream, name).await;
                    Done::Chat
                });
            }
            None => refuse(&stream, REFUSED),
        },
        label::PING => {
            tasks.spawn(async move {
                echo(&stream).await;
                Done::Other
            });
        }
        label::PERF if services.perf => {
            let (connection, meter) = (connection.clone(), Arc::clone(meter));
            tasks.spawn(async move {
                let ended = perf::server::attend(&connection, &stream, &meter).await;
                if let Err(failure) = ended
                    && failure.exit != Exit::PeerVanished
                {
                    output.remark(format!("jsp: a measurement ended early: {failure}"));
                }
                Done::Other
            });
        }
        label::PERF_DATA if services.perf => {
            let meter = Arc::clone(meter);
            tasks.spawn(async move {
                meter.count(stream).await;
                Done::Other
            });
        }
        _ => refuse(&stream, REFUSED),
    }
}

fn refuse(stream: &Stream, code: u64) {
    stream.stop(code);
    stream.reset(code);
}

/// Sends every message back until the stream ends.
async fn echo(stream: &Stream) {
    while let Ok(Some(message)) = stream.recv().await {
        // A full buffer drops an echo, as a network would.
        if let Err(jsp::SendError::ConnectionLost(_) | jsp::SendError::Stopped(_)) =
            stream.try_send(message.payload)
        {
            return;
        }
    }
}

#[derive(Serialize)]
struct TransferEvent {
    event: &'static str,
    stored: u64,
    failed: u64,
    bytes: u64,
}

/// One line about a transfer that has ended.
fn report(result: &Result<Summary, Failure>, output: Output) {
    match result {
        Ok(Summary { stored, failed, bytes }) => {
            let (stored, failed, bytes) = (*stored, *failed, *bytes);
            output.object(&TransferEvent { event: "transfer", stored, failed, bytes });
            let size = crate::output::bytes(bytes);
            output.line(format!("{stored} files and folders ({size}) stored, {failed} not"));
        }
        Err(failure) => {
            output.remark(format!("jsp: {failure}; nothing stands half-written under its name"))
        }
    }
}
