//! What lies between client and server: links of datagrams, streams, and what passes at the moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use jsp_wire::Instant;

use super::pipe::{Out, Pipe};
use super::plan::{Plan, Streams, Weather, Whereabouts};
use crate::link::{Datagram, Link};
use crate::random::Random;
use crate::topology::{SERVER_ADDRESS, client_address, interface_of, second_address};

/// Longest time that opening a stream takes.
const DIAL_MAX: Duration = Duration::from_secs(10);

/// The end of a stream, and of a link: who has opened it, and the server.
pub(super) const CLIENT: usize = 0;
/// The server's end.
pub(super) const SERVER: usize = 1;

/// Something that the network brings.
#[derive(Debug)]
pub(super) enum Happening {
    /// A datagram for an end.
    Datagram(usize, Datagram),
    /// A stream is open: both ends know.
    Opened(u64),
    /// The client's attempt has failed.
    Refused(u64),
    /// A datagram has come through a stream to an end.
    Came(u64, usize, BytesMut),
    /// An end of a stream may write more.
    Room(u64, usize),
    /// An end hears that the stream is over.
    Closed(u64, usize),
}

struct Stream {
    pipe: Pipe,
    /// Ends that do not use it any more.
    is_closed: [bool; 2],
}

pub(super) struct Net {
    links: [[Link; 2]; 2],
    weather: Weather,
    pub(super) whereabouts: Whereabouts,
    kind: Streams,
    streams: BTreeMap<u64, Stream>,
    last_stream: u64,
    /// What is to happen to streams: by time and order.
    due: BTreeMap<(Instant, u64), Happening>,
    order: u64,
    /// How often the address of the first interface has changed.
    pub(super) changes: usize,
    random: Random,
    /// Datagrams that were sent by links.
    pub(super) datagrams: u64,
}

impl Net {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut index = 0;
        let links = plan.links.clone().map(|interface| {
            interface.map(|config| {
                index += 1;
                Link::new(config, Random::part(plan.seed, "roaming link", index))
            })
        });
        Self {
            links,
            weather: plan.weather.clone(),
            whereabouts: plan.whereabouts.clone(),
            kind: plan.streams.clone(),
            streams: BTreeMap::new(),
            last_stream: 0,
            due: BTreeMap::new(),
            order: 0,
            changes: 0,
            random: Random::part(plan.seed, "roaming streams", 0),
            datagrams: 0,
        }
    }

    /// An end sends a datagram; the client's may name its interface.
    pub(super) fn send(&mut self, now: Instant, end: usize, mut datagram: Datagram) {
        self.datagrams += 1;
        let named = if end == CLIENT { datagram.from } else { datagram.to };
        let interface = match end {
            CLIENT if named == SERVER_ADDRESS => 0,
            _ => interface_of(named.ip()).min(1),
        };
        if end == CLIENT {
            datagram.from = match interface {
                0 => client_address(0, self.changes),
                _ => second_address(0),
            };
        }
        let is_there = end == CLIENT || self.whereabouts.has(now, datagram.from);
        if is_there && self.weather.datagrams_pass(now) {
            self.links[interface][end].push(now, datagram);
        }
    }

    /// The client begins to open a stream; its number.
    pub(super) fn dial(&mut self, now: Instant) -> u64 {
        self.last_stream += 1;
        let id = self.last_stream;
        let passes = self.weather.streams_pass_at(now);
        let round_trip = self.kind.delay * 2;
        // Who asked in vain asks again with longer and longer pauses.
        let late = self.random.duration_to(passes.since(now).min(Duration::from_secs(1)));
        let ready = passes + round_trip + late;
        if ready <= now + DIAL_MAX {
            self.put_down(ready, Happening::Opened(id));
        } else {
            self.put_down(now + DIAL_MAX, Happening::Refused(id));
        }
        id
    }

    fn put_down(&mut self, at: Instant, what: Happening) {
        self.order += 1;
        self.due.insert((at, self.order), what);
    }

    pub(super) fn room(&self, id: u64, end: usize) -> usize {
        self.streams.get(&id).map_or(0, |stream| stream.pipe.room(end))
    }

    pub(super) fn unsent(&self, end: usize) -> usize {
        self.streams.values().map(|stream| stream.pipe.unsent(end)).max().unwrap_or(0)
    }

    /// Streams that an end has open.
    pub(super) fn held(&self, end: usize) -> usize {
        self.streams.values().filter(|stream| !stream.is_closed[end]).count()
    }

    pub(super) fn write(&mut self, now: Instant, id: u64, end: usize, datagram: BytesMut) {
        let (kind, weather) = (&self.kind, &self.weather);
        if let Some(stream) = self.streams.get_mut(&id)
            && !stream.is_closed[end]
        {
            stream.pipe.push(now, end, datagram, kind, weather);
        }
    }

    /// An end closes a stream; the other hears of it later, unless the middle has forgotten it.
    pub(super) fn close(&mut self, now: Instant, id: u64, end: usize) {
        let heard = self.weather.streams_pass_at(now) + self.kind.delay;
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if std::mem::replace(&mut stream.is_closed[end], true) {
            return;
        }
        if stream.is_closed[1 - end] {
            self.streams.remove(&id);
        } else if !stream.pipe.is_forgotten {
            self.put_down(heard, Happening::Closed(id, 1 - end));
        }
    }

    /// An end's process is gone, and its streams with it.
    pub(super) fn close_all(&mut self, now: Instant, end: usize) {
        let ids: Vec<u64> = self.streams.keys().copied().collect();
        ids.into_iter().for_each(|id| self.close(now, id, end));
    }

    /// All streams break; both ends hear of it.
    pub(super) fn reset(&mut self, now: Instant) {
        let ids: Vec<u64> = self.streams.keys().copied().collect();
        for id in ids {
            for end in [CLIENT, SERVER] {
                self.put_down(now, Happening::Closed(id, end));
            }
        }
    }

    /// The client's first address is another now: what is under way to the old one is lost.
    pub(super) fn rebind(&mut self) {
        self.changes += 1;
        self.forget_streams();
    }

    /// An end of all streams is at another address now: nothing passes in them, and nobody hears of it.
    pub(super) fn forget_streams(&mut self) {
        for stream in self.streams.values_mut() {
            stream.pipe.is_forgotten = true;
        }
    }

    fn is_client(&self, address: SocketAddr) -> bool {
        address == client_address(0, self.changes) || address == second_address(0)
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        let links = self.links.iter().flatten().filter_map(Link::next_event);
        let streams = self.streams.values().filter_map(|stream| stream.pipe.next_event());
        let due = self.due.keys().next().map(|(at, _)| *at);
        links.chain(streams).chain(due).min()
    }

    /// The next thing that has happened by now.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Happening> {
        for end in [CLIENT, SERVER] {
            for interface in 0..2 {
                while let Some(datagram) = self.links[interface][end].poll(now) {
                    let is_there = match end {
                        CLIENT => self.whereabouts.has(now, datagram.to),
                        _ => self.is_client(datagram.to),
                    };
                    if is_there {
                        return Some(Happening::Datagram(1 - end, datagram));
                    }
                }
            }
        }
        let (kind, weather) = (&self.kind, &self.weather);
        for (id, stream) in &mut self.streams {
            while let Some((end, out)) = stream.pipe.poll(now, kind, weather) {
                match out {
                    Out::Room if !stream.is_closed[end] => {
                        return Some(Happening::Room(*id, end));
                    }
                    Out::Arrived(datagram) if !stream.is_closed[1 - end] => {
                        return Some(Happening::Came(*id, 1 - end, datagram));
                    }
                    _ => {}
                }
            }
        }
        let (key, _) = self.due.first_key_value().filter(|((at, _), _)| *at <= now)?;
        let key = *key;
        let what = self.due.remove(&key)?;
        match what {
            Happening::Opened(id) => {
                let random = Random::new(self.random.next_u64());
                let stream = Stream { pipe: Pipe::new(random), is_closed: [false; 2] };
                self.streams.insert(id, stream);
            }
            Happening::Closed(id, end) => {
                let stream = self.streams.get_mut(&id)?;
                if std::mem::replace(&mut stream.is_closed[end], true) {
                    return self.poll(now);
                }
                if stream.is_closed[1 - end] {
                    self.streams.remove(&id);
                }
            }
            _ => {}
        }
        Some(what)
    }
}
