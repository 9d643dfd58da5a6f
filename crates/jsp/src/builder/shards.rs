//! An endpoint's shards: how many, where they are, and what each is made of.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jsp_proto::SHARDS_MAX;
use tokio::runtime::Handle;

use super::Builder;
use super::places::{base, bind_first};
use crate::carrier::table::Tunnels;
use crate::clock::Clock;
use crate::error::BindError;
use crate::link::{Base, Links, UdpLink};
use crate::monitor::{self, Source};
use crate::shard::{Driver, Shard, Siblings};

impl Builder {
    /// How many tasks share the work of a server, 1 to 64; each has a socket of its own at the same address, and the
    /// connections whose ids name it. Default 1, which serves as much as one core can: more pay where connections
    /// are many and cores are idle.
    ///
    /// On Linux the kernel brings every datagram to its shard; elsewhere, and where it may not be told how, shards hand
    /// over to each other what is not theirs. Carriers ([`Builder::listen_tcp`]) are heard by the first, and connections
    /// that this endpoint makes are its. [`Builder::connections_max`] and the half-open handshakes of
    /// [`Builder::retry`] are for all together, in equal parts. Whoever watches sees the shard in an id: a client that
    /// changes its address is the easier to follow, as with n shards only one in n of the others has the same.
    ///
    /// More than one needs an identity and an address to [`bind`](Builder::bind), and goes with neither a
    /// [`link`](Builder::link) of the caller's, a [`preferred_address`](Builder::preferred_address), nor
    /// [`obfuscation`](Builder::obfuscation), under which ids cannot be read.
    ///
    /// ```no_run
    /// # fn start(identity: jsp::Identity) -> Result<jsp::Endpoint, jsp::BindError> {
    /// jsp::Endpoint::builder().bind("[::]:4433").identity(identity).shards(4).build()
    /// # }
    /// ```
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// How long the driver goes on to look at the socket by itself after a datagram has come, instead of waiting to be woken: takes
    /// the time of the system to wake a task out of round trips, for as long as the other side answers sooner than that. It
    /// costs a core all that time, and gives way to the other tasks of the runtime after each look. Default 0: never.
    pub fn busy_poll(mut self, span: Duration) -> Self {
        self.busy_poll = span;
        self
    }

    /// The same where the system does not bring datagrams to their shards.
    #[cfg(test)]
    pub(crate) fn unsteered_shards(self, shards: usize) -> Self {
        Self { steered: false, ..self.shards(shards) }
    }

    fn check_shards(&self) -> Result<(), BindError> {
        let several = self.shards > 1;
        let refusals = [
            (!(1..=SHARDS_MAX).contains(&self.shards), "an endpoint has 1 to 64 shards"),
            (several && self.identity.is_none(), "several shards serve: they need an identity"),
            (several && self.bind.is_none(), "several shards need an address to bind"),
            (several && self.link.is_some(), "several shards have no other link"),
            (several && !self.preferred.is_empty(), "several shards have no preferred address"),
            (several && self.obfuscation.is_some(), "ids of shards cannot be read in obfuscation"),
        ];
        match refusals.into_iter().find(|(is_refused, _)| *is_refused) {
            Some((_, why)) => Err(BindError::Config(why)),
            None => Ok(()),
        }
    }

    /// What each shard has for datagrams. `own` is the address of a listener, if there is one; `needs_socket` says
    /// that there is a use for one where none is bound.
    pub(super) fn open_bases(
        &mut self,
        own: Option<SocketAddr>,
        needs_socket: bool,
    ) -> Result<Vec<Base>, BindError> {
        self.check_shards()?;
        // What is wrapped cannot be told from outside.
        let apart = self.identity.is_some() && self.obfuscation.is_none();
        match &self.bind {
            Some(bind) if self.shards > 1 => {
                let (count, steered) = (self.shards, self.steered);
                let open = |addr| UdpLink::bind_shards(addr, count, apart, steered);
                let over = |link| Base::over(Box::new(link));
                Ok(bind_first(bind, open)?.into_iter().map(over).collect())
            }
            bind => Ok(vec![base(self.link.take(), bind.as_deref(), own, needs_socket, apart)?]),
        }
    }
}

/// What each shard has for datagrams, and carriers beside; the first hears of those.
pub(super) fn link(bases: Vec<Base>, tunnels: &Arc<Tunnels>) -> Vec<Links> {
    let bases = bases.into_iter().enumerate();
    bases.map(|(index, base)| Links::new(base, index == 0, Arc::clone(tunnels))).collect()
}

/// The shards of an endpoint, each with its machine and its links.
pub(super) fn make(
    machines: Vec<jsp_proto::Endpoint>,
    links: Vec<Links>,
    clock: Clock,
) -> Vec<Arc<Shard>> {
    let places = Siblings::places(machines.len());
    let parts = machines.into_iter().zip(links).zip(places);
    parts.map(|((machine, links), place)| Shard::new(machine, links, clock, place)).collect()
}

/// Sets the shards to work.
pub(super) fn start(
    shards: Vec<Arc<Shard>>,
    mut monitor: Option<Source>,
    busy_poll: Duration,
    runtime: &Handle,
) {
    for shard in shards {
        // A monitor that was given is for the first: connections that this side makes are there.
        let is_system = matches!(monitor, Some(Source::System));
        if let Some(source) = monitor.take() {
            monitor::start(&shard, source, runtime);
        }
        monitor = is_system.then_some(Source::System);
        runtime.spawn(Driver::new(shard, busy_poll));
    }
}
