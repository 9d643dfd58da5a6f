//! Attacks by a peer with keys: frames that say what must not be said.

use std::net::SocketAddr;
use std::time::Duration;

use jsp_proto::RetryPolicy;
use jsp_wire::frame::{NewConnectionId, ResetStream, StreamLimit};
use jsp_wire::{CloseCode, ConnectionId, Frame, StreamId};

use crate::peer::{Peer, frame, generous};
use crate::row::{Figure, Run};
use crate::victim::{CLIENT, Victim, addr, pinned};

/// A varint in its shortest form.
pub(super) fn varint(value: u64) -> Vec<u8> {
    let mut buf = [0; 8];
    let mut writer = jsp_wire::Writer::new(&mut buf);
    writer.varint(value).expect("a number below 2^62");
    writer.written().to_vec()
}

/// A BYTES frame that opens its stream as reliable bytes of class interactive.
pub(super) fn bytes_frame(stream: u64, offset: u64, data: &[u8]) -> Vec<u8> {
    // Type with opening, offset and length.
    let mut out = vec![0x10 | 8 | 4 | 1];
    out.extend(varint(stream));
    out.push(0x20);
    out.extend(varint(offset));
    out.extend(varint(data.len() as u64));
    out.extend(data);
    out
}

/// The code with which a fresh connection is closed after these payloads, one packet each.
fn code_after(payloads: &[Vec<u8>]) -> Option<u64> {
    let mut server = Victim::server(RetryPolicy::Never);
    let id = ConnectionId::new(&[3; 4]).expect("an id");
    let mut peer = Peer::client_with(addr(CLIENT), pinned(), 51, generous(id));
    server.talk(&mut peer);
    let handle = server.newest().expect("a correct client is accepted");
    for payload in payloads {
        let packet = peer.frames(payload);
        server.hit(&mut peer, &packet);
    }
    server.close_code(handle)
}

/// Row 2: each two-byte type, also the long forms of short ones.
pub(super) fn unknown_types(run: &mut Run) -> Figure {
    let mut server = Victim::server(RetryPolicy::Never);
    let step = run.count(97, 1) as usize;
    let known = 0x40..=0x51;
    let (mut tried, mut silent) = (0u64, Vec::new());
    for kind in (0..1u16 << 14).step_by(step).chain(known.clone()) {
        let from = SocketAddr::from(([10, 0, (kind >> 8) as u8, kind as u8], 7));
        let mut peer = Peer::client(from, pinned(), 1000 + u64::from(kind));
        server.talk(&mut peer);
        let handle = server.newest().expect("a correct client is accepted");
        server.events.clear();
        let packet = peer.frames(&(0x4000 | kind).to_be_bytes());
        server.hit(&mut peer, &packet);
        let code = server.close_code(handle);
        let wanted = if known.contains(&kind) {
            // Cut short, not for a server, or whole: IMMEDIATE_ACK is the one that says nothing.
            code.is_some() || kind == 0x4a
        } else {
            code == Some(CloseCode::FRAME_ENCODING.0)
        };
        tried += 1;
        if !wanted {
            silent.push(kind);
        }
        server.endpoint.forget(server.now, handle);
        server.pass(Duration::from_millis(1));
    }
    Figure::new(silent.is_empty(), format!("{tried} types, {} without a close", silent.len()))
}

/// Row 31: numbers that were never sent, and ranges that end below zero.
pub(super) fn ack_of_unsent(_: &mut Run) -> Figure {
    let unsent = [vec![0x08], varint(1 << 20), vec![0, 0, 0]].concat();
    let below_zero = vec![0x08, 5, 0, 0, 9];
    let gap_below_zero = vec![0x08, 5, 0, 1, 0, 9, 0];
    let codes: Vec<_> =
        [unsent, below_zero, gap_below_zero].map(|frame| code_after(&[frame])).into();
    let wanted = [CloseCode::ACK_OF_UNSENT, CloseCode::FRAME_ENCODING, CloseCode::FRAME_ENCODING];
    let held = codes.iter().zip(wanted).all(|(code, wanted)| *code == Some(wanted.0));
    Figure::new(held, format!("closed with {codes:x?}"))
}

fn limit(stream: u64, value: u64) -> StreamLimit {
    StreamLimit { stream: StreamId(stream), value }
}

/// Row 35: each way to overrun what was granted or said.
pub(super) fn overruns(_: &mut Run) -> Figure {
    let first = 2;
    let max = (1 << 62) - 1;
    let reset = |final_bytes| {
        frame(&Frame::ResetStream(ResetStream { stream: StreamId(first), code: 0, final_bytes }))
    };
    let finish = |end| frame(&Frame::Finish(limit(first, end)));
    let start = || bytes_frame(first, 0, b"abcd");
    let cases: Vec<(&str, Vec<Vec<u8>>, CloseCode)> = vec![
        ("credit", vec![bytes_frame(first, 64 << 20, b"x")], CloseCode::FLOW_CONTROL),
        (
            "credit, by its end",
            vec![start(), bytes_frame(first, (1 << 20) - 1, b"xy")],
            CloseCode::FLOW_CONTROL,
        ),
        ("an end near 2^62", vec![bytes_frame(first, max - 1, b"x")], CloseCode::FLOW_CONTROL),
        ("beyond 2^62", vec![bytes_frame(first, max, b"x")], CloseCode::FRAME_ENCODING),
        ("an end that changes", vec![start(), finish(4), finish(5)], CloseCode::FINAL_SIZE),
        ("an end before data", vec![start(), finish(2)], CloseCode::FINAL_SIZE),
        (
            "data behind the end",
            vec![start(), finish(4), bytes_frame(first, 4, b"x")],
            CloseCode::FINAL_SIZE,
        ),
        ("a reset that gives back", vec![start(), reset(1)], CloseCode::FINAL_SIZE),
        ("a reset beyond credit", vec![start(), reset(1 << 40)], CloseCode::FLOW_CONTROL),
        ("a reset of nothing beyond credit", vec![reset(1 << 30)], CloseCode::FLOW_CONTROL),
        ("streams", vec![bytes_frame(first + 2 * 1024, 0, b"x")], CloseCode::STREAM_LIMIT),
        ("streams, by far", vec![bytes_frame(max - 1, 0, b"x")], CloseCode::STREAM_LIMIT),
        ("the server's own stream", vec![bytes_frame(1, 0, b"x")], CloseCode::STREAM_STATE),
        ("stream 0 finished", vec![frame(&Frame::Finish(limit(0, 0)))], CloseCode::STREAM_STATE),
        (
            "messages taken that were not sent",
            vec![frame(&Frame::Consumed(limit(0, 9)))],
            CloseCode::PROTOCOL_VIOLATION,
        ),
        ("a server's frame", vec![frame(&Frame::HandshakeDone)], CloseCode::PROTOCOL_VIOLATION),
    ];
    let total = cases.len();
    let wrong: Vec<String> = cases
        .into_iter()
        .map(|(name, payloads, wanted)| (name, code_after(&payloads), wanted))
        .filter(|(_, code, wanted)| *code != Some(wanted.0))
        .map(|(name, code, _)| format!("{name}: {code:x?}"))
        .collect();
    let held = wrong.is_empty();
    let wrong = if held { "all as named".to_owned() } else { wrong.join("; ") };
    Figure::new(held, format!("{total} ways, {wrong}"))
}

fn new_id(sequence: u64, retire_prior_to: u64) -> Vec<u8> {
    let mut id = [9; 8];
    id.copy_from_slice(&sequence.to_be_bytes());
    let id = ConnectionId::new(&id).expect("an id");
    let reset_token = [sequence as u8; 16];
    frame(&Frame::NewConnectionId(NewConnectionId { sequence, retire_prior_to, id, reset_token }))
}

/// Row 37: every new id asks to retire those before it, and nothing is ever acknowledged.
pub(super) fn id_storm(run: &mut Run) -> Figure {
    let count = run.count(200, 10_000);
    let mut server = Victim::server(RetryPolicy::Never);
    let id = ConnectionId::new(&[3; 4]).expect("an id");
    let mut peer = Peer::client_with(addr(CLIENT), pinned(), 61, generous(id));
    server.talk(&mut peer);
    let handle = server.newest().expect("a correct client is accepted");
    // One packet, so that no retirement leaves in between.
    let mut payload = Vec::new();
    let mut closed_after = None;
    for sequence in 1..count {
        payload.extend(new_id(sequence, sequence));
        if payload.len() > 1000 {
            let packet = peer.frames(&std::mem::take(&mut payload));
            server.give(peer.addr, &packet);
            server.take();
        }
        if server.close_code(handle).is_some() {
            closed_after = Some(sequence);
            break;
        }
    }
    let too_many: Vec<Vec<u8>> = (1..12).map(|sequence| new_id(sequence, 0)).collect();
    let code = code_after(&[too_many.concat()]);
    let held = closed_after.is_some()
        && server.close_code(handle) == Some(CloseCode::CONNECTION_ID_LIMIT.0)
        && code == Some(CloseCode::CONNECTION_ID_LIMIT.0);
    Figure::new(
        held,
        format!(
            "closed within {closed_after:?} ids that replace each other; 11 at once: {code:x?}"
        ),
    )
}

/// Row 38: what was never issued, and each issued one over and over.
pub(super) fn retire_loop(run: &mut Run) -> Figure {
    let code = code_after(&[frame(&Frame::RetireConnectionId(1000))]);
    let mut server = Victim::server(RetryPolicy::Never);
    let (mut peer, handle) = server.befriend(71);
    let rounds = run.count(100, 10_000);
    let (mut issued, mut retired) = (0usize, 0u64);
    let count_ids = |peer: &mut Peer| {
        let ids = peer.heard.drain(..);
        ids.map(|h| h.frames().filter(|f| matches!(f, Frame::NewConnectionId(_))).count())
            .sum::<usize>()
    };
    server.listen(&mut peer);
    issued += count_ids(&mut peer);
    let at_first = issued;
    let mut ids = Vec::new();
    for sequence in 0..rounds {
        // The id in use may go too: another one was told by then.
        let ack = peer.ack();
        let payload = [ack, frame(&Frame::RetireConnectionId(sequence))].concat();
        let packet = peer.frames(&payload);
        server.now = server.now + Duration::from_millis(1);
        server.give(peer.addr, &packet);
        for (_, datagram) in server.take() {
            peer.read(&datagram);
        }
        for heard in &peer.heard {
            ids.extend(heard.frames().filter_map(|frame| match frame {
                Frame::NewConnectionId(new) => Some((new.sequence, new.id)),
                _ => None,
            }));
        }
        issued += count_ids(&mut peer);
        retired += 1;
        if let Some((_, id)) = ids.iter().find(|(n, _)| *n == sequence + 1) {
            peer.remote_id = *id;
        }
        if server.close_code(handle).is_some() {
            break;
        }
    }
    let each = issued as f64 / retired as f64;
    let held = code == Some(CloseCode::PROTOCOL_VIOLATION.0)
        && issued as u64 <= retired + at_first as u64 + 8;
    Figure::new(
        held,
        format!("closed with {code:x?}; {each:.2} new ids for each of {retired} retired"),
    )
}
