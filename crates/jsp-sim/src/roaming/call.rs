//! A call beside the session: unreliable messages, each of which must have one fate.

use std::collections::BTreeSet;
use std::time::Duration;

use jsp_proto::{Connection, Message, MessageFate, StreamConfig};
use jsp_wire::{Instant, StreamId};

/// The label of the call's stream.
pub(super) const LABEL: &str = "call";
/// Bytes of a message.
const LEN: usize = 160;

/// The client's half, on one connection.
pub(super) struct Call {
    stream: StreamId,
    every: Duration,
    pub(super) next_at: Instant,
    /// Messages without a fate.
    open: BTreeSet<u64>,
}

impl Call {
    pub(super) fn begin(
        now: Instant,
        connection: &mut Connection,
        every: Duration,
    ) -> Option<Self> {
        let config = StreamConfig { unidirectional: true, ..StreamConfig::voice() };
        let stream = connection.open(now, config.labelled(LABEL)).ok()?;
        Some(Self { stream, every, next_at: now, open: BTreeSet::new() })
    }

    /// Says what is due. Each message carries when it was said.
    pub(super) fn speak(&mut self, now: Instant, connection: &mut Connection) {
        while self.next_at <= now {
            self.next_at = self.next_at + self.every;
            let mut payload = vec![0; LEN];
            payload[..8].copy_from_slice(&now.as_nanos().to_be_bytes());
            let message = Message { want_fate: true, ..Message::binary(payload) };
            if let Ok(number) = connection.send(now, self.stream, message) {
                self.open.insert(number);
            }
        }
    }

    /// A fate was told: false when it cannot be.
    pub(super) fn on_fate(&mut self, stream: StreamId, number: u64, _: MessageFate) -> bool {
        stream != self.stream || self.open.remove(&number)
    }

    /// Messages whose fate was not told.
    pub(super) fn unfinished(&self) -> usize {
        self.open.len()
    }
}
