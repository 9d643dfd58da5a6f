//! Resumption and early data, between two endpoints in virtual time.

mod early_data;
mod late;
#[path = "../pair/mod.rs"]
mod pair;
mod replay;
mod tickets;

use std::time::Duration;

use jsp_crypto::{ClientTicket, Mode, TicketKeys};
use jsp_proto::{
    CloseReason, ConnectionHandle, Datagram, Endpoint, EndpointConfig, Event, Instant, Message,
    Reason, RetryPolicy, Route, StreamConfig, StreamId, TransportConfig,
};
use pair::{DELAY, End, Pair, TestRng};

const RTT: Duration = Duration::from_millis(20);

fn safe() -> StreamConfig {
    StreamConfig::messages().replay_safe()
}

/// Opens a stream at the client and sends one message on it.
fn say(pair: &mut Pair, client: ConnectionHandle, config: StreamConfig, text: &str) -> StreamId {
    let now = pair.now;
    let connection = pair.client.connection(client).unwrap();
    let stream = connection.open(now, config).unwrap();
    connection.send(now, stream, Message::from(text)).unwrap();
    stream
}

/// Everything that the server's connections have received, and when it came.
#[derive(Default)]
struct Heard {
    texts: Vec<(String, Instant)>,
    streams: Vec<(ConnectionHandle, StreamId)>,
}

impl Heard {
    /// Takes what has arrived at any connection of `server`.
    fn listen(&mut self, now: Instant, server: &mut Endpoint, handles: &[ConnectionHandle]) {
        for handle in handles {
            let Some(connection) = server.connection(*handle) else { continue };
            while let Some(stream) = connection.accept() {
                self.streams.push((*handle, stream));
            }
        }
        for (handle, stream) in &self.streams {
            let Some(connection) = server.connection(*handle) else { continue };
            while let Ok(Some(message)) = connection.recv(now, *stream) {
                self.texts.push((message.text().unwrap_or("?").to_owned(), now));
            }
        }
    }

    fn count(&self, text: &str) -> usize {
        self.texts.iter().filter(|(heard, _)| heard == text).count()
    }
}

fn server_handles(pair: &Pair) -> Vec<ConnectionHandle> {
    let connected = pair
        .events
        .iter()
        .filter(|(end, _, event)| *end == End::Server && *event == Event::Connected);
    connected.map(|(_, handle, _)| *handle).collect()
}

/// Runs for a while, with an ear to all connections of the server.
fn listen_for(pair: &mut Pair, heard: &mut Heard, time: Duration) {
    let until = pair.now + time;
    while pair.now < until {
        pair.run_for(Duration::from_millis(1));
        let (now, handles) = (pair.now, server_handles(pair));
        heard.listen(now, &mut pair.server, &handles);
    }
}

fn mode(pair: &mut Pair, client: ConnectionHandle) -> (Mode, bool, bool) {
    let security = pair.client.connection(client).unwrap().security().unwrap();
    (security.mode, security.early_data, security.hybrid)
}

/// What the client gets from a server whose early data are refused: everything, once.
fn refused(mut pair: Pair, ticket: ClientTicket, expected: Mode) {
    let client = pair.resume(ticket, true);
    let texts: Vec<String> = (0..30).map(|n| format!("early {n} {}", "x".repeat(200))).collect();
    for text in &texts {
        say(&mut pair, client, safe(), text);
    }
    say(&mut pair, client, StreamConfig::messages(), "later");
    let mut heard = Heard::default();
    listen_for(&mut pair, &mut heard, RTT * 12);
    assert_eq!(mode(&mut pair, client).0, expected);
    assert!(!mode(&mut pair, client).1);
    for text in texts.iter().map(String::as_str).chain(["later"]) {
        assert_eq!(heard.count(text), 1, "{text}");
    }
    assert!(!pair.client.connection(client).unwrap().is_closed());
}

/// What a server that does not know the ticket of this hello answers it.
fn refusal_of(pair: &Pair, hello: &[u8]) -> Vec<u8> {
    let mut stranger = pair.server_config();
    stranger.seed = [78; 32];
    let mut stranger = Endpoint::new(stranger);
    let (route, payload) = (Route::udp(pair.client_addr), bytes::BytesMut::from(hello));
    stranger.handle_datagram(pair.now, Datagram { route, ecn: None, payload });
    let mut batch = jsp_proto::Batch::new(0, 1);
    assert!(stranger.poll_transmit(pair.now, &mut batch));
    batch.contents().to_vec()
}

const SECRET: [u8; 32] = [9; 32];

/// A pair whose server has shared its ticket keys for long enough to take early data.
fn sharing() -> Pair {
    let mut pair = Pair::new();
    share(&mut pair, 0);
    pair.run_for(Duration::from_secs(30));
    pair
}

fn share(pair: &mut Pair, shard: u16) {
    let epoch = TicketKeys::epoch_at(1_800_000_000);
    let now = pair.now;
    pair.server.share_tickets(now, SECRET, epoch, shard, None);
}
