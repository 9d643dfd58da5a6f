use core::fmt::Debug;

use jsp_wire::frame::StreamLimit;
use jsp_wire::{Class, PathId};

use super::super::config::{Delivery, FecPolicy};
use super::super::rate::RateCap;
use super::super::record::Record;
use super::super::stream::SendBody;
use super::*;
use crate::token::{StreamPart, StreamToken};

/// Two that do the same, of which one writes its messages piece by piece: a rate cap, which holds nothing back, ends its
/// turns.
struct Twins {
    sides: [Streams; 2],
    now: Instant,
    ids: [StreamId; 2],
    /// Packets without a fate.
    under_way: Vec<[Sent; 2]>,
}

impl Twins {
    fn new(configs: [&StreamConfig; 2], limits: &StreamLimits) -> Self {
        let [(a, _, now), (b, _, _)] = [pair(limits), pair(limits)];
        let (ids, under_way) = ([StreamId(0); 2], Vec::new());
        let mut twins = Self { sides: [a, b], now, ids, under_way };
        twins.ids = configs.map(|config| {
            let id = twins.both(|streams, now| streams.open(now, config).unwrap());
            twins.sides[1].table.find(id).unwrap().1.rate = Some(Box::new(RateCap::new(1 << 60)));
            id
        });
        twins
    }

    fn both<T: PartialEq + Debug>(&mut self, mut act: impl FnMut(&mut Streams, Instant) -> T) -> T {
        let now = self.now;
        let [a, b] = self.sides.each_mut().map(|streams| act(streams, now));
        assert_eq!(a, b);
        a
    }

    fn build(&mut self, room: usize) -> bool {
        let now = self.now;
        let lane = Lane { path: PathId(3), ..Lane::default() };
        let built = self.sides.each_mut().map(|streams| build_along(streams, now, room, lane));
        let [Some(a), Some(b)] = built else {
            assert!(built[0].is_none() && built[1].is_none());
            return false;
        };
        assert_eq!((a.shape, &a.payload), (b.shape, &b.payload));
        self.under_way.push([a, b]);
        true
    }

    /// One of the packets gets its fate; or goes again, or gets another fate later.
    fn settle(&mut self, rng: &mut Rng) {
        let at = rng.below(self.under_way.len() as u64) as usize;
        let (fate, is_doubt) = match rng.below(100) {
            0..90 => (Fate::Acked, false),
            90..95 => (Fate::Lost, false),
            _ => (Fate::Lost, true),
        };
        let sent = self.under_way.swap_remove(at);
        for (streams, sent) in self.sides.iter_mut().zip(&sent) {
            if is_doubt {
                for token in &sent.tokens {
                    let Token::Stream(token) = token else { continue };
                    streams.on_doubt(self.now, *token);
                }
            } else {
                settle(streams, self.now, sent, fate);
            }
        }
        if is_doubt {
            self.under_way.push(sent);
        } else if fate == Fate::Lost && rng.chance(30) {
            for (streams, sent) in self.sides.iter_mut().zip(&sent) {
                settle(streams, self.now, sent, Fate::Late);
            }
        }
    }

    /// All that both know of what they have sent.
    fn compare(&mut self) {
        for id in self.ids {
            let [a, b] = self.sides.each_mut().map(|streams| {
                let (_, stream) = streams.table.find(id)?;
                let SendBody::Messages(messages) = &stream.send.body else { return None };
                let plain =
                    |record: &Record| (record.len, record.sent, record.path, record.is_whole);
                let times = |record: &Record| (record.first_sent_at, record.sent_at, record.hopes);
                let records = messages.records.iter().map(|record| (plain(record), times(record)));
                let marks =
                    [messages.first, messages.cursor, messages.acked_next, messages.sent_next];
                let sums = [messages.credited, messages.waiting, messages.in_flight];
                Some((records.collect::<Vec<_>>(), marks, sums))
            });
            assert_eq!(a, b);
        }
    }
}

// spec-test: STR-11, STR-21, STR-23
#[test]
fn messages_in_a_run_go_as_they_would_one_by_one() {
    let (mut cut, mut runs) = (0, 0);
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let lifetime = rng.chance(50).then_some(ms(5));
        let delivery = match seed % 3 {
            0 => Delivery::Partial { retransmits: Some(2), lifetime },
            _ => Delivery::Reliable,
        };
        let config = StreamConfig { delivery, ..one_way(StreamConfig::messages()) };
        let (data_window, stream_window) = (16_384 << rng.below(4), 16_384 << rng.below(4));
        let limits = StreamLimits { data_window, stream_window, ..StreamLimits::default() };
        let soon = StreamConfig { class: Class::RealTime, fec: FecPolicy::Off, ..config.clone() };
        let mut twins = Twins::new([&config, if seed % 2 == 0 { &soon } else { &config }], &limits);
        for step in 0..60 {
            for i in 0..rng.below(60) {
                let id = twins.ids[rng.below(2) as usize];
                let len = if rng.chance(3) { rng.below(3000) } else { rng.below(90) };
                let mut message = Message::binary(pattern(step * 100 + i, len as usize));
                message.attributes.text = rng.chance(10);
                message.attributes.timestamp_ms = rng.chance(10).then_some(step);
                message.supersede_key = rng.chance(10).then_some(rng.below(3));
                message.lifetime = rng.chance(10).then_some(ms(1));
                message.want_fate = rng.chance(10);
                let _ = twins.both(|streams, now| streams.send(now, id, message.clone()));
            }
            if step == 58 && rng.chance(50) {
                let id = twins.ids[0];
                twins.both(|streams, now| streams.finish(now, id)).unwrap();
            }
            while rng.chance(90) && twins.build(300 + rng.below(1200) as usize) {}
            while rng.chance(70) && !twins.under_way.is_empty() {
                twins.settle(&mut rng);
            }
            let (limit, ids) = (rng.below(1 << 18), twins.ids);
            twins.both(|streams, now| {
                streams.on_max_data(limit);
                for stream in ids {
                    let frame = StreamLimit { stream, value: limit };
                    streams.on_max_stream_data(now, &frame).unwrap();
                }
                streams.end_of_packet(now).unwrap();
                if streams.poll_timeout().is_some_and(|at| at <= now) {
                    streams.handle_timeout(now);
                }
            });
            twins.compare();
            twins.both(|streams, _| events(streams));
            twins.both(|streams, _| (streams.buffered(), streams.credit.available()));
            twins.now = twins.now + Duration::from_micros(rng.below(900));
        }
        let tokens = twins.under_way.iter().flat_map(|[sent, _]| &sent.tokens);
        for token in tokens {
            let Token::Stream(StreamToken { what, .. }) = token else { continue };
            runs += matches!(what, StreamPart::Messages { count: 5.., .. }) as usize;
            cut += matches!(what, StreamPart::Message { offset: 1.., .. }) as usize;
        }
    }
    assert!(runs > 500 && cut > 50, "{runs}, {cut}");
}
