//! What is measured: a path, a load on it, and who else is there.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jsp_proto::{CongestionControl, Delivery, FecPolicy, PathUse, StreamConfig, TransportConfig};
use jsp_wire::Instant;

use crate::link::LinkConfig;
use crate::peer::quinn::QuinnControl;
use crate::topology::Protocol;

/// Time before the load begins, for the handshake.
pub(super) const WARM_UP: Duration = Duration::from_secs(2);
/// Time for the last messages to arrive.
pub(super) const TAIL: Duration = Duration::from_secs(5);

/// Whose transport carries the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Subject {
    /// Ours.
    #[default]
    Jsp,
    /// A peer.
    Quinn(QuinnControl),
}

impl Subject {
    /// All of them, ours first.
    pub const ALL: [Self; 3] =
        [Self::Jsp, Self::Quinn(QuinnControl::Cubic), Self::Quinn(QuinnControl::Bbr)];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Jsp => "jsp",
            Self::Quinn(QuinnControl::Cubic) => "quinn",
            Self::Quinn(QuinnControl::Bbr) => "quinn-bbr",
        }
    }

    pub(super) const fn protocol(self) -> Protocol {
        match self {
            Self::Jsp => Protocol::Jsp,
            Self::Quinn(control) => Protocol::Quinn(control),
        }
    }
}

/// Which way messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ways {
    /// Client and server send alike.
    Both,
    /// From the client.
    Up,
    /// From the server.
    Down,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Load {
    /// 200-byte unordered messages of a real-time class.
    Thin {
        /// Messages a second.
        per_second: u32,
        /// Which way.
        ways: Ways,
        /// How hard to try.
        delivery: Delivery,
    },
    /// A byte stream from the client, as fast as it goes.
    Bulk,
    /// So many bytes from the client, as fast as it goes, over a path that a connection before has filled for
    /// 20 s; this one has its memory.
    Known {
        /// How many.
        bytes: u64,
    },
    /// Frames from the client, 30 a second, whose rate follows the connection.
    Media {
        /// Largest rate, in bits per second.
        ceiling_bps: u64,
    },
    /// Large messages from the client, of no use after a while: pictures, snapshots.
    Objects {
        /// Bytes of each.
        len: usize,
        /// Time from one to the next.
        gap: Duration,
        /// How long each is of use.
        lifetime: Duration,
    },
    /// Voice (160 bytes every 20 ms) and a file, both from the client.
    FileAndVoice,
    /// Media and a byte stream, both from the client.
    MediaAndBulk {
        /// Largest rate of the media, in bits per second.
        ceiling_bps: u64,
    },
}

impl Load {
    /// The thin load both ways, reliable.
    pub fn thin(per_second: u32) -> Self {
        Self::Thin { per_second, ways: Ways::Both, delivery: Delivery::Reliable }
    }
}

/// Another connection on the same path, with a byte stream from its client.
#[derive(Clone, Copy, Debug)]
pub struct Rival {
    /// What it speaks; `None` for what the subject speaks.
    pub protocol: Option<Protocol>,
    /// How long after the subject its stream begins.
    pub later: Duration,
    /// Travelling time between it and the link, one way.
    pub access: Duration,
}

impl Rival {
    /// One that begins with the subject and lives as near.
    pub fn with(protocol: Option<Protocol>) -> Self {
        Self { protocol, later: Duration::ZERO, access: Duration::ZERO }
    }
}

/// Both directions of a path.
#[derive(Clone, Debug, PartialEq)]
pub struct Ends {
    /// Towards the server.
    pub up: LinkConfig,
    /// Towards the clients.
    pub down: LinkConfig,
    /// When the client's address changes.
    pub rebinds: Vec<Instant>,
    /// A second path, from the same client by another interface.
    pub second: Option<Box<SecondPath>>,
}

/// A second path.
#[derive(Clone, Debug, PartialEq)]
pub struct SecondPath {
    /// Towards the server.
    pub up: LinkConfig,
    /// Towards the client.
    pub down: LinkConfig,
    /// What it is for.
    pub usage: PathUse,
    /// When the application says that the first interface is down, and up again.
    pub downs: Vec<(Instant, Instant)>,
}

impl SecondPath {
    /// One that is alike both ways, without any word of the application.
    pub fn new(link: LinkConfig, usage: PathUse) -> Option<Box<Self>> {
        let (up, down) = (link.clone(), link);
        Some(Box::new(Self { up, down, usage, downs: Vec::new() }))
    }
}

impl From<LinkConfig> for Ends {
    fn from(link: LinkConfig) -> Self {
        Self { up: link.clone(), down: link, rebinds: Vec::new(), second: None }
    }
}

/// What a case is compared with, seed by seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Twin {
    /// Nothing.
    None,
    /// The same without faults: what is sent more is extra.
    Faultless,
    /// The same with a way back like the way there.
    Symmetric,
    /// The same without repair: what is sent more is the price of readiness.
    Unrepaired,
}

/// Switches everything off that sends more than the data and its retransmissions.
pub(super) fn without_repair(_transport: &mut TransportConfig, stream: &mut StreamConfig) {
    stream.fec = FecPolicy::Off;
}

/// A change to how the subject is configured.
pub type Edit = Arc<dyn Fn(&mut TransportConfig, &mut StreamConfig) + Send + Sync>;

/// How a path follows from a seed.
pub(super) type MakePath = Arc<dyn Fn(u64) -> Ends + Send + Sync>;

/// A named network with a load.
#[derive(Clone)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// What is sent.
    pub load: Load,
    /// How long.
    pub lasts: Duration,
    /// One-way delay that latencies are compared with.
    pub owd: Duration,
    /// Who else is there.
    pub rivals: Vec<Rival>,
    /// What it is compared with.
    pub twin: Twin,
    /// Whether peers are measured too.
    pub has_peers: bool,
    /// Seeds beyond this many would tell nothing new: the network has no chance in it.
    pub seeds_max: u64,
    /// How the subject controls congestion.
    pub congestion: CongestionControl,
    /// How often a quiet end says that it is there.
    pub keep_alive: Option<Duration>,
    /// The client's application tells the transport when its address changes.
    pub hints: bool,
    /// What else is different about the subject.
    pub edit: Option<Edit>,
    pub(super) make_path: MakePath,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("name", &self.name).field("load", &self.load).finish()
    }
}

impl Case {
    /// A case on this path.
    pub fn new(
        name: impl Into<String>,
        load: Load,
        lasts: Duration,
        owd: Duration,
        path: impl Fn(u64) -> Ends + Send + Sync + 'static,
    ) -> Self {
        let is_thin = matches!(load, Load::Thin { .. });
        // What is documented for live media.
        let congestion = match load {
            Load::Media { .. } | Load::MediaAndBulk { .. } => CongestionControl::RealTime,
            _ => CongestionControl::default(),
        };
        Self {
            name: name.into(),
            load,
            lasts,
            owd,
            rivals: Vec::new(),
            twin: if is_thin { Twin::Faultless } else { Twin::None },
            has_peers: true,
            seeds_max: u64::MAX,
            congestion,
            keep_alive: None,
            hints: false,
            edit: None,
            make_path: Arc::new(path),
        }
    }

    /// A case on a path that is the same for all seeds and in both directions; what its links do by
    /// chance still follows from the seed.
    pub fn on(name: impl Into<String>, load: Load, lasts: Duration, link: LinkConfig) -> Self {
        let owd = link.delay;
        Self::new(name, load, lasts, owd, move |_| link.clone().into())
    }

    /// The path of a seed.
    pub fn path(&self, seed: u64) -> Ends {
        (self.make_path)(seed)
    }

    /// The same with these rivals; peers are then not measured in its place.
    pub fn against(mut self, rivals: Vec<Rival>) -> Self {
        self.rivals = rivals;
        self.without_peers()
    }

    /// The same, without peers.
    pub fn without_peers(mut self) -> Self {
        self.has_peers = false;
        self
    }

    /// The same with the subject configured differently.
    pub fn edited(mut self, edit: Edit) -> Self {
        self.edit = Some(edit);
        self
    }

    /// The same for a shorter time.
    pub fn shortened(mut self, lasts: Duration) -> Self {
        self.lasts = self.lasts.min(lasts);
        self
    }

    /// When the load begins.
    pub fn starts(&self) -> Instant {
        Instant::ZERO + WARM_UP
    }

    /// When the load ends.
    pub fn ends(&self) -> Instant {
        self.starts() + self.lasts
    }
}
