//! The demonstration: a server and a client in one process, a bad link between them, and voice,
//! chat and a file on one connection.

mod board;
mod chat;
mod dashboard;
mod file;
mod plain;
mod report;
mod voice;

use std::sync::Arc;
use std::time::Duration;

use jsp::emulate::{BadLink, Control, EmulatedLink};
use jsp::link::UdpLink;
use jsp::{Connection, Endpoint, Identity, Stream, Trust};
use tokio::task::JoinHandle;

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::session;
use board::Board;

/// How long what is under way may take to arrive after the end: a file on a bad link.
const DRAIN: Duration = Duration::from_secs(60);

/// The link and how long it is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scene {
    pub(crate) time: Duration,
    /// Share of datagrams lost each way, 0 to 1.
    pub(crate) loss: f64,
    pub(crate) rtt: Duration,
    pub(crate) bits_per_second: u64,
    pub(crate) seed: u64,
}

impl Scene {
    /// Bytes that wait for the rate at most: one bandwidth-delay product, as a router that was set
    /// up with care has, and never less than ten full datagrams.
    fn queue(&self) -> usize {
        let product = self.bits_per_second as f64 / 8.0 * self.rtt.as_secs_f64();
        (product as usize).max(10 * 1500)
    }

    fn link(&self) -> BadLink {
        BadLink {
            loss: self.loss,
            one_way_delay: self.rtt / 2,
            rate: Some(self.bits_per_second),
            queue: self.queue(),
            seed: self.seed,
            ..BadLink::default()
        }
    }
}

/// Everything that the picture is drawn from.
#[derive(Clone)]
struct Stage {
    scene: Scene,
    board: Arc<Board>,
    link: Control,
    connection: Connection,
}

/// Runs the demonstration: the exit code says whether every bar held.
pub(crate) async fn run(scene: Scene, draw: bool, output: Output) -> Result<Exit, Failure> {
    let localhost = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let server = Endpoint::builder()
        .bind(localhost)
        .identity(Identity::generate())
        .transport(session::transport(DRAIN))
        .build()?;
    let address =
        server.local_addr().map_err(|error| Failure::new(Exit::CannotListen, error.to_string()))?;
    let incoming = BadLink { seed: scene.seed.wrapping_add(1), ..scene.link() };
    let bad = EmulatedLink::new(Box::new(UdpLink::bind(localhost)?), scene.link(), incoming);
    let link = bad.control();
    let client =
        Endpoint::builder().link(Box::new(bad)).transport(session::transport(DRAIN)).build()?;

    let board = Arc::new(Board::new());
    let serving = tokio::spawn(serve(server.clone(), Arc::clone(&board)));
    let work = async {
        let connection = client.connect(address, Trust::Pinned(server.fingerprint())).await?;
        let stage = Stage { scene, board, link, connection };
        perform(&stage, draw, output).await
    };
    let rows = session::until_interrupted(&client, work).await;
    serving.abort();
    let rows = rows?;
    Ok(report::print(&rows, output))
}

/// Sends and watches until all has arrived.
async fn perform(stage: &Stage, draw: bool, output: Output) -> Result<report::Report, Failure> {
    let Stage { scene, board, connection, .. } = stage;
    board.begin();
    let mut senders: Vec<JoinHandle<Result<(), Failure>>> = vec![
        tokio::spawn(file::send(connection.clone(), Arc::clone(board), *scene)),
        tokio::spawn(voice::send(connection.clone(), Arc::clone(board), scene.time)),
        tokio::spawn(chat::send(connection.clone(), Arc::clone(board), scene.time)),
    ];
    let all = async {
        for sender in &mut senders {
            sender.await.map_err(|_| Failure::file("a sender ended inside this program"))??;
        }
        tokio::select! {
            () = board.all_ended() => Ok(()),
            error = connection.closed() => Err(Failure::from(error)),
            () = tokio::time::sleep(DRAIN) => Ok(()),
        }
    };
    if draw {
        tokio::select! {
            ended = all => ended?,
            drawn = dashboard::run(stage) => drawn?,
        }
    } else {
        tokio::select! {
            ended = all => ended?,
            () = plain::run(stage, output) => {}
        }
    }
    Ok(report::Report::of(stage))
}

/// The server: every stream of every connection goes to the receiver that its label names.
async fn serve(server: Endpoint, board: Arc<Board>) {
    while let Some(connection) = server.accept().await {
        let board = Arc::clone(&board);
        tokio::spawn(async move {
            while let Ok(stream) = connection.accept().await {
                tokio::spawn(receive(stream, Arc::clone(&board)));
            }
        });
    }
}

async fn receive(stream: Stream, board: Arc<Board>) {
    match stream.info().label.clone().as_str() {
        voice::LABEL => voice::receive(stream, &board).await,
        chat::LABEL => chat::receive(stream, &board).await,
        file::LABEL => file::receive(stream, &board).await,
        _ => {}
    }
}
