//! The practical limit: UDP with GSO and GRO, AES-128-GCM in place, one thread a side,
//! and nothing else. A receiver returns a count of packets now and then, so that the
//! sender does not overrun it; there is no retransmission and no key exchange.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use socket2::SockRef;

use super::Flavour;
use crate::plan::{Exercise, Plan};
use crate::process::{Desk, Event};
use crate::workload::client::{Values, percentiles};
use crate::workload::flood::{self, Flood};

/// UDP payload of a full packet, as for every subject.
const PACKET_BYTES: usize = 1452;
/// A packet: its number in clear, the sealed rest, the tag.
pub(crate) const NUMBER_BYTES: usize = 8;
/// See there.
pub(crate) const TAG_BYTES: usize = 16;
const OVERHEAD_BYTES: usize = NUMBER_BYTES + TAG_BYTES;
/// The largest payload of one GSO send.
const BATCH_BYTES: usize = 65_507;
/// Kernel limit of segments in one GSO send.
const BATCH_PACKETS: usize = 64;
/// Packets under way at most; at full size 2 MiB, half of the socket buffer.
const WINDOW_PACKETS: u64 = 1448;
/// Packets between two counts from the receiver.
const CREDIT_PACKETS: u64 = 176;
/// Length prefix of a message within a packet.
const PREFIX_BYTES: usize = 2;
/// Socket buffers asked for; the kernel may give less.
const SOCKET_BYTES: usize = 4 << 20;
/// No count for so long means that packets were lost.
const STALL: Duration = Duration::from_millis(200);
/// Bytes of a flood's datagram, as long as a hello's.
const STRANGERS_BYTES: usize = 1200;
/// Round trips before those that count.
const WARM_UP: u64 = 500;
/// Both sides know the key: there is nobody to hide from.
pub(crate) const KEY: [u8; 16] = *b"bench raw limit!";

/// A socket, the key and the buffers of one side.
struct Side {
    socket: UdpSocket,
    state: UdpSocketState,
    key: LessSafeKey,
    /// The client and the server number from different starts, so no nonce repeats.
    number: u64,
    spin: bool,
    received: Vec<u8>,
}

/// What one receive brought: packets of `stride` bytes, the last maybe shorter.
#[derive(Clone, Copy)]
struct Arrival {
    length: usize,
    stride: usize,
    from: SocketAddr,
}

impl Side {
    fn new(flavour: Flavour, first_number: u64) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        SockRef::from(&socket).set_recv_buffer_size(SOCKET_BYTES)?;
        SockRef::from(&socket).set_send_buffer_size(SOCKET_BYTES)?;
        let state = UdpSocketState::new((&socket).into())?;
        let spin = flavour == Flavour::Spin;
        socket.set_nonblocking(spin)?;
        let key = UnboundKey::new(&AES_128_GCM, &KEY).map_err(|_| anyhow!("the key is refused"))?;
        let received = vec![0; 1 << 16];
        Ok(Self { socket, state, key: LessSafeKey::new(key), number: first_number, spin, received })
    }

    /// Seals the packet in place; its plaintext lies between number and tag.
    fn seal(&mut self, packet: &mut [u8]) -> Result<()> {
        let number = self.number.to_be_bytes();
        self.number += 1;
        let (head, rest) = packet.split_at_mut(NUMBER_BYTES);
        let (body, tail) = rest.split_at_mut(rest.len() - TAG_BYTES);
        head.copy_from_slice(&number);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(number), Aad::from(number), body)
            .map_err(|_| anyhow!("a packet could not be sealed"))?;
        tail.copy_from_slice(tag.as_ref());
        Ok(())
    }

    fn send(&self, to: SocketAddr, contents: &[u8], packet: usize) -> Result<()> {
        let segment_size = (contents.len() > packet).then_some(packet);
        let transmit =
            Transmit { destination: to, ecn: None, contents, segment_size, src_ip: None };
        loop {
            match self.state.try_send((&self.socket).into(), &transmit) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                done => return Ok(done?),
            }
        }
    }

    /// Waits for packets; `None` after the socket's time limit.
    fn receive(&mut self) -> Result<Option<Arrival>> {
        let mut meta = [RecvMeta::default()];
        loop {
            let mut buffers = [IoSliceMut::new(&mut self.received)];
            match self.state.recv((&self.socket).into(), &mut buffers, &mut meta) {
                Ok(0) => {}
                Ok(_) => {
                    let RecvMeta { len, stride, addr, .. } = meta[0];
                    return Ok(Some(Arrival { length: len, stride: stride.max(1), from: addr }));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock && self.spin => {
                    std::hint::spin_loop();
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error).context("receive raw packets"),
            }
        }
    }

    /// Opens every packet of an arrival in place and hands each plaintext on.
    fn open(&mut self, arrival: Arrival, mut each: impl FnMut(&[u8])) -> Result<()> {
        for packet in self.received[..arrival.length].chunks_mut(arrival.stride) {
            let Some((head, sealed)) = packet.split_first_chunk_mut::<NUMBER_BYTES>() else {
                bail!("a raw packet of {} bytes", packet.len());
            };
            let plain = self
                .key
                .open_in_place(nonce(*head), Aad::from(*head), sealed)
                .map_err(|_| anyhow!("a raw packet does not open"))?;
            each(plain);
        }
        Ok(())
    }
}

/// The nonce of a packet's number.
pub(crate) fn nonce(number: [u8; NUMBER_BYTES]) -> Nonce {
    let mut bytes = [0; 12];
    bytes[12 - NUMBER_BYTES..].copy_from_slice(&number);
    Nonce::assume_unique_for_key(bytes)
}

/// How an exercise fills its packets.
struct Layout {
    packet: usize,
    /// Packets that the whole exercise sends; `None` for a timed one.
    total: Option<u64>,
    messages_per_packet: usize,
}

impl Layout {
    fn of(exercise: Exercise, plan: Plan) -> Self {
        let room = PACKET_BYTES - OVERHEAD_BYTES;
        match exercise {
            Exercise::Messages => {
                let fit = (room / (PREFIX_BYTES + plan.message_bytes)).max(1);
                let packet = OVERHEAD_BYTES + fit * (PREFIX_BYTES + plan.message_bytes);
                Self { packet, total: None, messages_per_packet: fit }
            }
            Exercise::Datagrams | Exercise::Pingpong => {
                let packet = OVERHEAD_BYTES + plan.message_bytes;
                Self { packet, total: None, messages_per_packet: 1 }
            }
            _ => Self {
                packet: PACKET_BYTES,
                total: Some(plan.bytes.div_ceil(room as u64)),
                messages_per_packet: 1,
            },
        }
    }

    fn batch(&self) -> usize {
        (BATCH_BYTES / self.packet).min(BATCH_PACKETS)
    }
}

/// Serves until the process ends.
pub(crate) fn serve(exercise: Exercise, flavour: Flavour, plan: Plan, desk: &Desk) -> Result<()> {
    let mut side = Side::new(flavour, 1 << 62)?;
    desk.say(&Event::Ready { address: side.socket.local_addr()?, trust: String::new() });
    match exercise {
        Exercise::Pingpong => return echo(&mut side),
        Exercise::Flood => return echo_what_opens(&mut side),
        _ => {}
    }
    let layout = Layout::of(exercise, plan);
    let (mut packets, mut credited) = (0_u64, 0_u64);
    let mut reply = [0; NUMBER_BYTES + 8 + TAG_BYTES];
    loop {
        let Some(arrival) = side.receive()? else { continue };
        let (mut messages, mut bytes) = (0, 0);
        side.open(arrival, |plain| {
            packets += 1;
            if exercise == Exercise::Messages {
                for message in split(plain) {
                    messages += 1;
                    bytes += message.len() as u64;
                }
            } else {
                messages += 1;
                bytes += plain.len() as u64;
            }
        })?;
        desk.counters.add(messages, bytes);
        desk.counters.stamp();
        if packets - credited >= CREDIT_PACKETS || Some(packets) == layout.total {
            credited = packets;
            reply[NUMBER_BYTES..NUMBER_BYTES + 8].copy_from_slice(&packets.to_be_bytes());
            side.seal(&mut reply)?;
            side.send(arrival.from, &reply, reply.len())?;
        }
    }
}

/// The messages of a packet.
fn split(mut plain: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (prefix, rest) = plain.split_first_chunk::<PREFIX_BYTES>()?;
        let (message, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*prefix)))?;
        plain = rest;
        Some(message)
    })
}

fn echo(side: &mut Side) -> Result<()> {
    let mut packet = Vec::new();
    loop {
        let Some(arrival) = side.receive()? else { continue };
        packet.clear();
        packet.resize(NUMBER_BYTES, 0);
        side.open(arrival, |plain| packet.extend_from_slice(plain))?;
        packet.resize(packet.len() + TAG_BYTES, 0);
        side.seal(&mut packet)?;
        side.send(arrival.from, &packet, packet.len())?;
    }
}

/// The same in a flood: what is not of the client is received, seen to be too long, and forgotten.
fn echo_what_opens(side: &mut Side) -> Result<()> {
    let mut packet = Vec::new();
    loop {
        let Some(arrival) = side.receive()? else { continue };
        if arrival.stride >= STRANGERS_BYTES {
            continue;
        }
        packet.clear();
        packet.resize(NUMBER_BYTES, 0);
        side.open(arrival, |plain| packet.extend_from_slice(plain))?;
        packet.resize(packet.len() + TAG_BYTES, 0);
        side.seal(&mut packet)?;
        side.send(arrival.from, &packet, packet.len())?;
    }
}

/// Runs the client and reports its figures.
pub(crate) fn drive(
    exercise: Exercise,
    flavour: Flavour,
    plan: Plan,
    server: SocketAddr,
    desk: &Desk,
) -> Result<()> {
    let mut side = Side::new(flavour, 0)?;
    side.socket.set_read_timeout((exercise != Exercise::Pingpong).then_some(STALL))?;
    let values = match exercise {
        Exercise::Pingpong => pingpong(&mut side, plan, server, desk)?,
        Exercise::Flood => beside_a_flood(&mut side, plan, server, desk)?,
        _ => send_batches(&mut side, exercise, plan, server, desk)?,
    };
    desk.say(&Event::Done { values });
    Ok(())
}

fn pingpong(side: &mut Side, plan: Plan, server: SocketAddr, desk: &Desk) -> Result<Values> {
    let mut packet = vec![0x5a; OVERHEAD_BYTES + plan.message_bytes];
    let mut micros = Vec::new();
    for round in 0..WARM_UP + plan.count {
        if round == WARM_UP {
            desk.phase_blocking("start")?;
        }
        let start = Instant::now();
        side.seal(&mut packet)?;
        side.send(server, &packet, packet.len())?;
        let arrival = side.receive()?.context("the echo was lost")?;
        side.open(arrival, |plain| {
            std::hint::black_box(plain);
        })?;
        if round >= WARM_UP {
            micros.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    desk.phase_blocking("end")?;
    Ok(percentiles(&mut micros))
}

/// Round trips in calm, then beside a flood that the server does nothing about: what the machine and its kernel
/// alone do to a connection.
fn beside_a_flood(side: &mut Side, plan: Plan, server: SocketAddr, desk: &Desk) -> Result<Values> {
    let time = Duration::from_millis(plan.millis);
    round_trips(side, server, flood::WARM_UP)?;
    let mut calm = round_trips(side, server, time)?;
    desk.phase_blocking("start")?;
    let flood = Flood::start(server, vec![vec![vec![0x5a; STRANGERS_BYTES]]])?;
    std::thread::sleep(flood::WARM_UP);
    let flooded = round_trips(side, server, time);
    let rate = flood.stop();
    desk.phase_blocking("end")?;
    Ok(flood::values(rate, None, &mut calm, &mut flooded?))
}

/// Round trips of one message for a while; microseconds. One that is lost took as long as it was waited for.
fn round_trips(side: &mut Side, server: SocketAddr, time: Duration) -> Result<Vec<f64>> {
    let mut packet = vec![0x5a; OVERHEAD_BYTES + flood::PING_BYTES];
    let (mut micros, begin) = (Vec::new(), Instant::now());
    while begin.elapsed() < time {
        let start = Instant::now();
        side.seal(&mut packet)?;
        side.send(server, &packet, packet.len())?;
        if let Some(arrival) = side.receive()? {
            side.open(arrival, |plain| {
                std::hint::black_box(plain);
            })?;
        }
        micros.push(start.elapsed().as_secs_f64() * 1e6);
        std::thread::sleep(flood::PING_PAUSE);
    }
    Ok(micros)
}

/// Sends full batches while the window allows.
fn send_batches(
    side: &mut Side,
    exercise: Exercise,
    plan: Plan,
    server: SocketAddr,
    desk: &Desk,
) -> Result<Values> {
    let layout = Layout::of(exercise, plan);
    let source = vec![0x5a; layout.packet * layout.batch()];
    let mut batch = vec![0; layout.packet * layout.batch()];
    desk.phase_blocking("start")?;
    let start = Instant::now();
    let limit = Duration::from_millis(plan.millis);
    let total = layout.total.unwrap_or(u64::MAX);
    let (mut sent, mut credit, mut lost) = (0_u64, 0_u64, 0_u64);
    while sent < total && (layout.total.is_some() || start.elapsed() < limit) {
        let count = (total - sent).min(layout.batch() as u64) as usize;
        let packets = &mut batch[..count * layout.packet];
        let sources = source.chunks_exact(layout.packet - OVERHEAD_BYTES);
        for (packet, source) in packets.chunks_exact_mut(layout.packet).zip(sources) {
            let body = &mut packet[NUMBER_BYTES..layout.packet - TAG_BYTES];
            fill(body, source, exercise, plan, &layout);
            side.seal(packet)?;
        }
        side.send(server, &batch[..count * layout.packet], layout.packet)?;
        sent += count as u64;
        let tail = layout.total == Some(sent);
        while sent - lost > credit + if tail { 0 } else { WINDOW_PACKETS } {
            match next_credit(side)? {
                Some(newest) => credit = newest,
                // After a stall what was not counted is lost and the window starts afresh.
                None => lost = sent - credit,
            }
        }
    }
    let elapsed_s = start.elapsed().as_secs_f64();
    desk.phase_blocking("end")?;
    let messages = sent * layout.messages_per_packet as u64;
    let values = [("elapsed_s", elapsed_s), ("sent", messages as f64)];
    Ok(values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Copies what an application would hand over: a message at a time, or a packet's bytes.
fn fill(body: &mut [u8], source: &[u8], exercise: Exercise, plan: Plan, layout: &Layout) {
    if exercise != Exercise::Messages {
        body.copy_from_slice(&source[..body.len()]);
        return;
    }
    let slots = body.chunks_exact_mut(PREFIX_BYTES + plan.message_bytes);
    for slot in slots.take(layout.messages_per_packet) {
        let (prefix, message) = slot.split_at_mut(PREFIX_BYTES);
        prefix.copy_from_slice(&(plan.message_bytes as u16).to_be_bytes());
        message.copy_from_slice(&source[..plan.message_bytes]);
    }
}

/// The receiver's newest count; `None` when none came in time.
fn next_credit(side: &mut Side) -> Result<Option<u64>> {
    let Some(arrival) = side.receive()? else { return Ok(None) };
    let mut newest = None;
    side.open(arrival, |plain| {
        newest = plain.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)).or(newest);
    })?;
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_side_seals_the_other_opens() {
        let mut sender = Side::new(Flavour::Usual, 0).unwrap();
        let mut receiver = Side::new(Flavour::Usual, 1 << 62).unwrap();
        let mut batch = vec![7; 3 * 100];
        for packet in batch.chunks_mut(100) {
            sender.seal(packet).unwrap();
        }
        receiver.received[..300].copy_from_slice(&batch);
        let from = sender.socket.local_addr().unwrap();
        let mut got = 0;
        let arrival = Arrival { length: 300, stride: 100, from };
        receiver
            .open(arrival, |plain| {
                assert_eq!(plain, [7; 76]);
                got += 1;
            })
            .unwrap();
        assert_eq!(got, 3);
        receiver.received[50] ^= 1;
        assert!(receiver.open(arrival, |_| ()).is_err());
    }

    #[test]
    fn messages_come_out_as_they_went_in() {
        let plan = Plan { message_bytes: 64, ..Plan::default() };
        let layout = Layout::of(Exercise::Messages, plan);
        assert_eq!((layout.messages_per_packet, layout.packet), (21, 24 + 21 * 66));
        let mut body = vec![0; layout.packet - OVERHEAD_BYTES];
        fill(&mut body, &[9; PACKET_BYTES], Exercise::Messages, plan, &layout);
        let messages: Vec<&[u8]> = split(&body).collect();
        assert_eq!(messages.len(), 21);
        assert!(messages.iter().all(|message| *message == [9; 64]));
    }
}
