//! A socket beside a server's own, at the same address, for the first packets of clients.
//!
//! A flood of hellos then fills a buffer of its own, and is dropped where that is full, before it costs anything.
//! What belongs to connections neither waits behind it nor is dropped with it. The kernel tells them apart by
//! their first byte (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5).

use std::io;
use std::net::UdpSocket;

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
    setsockopt(&second, sockopt::ReusePort, &true)?;
    second.bind(&addr.into())?;
    // A second socket that is not told apart would take what is for the first: it goes away with an error.
    steer(own)?;
    Ok(second.into())
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
