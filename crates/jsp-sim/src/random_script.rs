//! What applications do in random worlds: streams of all modes, sizes and moods, within a budget.

use std::time::Duration;

use jsp_proto::{Delivery, StreamConfig};
use jsp_wire::frame::{Attributes, Kind};
use jsp_wire::{Class, Framing, Instant};

use crate::app::{Ending, MessagePlan, ReadPlan, Script, SendPlan, StreamPlan, Traffic};
use crate::random::Random;

/// A slow reader is through with what it gets in this time.
pub const READ_TIME_MAX: Duration = Duration::from_secs(5);
/// Largest message, in bytes.
const MESSAGE_LEN_MAX: u64 = 1 << 20;
/// Most messages in one direction of a stream.
const MESSAGES_MAX: u64 = 60;
/// Halves of streams that never end, in one script: fewer than a peer allows streams.
const STAY_OPEN_MAX: u32 = 3;
/// Most streams that hold one message each and are opened in a row.
const BURST_MAX: u64 = 40;

/// What a script may still use.
pub struct Budget {
    bytes: u64,
    /// Everything begins before this.
    until: Instant,
    /// Halves of streams that may stay open.
    stay_open: u32,
}

impl Budget {
    /// This many bytes, begun before the instant.
    pub fn new(bytes: u64, until: Instant) -> Self {
        Self { bytes, until, stay_open: STAY_OPEN_MAX }
    }

    fn take(&mut self, bytes: u64) -> u64 {
        let taken = bytes.min(self.bytes);
        self.bytes -= taken;
        taken
    }

    fn may_stay_open(&mut self) -> bool {
        let may = self.stay_open > 0;
        self.stay_open = self.stay_open.saturating_sub(1);
        may
    }

    fn moment(&self, random: &mut Random, after: Instant) -> Instant {
        after + random.duration_to(self.until.since(after))
    }
}

/// A script for one connection.
pub fn generate(random: &mut Random, budget: &mut Budget) -> Script {
    let mut script = Script::default();
    if random.chance(0.5) {
        script.signalling = Some(signalling(random, budget));
    }
    for _ in 0..random.log_between(1, 24) {
        let plans =
            if random.chance(0.15) { burst(random, budget) } else { vec![stream(random, budget)] };
        let side = if random.chance(0.6) { &mut script.client } else { &mut script.server };
        side.extend(plans);
        if budget.bytes == 0 {
            break;
        }
    }
    script
}

fn signalling(random: &mut Random, budget: &mut Budget) -> StreamPlan {
    let mut half = || {
        let mut at = Instant::ZERO;
        let count = random.between(0, 8);
        let messages = (0..count).map(|_| {
            at = budget.moment(random, at);
            let len = budget.take(random.log_between(1, 2_000)) as usize;
            let mut plan = MessagePlan::new(at, len);
            plan.attributes.kind = *random.pick(&[Kind::Metadata, Kind::Signalling]);
            plan.want_fate = random.chance(0.3);
            plan
        });
        let traffic = Traffic::Messages(messages.collect());
        SendPlan { traffic, ending: Ending::StayOpen, priorities: Vec::new() }
    };
    StreamPlan {
        open_at: Instant::ZERO,
        config: StreamConfig::messages(),
        forth: half(),
        back: half(),
        forth_reader: ReadPlan::Prompt,
        back_reader: ReadPlan::Prompt,
    }
}

/// Streams of one message each, as a request or an event would open them.
fn burst(random: &mut Random, budget: &mut Budget) -> Vec<StreamPlan> {
    let at = budget.moment(random, Instant::ZERO);
    let config = StreamConfig {
        unidirectional: true,
        ordered: random.chance(0.5),
        delivery: random_delivery(random),
        ..StreamConfig::messages()
    };
    let len_max = random.log_between(1, 3_000);
    let count = random.between(2, BURST_MAX);
    let one = |_| {
        let len = budget.take(random.between(0, len_max)) as usize;
        let message = MessagePlan { want_fate: random.chance(0.2), ..MessagePlan::new(at, len) };
        StreamPlan {
            open_at: at,
            config: config.clone(),
            forth: SendPlan::finishing(Traffic::Messages(vec![message])),
            back: SendPlan::nothing(),
            forth_reader: ReadPlan::Prompt,
            back_reader: ReadPlan::Prompt,
        }
    };
    (0..count).map(one).collect()
}

fn stream(random: &mut Random, budget: &mut Budget) -> StreamPlan {
    let config = random_config(random);
    let open_at = budget.moment(random, Instant::ZERO);
    let (forth, forth_bytes) = half(random, budget, &config, open_at);
    let (back, back_bytes) = if random.chance(0.5) {
        half(random, budget, &config, open_at)
    } else {
        (SendPlan::nothing(), 0)
    };
    StreamPlan {
        open_at,
        forth_reader: random_reader(random, forth_bytes),
        back_reader: random_reader(random, back_bytes),
        config,
        forth,
        back,
    }
}

fn random_config(random: &mut Random) -> StreamConfig {
    let is_bytes = random.chance(0.35);
    let base = if is_bytes {
        StreamConfig::bytes()
    } else {
        StreamConfig {
            delivery: random_delivery(random),
            ordered: random.chance(0.5),
            ..StreamConfig::messages()
        }
    };
    let label =
        if random.chance(0.3) { format!("s{}", random.below(1_000)) } else { String::new() };
    StreamConfig {
        class: *random.pick(&[
            Class::RealTime,
            Class::Interactive,
            Class::Interactive,
            Class::Scavenger,
        ]),
        weight: random.between(1, 255) as u8,
        rate_cap: random.chance(0.1).then(|| random.log_between(100_000, 10_000_000)),
        unidirectional: random.chance(0.3),
        label,
        content_type: random.chance(0.1).then(|| "text/plain".to_owned()),
        send_buffer: random.log_between(2 << 10, 1 << 20) as usize,
        ..base
    }
}

fn random_delivery(random: &mut Random) -> Delivery {
    match random.below(4) {
        0 => Delivery::Unreliable,
        1 => Delivery::Partial {
            retransmits: random.chance(0.5).then(|| random.below(4) as u32),
            // Whole milliseconds: so the other side is told of it.
            lifetime: random.chance(0.6).then(|| Duration::from_millis(random.between(20, 3_000))),
        },
        _ => Delivery::Reliable,
    }
}

/// What one direction sends, and how many bytes that is.
fn half(
    random: &mut Random,
    budget: &mut Budget,
    config: &StreamConfig,
    open_at: Instant,
) -> (SendPlan, u64) {
    let share = budget.bytes / random.between(2, 12);
    let (traffic, bytes) = match config.framing {
        Framing::Bytes => {
            let total = budget.take(random.log_between(1, share.max(1)));
            let chunk = random.log_between(1, 64 << 10).max(total / 500) as usize;
            (Traffic::Bytes { start: budget.moment(random, open_at), total, chunk }, total)
        }
        Framing::Messages => messages(random, budget, config, open_at, share),
    };
    let ending = match random.below(8) {
        0 => Ending::Reset { at: budget.moment(random, open_at), code: random.below(1 << 20) },
        1 if budget.may_stay_open() => Ending::StayOpen,
        _ => Ending::Finish,
    };
    let mut priorities = Vec::new();
    if random.chance(0.1) {
        let class = *random.pick(&[Class::RealTime, Class::Interactive, Class::Scavenger]);
        let weight = random.between(1, 255) as u8;
        priorities.push((budget.moment(random, open_at), class, weight));
    }
    (SendPlan { traffic, ending, priorities }, bytes)
}

fn messages(
    random: &mut Random,
    budget: &mut Budget,
    config: &StreamConfig,
    open_at: Instant,
    share: u64,
) -> (Traffic, u64) {
    let count = random.log_between(1, MESSAGES_MAX);
    let len_max = (share / count).clamp(1, MESSAGE_LEN_MAX);
    let gap_max = budget.until.since(open_at) / (count as u32 + 1);
    let is_limited = config.delivery != Delivery::Reliable;
    let supersedes = is_limited && random.chance(0.15);
    let mut at = open_at;
    let mut bytes = 0;
    let mut plans = Vec::new();
    for _ in 0..count {
        let len = if random.chance(0.03) { 0 } else { random.log_between(1, len_max) };
        let len = budget.take(len);
        bytes += len;
        plans.push(MessagePlan {
            at,
            len: len as usize,
            attributes: Attributes {
                text: random.chance(0.2),
                kind: Kind::Data,
                timestamp_ms: random.chance(0.1).then(|| random.log_between(1, 1 << 40)),
            },
            lifetime: (is_limited && random.chance(0.2))
                .then(|| random.duration_to(Duration::from_secs(1))),
            retransmits: (is_limited && random.chance(0.2)).then(|| random.below(3) as u32),
            supersede_key: supersedes.then(|| random.below(3)),
            want_fate: random.chance(0.3),
        });
        at = at + random.duration_to(gap_max);
    }
    (Traffic::Messages(plans), bytes)
}

fn random_reader(random: &mut Random, total: u64) -> ReadPlan {
    match random.below(10) {
        0 => ReadPlan::Stop { after: random.below(total + 1), code: random.below(1 << 20) },
        1 | 2 => {
            let steps = random.between(1, 40);
            ReadPlan::Slow {
                bytes: (total / steps).max(1) as usize,
                every: READ_TIME_MAX / (steps as u32 + 1),
            }
        }
        _ => ReadPlan::Prompt,
    }
}
