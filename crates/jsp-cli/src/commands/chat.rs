//! `jsp chat`: lines of text, both ways.

use std::collections::HashMap;
use std::io::{self, BufRead, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use jsp::{ClientAuth, Connection, Message, RecvStream, Stream};
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

use crate::cli::Global;
use crate::exit::{Exit, Failure, TABLE};
use crate::output::{Output, Tone, harmless};
use crate::protocol::chat_stream;
use crate::services::{self, Services};
use crate::session;
use crate::target::Target;

const EXAMPLES: &str = "\
Examples:
  jsp chat --listen               wait for others; prints the address that they need
  jsp chat example.org            talk to somebody who listens
  echo done | jsp chat HOST       say one thing and leave

Ctrl-D, or the end of the input, says goodbye.";

/// Longest line that is sent, in bytes; longer ones go in pieces.
const LINE_MAX: u64 = 32 << 10;
/// Lines that wait for a slow listener before it is left behind.
const LINES_WAITING: usize = 256;
/// How long the peer's answer to a goodbye is waited for.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Talk to somebody, line by line
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{TABLE}"))]
pub(crate) struct Chat {
    /// Whom to talk to
    #[arg(value_name = "HOST", required_unless_present = "listen")]
    host: Option<Target>,
    /// Wait for others instead
    #[arg(long, conflicts_with = "host")]
    listen: bool,
    /// The address to listen at; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:4433", requires = "listen")]
    bind: String,
}

#[derive(Serialize)]
struct LineEvent<'a> {
    event: &'static str,
    from: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct ListeningEvent<'a> {
    event: &'static str,
    uri: &'a str,
}

impl Chat {
    pub(crate) async fn run(self, global: &Global, output: Output) -> Result<Exit, Failure> {
        match &self.host {
            Some(host) => {
                let (endpoint, connection) = session::connect(host, global, output).await?;
                output.remark("connected; Ctrl-D says goodbye");
                let work = talk(&connection, &host.authority, output);
                session::until_interrupted(&endpoint, work).await?;
            }
            None => self.listen(global, output).await?,
        }
        Ok(Exit::Success)
    }

    async fn listen(&self, global: &Global, output: Output) -> Result<(), Failure> {
        let identity = session::identity(None)?;
        let endpoint = session::listen(&self.bind, identity, ClientAuth::None, global)?;
        let (uri, _) = session::uri(&endpoint)?;
        let uri = uri.to_string();
        output.object(&ListeningEvent { event: "listening", uri: &uri });
        output.line(format!(
            "others reach this with\n  jsp chat {}",
            output.tinted(Tone::Strong, &uri)
        ));
        let room = Arc::new(Room::open(output));
        let services =
            Services { folder: None, chat: Some(Arc::clone(&room)), perf: false, output };
        let work = async {
            tokio::select! {
                served = services::serve(&endpoint, services, |_| false) => served.map(|_| ()),
                () = room.left() => {
                    // What was said last still arrives.
                    endpoint.shutdown().await;
                    Ok(())
                }
            }
        };
        session::until_interrupted(&endpoint, work).await
    }
}

/// Both ways at once, until the input ends or the peer leaves.
async fn talk(connection: &Connection, peer: &str, output: Output) -> Result<(), Failure> {
    let (send, recv) = connection.open(chat_stream()).await?.split();
    let mut lines = typed_lines();
    let hearing = hear(recv, peer, output);
    tokio::pin!(hearing);
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => {
                    send.send(Message::text(line)).await?;
                }
                None => break,
            },
            heard = &mut hearing => {
                heard?;
                output.remark(format!("{peer} has left"));
                return Ok(());
            }
        }
    }
    send.finish()?;
    tokio::select! {
        arrived = send.closed() => arrived?,
        // Goes on to print what the peer says meanwhile.
        heard = &mut hearing => return heard,
    }
    // A peer that chats ends its half too; one that does not says so now.
    timeout(LAST_WORD, hearing).await.unwrap_or(Ok(()))
}

/// Prints what a peer says until it stops.
async fn hear(recv: RecvStream, peer: &str, output: Output) -> Result<(), Failure> {
    while let Some(message) = recv.recv().await? {
        let text = String::from_utf8_lossy(&message.payload);
        output.object(&LineEvent { event: "line", from: peer, text: &text });
        let name = output.tinted(Tone::Strong, format!("{peer}:"));
        output.line(format!("{name} {}", harmless(&text)));
    }
    Ok(())
}

/// Lines from standard input. The thread is not waited for: it may stand in a read for ever.
fn typed_lines() -> mpsc::Receiver<String> {
    let (lines, typed) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut input = io::stdin().lock();
        let mut rest = Vec::new();
        loop {
            let mut line = std::mem::take(&mut rest);
            match (&mut input).take(LINE_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) if line.is_empty() => return,
                Ok(0) | Err(_) => {}
                Ok(_) => rest = split_off_torn(&mut line),
            }
            let text = String::from_utf8_lossy(&line);
            let text = text.trim_end_matches(['\n', '\r']).to_owned();
            if lines.blocking_send(text).is_err() {
                return;
            }
        }
    });
    typed
}

/// Takes a character from the end of `line` whose last bytes are still to be read: a line longer than
/// a message may be cut inside of one.
fn split_off_torn(line: &mut Vec<u8>) -> Vec<u8> {
    match std::str::from_utf8(line) {
        Err(error) if error.error_len().is_none() => line.split_off(error.valid_up_to()),
        _ => Vec::new(),
    }
}

/// Everybody who has come to chat here: what is typed goes to all, what they say is printed.
pub(crate) struct Room {
    output: Output,
    guests: Arc<Mutex<HashMap<u64, mpsc::Sender<String>>>>,
    next: AtomicU64,
    ended: Arc<Notify>,
}

impl Room {
    /// Opens the room and begins to read what is typed. Must be called inside a tokio runtime.
    pub(crate) fn open(output: Output) -> Self {
        let guests: Arc<Mutex<HashMap<u64, mpsc::Sender<String>>>> = Arc::default();
        let ended = Arc::new(Notify::new());
        let (all, over) = (Arc::clone(&guests), Arc::clone(&ended));
        tokio::spawn(async move {
            let mut lines = typed_lines();
            while let Some(line) = lines.recv().await {
                // A guest who does not read any more is left behind.
                let mut guests = all.lock().unwrap_or_else(PoisonError::into_inner);
                guests.retain(|_, guest| guest.try_send(line.clone()).is_ok());
            }
            all.lock().unwrap_or_else(PoisonError::into_inner).clear();
            over.notify_one();
        });
        Self { output, guests, next: AtomicU64::new(0), ended }
    }

    /// Returns when the input has ended.
    async fn left(&self) {
        self.ended.notified().await;
    }

    /// Serves a guest until it leaves.
    pub(crate) async fn attend(&self, stream: Stream, name: String) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (guest, mut lines) = mpsc::channel(LINES_WAITING);
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).insert(number, guest);
        let (send, recv) = stream.split();
        let saying = async {
            while let Some(line) = lines.recv().await {
                if send.send(Message::text(line)).await.is_err() {
                    return;
                }
            }
            let _ = send.finish();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = hear(recv, &name, self.output) => {}
            () = saying => {}
        }
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_is_not_torn() {
        let text = "ab\u{20ac}";
        for cut in 0..=text.len() {
            let mut line = text.as_bytes()[..cut].to_vec();
            let rest = split_off_torn(&mut line);
            assert!(std::str::from_utf8(&line).is_ok(), "{cut}");
            assert_eq!(line.len() + rest.len(), cut);
        }
        // What is no text at all is kept as it is.
        let mut noise = vec![0xff, b'a'];
        assert!(split_off_torn(&mut noise).is_empty());
    }
}
