//! The task that watches for an endpoint's connections.

use std::collections::HashSet;
use std::future::poll_fn;
use std::mem;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use jsp_proto::{NetworkHint, PathError, PathId};
use jsp_wire::{Instant, Route};
use tokio::sync::{Notify, watch};
use tokio::time::{self, sleep_until};

use super::origins::{Ends, Origins, Scene, Used};
use super::pace::Pace;
use super::{Arrivals, NetworkMonitor, Source};
use crate::link::Links;
use crate::shard::{Core, Key, Shard};
use crate::task::task;

/// Paths that are over are remembered up to twice as many as there are connections, and so many.
const KNOWN_MAX: usize = 64;

/// How long the source is kept when the last connection has gone. Programs connect anew at once, or one
/// connection after another, and to open a source and to ask it costs as much as half a handshake.
const LINGER: Duration = Duration::from_secs(2);

/// A path of a connection.
type Path = (Key, PathId);

/// The connections that an endpoint's network is watched for.
#[derive(Debug, Default)]
pub(crate) struct Followed {
    /// All that are established, while they live.
    keys: HashSet<Key>,
    /// Those of them that are new, or have new paths: the task looks where these leave from.
    fresh: HashSet<Key>,
    /// Tells the task of fresh ones, of the last one's end, of the endpoint's, and of who waits for addresses.
    news: Arc<Notify>,
    /// Tells those that wait of addresses that have come.
    arrivals: watch::Sender<()>,
}

impl Followed {
    /// A connection is established.
    pub(crate) fn add(&mut self, key: Key) {
        self.keys.insert(key);
        self.fresh.insert(key);
        self.news.notify_one();
    }

    /// A connection has a further path, or one that leads elsewhere.
    pub(crate) fn on_path(&mut self, key: Key) {
        if self.keys.contains(&key) {
            self.fresh.insert(key);
            self.news.notify_one();
        }
    }

    /// A connection is over.
    pub(crate) fn remove(&mut self, key: Key) {
        self.fresh.remove(&key);
        if self.keys.remove(&key) && self.keys.is_empty() {
            self.news.notify_one();
        }
    }

    /// The endpoint is at its end.
    pub(crate) fn end(&self) {
        self.news.notify_one();
    }

    /// Who waits for addresses has the network watched.
    pub(crate) fn arrivals(&self) -> Arrivals {
        let heard = self.arrivals.subscribe();
        self.news.notify_one();
        Arrivals { watched: Some((heard, Arc::clone(&self.news))) }
    }

    /// Nobody needs to know of changes.
    fn is_idle(&self) -> bool {
        self.keys.is_empty() && self.arrivals.receiver_count() == 0
    }
}

/// Watches for the connections of an endpoint as long as it lives, without holding it.
pub(crate) fn start(shard: &Arc<Shard>, source: Source, runtime: &tokio::runtime::Handle) {
    let followed = Followed::default();
    let news = Arc::clone(&followed.news);
    shard.lock().followed = Some(followed);
    let shard = Arc::downgrade(shard);
    runtime.spawn(task(async move {
        follow(&shard, source, &news).await;
        if let Some(shard) = shard.upgrade() {
            // Nobody takes connections out of the list any more.
            shard.lock().followed = None;
        }
    }));
}

/// Asks `source` while there are connections to watch for, or somebody waits for addresses. A system that tells nothing,
/// for lack of a way or of permission, ends it.
async fn follow(shard: &Weak<Shard>, mut source: Source, news: &Notify) {
    loop {
        news.notified().await;
        if shard.upgrade().is_none_or(|shard| shard.lock().is_gone()) {
            return;
        }
        let Some(mut opened) = source.open() else { return };
        let monitor = opened.monitor();
        let addresses = monitor.addresses().unwrap_or_default();
        let (origins, pace) = (Origins::new(), Pace::new());
        let watch = Watch { shard: Weak::clone(shard), monitor, addresses, origins, pace };
        if watch.run(news).await.is_err() {
            return;
        }
    }
}

/// There is nothing to watch any more, ever.
struct Over;

struct Watch<'a> {
    shard: Weak<Shard>,
    monitor: &'a mut dyn NetworkMonitor,
    /// Those of the last look: they are dear to ask for, and each new connection goes by them.
    addresses: Vec<IpAddr>,
    origins: Origins<Path>,
    pace: Pace,
}

impl Watch<'_> {
    /// Goes on until there is nobody left to watch for.
    async fn run(mut self, news: &Notify) -> Result<(), Over> {
        loop {
            let (fresh, count, is_idle) = self.with(|core, link| {
                let fresh = core.followed.as_mut().map(|followed| mem::take(&mut followed.fresh));
                let count = core.followed.as_ref().map_or(0, |followed| followed.keys.len());
                let is_idle = core.followed.as_ref().is_none_or(Followed::is_idle);
                (core.used_paths(link, fresh.into_iter().flatten()), count, is_idle)
            })?;
            if is_idle {
                if !self.awaits_more(news).await {
                    return Ok(());
                }
                continue;
            }
            if !fresh.is_empty() {
                self.origins.learn(&fresh, &mut scene(&self.addresses, self.monitor));
            }
            if self.origins.len() > count.saturating_mul(2).saturating_add(KNOWN_MAX) {
                self.origins.keep(&self.used()?);
            }
            tokio::select! {
                biased;
                () = news.notified() => continue,
                changed = poll_fn(|cx| self.monitor.poll_changed(cx)) => changed.map_err(|_| Over)?,
            }
            if let Some(at) = self.pace.due(time::Instant::now()) {
                sleep_until(at).await;
                // What has come in the meantime is seen by the same look.
                poll_fn(|cx| Poll::Ready(self.monitor.poll_changed(cx).is_ready())).await;
            }
            let found = self.look()?;
            self.pace.looked(time::Instant::now(), found);
        }
    }

    /// Nobody is left: answers whether there is somebody again before long, and nothing has changed meanwhile.
    async fn awaits_more(&mut self, news: &Notify) -> bool {
        tokio::select! {
            biased;
            _ = poll_fn(|cx| self.monitor.poll_changed(cx)) => false,
            () = news.notified() => true,
            () = time::sleep(LINGER) => false,
        }
    }

    /// Gives hints where something has changed. Answers whether it has.
    fn look(&mut self) -> Result<bool, Over> {
        let used = self.used()?;
        let Ok(addresses) = self.monitor.addresses() else { return Ok(false) };
        let before = mem::replace(&mut self.addresses, addresses);
        let is_awaited = self.tell_arrivals(&before)?;
        self.lose_carriers(before)?;
        let hints = self.origins.compare(&used, &mut scene(&self.addresses, self.monitor));
        if hints.is_empty() {
            return Ok(is_awaited);
        }
        let shard = self.shard.upgrade().ok_or(Over)?;
        let now = shard.clock.now();
        let mut core = shard.lock();
        for (path, hint) in hints {
            let has = |ip| self.addresses.contains(&ip);
            // A path that is gone meanwhile needs no hint.
            let _ = core.hint_path(&shard.link, path, now, hint, has);
        }
        shard.flush(&mut core, now);
        Ok(true)
    }

    /// Tells who waits for it that there is an address which was not there `before`. Answers whether there was one, and
    /// somebody waited.
    fn tell_arrivals(&self, before: &[IpAddr]) -> Result<bool, Over> {
        let has_come = self.addresses.iter().any(|ip| !before.contains(ip));
        self.with(|core, _| {
            let followed = core.followed.as_ref().filter(|_| has_come);
            followed.is_some_and(|followed| followed.arrivals.send(()).is_ok())
        })
    }

    /// Carriers that are bound to an address of `before` which is gone end: the system says nothing to them.
    fn lose_carriers(&self, before: Vec<IpAddr>) -> Result<(), Over> {
        let is_gone = |ip: &IpAddr| !self.addresses.contains(ip);
        let gone: Vec<IpAddr> = before.into_iter().filter(is_gone).collect();
        if !gone.is_empty() {
            self.shard.upgrade().ok_or(Over)?.link.tunnels.lose(&gone);
        }
        Ok(())
    }

    /// All paths to watch for.
    fn used(&self) -> Result<Vec<Used<Path>>, Over> {
        self.with(|core, link| {
            let keys = core.followed.as_ref().map(|followed| followed.keys.clone());
            core.used_paths(link, keys.into_iter().flatten())
        })
    }

    fn with<R>(&self, ask: impl FnOnce(&mut Core, &Links) -> R) -> Result<R, Over> {
        let shard = self.shard.upgrade().ok_or(Over)?;
        let mut core = shard.lock();
        if core.is_gone() { Err(Over) } else { Ok(ask(&mut core, &shard.link)) }
    }
}

/// The network with these addresses, as the system uses them at this moment.
fn scene<'a>(
    addresses: &'a [IpAddr],
    monitor: &'a mut dyn NetworkMonitor,
) -> Scene<'a, impl FnMut(SocketAddr) -> Option<IpAddr>> {
    Scene { addresses, source: |remote| monitor.source(remote) }
}

impl Core {
    /// The paths of these connections that leave by a socket of this endpoint.
    fn used_paths(&mut self, link: &Links, keys: impl Iterator<Item = Key>) -> Vec<Used<Path>> {
        let bound = link.local_addr().ok().map(|addr| addr.ip()).filter(|ip| !ip.is_unspecified());
        let mut used = Vec::new();
        for key in keys {
            let Ok((connection, _)) = self.live(key) else { continue };
            for path in connection.paths() {
                let outward = link.outward(path.route);
                let local = match outward {
                    Route::Udp { local, .. } => local.or(bound),
                    Route::Relayed { .. } | Route::Tunnel { .. } => bound,
                };
                // Further sockets are bound to their addresses, and have other names inside.
                let is_loose = bound.is_none() && outward == path.route;
                // What goes by a carrier leaves from that carrier's own socket.
                let is_carried = link.tunnels.describe(&path.route).is_some();
                if let Some(remote) = path.route.remote().filter(|_| !is_carried) {
                    let ends = Ends { local, is_loose, remote };
                    used.push(Used { path: (key, path.id), ends });
                }
            }
        }
        used
    }

    /// Gives the transport a hint; a path whose own address is gone, as `has` tells, leaves from another one.
    pub(crate) fn hint_path(
        &mut self,
        link: &Links,
        (key, path): Path,
        now: Instant,
        hint: NetworkHint,
        has: impl FnOnce(IpAddr) -> bool,
    ) -> Result<(), PathError> {
        let (connection, _) = self.live(key).map_err(|_| PathError::NotReady)?;
        let route = connection.paths().find(|info| info.id == path).map(|info| info.route);
        let is_up = hint == NetworkHint::InterfaceUp;
        if is_up && route.is_some_and(|route| link.has_lost(&route, has)) {
            connection.release_local(path);
        }
        connection.hint_path(now, path, hint)
    }
}

/// Asks the system whether the machine has this address.
pub(crate) fn machine_has(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}
