//! The link of a peer: what comes and goes through a relay, past it, by a TURN server, or has nothing to do with it.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use jsp_nat::detour::{Detours, Exit};
use jsp_nat::{Leg, Way, punch, relay, turn};
use jsp_proto::Datagram;
use jsp_wire::Route;
use tokio::sync::{Notify, mpsc};

use super::asked::Asked;
use super::relays::Relays;
use super::{Passage, random};
use crate::link::{CarrierSender, Link, Transmit};

/// A punch that has come, and where from.
pub(super) type Punched = (Way, Vec<u8>);

/// Where datagrams go, and where they belong.
pub(super) struct Switch {
    link: Box<dyn Link>,
    /// The endpoint's streams, in one of which a coordinator may be.
    carriers: OnceLock<CarrierSender>,
    ways: Mutex<Ways>,
}

#[derive(Default)]
struct Ways {
    detours: Detours,
    relays: Relays,
    /// Who waits for punches with a token.
    punches: HashMap<u64, mpsc::Sender<Punched>>,
    /// Who waits for answers of STUN servers.
    stun: Vec<mpsc::Sender<Vec<u8>>>,
    /// Ways past the relay that are in use, and by which relayed connections.
    uses: HashMap<Way, Vec<Use>>,
    turn: Option<Turn>,
    /// Where this peer has sent to, when it answers nobody else by plain UDP.
    asked: Option<Asked>,
}

/// A relayed connection that goes past the relay.
struct Use {
    /// The relay, and the connection's channel there.
    relayed: (SocketAddr, u64),
    /// Something came by its way since this was last asked.
    has_come: bool,
    passage: Passage,
}

/// The TURN server that lends this peer an address.
struct Turn {
    client: turn::Client,
    /// What the server says goes to the task that talks to it.
    messages: mpsc::Sender<Vec<u8>>,
    /// Wakes that task, and tells it from that of another server.
    wake: Arc<Notify>,
    #[cfg(feature = "turn")]
    told: Told,
}

/// What a TURN server has answered last.
#[cfg(feature = "turn")]
pub(super) type Told = tokio::sync::watch::Sender<Option<Result<SocketAddr, turn::Failure>>>;

impl Ways {
    /// Data that a TURN server has brought: the way that they came, the number of their sender, and where they are.
    fn brought(&mut self, by: SocketAddr, datagram: &[u8]) -> Option<(Way, u16, Range<usize>)> {
        let turn = self.turn.as_mut().filter(|turn| turn.client.server() == by)?;
        if let Some((from, number, data)) = turn.client.unwrap(datagram) {
            return Some((Way::turn(from), number, data));
        }
        if relay::classify(datagram) == relay::Class::Stun {
            // More than are looked at are lost, as any datagram may be.
            let _ = turn.messages.try_send(datagram.to_vec());
        }
        None
    }

    /// Where a route by the TURN server leads.
    fn by_turn(&self, route: &Route) -> Option<SocketAddr> {
        let Route::Relayed { via, peer } = *route else { return None };
        let turn = self.turn.as_ref().filter(|turn| turn.client.server() == via)?;
        turn.client.address_of(u16::try_from(peer).ok()?)
    }

    /// Takes note of a packet by a way; false when nobody may learn that it came.
    // spec: RDV-189
    fn came(&mut self, from: Way) -> bool {
        let is_direct = from.leg == Leg::Socket;
        if is_direct && self.asked.as_ref().is_some_and(|asked| !asked.knows(from.remote)) {
            return false;
        }
        self.uses.get_mut(&from).into_iter().flatten().for_each(|used| used.has_come = true);
        true
    }

    /// How a relayed connection goes past the relay.
    fn use_of(&mut self, relayed: (SocketAddr, u64), way: Way) -> Option<&mut Use> {
        self.uses.get_mut(&way)?.iter_mut().find(|used| used.relayed == relayed)
    }
}

impl Switch {
    /// Over a link. One that is `hidden` answers nobody by plain UDP to whom it has not sent first.
    pub(super) fn new(link: Box<dyn Link>, hidden: bool) -> Self {
        let ways = Ways { asked: hidden.then(Asked::default), ..Ways::default() };
        Self { link, carriers: OnceLock::new(), ways: Mutex::new(ways) }
    }

    fn ways(&self) -> MutexGuard<'_, Ways> {
        self.ways.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to the coordinators whose relays this peer listens to.
    pub(super) fn relays<T>(&self, change: impl FnOnce(&mut Relays) -> T) -> T {
        change(&mut self.ways().relays)
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

    /// Which way a route takes now.
    pub(super) fn passage(&self, route: &Route) -> Passage {
        let mut ways = self.ways();
        match *route {
            // It may be an address that a TURN server has lent the other end.
            Route::Udp { remote, .. } => {
                let used = ways.uses.get(&Way::from(remote)).and_then(|uses| uses.first());
                used.map_or(Passage::Direct, |used| used.passage)
            }
            Route::Relayed { .. } if ways.by_turn(route).is_some() => Passage::Turn,
            Route::Relayed { via, peer } => {
                let past = ways.detours.of(route);
                let used = past.and_then(|way| ways.use_of((via, peer), way));
                used.map_or(Passage::Relay, |used| used.passage)
            }
            Route::Tunnel { .. } => Passage::Relay,
        }
    }

    /// A relayed connection goes past the relay from now on, or no more.
    pub(super) fn redirect(&self, relayed: &Route, past: Option<(Way, Passage)>) {
        let Route::Relayed { via, peer } = *relayed else { return };
        let mut ways = self.ways();
        if let Some(old) = ways.detours.of(relayed)
            && let Some(uses) = ways.uses.get_mut(&old)
        {
            uses.retain(|used| used.relayed != (via, peer));
            if uses.is_empty() {
                ways.uses.remove(&old);
            }
        }
        match past {
            Some((way, passage)) => {
                ways.detours.open(via, peer, way);
                let used = Use { relayed: (via, peer), has_come: false, passage };
                ways.uses.entry(way).or_default().push(used);
            }
            None => ways.detours.close(via, peer),
        }
    }

    /// Whether something came by the way past the relay that a connection takes, since this was last asked.
    pub(super) fn had_traffic(&self, relayed: &Route, way: Way) -> bool {
        let Route::Relayed { via, peer } = *relayed else { return false };
        let mut ways = self.ways();
        let used = ways.use_of((via, peer), way);
        used.is_some_and(|used| std::mem::take(&mut used.has_come))
    }

    #[cfg(feature = "turn")]
    /// Takes what a TURN server brings and lends, in the place of one that was there before.
    pub(super) fn use_turn(
        &self,
        client: turn::Client,
        messages: mpsc::Sender<Vec<u8>>,
        (wake, told): (Arc<Notify>, Told),
    ) {
        let old = self.ways().turn.replace(Turn { client, messages, wake, told });
        self.give_back(old);
    }

    #[cfg(feature = "turn")]
    /// What belongs to the TURN server, if it is the one at this address.
    pub(super) fn turn_at(&self, server: SocketAddr) -> Option<(Arc<Notify>, Told)> {
        let ways = self.ways();
        let turn = ways.turn.as_ref().filter(|turn| turn.client.server() == server)?;
        Some((Arc::clone(&turn.wake), turn.told.clone()))
    }

    #[cfg(feature = "turn")]
    /// Lets the task that is woken so at its client; `None` when another server has its place, or the same one anew.
    pub(super) fn with_turn<T>(
        &self,
        wake: &Arc<Notify>,
        work: impl FnOnce(&mut turn::Client) -> T,
    ) -> Option<T> {
        let mut ways = self.ways();
        let turn = ways.turn.as_mut().filter(|turn| Arc::ptr_eq(&turn.wake, wake))?;
        Some(work(&mut turn.client))
    }

    /// The address that a TURN server lends.
    pub(super) fn lent(&self) -> Option<SocketAddr> {
        self.ways().turn.as_ref()?.client.relayed()
    }

    fn give_back(&self, turn: Option<Turn>) {
        let last = turn.and_then(|mut turn| {
            // Its task ends.
            turn.wake.notify_one();
            turn.client.release(&mut random)
        });
        if let Some(last) = last {
            self.send(last.to.into(), &last.payload);
        }
    }

    /// The address of this host on the way to another.
    pub(super) fn own_address(&self, towards: SocketAddr) -> Option<SocketAddr> {
        let bound = self.link.local_addr().ok()?;
        if bound.ip().is_unspecified() {
            return Some(SocketAddr::new(own_ip(towards)?, bound.port()));
        }
        Some(bound)
    }

    /// Sends a datagram by a way; one that cannot be sent now is lost, as any may be.
    pub(super) fn send(&self, way: Way, datagram: &[u8]) {
        let segment_len = datagram.len().max(1);
        let route = Route::udp(way.remote);
        let transmit = Transmit { route, ecn: None, contents: datagram, segment_len };
        let _ = match way.leg {
            Leg::Socket => self.link.try_send(&transmit),
            Leg::Turn => self.send_by_turn(&transmit, way.remote, false),
        };
    }

    /// Sends to an address by way of the TURN server. What cannot go yet is lost. Where much is to follow, a channel
    /// is made for it.
    fn send_by_turn(
        &self,
        transmit: &Transmit<'_>,
        to: SocketAddr,
        has_more: bool,
    ) -> io::Result<usize> {
        let all = transmit.contents.len();
        let mut ways = self.ways();
        let Some(turn) = &mut ways.turn else { return Ok(all) };
        if has_more {
            turn.client.expect(to);
        }
        let segment_len = transmit.segment_len.max(1);
        let (mut contents, mut wrapped_len) = (Vec::with_capacity(all + 64), 0);
        for datagram in transmit.contents.chunks(segment_len) {
            turn.client.wrap(to, datagram, &mut random, &mut contents);
            wrapped_len = wrapped_len.max(contents.len() * usize::from(wrapped_len == 0));
        }
        // There may be something to be asked of the server first.
        turn.wake.notify_one();
        let server = turn.client.server();
        drop(ways);
        if contents.is_empty() {
            return Ok(all);
        }
        let (route, ecn) = (Route::udp(server), transmit.ecn);
        let wrapped = Transmit { route, ecn, contents: &contents, segment_len: wrapped_len };
        let sent = self.link.try_send(&wrapped)?;
        Ok((sent.div_ceil(wrapped_len) * segment_len).min(all))
    }

    /// Takes a datagram out of its wrapping; false when it is not for the transport.
    fn sort(&self, datagram: &mut Datagram) -> bool {
        let Route::Udp { remote, .. } = datagram.route else { return true };
        let mut from = Way::from(remote);
        let brought = self.ways().brought(remote, &datagram.payload);
        if let Some((way, number, data)) = brought {
            datagram.payload.truncate(data.end);
            let _ = datagram.payload.split_to(data.start);
            datagram.route = Route::Relayed { via: remote, peer: number.into() };
            from = way;
        }
        match relay::classify(&datagram.payload) {
            relay::Class::Transport => self.ways().came(from),
            // A peer has no relay, and answers nothing.
            relay::Class::Relay | relay::Class::Stun if from.leg == Leg::Turn => false,
            relay::Class::Relay => self.unwrap_relayed(datagram),
            relay::Class::Punch => {
                let token = punch::token_of(&datagram.payload);
                let ways = self.ways();
                if let Some(waits) = token.and_then(|token| ways.punches.get(&token)) {
                    // More than the task takes are lost, as any datagram may be.
                    let _ = waits.try_send((from, datagram.payload.to_vec()));
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

impl Switch {
    /// Takes a datagram of a relay out of its wrapping; false when it is none of a coordinator's.
    fn unwrap_relayed(&self, datagram: &mut Datagram) -> bool {
        let Some((channel, _)) = relay::parse(&datagram.payload) else { return false };
        let Some(via) = self.ways().relays.named(&datagram.route) else { return false };
        let _ = datagram.payload.split_to(relay::HEADER_LEN);
        datagram.route = Route::Relayed { via, peer: channel };
        true
    }

    /// Each datagram goes behind the relay's header, in as few calls as before.
    fn send_relayed(
        &self,
        transmit: &Transmit<'_>,
        relay: SocketAddr,
        header: &[u8],
    ) -> io::Result<usize> {
        // Without a registration nothing is relayed.
        let known = self.ways().relays.find(relay);
        let Some(route) = known else { return Ok(transmit.contents.len()) };
        let segment_len = transmit.segment_len.max(1);
        let wrapped_len = segment_len + header.len();
        let count = transmit.contents.len().div_ceil(segment_len);
        let mut contents = Vec::with_capacity(transmit.contents.len() + count * header.len());
        for datagram in transmit.contents.chunks(segment_len) {
            contents.extend_from_slice(header);
            contents.extend_from_slice(datagram);
        }
        if route.is_reliable() {
            if let Some(carriers) = self.carriers.get() {
                // Those for which there is no room are lost: who sends them finds that out.
                contents.chunks(wrapped_len).for_each(|datagram| {
                    carriers.send(&route, datagram);
                });
            }
            return Ok(transmit.contents.len());
        }
        let relayed =
            Transmit { route, ecn: transmit.ecn, contents: &contents, segment_len: wrapped_len };
        let sent = self.link.try_send(&relayed)?;
        Ok((sent.div_ceil(wrapped_len) * segment_len).min(transmit.contents.len()))
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let turn = self.ways().turn.take();
        self.give_back(turn);
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

    fn try_recv(&self, inbox: &mut Vec<Datagram>) -> io::Result<()> {
        let mut new = Vec::new();
        self.0.link.try_recv(&mut new)?;
        new.retain_mut(|datagram| self.0.sort(datagram));
        inbox.append(&mut new);
        Ok(())
    }

    // spec: RDV-126
    fn sort_carried(&self, datagram: &mut Datagram) -> bool {
        match relay::classify(&datagram.payload) {
            relay::Class::Transport => true,
            relay::Class::Punch | relay::Class::Stun => false,
            relay::Class::Relay => self.0.unwrap_relayed(datagram),
        }
    }

    fn attach(&self, carriers: CarrierSender) {
        // There is one endpoint, which attaches once.
        let _ = self.0.carriers.set(carriers);
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let exit = {
            let mut ways = self.0.ways();
            let exit = match ways.by_turn(&transmit.route) {
                Some(to) => Some(Exit::Turn(to)),
                None => ways.detours.exit(&transmit.route),
            };
            if let (Some(Exit::Plain(to)), Some(asked)) = (exit, &mut ways.asked) {
                asked.note(to);
            }
            exit
        };
        match exit {
            Some(Exit::Turn(to)) => self.0.send_by_turn(transmit, to, true),
            Some(Exit::Plain(to)) => {
                let route = match transmit.route {
                    udp @ Route::Udp { .. } => udp,
                    _ => Route::udp(to),
                };
                self.0.link.try_send(&Transmit { route, ..*transmit })
            }
            Some(Exit::Relayed(to, header)) => self.0.send_relayed(transmit, to, &header),
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

#[cfg(test)]
mod tests;
