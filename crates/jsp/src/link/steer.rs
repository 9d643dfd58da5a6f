//! Sockets of several shards at one address, and which of them a datagram comes to.
//!
//! With `SO_REUSEPORT` the kernel chooses among them by a hash of the addresses; a program of a few steps
//! (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5) has it choose by the first byte of the destination id instead, as
//! [`Shard::of`](jsp_proto::Shard::of) does. A client that moves then still finds its shard.
//!
//! The first packets of clients come to sockets of their own. A flood of hellos then fills a buffer of its own, and is
//! dropped where that is full, before it costs anything: what belongs to connections neither waits behind it nor is
//! dropped with it.

use std::io;
use std::net::UdpSocket;

use jsp_proto::{LONG_ID_AT, SHORT_ID_AT};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::udp::SOCKET_BUFFER;

/// So many further sockets at the address of `own`, whose datagrams they share from now on.
///
/// # Errors
/// Where the kernel cannot.
pub(super) fn beside(own: &UdpSocket, count: usize) -> io::Result<Vec<UdpSocket>> {
    let addr = own.local_addr()?;
    let only_v6 = addr.is_ipv6() && SockRef::from(own).only_v6()?;
    // Asked for after `own` was bound without it: another program's socket at the address has been refused by then.
    setsockopt(own, sockopt::ReusePort, &true)?;
    let bind = |_| {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(only_v6)?;
        }
        // Larger buffers are a wish: the system's limit holds.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
        setsockopt(&socket, sockopt::ReusePort, &true)?;
        socket.bind(&addr.into())?;
        Ok(socket.into())
    };
    (0..count).map(bind).collect()
}

/// No other socket may come to the address of `own` any more.
pub(super) fn alone(own: &UdpSocket) -> io::Result<()> {
    Ok(setsockopt(own, sockopt::ReusePort, &false)?)
}

/// How the sockets at the address of `socket`, in the order in which they were bound, share what comes: each of the
/// first `shards` takes what is for its shard. With `apart`, as many sockets stand behind them, which take the first
/// packets of clients.
///
/// # Errors
/// Where the kernel cannot.
pub(super) fn by_id(socket: &UdpSocket, shards: usize, apart: bool) -> io::Result<()> {
    let shards = u32::try_from(shards).map_err(|_| io::ErrorKind::InvalidInput)?;
    let step = |code: u32, jt, jf, k: usize| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k: u32::try_from(k).unwrap_or(0),
    };
    const BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const IS: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const HAS: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
    const MODULO: u32 = libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K;
    const ADD: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | 0x10;
    let shards = shards as usize;
    // A datagram that is too short for a step goes to the first socket.
    let mut program = [
        step(BYTE, 0, 0, 0),
        step(HAS, 3, 0, 0x80),
        step(BYTE, 0, 0, SHORT_ID_AT),
        step(MODULO, 0, 0, shards),
        step(RETURN, 0, 0, 0),
        // spec: CON-80
        step(AND, 0, 0, 0xe0),
        step(IS, 3, 0, 0xc0),
        step(BYTE, 0, 0, LONG_ID_AT),
        step(MODULO, 0, 0, shards),
        step(RETURN, 0, 0, 0),
        step(BYTE, 0, 0, LONG_ID_AT),
        step(MODULO, 0, 0, shards),
        step(ADD, 0, 0, if apart { shards } else { 0 }),
        step(RETURN, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::net::SocketAddr;
    use std::task::Poll;

    use super::super::{Datagram, Link, UdpLink};

    /// What has come to each of the links, by the first byte of the id; of first packets and of all others.
    async fn arrivals(links: &[UdpLink], count: usize) -> Vec<[Vec<u8>; 2]> {
        let mut inboxes = vec![[const { Vec::<Datagram>::new() }; 2]; links.len()];
        poll_fn(|cx| {
            for (link, [strangers, others]) in links.iter().zip(&mut inboxes) {
                while link.poll_strangers(cx, strangers).is_ready() {}
                while link.poll_recv(cx, others).is_ready() {}
            }
            let came = inboxes.iter().flatten().map(Vec::len).sum::<usize>();
            if came < count { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
        let id = |datagram: &Datagram| {
            let is_long = datagram.payload[0] & 0x80 != 0;
            datagram.payload[if is_long { 6 } else { 1 }]
        };
        let ids = |inbox: Vec<Datagram>| {
            let mut ids: Vec<u8> = inbox.iter().map(id).collect();
            ids.sort_unstable();
            ids
        };
        inboxes.into_iter().map(|inboxes| inboxes.map(ids)).collect()
    }

    #[tokio::test]
    // spec-test: CON-120, CON-80
    async fn the_kernel_brings_datagrams_to_the_shard_that_their_id_names() {
        for at in ["127.0.0.1:0", "[::]:0"] {
            let links = UdpLink::bind_shards(at.parse().unwrap(), 3, true, true).unwrap();
            let to = SocketAddr::from(([127, 0, 0, 1], links[0].local_addr().unwrap().port()));
            assert!(UdpLink::bind(to).is_err(), "nobody else may bind there");
            let mut count = 0;
            for id in 0..9 {
                // Each from another port: a short packet, a first one, and one of a handshake.
                let client = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
                for packet in
                    [&[0x40, id][..], &[0xc3, 0, 0, 0, 1, 8, id], &[0xe3, 0, 0, 0, 1, 8, id]]
                {
                    client.send_to(packet, to).unwrap();
                    count += 1;
                }
            }
            for (index, [strangers, others]) in (0..).zip(arrivals(&links, count).await) {
                assert_eq!(strangers, [index, index + 3, index + 6]);
                let twice = [0, 0, 3, 3, 6, 6].map(|offset| index + offset);
                assert_eq!(others, twice);
            }
        }
    }
}
