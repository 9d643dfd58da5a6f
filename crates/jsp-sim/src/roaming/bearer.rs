//! A session on a connection: its records and items between the machine's queues and streams.

use std::collections::VecDeque;

use bytes::Bytes;
use jsp_app::session::{
    Binding, CHANNEL_LABEL, CONTROL_LABEL, ChannelId, Item, ProtocolError, Session,
};
use jsp_proto::{Connection, Message, RecvError, SendError, StreamConfig};
use jsp_wire::{Instant, StreamId};

/// A stream of a channel.
struct Lane {
    stream: StreamId,
    /// Known once the stream has named it.
    channel: Option<ChannelId>,
    /// The first message: to be sent, or that has come and is too early.
    bind: Option<Bytes>,
    item: Option<Item>,
    is_sent: bool,
    is_heard: bool,
}

/// The streams of a session on one connection.
pub(super) struct Bearer {
    control: StreamId,
    record: Option<Bytes>,
    lanes: Vec<Lane>,
    /// Channels that are to have a stream.
    unbound: VecDeque<(ChannelId, Bytes)>,
    owes_since: Option<Instant>,
    /// Bytes of messages that were given to the connection.
    pub(super) said: u64,
}

fn config(label: &str) -> StreamConfig {
    StreamConfig::messages().labelled(label)
}

impl Bearer {
    /// The client's, on a connection that is there.
    pub(super) fn open(now: Instant, connection: &mut Connection) -> Option<Self> {
        let control = connection.open(now, config(CONTROL_LABEL)).ok()?;
        Some(Self::on(control))
    }

    /// On this control stream.
    pub(super) fn on(control: StreamId) -> Self {
        Self {
            control,
            record: None,
            lanes: Vec::new(),
            unbound: VecDeque::new(),
            owes_since: None,
            said: 0,
        }
    }

    /// When word of taken messages is due.
    pub(super) fn wake(&self, session: &Session) -> Option<Instant> {
        Some(self.owes_since? + session.limits().confirm_delay)
    }

    /// Moves everything that can be moved.
    ///
    /// # Errors
    /// The peer breaks the session's protocol.
    pub(super) fn pump(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        session: &mut Session,
    ) -> Result<(), ProtocolError> {
        while let Ok(Some(record)) = connection.recv(now, self.control) {
            session.handle_record(&record.payload)?;
        }
        self.tell(now, connection, session);
        self.bind(now, connection, session);
        for lane in &mut self.lanes {
            lane.hear(now, connection, session)?;
            self.said += lane.speak(now, connection, session);
        }
        self.lanes.retain(|lane| !lane.is_sent || !lane.is_heard);
        // What was heard may have made records.
        self.tell(now, connection, session);
        Ok(())
    }

    /// A stream that the peer has opened for a channel.
    pub(super) fn take(&mut self, stream: StreamId) {
        self.lanes.push(Lane {
            stream,
            channel: None,
            bind: None,
            item: None,
            is_sent: false,
            is_heard: false,
        });
    }

    fn tell(&mut self, now: Instant, connection: &mut Connection, session: &mut Session) {
        let since = session.owes().then(|| *self.owes_since.get_or_insert(now));
        let is_late = since.is_some_and(|since| now >= since + session.limits().confirm_delay);
        session.confirm_taken(is_late);
        self.owes_since = if session.owes() { self.owes_since } else { None };
        loop {
            let Some(record) = self.record.take().or_else(|| session.poll_record()) else { return };
            if let Err(error) = connection.send(now, self.control, record.clone().into()) {
                if error == SendError::WouldBlock {
                    self.record = Some(record);
                }
                return;
            }
        }
    }

    fn bind(&mut self, now: Instant, connection: &mut Connection, session: &mut Session) {
        while let Some(unbound) = session.poll_bind() {
            self.unbound.push_back(unbound);
        }
        while let Some((channel, bind)) = self.unbound.front()
            && let Ok(stream) = connection.open(now, config(CHANNEL_LABEL))
        {
            let (channel, bind) = (Some(*channel), Some(bind.clone()));
            self.take(stream);
            if let Some(lane) = self.lanes.last_mut() {
                (lane.channel, lane.bind) = (channel, bind);
            }
            self.unbound.pop_front();
        }
    }
}

impl Lane {
    fn hear(
        &mut self,
        now: Instant,
        connection: &mut Connection,
        session: &mut Session,
    ) -> Result<(), ProtocolError> {
        if self.channel.is_none() {
            if self.bind.is_none() {
                match connection.recv(now, self.stream) {
                    Ok(first) => self.bind = first.map(|first| first.payload),
                    Err(_) => (self.is_sent, self.is_heard) = (true, true),
                }
            }
            let Some(bind) = &self.bind else { return Ok(()) };
            match session.handle_bind(bind)? {
                Binding::Early => return Ok(()),
                Binding::Over => {
                    connection.stop(now, self.stream, 0);
                    connection.reset(now, self.stream, 0);
                    (self.is_sent, self.is_heard) = (true, true);
                    return Ok(());
                }
                Binding::Bound(id) => (self.channel, self.bind) = (Some(id), None),
            }
        }
        let Some(id) = self.channel else { return Ok(()) };
        while !self.is_heard && session.wants(id) {
            let item = match connection.recv(now, self.stream) {
                Ok(Some(message)) => Item::Message(message.payload),
                Ok(None) => break,
                Err(RecvError::Closed) => Item::End,
                Err(_) => break,
            };
            self.is_heard = item == Item::End;
            session.handle_item(id, item)?;
        }
        Ok(())
    }

    /// Answers how many bytes of messages left.
    fn speak(&mut self, now: Instant, connection: &mut Connection, session: &mut Session) -> u64 {
        let Some(id) = self.channel.filter(|_| !self.is_sent) else { return 0 };
        if let Some(bind) = &self.bind {
            if connection.send(now, self.stream, bind.clone().into()).is_err() {
                return 0;
            }
            self.bind = None;
        }
        let mut said = 0;
        while let Some(item) = self.item.take().or_else(|| session.poll_item(id)) {
            let Item::Message(payload) = &item else {
                self.is_sent = connection.finish(now, self.stream).is_ok();
                break;
            };
            if connection.send(now, self.stream, Message::from(payload.clone())).is_err() {
                self.item = Some(item);
                break;
            }
            said += payload.len() as u64;
        }
        said
    }
}
