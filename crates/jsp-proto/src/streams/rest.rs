//! What streams give back while nothing happens.

use core::time::Duration;

use jsp_wire::{Instant, StreamId};

use super::credit::{SendCredit, Told, Window};
use super::overdue::{Allowance, Repeats};
use super::stream::{Accounted, Fin, RecvBody, RecvPhase, SendBody, SendPhase, Stream};
use super::table::{LocalStreams, PeerStreams};
use super::{Side, StreamLimits, Streams, early, opening};
use crate::pack::{Pack, Packer, Unpacker, packed};

/// The streams of a connection that rests.
pub(crate) enum RestingStreams {
    /// There are none but stream 0, which was not used: [`Counts`] are packed.
    Blank,
    Some(Box<Streams>),
}

/// What is known beside the streams themselves.
struct Counts {
    hash_key: u64,
    peer: Option<Told>,
    rtt: Duration,
    credit: SendCredit,
    window: Window,
    received: Accounted,
    local_streams: LocalStreams,
    peer_streams: PeerStreams,
    copies: Allowance,
    repeats: Repeats,
    tried: u64,
    /// The peer's credit for stream 0.
    limit: u64,
}
packed!(Counts {
    hash_key,
    peer,
    rtt,
    credit,
    window,
    received,
    local_streams,
    peer_streams,
    copies,
    repeats,
    tried,
    limit
});

impl Streams {
    /// The key of the table's hash.
    pub(crate) fn hash_key(&self) -> u64 {
        self.limits.hash_key
    }

    /// Nothing happens: queues shrink to what they hold.
    pub(crate) fn rest(&mut self) {
        for queue in [&mut self.control, &mut self.opens, &mut self.blocked, &mut self.watched] {
            queue.shrink_to_fit();
        }
        self.expiries.shrink_to_fit();
        self.accept.shrink_to_fit();
        self.events.shrink_to_fit();
    }

    /// Streams of which nothing is to be told, in few bytes if there are none but the first.
    pub(crate) fn into_resting(self, packer: &mut Packer) -> RestingStreams {
        let Some(limit) = self.blank_limit() else { return RestingStreams::Some(Box::new(self)) };
        let counts = Counts {
            hash_key: self.limits.hash_key,
            peer: self.peer,
            rtt: self.rtt,
            credit: self.credit,
            window: self.window,
            received: self.received,
            local_streams: self.local_streams,
            peer_streams: self.peer_streams,
            copies: self.copies,
            repeats: self.repeats,
            tried: self.tried,
            limit,
        };
        counts.pack(packer);
        RestingStreams::Blank
    }

    /// True when the application has heard all that there is to hear.
    pub(crate) fn is_heard(&self) -> bool {
        self.events.is_empty()
    }

    /// The peer's credit for stream 0, if there is nothing else to know of any stream.
    fn blank_limit(&self) -> Option<u64> {
        let queues = [&self.control, &self.opens, &self.blocked, &self.watched];
        let are_empty = queues.into_iter().all(|queue| queue.is_empty())
            && self.scheduler.is_empty()
            && self.doubles.is_empty()
            && self.expiries.is_empty()
            && self.accept.is_empty()
            && self.events.is_empty();
        let owes = self.owes_max_data || self.owes_max_streams || self.owes_blocked;
        let is_open = self.early == early::Phase::Over && !self.is_closed;
        let mut streams = self.table.iter();
        let only = streams.next().filter(|stream| stream.id == StreamId::SIGNALLING)?;
        let is_blank = streams.next().is_none() && only.is_unused();
        let all_seen = self.peer_streams.all_seen();
        (are_empty && !owes && is_open && is_blank && all_seen).then_some(only.send.limit)
    }
}

impl Stream {
    /// True for a stream 0 that nothing went or came on.
    fn is_unused(&self) -> bool {
        let (send, recv) = (&self.send, &self.recv);
        let sent = !matches!(send.body, SendBody::Idle)
            || send.phase != SendPhase::Open
            || send.fin != Fin::Unsent
            || send.wants_room
            || send.told.is_some()
            || send.consumed_below > 0;
        let received = !matches!(recv.body, RecvBody::Idle)
            || recv.phase != RecvPhase::Open
            || recv.accounted.position > 0
            || recv.consumed_below > 0
            || recv.told_readable;
        let is_plain = self.owes == 0
            && self.armed == Instant::FAR_FUTURE
            && self.rate.is_none()
            && self.class == self.profile.class
            && self.weight == opening::WEIGHT_DEFAULT;
        !sent && !received && is_plain
    }
}

impl RestingStreams {
    /// The streams as they were: `limits` makes the configured ones out of the key of the table's hash.
    pub(crate) fn into_streams(
        self,
        packed: &mut Unpacker<'_>,
        side: Side,
        limits: impl FnOnce(u64) -> StreamLimits,
    ) -> Streams {
        let counts = match self {
            Self::Some(streams) => return *streams,
            Self::Blank => Counts::unpack(packed),
        };
        let mut streams = Streams::new(side, &limits(counts.hash_key));
        if let Some((_, stream)) = streams.table.find(StreamId::SIGNALLING) {
            stream.send.limit = counts.limit;
        }
        Streams {
            peer: counts.peer,
            rtt: counts.rtt,
            credit: counts.credit,
            window: counts.window,
            received: counts.received,
            local_streams: counts.local_streams,
            peer_streams: counts.peer_streams,
            copies: counts.copies,
            repeats: counts.repeats,
            tried: counts.tried,
            early: early::Phase::Over,
            ..streams
        }
    }
}
