//! A socket beside a server's own, at the same address, for the first packets of clients.
//!
//! A flood of hellos then fills a buffer of its own, and is dropped where that is full, before it costs anything.
//! What belongs to connections neither waits behind it nor is dropped with it. The kernel tells them apart by
//! their first byte (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5).

use std::io;
use std::net::{SocketAddr, UdpSocket};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::udp::SOCKET_BUFFER;

/// The bits of the first byte that say: long header, an Initial or a 0-RTT packet. These must not arrive before the
/// hello that they follow.
// spec: CON-80
const FORM_MASK: u32 = 0xe0;
const FIRST: u32 = 0xc0;

/// A second socket at the address of `own`, to which Initial and 0-RTT packets go from now on.
///
/// # Errors
/// Where the kernel cannot: then all goes to `own`, as before.
pub(super) fn beside(own: &UdpSocket) -> io::Result<UdpSocket> {
    let addr = own.local_addr()?;
    let second = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        second.set_only_v6(SockRef::from(own).only_v6()?)?;
    }
    // Larger buffers are a wish: the system's limit holds.
    let _ = second.set_recv_buffer_size(SOCKET_BUFFER);
    // Asked for after `own` was bound without it: another program's socket at the address has been refused by then.
    setsockopt(own, sockopt::ReusePort, &true)?;
    match join(own, &second, addr) {
        Ok(()) => Ok(second.into()),
        // Nor may another come beside `own` later. The second socket goes away with the error: what it is not told
        // apart from, it would take.
        Err(error) => leave(own, error),
    }
}

/// The socket stays alone, for this reason.
fn leave<T>(own: &UdpSocket, reason: io::Error) -> io::Result<T> {
    setsockopt(own, sockopt::ReusePort, &false)?;
    Err(reason)
}

/// Binds the second socket beside the first, and tells apart what is for which.
fn join(own: &UdpSocket, second: &Socket, addr: SocketAddr) -> io::Result<()> {
    setsockopt(second, sockopt::ReusePort, &true)?;
    second.bind(&addr.into())?;
    steer(own)
}

/// The socket that was bound second takes first packets, the other one all else.
fn steer(socket: &UdpSocket) -> io::Result<()> {
    let step = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, FORM_MASK),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, FIRST),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 1),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, sockopt::AttachReusePortCbpf, &program)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_may_come_beside_a_socket_that_was_left_alone() {
        let own = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = own.local_addr().unwrap();
        // Bound before it asks to share: the second one is refused, as by a system that cannot steer.
        setsockopt(&own, sockopt::ReusePort, &true).unwrap();
        let elsewhere = UdpSocket::bind("127.0.0.1:0").unwrap();
        let second = Socket::from(elsewhere);
        assert!(join(&own, &second, addr).is_err());
        drop(second);
        let fails = |own: &UdpSocket| leave::<()>(own, io::ErrorKind::Unsupported.into()).is_err();
        assert!(fails(&own));
        let late =
            Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP)).unwrap();
        setsockopt(&late, sockopt::ReusePort, &true).unwrap();
        assert!(late.bind(&addr.into()).is_err());
    }
}
