//! Messages that go twice at once, by two paths (the idea of XLINK, SIGCOMM 2021): where a path loses
//! much, or is about to fail, a second copy costs bytes and saves a round trip. The receiver drops what
//! comes twice by the number of the message.

use jsp_wire::{Class, Delivery, Instant, PathId};

use super::Streams;
use super::overdue::copy;
use super::stream::SendBody;
use super::table::Key;
use crate::bounded::Bounded;
use crate::packet::{Lane, PacketBuilder};
use crate::streams::stream::Stream;

/// Copies that may wait for a path; of more, the oldest have waited too long.
const DOUBLES_MAX: usize = 64;

/// Copies that wait for another path than their messages took.
pub(super) type Doubles = Bounded<Double, DOUBLES_MAX>;

/// Whether the messages of a stream go by two paths at once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Duplicate {
    /// Those of the classes control and real time, while the path that they take loses packets or looks
    /// as if it failed; no others.
    #[default]
    Auto,
    /// Never.
    Never,
    /// All that fit into a packet, as long as there are two paths.
    Always,
}

impl Duplicate {
    /// True when a message that leaves this way should go by another path too.
    // spec: PTH-14
    pub(super) fn applies(self, class: Class, lane: Lane) -> bool {
        match self {
            Self::Auto => lane.is_shaky && matches!(class, Class::Control | Class::RealTime),
            Self::Never => false,
            Self::Always => lane.has_twin,
        }
    }
}

/// A message that is to go once more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Double {
    key: Key,
    number: u64,
    /// The path that it has taken.
    path: PathId,
}

impl Double {
    /// A message has left by this path.
    pub(super) fn new(key: Key, number: u64, path: PathId) -> Self {
        Self { key, number, path }
    }
}

impl Streams {
    /// True when messages are to go once more by this path.
    pub(crate) fn has_doubles(&self, path: PathId) -> bool {
        self.doubles.iter().any(|double| double.path != path)
    }

    /// Writes the second copies of messages that left by other paths, as far as there is room.
    pub(crate) fn write_doubles(&mut self, now: Instant, packet: &mut PacketBuilder<'_>) {
        let path = packet.path();
        for _ in 0..self.doubles.len() {
            let Some(double) = self.doubles.pop_front() else { return };
            if double.path == path {
                self.doubles.push_evicting(double);
                continue;
            }
            let Some(stream) = self.table.get_mut(double.key) else { continue };
            if !matters(now, double.number, stream) {
                continue;
            }
            match copy(double.number, stream, packet) {
                Some(bytes) => {
                    self.repeats.doubled = self.repeats.doubled.saturating_add(bytes);
                    if let SendBody::Messages(messages) = &mut stream.send.body {
                        messages.doubled(now, double.number, path);
                    }
                }
                // The next packet has room, if any has: datagrams may be smaller by this path.
                None if packet.writer().len() > 0 => return self.doubles.push_evicting(double),
                None => {}
            }
        }
    }

    /// There is no second path any more.
    pub(crate) fn forget_doubles(&mut self) {
        self.doubles.take();
    }
}

fn matters(now: Instant, number: u64, stream: &Stream) -> bool {
    let SendBody::Messages(messages) = &stream.send.body else { return false };
    let record = messages.record(number);
    messages.delivery != Delivery::Unreliable
        && record.is_some_and(|r| !r.done && !r.superseded && r.expires > now && r.is_whole)
}
