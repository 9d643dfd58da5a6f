//! Voice, chat and a file in one connection over a bad link: 8 Mbit/s, 60 ms, 5 % loss each way, a
//! queue of one bandwidth-delay product.

use std::time::Duration;

use jsp_proto::{CongestionControl, StreamConfig, TransportConfig};
use jsp_sim::app::{Ending, MessagePlan, ReadPlan, Script, SendPlan, StreamPlan, Traffic};
use jsp_sim::flow::Side;
use jsp_sim::link::{Faults, LinkConfig, Loss, Queue, Rate};
use jsp_sim::topology::{Client, Path, Server, Topology};
use jsp_sim::world::World;
use jsp_wire::{Class, Instant};

const SECONDS: u64 = 20;
/// For the handshake: what its own losses cost is not measured here.
const WARM_UP: Duration = Duration::from_secs(2);
const OWD: Duration = Duration::from_millis(30);

fn bad_link() -> LinkConfig {
    LinkConfig {
        rate: Rate::Constant(8_000_000),
        queue: Queue::DropTail { bytes: 60_000 },
        faults: Faults { loss: Loss::Random(0.05), ..Faults::default() },
        measure_queue: true,
        ..LinkConfig::delayed(OWD)
    }
}

fn stream(config: StreamConfig, traffic: Traffic) -> StreamPlan {
    StreamPlan {
        open_at: Instant::ZERO + WARM_UP,
        config,
        forth: SendPlan { traffic, ending: Ending::StayOpen, priorities: Vec::new() },
        back: SendPlan::nothing(),
        forth_reader: ReadPlan::Prompt,
        back_reader: ReadPlan::Prompt,
    }
}

fn messages(len: usize, every: Duration) -> Traffic {
    let count = (Duration::from_secs(SECONDS).as_millis() / every.as_millis()) as u32;
    Traffic::Messages(
        (0..count).map(|n| MessagePlan::new(Instant::ZERO + WARM_UP + every * n, len)).collect(),
    )
}

/// What a world came to.
#[derive(Debug)]
struct Figures {
    file_mbit: f64,
    voice_p99: Duration,
    voice_heard: usize,
    chat_in_order: bool,
    queue_p95: Duration,
}

fn percentile(mut values: Vec<Duration>, percent: usize) -> Duration {
    values.sort_unstable();
    let at = (values.len() * percent / 100).min(values.len().saturating_sub(1));
    values.get(at).copied().unwrap_or_default()
}

fn live(control: CongestionControl, seed: u64) -> Figures {
    let transport = TransportConfig { congestion: control, ..TransportConfig::default() };
    let file =
        Traffic::Bytes { start: Instant::ZERO + WARM_UP, total: u64::MAX / 2, chunk: 64 << 10 };
    let one_way = |config| StreamConfig { unidirectional: true, ..config };
    let file_config = StreamConfig { class: Class::Scavenger, ..StreamConfig::bytes() };
    let script = Script {
        client: vec![
            stream(one_way(StreamConfig::voice()), messages(160, Duration::from_millis(20))),
            stream(one_way(StreamConfig::messages()), messages(80, Duration::from_millis(500))),
            stream(one_way(file_config), file),
        ],
        ..Script::default()
    };
    let topology = Topology::new(seed)
        .server(Server { transport: transport.clone(), ..Server::default() })
        .client(Client { transport, script, ..Client::default() })
        .path(Path::both_ways(bad_link()));
    let mut world = World::new(topology);
    world.run_until(Instant::ZERO + WARM_UP + Duration::from_secs(SECONDS) + 4 * OWD);
    assert_eq!(world.violations(), []);
    let mut figures = Figures {
        file_mbit: 0.0,
        voice_p99: Duration::ZERO,
        voice_heard: 0,
        chat_in_order: false,
        queue_p95: percentile(world.links()[0].waits().iter().map(|(_, wait)| *wait).collect(), 95),
    };
    for (flow, record) in &world.checkers().ledger().flows {
        if flow.from.side != Side::Client {
            continue;
        }
        match record.config.class {
            Class::RealTime => {
                let heard = record.messages.iter().filter_map(|m| Some(m.received?.since(m.at)));
                let latencies: Vec<Duration> = heard.collect();
                figures.voice_heard = latencies.len();
                figures.voice_p99 = percentile(latencies, 99);
            }
            Class::Scavenger => {
                figures.file_mbit = record.read as f64 * 8.0 / SECONDS as f64 / 1e6;
            }
            Class::Interactive => {
                let received: Vec<_> = record.messages.iter().map(|m| m.received).collect();
                figures.chat_in_order =
                    received.iter().take(38).all(Option::is_some) && received.is_sorted();
            }
            Class::Control => {}
        }
    }
    figures
}

#[test]
fn voice_is_in_time_while_the_file_fills_the_link() {
    for seed in 1..=6 {
        let figures = live(CongestionControl::Bbr, seed);
        println!("seed {seed}: {figures:?}");
        // What repairs the voice is the file's loss: 0.1 to 0.3 Mbit/s.
        assert!(figures.file_mbit >= 6.4, "seed {seed}: {figures:?}");
        assert!(figures.voice_p99 <= OWD + Duration::from_millis(25), "seed {seed}: {figures:?}");
        assert!(figures.voice_heard >= 990, "seed {seed}: {figures:?}");
        assert!(figures.queue_p95 <= Duration::from_millis(20), "seed {seed}: {figures:?}");
        assert!(figures.chat_in_order, "seed {seed}: {figures:?}");
    }
}
