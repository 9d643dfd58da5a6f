//! Plain UDP, with segmentation and receive offload and congestion marks where the system has them.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn_udp::{EcnCodepoint, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::buffers::{Buffers, SLOTS};
use super::readiness::Readiness;
use super::{Datagram, Ecn, Link, Route, Transmit};
use crate::error::BindError;

/// Bytes of socket buffer asked for in each direction: what 1 Gbit/s brings in 32 ms. The system
/// may grant less.
pub(super) const SOCKET_BUFFER: usize = 4 << 20;

/// A receive call takes all the datagrams there are, up to [`SLOTS`]. On other systems quinn-udp 0.6 takes one.
const TAKES_SEVERAL: bool =
    cfg!(any(target_os = "linux", target_os = "android", target_os = "freebsd"));

/// A receive call that brought so many shows that nothing is left.
fn shows_empty(count: usize, takes_several: bool) -> bool {
    takes_several && count < SLOTS
}

/// A UDP socket.
pub struct UdpLink {
    socket: Readiness,
    state: UdpSocketState,
    /// Where the first packets of clients go, when they are kept apart.
    strangers: Mutex<Option<(Readiness, UdpSocketState)>>,
    buffers: Mutex<Buffers>,
    /// IPv6 with IPv4 inside: addresses are translated at this border.
    dual: bool,
    /// Bound to no certain address: answers must name the address that was asked.
    wildcard: bool,
}

impl UdpLink {
    /// Binds a socket to `addr`. An IPv6 wildcard takes IPv4 too, where the system can. Must be
    /// called inside a tokio runtime.
    ///
    /// # Errors
    /// See [`BindError`].
    pub fn bind(addr: SocketAddr) -> Result<Self, BindError> {
        Self::bind_socket(addr).map_err(|error| BindError::new(addr, error))
    }

    /// Binds the sockets of `count` shards to `addr`; with `apart` they keep the first packets of clients apart. The
    /// system brings each what is its own where it can, and unless it is not to be `steered`.
    pub(crate) fn bind_shards(
        addr: SocketAddr,
        count: usize,
        apart: bool,
        steered: bool,
    ) -> Result<Vec<Self>, BindError> {
        let first = Self::bind(addr)?;
        let shards = first.into_shards(count, apart, steered);
        shards.map_err(|error| BindError::new(addr, error))
    }

    #[cfg(target_os = "linux")]
    fn into_shards(self, count: usize, apart: bool, steered: bool) -> io::Result<Vec<Self>> {
        let own = self.socket.socket().try_clone()?;
        let others = super::steer::beside(&own, count.saturating_sub(1))?;
        let mut shards = vec![self];
        for socket in others {
            shards.push(Self::from_std(socket)?);
        }
        let is_steered = steered && super::steer::by_id(&own, count, false).is_ok();
        // A wish, as with one shard: they are closed where they cannot be told apart.
        if is_steered
            && apart
            && let Ok(strangers) = super::steer::beside(&own, count)
            && super::steer::by_id(&own, count, true).is_ok()
        {
            for (shard, socket) in shards.iter_mut().zip(strangers) {
                shard.strangers = Mutex::new(Some(ready(socket)?));
            }
        }
        Ok(shards)
    }

    /// All shards take what comes to one socket; most of it is handed over.
    #[cfg(not(target_os = "linux"))]
    fn into_shards(self, count: usize, _: bool, _: bool) -> io::Result<Vec<Self>> {
        let mut shards = Vec::new();
        for _ in 1..count {
            shards.push(Self::from_std(self.socket.socket().try_clone()?)?);
        }
        shards.push(self);
        Ok(shards)
    }

    /// Binds any free port on all interfaces, for both IP versions where the system can.
    pub(crate) fn bind_wildcard() -> Result<Self, BindError> {
        let [v6, v4] = wildcards();
        Self::bind(v6).or_else(|_| Self::bind(v4))
    }

    /// A link over a socket that the caller has bound and set up.
    ///
    /// # Errors
    /// When the system refuses an option that the link needs.
    pub fn from_std(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let state = UdpSocketState::new((&socket).into())?;
        without_timestamps(&socket);
        let ip = socket.local_addr()?.ip();
        let wildcard = ip.is_unspecified();
        let dual = wildcard && ip.is_ipv6() && !socket2::SockRef::from(&socket).only_v6()?;
        let socket = Readiness::new(socket)?;
        Ok(Self {
            socket,
            state,
            strangers: Mutex::new(None),
            buffers: Mutex::new(Buffers::new()),
            dual,
            wildcard,
        })
    }

    fn bind_socket(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            // Systems without dual-stack sockets serve IPv6 alone.
            let _ = socket.set_only_v6(false);
        }
        // Larger buffers are a wish: the system's limit holds.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        socket.bind(&addr.into())?;
        Self::from_std(socket.into())
    }

    /// Keeps the first packets of clients apart from all others, where the system can: for servers whose packets
    /// can be told by their first byte.
    pub(crate) fn with_strangers_apart(mut self) -> Self {
        // A wish: without it, the driver tells them apart once it has received them.
        self.strangers = Mutex::new(self.apart().ok());
        self
    }

    #[cfg(target_os = "linux")]
    fn apart(&self) -> io::Result<(Readiness, UdpSocketState)> {
        let own = self.socket.socket();
        let second = super::steer::beside(own, 1);
        let told = second.and_then(|second| super::steer::by_id(own, 1, true).map(|()| second));
        // What the system cannot tell apart has one socket, beside which nobody else may come.
        let second = told.or_else(|error| super::steer::alone(own).and(Err(error)))?.pop();
        ready(second.ok_or(io::ErrorKind::Unsupported)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn apart(&self) -> io::Result<(Readiness, UdpSocketState)> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// One receive call; `WouldBlock` when there was nothing.
    fn recv(
        &self,
        (from, state): (&Readiness, &UdpSocketState),
        cx: &mut Context<'_>,
        inbox: &mut Vec<Datagram>,
    ) -> Poll<io::Result<()>> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut received = Ok(0);
        let polled = from.poll_recv(cx, |socket| {
            let (mut slices, meta) = buffers.split();
            received = state.recv(socket.into(), &mut slices, meta);
            match &received {
                // Fewer than could be: the socket is empty. Saying so here, under the readiness
                // that was seen before the call, saves the call that would find nothing. Said of a
                // socket that holds more, it would leave the rest there until something new comes.
                Ok(count) if shows_empty(*count, TAKES_SEVERAL) => {
                    Err(io::ErrorKind::WouldBlock.into())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error.kind().into()),
            }
        });
        if polled.is_pending() {
            return Poll::Pending;
        }
        match received {
            Ok(0) => polled,
            received => Poll::Ready(self.hand_up(received, &mut buffers, inbox)),
        }
    }

    /// Takes what a receive call has put into so many places of the buffers.
    fn hand_up(
        &self,
        received: io::Result<usize>,
        buffers: &mut Buffers,
        inbox: &mut Vec<Datagram>,
    ) -> io::Result<()> {
        for index in 0..received?.min(SLOTS) {
            let Some(meta) = buffers.meta.get(index).copied() else { break };
            let stride = meta.stride.max(1);
            let mut joined = buffers.take(index, meta.len);
            let local = meta.dst_ip.filter(|_| self.wildcard).map(|ip| ip.to_canonical());
            let remote = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let route = Route::Udp { local, remote };
            let ecn = meta.ecn.map(from_codepoint);
            while joined.len() > stride {
                inbox.push(Datagram { route, ecn, payload: joined.split_to(stride) });
            }
            if !joined.is_empty() {
                inbox.push(Datagram { route, ecn, payload: joined });
            }
        }
        Ok(())
    }

    /// Receives from one of the sockets, past what says nothing.
    fn recv_some(
        &self,
        from: (&Readiness, &UdpSocketState),
        cx: &mut Context<'_>,
        inbox: &mut Vec<Datagram>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.recv(from, cx, inbox) {
                Poll::Ready(Err(error)) if is_passing(&error) => {}
                // Also for empty datagrams: a flood of them must not hold the driver here.
                other => return other,
            }
        }
    }

    fn outward(&self, remote: SocketAddr) -> SocketAddr {
        match remote {
            SocketAddr::V4(v4) if self.dual => {
                SocketAddr::new(IpAddr::V6(v4.ip().to_ipv6_mapped()), v4.port())
            }
            other => other,
        }
    }

    fn send_one_call(&self, transmit: &quinn_udp::Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(|socket| self.state.try_send(socket.into(), transmit))
    }
}

impl Link for UdpLink {
    fn poll_recv(&self, cx: &mut Context<'_>, inbox: &mut Vec<Datagram>) -> Poll<io::Result<()>> {
        self.recv_some((&self.socket, &self.state), cx, inbox)
    }

    fn try_recv(&self, inbox: &mut Vec<Datagram>) -> io::Result<()> {
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut slices, meta) = buffers.split();
        let received = self.state.recv(self.socket.socket().into(), &mut slices, meta);
        match self.hand_up(received, &mut buffers, inbox) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_passing(&error) => Ok(()),
            other => other,
        }
    }

    fn poll_strangers(
        &self,
        cx: &mut Context<'_>,
        inbox: &mut Vec<Datagram>,
    ) -> Poll<io::Result<()>> {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((socket, state)) = strangers.as_ref() else { return Poll::Pending };
        let polled = self.recv_some((socket, state), cx, inbox);
        if matches!(polled, Poll::Ready(Err(_))) {
            // With the second socket closed, the system gives all to the first.
            *strangers = None;
        }
        polled
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<usize> {
        let Route::Udp { local, remote } = transmit.route else {
            // No datagram of another carrier belongs here: lost.
            return Ok(transmit.contents.len());
        };
        let mut udp = quinn_udp::Transmit {
            destination: self.outward(remote),
            ecn: transmit.ecn.map(to_codepoint),
            contents: transmit.contents,
            segment_size: Some(transmit.segment_len),
            src_ip: local,
        };
        if transmit.contents.len() <= transmit.segment_len {
            udp.segment_size = None;
        }
        let several = udp.segment_size.is_some();
        match self.send_one_call(&udp) {
            Ok(()) => return Ok(transmit.contents.len()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if !several => return Ok(transmit.contents.len()),
            Err(_) => {}
        }
        // The interface cannot segment, or one datagram is too large for it: one by one.
        udp.segment_size = None;
        let mut sent = 0;
        for datagram in transmit.contents.chunks(transmit.segment_len.max(1)) {
            udp.contents = datagram;
            match self.send_one_call(&udp) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return if sent == 0 { Err(error) } else { Ok(sent) };
                }
                _ => sent += datagram.len(),
            }
        }
        Ok(sent)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_writable(cx)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.socket().local_addr()
    }

    fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }
}

impl fmt::Debug for UdpLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpLink").field("local", &self.socket.socket().local_addr().ok()).finish()
    }
}

/// A bound socket, made ready to be received from.
#[cfg(target_os = "linux")]
fn ready(socket: std::net::UdpSocket) -> io::Result<(Readiness, UdpSocketState)> {
    socket.set_nonblocking(true)?;
    let state = UdpSocketState::new((&socket).into())?;
    without_timestamps(&socket);
    Ok((Readiness::new(socket)?, state))
}

/// quinn-udp 0.6.3 has the kernel add a time to each receive, for which its buffer of control messages has no
/// room: beside the length of joined datagrams and their destination, the ECN marks fall off the end.
#[cfg(target_os = "linux")]
fn without_timestamps(socket: &std::net::UdpSocket) {
    use nix::sys::socket::{setsockopt, sockopt::ReceiveTimestampns};
    // Where that fails, marks are lost with joined datagrams, and validation ends their use.
    let _ = setsockopt(socket, ReceiveTimestampns, &false);
}

#[cfg(not(target_os = "linux"))]
fn without_timestamps(_: &std::net::UdpSocket) {}

/// Errors that a socket reports about some datagram of the past, or about nothing.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, NetworkUnreachable,
        WouldBlock,
    };
    matches!(
        error.kind(),
        ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | NetworkUnreachable
            | WouldBlock
    )
}

/// The wildcard address that a client binds: both IP versions where the system can.
fn wildcards() -> [SocketAddr; 2] {
    [SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), SocketAddr::from(([0, 0, 0, 0], 0))]
}

fn from_codepoint(ecn: EcnCodepoint) -> Ecn {
    match ecn {
        EcnCodepoint::Ect0 => Ecn::Ect0,
        EcnCodepoint::Ect1 => Ecn::Ect1,
        EcnCodepoint::Ce => Ecn::Ce,
    }
}

fn to_codepoint(ecn: Ecn) -> EcnCodepoint {
    match ecn {
        Ecn::Ect0 => EcnCodepoint::Ect0,
        Ecn::Ect1 => EcnCodepoint::Ect1,
        Ecn::Ce => EcnCodepoint::Ce,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[test]
    fn a_socket_that_gives_one_datagram_a_call_is_not_taken_for_empty() {
        assert!(shows_empty(SLOTS - 1, true) && !shows_empty(SLOTS, true));
        assert!(!shows_empty(1, false) && !shows_empty(SLOTS, false));
    }

    async fn receive(link: &UdpLink, count: usize) -> Vec<Datagram> {
        let mut inbox = Vec::new();
        while inbox.len() < count {
            poll_fn(|cx| link.poll_recv(cx, &mut inbox)).await.unwrap();
        }
        inbox
    }

    /// A socket of the loopback interface that has been told that it may send.
    async fn loopback() -> UdpLink {
        let link = UdpLink::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        poll_fn(|cx| link.poll_writable(cx)).await.unwrap();
        link
    }

    #[tokio::test]
    async fn a_batch_arrives_as_its_datagrams() {
        let a = loopback().await;
        let b = loopback().await;
        let contents: Vec<u8> = (0..3500u32).map(|i| (i / 1200) as u8).collect();
        let route = Route::udp(b.local_addr().unwrap());
        let ecn = Some(Ecn::Ect1);
        let transmit = Transmit { route, ecn, contents: &contents, segment_len: 1200 };
        assert_eq!(a.try_send(&transmit).unwrap(), 3500);
        let inbox = receive(&b, 3).await;
        assert!(inbox.iter().all(|datagram| datagram.ecn == ecn));
        let lens: Vec<_> = inbox.iter().map(|d| d.payload.len()).collect();
        assert_eq!(lens, [1200, 1200, 1100]);
        assert!(inbox[2].payload.iter().all(|&byte| byte == 2));
        assert_eq!(inbox[0].route, Route::udp(a.local_addr().unwrap()));
    }

    #[tokio::test]
    async fn ipv4_and_ipv6_meet_on_one_wildcard_socket() {
        let Ok(any) = UdpLink::bind(wildcards()[0]) else { return };
        if !any.dual {
            return;
        }
        poll_fn(|cx| any.poll_writable(cx)).await.unwrap();
        let port = any.local_addr().unwrap().port();
        let b = loopback().await;
        let b_addr = b.local_addr().unwrap();
        let hello =
            Transmit { route: Route::udp(b_addr), ecn: None, contents: b"hello", segment_len: 5 };
        any.try_send(&hello).unwrap();
        let got = receive(&b, 1).await;
        assert_eq!(got[0].route.remote().unwrap().port(), port);
        let answer = Transmit { route: got[0].route, ..hello };
        b.try_send(&answer).unwrap();
        let got = receive(&any, 1).await;
        let Route::Udp { local, remote } = got[0].route else { panic!("a UDP route") };
        assert_eq!((local, remote), (Some("127.0.0.1".parse().unwrap()), b_addr));
    }

    #[tokio::test]
    async fn a_full_receive_call_leaves_nothing_behind() {
        let a = loopback().await;
        let b = loopback().await;
        let route = Route::udp(b.local_addr().unwrap());
        for round in 0..3 {
            for i in 0..SLOTS * 2 + round {
                let contents = [i as u8];
                a.try_send(&Transmit { route, ecn: None, contents: &contents, segment_len: 1 })
                    .unwrap();
            }
            let inbox = receive(&b, SLOTS * 2 + round).await;
            assert_eq!(inbox.len(), SLOTS * 2 + round);
        }
    }

    /// Sends these first bytes to a server's link, whose second socket may have failed, and takes what comes as
    /// strangers' and as the others'.
    #[cfg(target_os = "linux")]
    async fn told_apart(at: &str, firsts: &[u8], is_broken: bool) -> [Vec<u8>; 2] {
        let link = UdpLink::bind(at.parse().unwrap()).unwrap().with_strangers_apart();
        assert_eq!(link.strangers.lock().unwrap().take_if(|_| is_broken).is_some(), is_broken);
        assert_eq!(link.strangers.lock().unwrap().is_some(), !is_broken);
        let to = SocketAddr::new("127.0.0.1".parse().unwrap(), link.local_addr().unwrap().port());
        assert!(UdpLink::bind(to).is_err(), "nobody else may bind there, as without");
        let client = loopback().await;
        for first in firsts {
            let contents = [*first; 1200];
            let route = Route::udp(to);
            client
                .try_send(&Transmit { route, ecn: None, contents: &contents, segment_len: 1200 })
                .unwrap();
        }
        let mut inboxes = [Vec::new(), Vec::new()];
        poll_fn(|cx| {
            let [strangers, others] = &mut inboxes;
            while link.poll_strangers(cx, strangers).is_ready() {}
            while link.poll_recv(cx, others).is_ready() {}
            let came = strangers.len() + others.len();
            if came < firsts.len() { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        inboxes.map(|inbox| inbox.iter().map(|datagram| datagram.payload[0]).collect())
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    // spec-test: CON-80
    async fn first_packets_of_clients_have_a_socket_of_their_own() {
        let firsts = [0xc3, 0x40, 0xe0, 0xd0, 0xff, 0xcf];
        for at in ["127.0.0.1:0", "[::]:0"] {
            let [strangers, others] = told_apart(at, &firsts, false).await;
            assert_eq!(strangers, [0xc3, 0xd0, 0xcf]);
            assert_eq!(others, [0x40, 0xe0, 0xff]);
            // Where that socket has failed, all come by the other.
            assert_eq!(told_apart(at, &firsts, true).await, [vec![], firsts.to_vec()]);
        }
    }
}
