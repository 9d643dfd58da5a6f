//! What a world is made of, and worlds by chance.

use std::net::SocketAddr;
use std::time::Duration;

use jsp_app::session::Limits;
use jsp_proto::{CongestionControl, PathUse, TransportConfig};
use jsp_wire::Instant;

use crate::link::{Faults, Jitter, LinkConfig, Loss, Rate};
use crate::random::Random;
use crate::topology::{SERVER_OTHER, server_address};

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first instant.
    pub from: Instant,
    /// The first behind it.
    pub to: Instant,
}

impl Span {
    fn has(&self, at: Instant) -> bool {
        self.from <= at && at < self.to
    }
}

/// What passes, and when.
#[derive(Clone, Debug, Default)]
pub struct Weather {
    /// Nothing.
    pub dead: Vec<Span>,
    /// No datagrams.
    pub no_datagrams: Vec<Span>,
    /// Nothing in streams.
    pub no_streams: Vec<Span>,
}

impl Weather {
    /// Whether datagrams pass.
    pub fn datagrams_pass(&self, at: Instant) -> bool {
        !self.dead.iter().chain(&self.no_datagrams).any(|span| span.has(at))
    }

    /// When what is in a stream at an instant gets through.
    pub fn streams_pass_at(&self, at: Instant) -> Instant {
        let mut at = at;
        // Spans may touch or overlap.
        while let Some(span) = self.dead.iter().chain(&self.no_streams).find(|span| span.has(at)) {
            at = span.to;
        }
        at
    }
}

/// What streams are like.
#[derive(Clone, Debug)]
pub struct Streams {
    /// How many carriers the client may try, in their order.
    pub carriers: usize,
    /// Travelling time, one way.
    pub delay: Duration,
    /// Rate, in bits a second.
    pub bps: u64,
    /// The share of datagrams that hold all up behind them for a time-out.
    pub stall: f64,
}

impl Default for Streams {
    fn default() -> Self {
        let delay = Duration::from_millis(25);
        Self { carriers: 1, delay, bps: 20_000_000, stall: 0.0 }
    }
}

/// Where the server can be reached.
#[derive(Clone, Debug, Default)]
pub struct Whereabouts {
    /// When its address changes; streams do not outlive it.
    pub moves: Vec<Instant>,
    /// The system tells it of that.
    pub hints: bool,
    /// It prefers [`SERVER_OTHER`], where nothing passes in these spans.
    pub preferred: Option<Vec<Span>>,
}

impl Whereabouts {
    /// Its own address; who connects is told.
    pub fn address(&self, now: Instant) -> SocketAddr {
        server_address(self.moves.iter().filter(|at| **at <= now).count())
    }

    /// Whether it can be reached at this address.
    pub fn has(&self, now: Instant, address: SocketAddr) -> bool {
        let is_other = address == SocketAddr::V4(SERVER_OTHER);
        let passes = |spans: &Vec<Span>| !spans.iter().any(|span| span.has(now));
        address == self.address(now) || (is_other && self.preferred.as_ref().is_some_and(passes))
    }
}

/// A second interface of the client.
#[derive(Clone, Debug)]
pub struct Second {
    /// When a path over it is opened, in each process and connection that lives then.
    pub opens_at: Instant,
    /// When that is given up.
    pub ends_at: Option<Instant>,
    /// What it is for.
    pub usage: PathUse,
}

/// A process that ends without a word, and is started again.
#[derive(Clone, Copy, Debug)]
pub struct Crash {
    /// When it ends.
    pub at: Instant,
    /// How long nobody is there.
    pub lasts: Duration,
}

/// A message of a channel: when, and how long.
pub type Planned = (Instant, usize);

/// A channel of the session.
#[derive(Clone, Debug)]
pub struct ChannelPlan {
    /// The server opens it.
    pub by_server: bool,
    /// When.
    pub opens_at: Instant,
    /// Messages of its opener, and of the other end.
    pub messages: [Vec<Planned>; 2],
    /// How long each reader of these rests between two messages.
    pub rests: [Duration; 2],
}

/// Everything about a world before it begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All chance comes from here.
    pub seed: u64,
    /// The client's interfaces: up and down.
    pub links: [[LinkConfig; 2]; 2],
    /// What passes.
    pub weather: Weather,
    /// What streams are like.
    pub streams: Streams,
    /// When the first interface's address changes, as the server sees it; streams do not outlive it.
    pub rebinds: Vec<Instant>,
    /// The system tells the client of it.
    pub hints: bool,
    /// When all streams break, and both ends hear of it.
    pub resets: Vec<Instant>,
    /// The second interface, if it is used.
    pub second: Option<Second>,
    /// How the client's connections behave.
    pub client: TransportConfig,
    /// How the server's do.
    pub server: TransportConfig,
    /// Where the server is.
    pub whereabouts: Whereabouts,
    /// The client's process dies.
    pub client_crashes: Vec<Crash>,
    /// The server's process dies.
    pub server_crashes: Vec<Crash>,
    /// How long a change takes to a store.
    pub store_lag: Duration,
    /// How much the session keeps.
    pub limits: Limits,
    /// Channels.
    pub channels: Vec<ChannelPlan>,
    /// Time between two messages of the call beside the session; `None` without a call.
    pub call: Option<Duration>,
    /// From here on nothing goes wrong.
    pub faults_end: Instant,
}

/// How long the server keeps a session: longer than all that goes wrong.
pub const GRACE: Duration = Duration::from_secs(400);

impl Plan {
    /// A clean network of 50 ms round trip, and nothing to do.
    pub fn quiet(seed: u64) -> Self {
        let link = || LinkConfig::delayed(Duration::from_millis(25));
        let transport = TransportConfig {
            keep_alive: Some(Duration::from_secs(1)),
            ..TransportConfig::default()
        };
        Self {
            seed,
            links: [[link(), link()], [link(), link()]],
            weather: Weather::default(),
            streams: Streams::default(),
            rebinds: Vec::new(),
            hints: true,
            resets: Vec::new(),
            second: None,
            whereabouts: Whereabouts::default(),
            client: transport.clone(),
            server: transport,
            client_crashes: Vec::new(),
            server_crashes: Vec::new(),
            store_lag: Duration::ZERO,
            limits: Limits::default(),
            channels: Vec::new(),
            call: None,
            faults_end: Instant::ZERO,
        }
    }
}

fn secs(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// The world of a seed.
pub fn random(seed: u64) -> Plan {
    let mut random = Random::part(seed, "roaming", 0);
    let length = random.duration_between(secs(10), secs(60));
    let mut plan = Plan::quiet(seed);
    plan.faults_end = Instant::ZERO + length;
    let delay = Duration::from_micros(random.log_between(1_000, 200_000));
    for interface in &mut plan.links {
        let delay = delay.mul_f64(0.5 + random.fraction());
        for link in interface {
            *link = random_link(&mut random, delay, plan.faults_end);
        }
    }
    plan.streams = Streams {
        carriers: random.between(1, 2) as usize,
        delay,
        bps: random.log_between(1_000_000, 50_000_000),
        stall: if random.chance(0.5) { random.fraction() * 0.03 } else { 0.0 },
    };
    random_weather(&mut random, &mut plan, length);
    random_moves(&mut random, &mut plan, length);
    plan.client = random_transport(&mut random);
    plan.server = random_transport(&mut random);
    random_whereabouts(seed, &mut plan, length);
    if random.chance(0.5) {
        let crashes = random.between(1, 3);
        plan.client_crashes = random_crashes(&mut random, length, crashes);
    }
    let mut part = Random::part(seed, "roaming server's crashes", 0);
    if part.chance(0.3) {
        let crashes = part.between(1, 2);
        plan.server_crashes = random_crashes(&mut part, length, crashes);
    }
    plan.store_lag = if random.chance(0.5) { random.duration_to(millis(30)) } else { millis(0) };
    plan.limits = Limits {
        unconfirmed_bytes: random.log_between(4 << 10, 1 << 20) as usize,
        unconfirmed_messages: random.log_between(4, 8192) as usize,
        waiting_bytes: random.log_between(1 << 10, 256 << 10) as usize,
        confirm_delay: random.duration_between(millis(1), millis(50)),
    };
    for _ in 0..random.between(1, 4) {
        plan.channels.push(random_channel(&mut random, &plan.limits, length));
    }
    plan.call = random.chance(0.5).then(|| random.duration_between(millis(20), millis(200)));
    plan
}

fn random_span(random: &mut Random, length: Duration, longest: Duration) -> Span {
    let from = Instant::ZERO + random.duration_to(length);
    let most = longest.min((Instant::ZERO + length).since(from));
    Span { from, to: from + random.duration_to(most) }
}

fn random_weather(random: &mut Random, plan: &mut Plan, length: Duration) {
    let mut spans = |chance: f64, most: u64, longest: Duration| {
        let count = if random.chance(chance) { random.between(1, most) } else { 0 };
        (0..count).map(|_| random_span(random, length, longest)).collect::<Vec<_>>()
    };
    plan.weather = Weather {
        dead: spans(0.5, 2, secs(3)),
        no_datagrams: spans(0.6, 3, secs(25)),
        no_streams: spans(0.3, 2, secs(10)),
    };
    if random.chance(0.3) {
        // Longer than any connection lives.
        let from = plan.faults_end;
        let to = from + random.duration_between(secs(20), secs(90));
        plan.weather.dead.push(Span { from, to });
        plan.faults_end = to;
    }
}

fn random_moves(random: &mut Random, plan: &mut Plan, length: Duration) {
    let mut moments = |chance: f64, most: u64| {
        let count = if random.chance(chance) { random.between(1, most) } else { 0 };
        let mut moments: Vec<Instant> =
            (0..count).map(|_| Instant::ZERO + random.duration_to(length)).collect();
        moments.sort();
        moments
    };
    plan.rebinds = moments(0.5, 4);
    plan.resets = moments(0.3, 3);
    plan.hints = random.chance(0.5);
    plan.second = random.chance(0.4).then(|| {
        let opens_at = Instant::ZERO + random.duration_to(length);
        let ends_at = random.chance(0.5).then(|| opens_at + random.duration_to(length));
        let usage = *random.pick(&[PathUse::Available, PathUse::Available, PathUse::Standby]);
        Second { opens_at, ends_at, usage }
    });
}

fn random_whereabouts(seed: u64, plan: &mut Plan, length: Duration) {
    let mut random = Random::part(seed, "roaming server's whereabouts", 0);
    let count = if random.chance(0.3) { random.between(1, 4) } else { 0 };
    let mut moves: Vec<Instant> =
        (0..count).map(|_| Instant::ZERO + random.duration_to(length)).collect();
    moves.sort();
    let hints = random.chance(0.7);
    let preferred = random.chance(0.3).then(|| {
        let count = random.between(0, 3);
        (0..count).map(|_| random_span(&mut random, length, secs(20))).collect()
    });
    if preferred.is_some() {
        plan.server.preferred.v4 = Some(SERVER_OTHER);
    }
    plan.client.follow_server = random.chance(0.5);
    plan.whereabouts = Whereabouts { moves, hints, preferred };
}

fn random_crashes(random: &mut Random, length: Duration, count: u64) -> Vec<Crash> {
    let mut crashes: Vec<Crash> = (0..count)
        .map(|_| Crash {
            at: Instant::ZERO + random.duration_to(length),
            lasts: random.duration_to(secs(5)),
        })
        .collect();
    crashes.sort_by_key(|crash| crash.at);
    // One is over before the next.
    crashes.dedup_by(|next, before| next.at < before.at + before.lasts + millis(1));
    crashes
}

fn random_link(random: &mut Random, delay: Duration, until: Instant) -> LinkConfig {
    let mut seldom =
        |chance: f64, most: f64| if random.chance(chance) { random.fraction() * most } else { 0.0 };
    let (corruption, duplication, detour) = (seldom(0.3, 0.01), seldom(0.3, 0.1), seldom(0.3, 0.2));
    let share = random.log_between(1, 150) as f64 / 1_000.0;
    let loss = match random.below(4) {
        0 | 1 => Loss::None,
        2 => Loss::Random(share),
        _ => Loss::fading(share, random.duration_between(millis(3), millis(100))),
    };
    let detour_max = random.duration_to(millis(100));
    LinkConfig {
        delay,
        jitter: match random.below(3) {
            0 => Jitter::InOrder(random.duration_to(millis(20))),
            1 => Jitter::Reordering(random.duration_to(millis(20))),
            _ => Jitter::None,
        },
        rate: Rate::Constant(random.log_between(1_000_000, 50_000_000)),
        mtu: *random.pick(&[1200, 1280, 1400, 1472, 1472]),
        faults: Faults {
            loss,
            corruption,
            duplication,
            detour,
            detour_max,
            until,
            ..Faults::default()
        },
        ..LinkConfig::default()
    }
}

fn random_transport(random: &mut Random) -> TransportConfig {
    TransportConfig {
        idle_timeout: random.duration_between(secs(10), secs(40)),
        // Who sends nothing finds no silence.
        keep_alive: Some(random.duration_between(millis(500), secs(3))),
        congestion: *random.pick(&[
            CongestionControl::Bbr,
            CongestionControl::Cubic,
            CongestionControl::RealTime,
        ]),
        message_len_max: 1 << 20,
        key_update_packets: if random.chance(0.3) {
            random.log_between(30, 2_000)
        } else {
            1 << 22
        },
        ..TransportConfig::default()
    }
}

fn random_channel(random: &mut Random, limits: &Limits, length: Duration) -> ChannelPlan {
    let opens_at = Instant::ZERO + random.duration_to(length);
    let messages = [(); 2].map(|()| {
        let count = random.log_between(1, 150);
        let len_max = (limits.unconfirmed_bytes as u64).min(200_000 / count);
        let mut all: Vec<Planned> = (0..count)
            .map(|_| {
                let at = opens_at + random.duration_to((Instant::ZERO + length).since(opens_at));
                (at, random.log_between(1, len_max.max(1)) as usize)
            })
            .collect();
        all.sort();
        all
    });
    let rests = [(); 2].map(|()| {
        if random.chance(0.3) { random.duration_to(millis(100)) } else { Duration::ZERO }
    });
    ChannelPlan { by_server: random.chance(0.4), opens_at, messages, rests }
}
