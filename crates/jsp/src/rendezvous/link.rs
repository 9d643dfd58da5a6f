//! The link of a peer: what comes and goes through a relay, past it, or has nothing to do with it.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use jsp_nat::detour::{Detours, Exit};
use jsp_nat::{punch, relay};
use jsp_proto::Datagram;
use jsp_wire::Route;
use tokio::sync::mpsc;

use crate::link::{Link, Transmit};

/// A punch that has come, and where from.
pub(super) type Punched = (SocketAddr, Vec<u8>);

/// Where datagrams go, and where they belong.
pub(super) struct Switch {
    link: Box<dyn Link>,
    ways: Mutex<Ways>,
}

#[derive(Default)]
struct Ways {
    detours: Detours,
    /// Coordinators whose relays this peer listens to.
    relays: HashSet<SocketAddr>,
    /// Who waits for punches with a token.
    punches: HashMap<u64, mpsc::Sender<Punched>>,
    /// Who waits for answers of STUN servers.
    stun: Vec<mpsc::Sender<Vec<u8>>>,
    /// Direct addresses in use, and whether something came from there since it was last asked.
    traffic: HashMap<SocketAddr, bool>,
}

impl Switch {
    pub(super) fn new(link: Box<dyn Link>) -> Self {
        Self { link, ways: Mutex::default() }
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what a coordinator at this address relays.
    pub(super) fn trust_relay(&self, relay: SocketAddr) {
        self.ways().relays.insert(relay);
    }

    /// Punches with this token go there.
    pub(super) fn expect(&self, token: u64, to: mpsc::Sender<Punched>) {
        self.ways().punches.insert(token, to);
    }

    /// Punches with this token are not waited for any more.
    pub(super) fn expect_no_more(&self, token: u64) {
        self.ways().punches.remove(&token);
    }

    /// Answers of STUN servers go there, too.
    pub(super) fn expect_stun(&self, to: mpsc::Sender<Vec<u8>>) {
        let mut ways = self.ways();
        ways.stun.retain(|waits| !waits.is_closed());
        ways.stun.push(to);
    }

    /// Whether a relayed connection goes past the relay now.
    pub(super) fn is_past_relay(&self, relayed: &Route) -> bool {
        self.ways().detours.of(relayed).is_some()
    }

    /// A relayed connection goes past the relay from now on, or no more.
    pub(super) fn redirect(&self, relayed: &Route, direct: Option<SocketAddr>) {
        let Route::Relayed { via, peer } = *relayed else { return };
        let mut ways = self.ways();
        if let Some(old) = ways.detours.of(relayed) {
            ways.traffic.remove(&old);
        }
        match direct {
            Some(direct) => {
                ways.detours.open(via, peer, direct);
                ways.traffic.insert(direct, false);
            }
            None => ways.detours.close(via, peer),
        }
    }

    /// Whether something came from a direct address since this was last asked.
    pub(super) fn had_traffic(&self, direct: SocketAddr) -> bool {
        let mut ways = self.ways();
        ways.traffic.get_mut(&direct).is_some_and(std::mem::take)
    }

    /// The address of this host on the way to another.
    pub(super) fn own_address(&self, towards: SocketAddr) -> Option<SocketAddr> {
        let bound = self.link.local_addr().ok()?;
        if bound.ip().is_unspecified() {
            return Some(SocketAddr::new(own_ip(towards)?, bound.port()));
        }
        Some(bound)
    }

    /// Sends a datagram as it is; one that cannot be sent now is lost, as any may be.
    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) {
        let route = Route::udp(to);
        let transmit =
            Transmit { route, ecn: None, contents: datagram, segment_len: datagram.len().max(1) };
        let _ = self.link.try_send(&transmit);
    }

    /// Takes a datagram out of its wrapping; false when it is not for the transport.
    fn sort(&self, datagram: &mut Datagram) -> bool {
        let Route::Udp { remote, .. } = datagram.route else { return true };
        match relay::classify(&datagram.payload) {
            relay::Class::Transport => {
                if let Some(traffic) = self.ways().traffic.get_mut(&remote) {
                    *traffic = true;
                }
                true
            }
            relay::Class::Relay => {
                let Some((channel, _)) = relay::parse(&datagram.payload) else { return false };
                let _ = datagram.payload.split_to(relay::HEADER_LEN);
                datagram.route = Route::Relayed { via: remote, peer: channel };
                self.ways().relays.contains(&remote)
            }
            relay::Class::Punch => {
                let token = punch::token_of(&datagram.payload);
                let ways = self.ways();
                if let Some(waits) = token.and_then(|token| ways.punches.get(&token)) {
                    // More than the task takes are lost, as any datagram may be.
                    let _ = waits.try_send((remote, datagram.payload.to_vec()));
                }
                false
            }
            relay::Class::Stun => {
                for waits in &self.ways().stun {
                    // More than are looked at are lost, as any datagram may be.
                    let _ = waits.try_send(datagram.payload.to_vec());
                }
                false
            }
        }
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").field("link", &self.link).finish_non_exhaustive()
    }
}

/// The link that the endpoint has.
#[derive(Debug)]
pub(super) struct MeetingLink(pub(super) Arc<Switch>);

impl Link for MeetingLink {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        let old = inbox.len();
        loop {
            match self.0.link.poll_recv(cx, inbox) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let mut new = inbox.split_off(old);
            let had_any = !new.is_empty();
            new.retain_mut(|datagram| self.0.sort(datagram));
            inbox.append(&mut new);
            if inbox.len() > old || !had_any {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let exit = self.0.ways().detours.exit(&transmit.route);
        match exit {
            Some(Exit::Plain(to)) => {
                let route = match transmit.route {
                    udp @ Route::Udp { .. } => udp,
                    _ => Route::udp(to),
                };
                self.0.link.try_send(&Transmit { route, ..*transmit })
            }
            Some(Exit::Relayed(to, header)) => send_relayed(&*self.0.link, transmit, to, &header),
            None => Ok(transmit.contents.len()),
        }
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.link.poll_writable(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.link.local_addr()
    }

    fn segments_max(&self) -> usize {
        self.0.link.segments_max()
    }
}

/// Each datagram goes behind the relay's header, in as few calls as before.
fn send_relayed(
    link: &dyn Link,
    transmit: &Transmit<'_>,
    to: SocketAddr,
    header: &[u8],
) -> io::Result<usize> {
    let segment_len = transmit.segment_len.max(1);
    let count = transmit.contents.len().div_ceil(segment_len);
    let mut contents = Vec::with_capacity(transmit.contents.len() + count * header.len());
    for datagram in transmit.contents.chunks(segment_len) {
        contents.extend_from_slice(header);
        contents.extend_from_slice(datagram);
    }
    let wrapped_len = segment_len + header.len();
    let relayed = Transmit {
        route: Route::udp(to),
        ecn: transmit.ecn,
        contents: &contents,
        segment_len: wrapped_len,
    };
    let sent = link.try_send(&relayed)?;
    Ok((sent.div_ceil(wrapped_len) * segment_len).min(transmit.contents.len()))
}

/// The address of this host on the way to another.
pub(super) fn own_ip(towards: SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(any_for(towards)).ok()?;
    // Nothing is sent by this: the system only picks a way.
    socket.connect((towards.ip().to_canonical(), towards.port())).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Any address and port of the family of another.
pub(super) fn any_for(towards: SocketAddr) -> SocketAddr {
    let any: IpAddr = match towards.ip().to_canonical() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(any, 0)
}
