//! Real-time messages over a link, with more or less repair.
#![allow(dead_code, unreachable_pub, reason = "each user has its own part")]

use std::time::Duration;

use jsp_proto::{CongestionControl, FecPolicy, StreamConfig, TransportConfig};
use jsp_sim::app::{MessagePlan, ReadPlan, Script, SendPlan, StreamPlan, Traffic};
use jsp_sim::link::{Faults, HEADER_BYTES, LinkConfig, Loss};
use jsp_sim::topology::{Client, Path, Server, Topology};
use jsp_sim::world::World;
use jsp_wire::{Class, Instant};

const SECONDS: u64 = 20;
const WARM_UP: Duration = Duration::from_secs(2);
/// Messages of the first seconds tell how the connection starts, which is not measured here.
const START: Duration = Duration::from_secs(5);

/// Reliable unordered real-time messages of 200 bytes over a link.
#[derive(Clone)]
pub struct Case {
    pub link: LinkConfig,
    pub per_second: u32,
    pub fec: FecPolicy,
    pub lifetime: Option<Duration>,
    pub control: CongestionControl,
}

impl Case {
    pub fn new(owd_ms: u64, per_second: u32, loss: Loss) -> Self {
        let faults = Faults { loss, ..Faults::default() };
        let link = LinkConfig { faults, ..LinkConfig::delayed(Duration::from_millis(owd_ms)) };
        let control = CongestionControl::Bbr;
        Self { link, per_second, fec: FecPolicy::Auto, lifetime: None, control }
    }

    pub fn with(&self, fec: FecPolicy) -> Self {
        Self { fec, ..self.clone() }
    }

    pub fn run(&self, seed: u64) -> Figures {
        let count = SECONDS as u32 * self.per_second;
        let gap = Duration::from_secs(1) / self.per_second;
        let message = |n| {
            let at = Instant::ZERO + WARM_UP + gap * n;
            MessagePlan { lifetime: self.lifetime, ..MessagePlan::new(at, 200) }
        };
        let messages: Vec<_> = (0..count).map(message).collect();
        let delivery = match self.lifetime {
            Some(_) => jsp_proto::Delivery::Partial { retransmits: None, lifetime: self.lifetime },
            None => jsp_proto::Delivery::Reliable,
        };
        let config = StreamConfig {
            class: Class::RealTime,
            ordered: false,
            unidirectional: true,
            fec: self.fec,
            delivery,
            ..StreamConfig::messages()
        };
        let plan = StreamPlan {
            open_at: Instant::ZERO + WARM_UP,
            config,
            forth: SendPlan::finishing(Traffic::Messages(messages)),
            back: SendPlan::nothing(),
            forth_reader: ReadPlan::Prompt,
            back_reader: ReadPlan::Prompt,
        };
        // Repair alone: messages that are overdue do not go twice.
        let transport = TransportConfig {
            congestion: self.control,
            bundling: false,
            ..TransportConfig::default()
        };
        let script = Script { client: vec![plan], ..Script::default() };
        let topology = Topology::new(seed)
            .server(Server { transport: transport.clone(), ..Server::default() })
            .client(Client { transport, script, ..Client::default() })
            .path(Path::both_ways(self.link.clone()));
        let mut world = World::new(topology);
        world.run_until(Instant::ZERO + WARM_UP + Duration::from_secs(SECONDS + 5));
        assert_eq!(world.violations(), []);
        Figures::of(&world)
    }

    /// Over some seeds.
    pub fn measure(&self, seeds: u64) -> Figures {
        let mut sum = Figures::default();
        for seed in 1..=seeds {
            let one = self.run(seed);
            sum.delays.extend(one.delays);
            sum.sent += one.sent;
            sum.payload += one.payload;
            sum.wire += one.wire;
        }
        sum.delays.sort_unstable();
        sum
    }
}

/// What worlds came to.
#[derive(Default)]
pub struct Figures {
    pub delays: Vec<Duration>,
    pub sent: usize,
    /// Bytes of all messages, those of the start too.
    pub payload: usize,
    /// Bytes on the wire of both directions, headers counted.
    pub wire: u64,
}

impl Figures {
    fn of(world: &World) -> Self {
        let mut figures = Self::default();
        for record in world.checkers().ledger().flows.values() {
            let measured = Instant::ZERO + WARM_UP + START;
            let messages = record.messages.iter().filter(|message| message.at >= measured);
            figures.sent += messages.clone().count();
            figures.payload +=
                record.messages.iter().map(|message| message.plan.len).sum::<usize>();
            let delays = messages.filter_map(|m| Some(m.received?.since(m.at)));
            figures.delays.extend(delays);
        }
        figures.wire =
            world.tallies().map(|tally| tally.bytes + tally.packets * HEADER_BYTES).sum();
        figures
    }

    pub fn at(&self, part: f64) -> Duration {
        let at = (self.delays.len() as f64 * part) as usize;
        self.delays.get(at.min(self.delays.len() - 1)).copied().unwrap_or_default()
    }

    /// Bytes beyond those of another run, in parts of the payload.
    pub fn extra(&self, other: &Self) -> f64 {
        (self.wire as f64 - other.wire as f64) / self.payload as f64
    }

    /// Part of the messages that came later than this, or not at all.
    pub fn late(&self, limit: Duration) -> f64 {
        1.0 - self.delays.iter().filter(|delay| **delay <= limit).count() as f64 / self.sent as f64
    }
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Media on a path with fades of 3 ms, 5 % of the time.
pub fn media(owd_ms: u64) -> Case {
    Case::new(owd_ms, 1000, Loss::fading(0.05, ms(3)))
}
