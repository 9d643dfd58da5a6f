//! A case as a topology: who connects, and what each application does.

use std::time::Duration;

use jsp_proto::{Delivery, StreamConfig, TransportConfig};
use jsp_wire::{Class, Instant};

use super::case::{Case, Ends, Load, Subject, Ways};
use super::links::{mbit, ms, secs};
use crate::app::{Ending, MediaPlan, MessagePlan, ReadPlan, Script, SendPlan, StreamPlan, Traffic};
use crate::topology::{Client, Path, Second, Server, Topology};

/// Bytes of a message of the thin load.
pub(super) const MESSAGE_LEN: usize = 200;
/// Least rate of adapting media, in bits per second.
const MEDIA_FLOOR_BPS: u64 = 150_000;
/// Time between frames of media: 30 a second.
const FRAME_EVERY: Duration = Duration::from_micros(33_333);
/// Bytes that are handed over at once.
const CHUNK: usize = 64 << 10;
/// Smallest and largest window of a connection, in bytes.
const WINDOW: (u64, u64) = (2 << 20, 64 << 20);

/// Labels by which the streams of a case are known.
pub(super) mod label {
    pub(crate) const MESSAGES: &str = "messages";
    pub(crate) const BULK: &str = "bulk";
}

/// The world of a case.
pub(super) fn topology(case: &Case, subject: Subject, path: Ends, seed: u64) -> Topology {
    let window = window(&path);
    let transport = transport(case, window);
    let mut topology = Topology::new(seed)
        .server(Server { transport: transport.clone(), ..Server::default() })
        .client(Client {
            protocol: subject.protocol(),
            transport: transport.clone(),
            script: script(case, window),
            rebinds: path.rebinds.clone(),
            hints: case.hints,
            second: path.second.as_ref().map(|second| Second {
                opens_at: Instant::ZERO,
                ends_at: None,
                first_ends_at: None,
                usage: second.usage,
                downs: second.downs.clone(),
            }),
            ..Client::default()
        });
    for rival in &case.rivals {
        let starts = case.starts() + rival.later;
        topology = topology.client(Client {
            protocol: rival.protocol.unwrap_or(subject.protocol()),
            connect_at: Instant::ZERO + rival.later,
            access: rival.access,
            transport: transport.clone(),
            script: Script { client: vec![bulk(starts, window)], ..Script::default() },
            ..Client::default()
        });
    }
    let clients = (0..=case.rivals.len() as u32).collect();
    topology = topology.path(Path { clients, up: path.up, down: path.down });
    match path.second {
        Some(second) => topology.path(Path { clients: vec![0], up: second.up, down: second.down }),
        None => topology,
    }
}

/// The windows are no part of what is measured: they hold what the link has under way, and what
/// waits in its queue.
fn window(path: &Ends) -> u64 {
    let bps = path.up.rate.at(Instant::ZERO).unwrap_or(mbit(20));
    let rtt = path.up.delay + path.down.delay + ms(100);
    ((bps as f64 / 8.0 * rtt.as_secs_f64() * 4.0) as u64).clamp(WINDOW.0, WINDOW.1)
}

fn transport(case: &Case, window: u64) -> TransportConfig {
    let mut transport = TransportConfig {
        stream_window: window,
        connection_window: window,
        stream_window_max: window,
        connection_window_max: window,
        congestion: case.congestion,
        keep_alive: case.keep_alive,
        idle_timeout: secs(60),
        ..TransportConfig::default()
    };
    if let Some(edit) = &case.edit {
        edit(&mut transport, &mut StreamConfig::messages());
    }
    transport
}

fn script(case: &Case, window: u64) -> Script {
    let start = case.starts();
    let mut plans = match &case.load {
        Load::Thin { per_second, ways, delivery } => {
            let config =
                StreamConfig { delivery: *delivery, ordered: false, ..real_time_messages() };
            let gap = Duration::from_secs(1) / *per_second;
            let sent = SendPlan::finishing(messages(start, case.lasts, gap, MESSAGE_LEN));
            let idle = SendPlan::nothing();
            let (forth, back) = match ways {
                Ways::Both => (sent.clone(), sent),
                Ways::Up => (sent, idle),
                Ways::Down => (idle, sent),
            };
            vec![plan(start, config, forth, back)]
        }
        Load::Objects { len, gap, lifetime } => {
            let objects = SendPlan::finishing(messages(start, case.lasts, *gap, *len));
            vec![plan(start, object_messages(*lifetime, window), objects, SendPlan::nothing())]
        }
        Load::Bulk => vec![bulk(start, window)],
        Load::Known { bytes } => {
            let mut object = bulk(start, window);
            object.forth =
                SendPlan::finishing(Traffic::Bytes { start, total: *bytes, chunk: CHUNK });
            vec![object]
        }
        Load::Media { ceiling_bps } => vec![media(case, *ceiling_bps)],
        Load::MediaAndBulk { ceiling_bps } => vec![media(case, *ceiling_bps), bulk(start, window)],
        Load::FileAndVoice => {
            let voice = messages(start, case.lasts, ms(20), 160);
            let config = StreamConfig { unidirectional: true, ..StreamConfig::voice() };
            let config = config.labelled(label::MESSAGES);
            let mut file = bulk(start, window);
            file.config.class = Class::Scavenger;
            vec![plan(start, config, SendPlan::finishing(voice), SendPlan::nothing()), file]
        }
    };
    if let Some(edit) = &case.edit {
        for plan in &mut plans {
            edit(&mut TransportConfig::default(), &mut plan.config);
        }
    }
    Script { client: plans, ..Script::default() }
}

fn real_time_messages() -> StreamConfig {
    StreamConfig { class: Class::RealTime, ..StreamConfig::messages() }.labelled(label::MESSAGES)
}

fn object_messages(lifetime: Duration, window: u64) -> StreamConfig {
    let config = StreamConfig {
        delivery: Delivery::Partial { retransmits: None, lifetime: Some(lifetime) },
        ordered: false,
        unidirectional: true,
        send_buffer: window as usize,
        ..StreamConfig::messages()
    };
    config.labelled(label::MESSAGES)
}

fn messages(start: Instant, lasts: Duration, gap: Duration, len: usize) -> Traffic {
    let count = (lasts.as_nanos() / gap.as_nanos().max(1)) as u32;
    Traffic::Messages((0..count).map(|n| MessagePlan::new(start + gap * n, len)).collect())
}

fn bulk(start: Instant, window: u64) -> StreamPlan {
    let traffic = Traffic::Bytes { start, total: u64::MAX / 2, chunk: CHUNK };
    let forth = SendPlan { traffic, ending: Ending::StayOpen, priorities: Vec::new() };
    let config = StreamConfig {
        unidirectional: true,
        send_buffer: window as usize,
        ..StreamConfig::bytes()
    };
    plan(start, config.labelled(label::BULK), forth, SendPlan::nothing())
}

fn media(case: &Case, ceiling_bps: u64) -> StreamPlan {
    let source = MediaPlan {
        start: case.starts(),
        end: case.ends(),
        every: FRAME_EVERY,
        floor_bps: MEDIA_FLOOR_BPS,
        ceiling_bps,
    };
    let config = StreamConfig { unidirectional: true, ..StreamConfig::video() };
    let forth = SendPlan::finishing(Traffic::Media(source));
    plan(case.starts(), config.labelled(label::MESSAGES), forth, SendPlan::nothing())
}

fn plan(open_at: Instant, config: StreamConfig, forth: SendPlan, back: SendPlan) -> StreamPlan {
    StreamPlan {
        open_at,
        config,
        forth,
        back,
        forth_reader: ReadPlan::Prompt,
        back_reader: ReadPlan::Prompt,
    }
}
