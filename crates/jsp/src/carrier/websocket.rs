//! WebSocket (RFC 6455): each datagram a binary message.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use jsp_wire::limits;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::stream::BoxStream;
use crate::remote::Target;

/// A WebSocket over any stream.
pub(crate) type WebSocket = WebSocketStream<BoxStream>;

/// Its half that brings datagrams.
pub(super) struct WebSocketReader(SplitStream<WebSocket>);

/// Its half that takes them.
pub(super) struct WebSocketWriter(SplitSink<WebSocket, Message>);

/// Messages and buffers are as large as a datagram needs.
// spec: CAR-18
fn config() -> WebSocketConfig {
    let largest = Some(limits::CARRIER_DATAGRAM_LEN_MAX);
    WebSocketConfig::default()
        .read_buffer_size(limits::CARRIER_DATAGRAM_LEN_MAX)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * limits::CARRIER_DATAGRAM_LEN_MAX)
        .max_message_size(largest)
        .max_frame_size(largest)
}

/// Asks the server for a WebSocket.
pub(super) async fn connect(
    stream: BoxStream,
    scheme: &str,
    target: &Target,
    path: &str,
) -> io::Result<Box<WebSocket>> {
    let url = format!("{scheme}://{target}/{}", path.trim_start_matches('/'));
    let opened = tokio_tungstenite::client_async_with_config(url, stream, Some(config())).await;
    opened.map(|(socket, _)| Box::new(socket)).map_err(to_io)
}

/// Answers a client that asks for one, at any path.
pub(super) async fn accept(stream: BoxStream) -> io::Result<Box<WebSocket>> {
    let accepted = tokio_tungstenite::accept_async_with_config(stream, Some(config())).await;
    accepted.map(Box::new).map_err(to_io)
}

pub(super) fn split(socket: WebSocket) -> (WebSocketReader, WebSocketWriter) {
    let (write, read) = socket.split();
    (WebSocketReader(read), WebSocketWriter(write))
}

impl WebSocketReader {
    /// The next datagram; `None` at the end.
    // spec: CAR-17
    pub(super) async fn next(&mut self) -> io::Result<Option<BytesMut>> {
        while let Some(message) = self.0.next().await {
            match message {
                Ok(Message::Binary(payload)) if !payload.is_empty() => {
                    return Ok(Some(BytesMut::from(payload)));
                }
                Ok(Message::Ping(_) | Message::Pong(_)) => {}
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => return Ok(None),
                Ok(_) => {
                    let reason = "a message that is no datagram";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
                }
                Err(error) => return Err(to_io(error)),
            }
        }
        Ok(None)
    }
}

impl WebSocketWriter {
    pub(super) async fn write(&mut self, datagrams: impl Iterator<Item = Bytes>) -> io::Result<()> {
        for datagram in datagrams {
            self.0.feed(Message::Binary(datagram)).await.map_err(to_io)?;
        }
        self.0.flush().await.map_err(to_io)
    }

    pub(super) async fn close(&mut self) -> io::Result<()> {
        self.0.close().await.map_err(to_io)
    }
}

fn to_io(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}
