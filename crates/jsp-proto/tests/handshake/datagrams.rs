//! What a handshake's datagrams hold: sizes, ids, versions, and packets before others.

use std::sync::atomic::{AtomicU32, Ordering};

use jsp_wire::limits;

use super::*;

#[test]
// spec-test: CON-1
fn small_datagrams_and_short_ids_open_nothing() {
    let mut pair = Pair::new();
    let (_, dcid, scid, _) = overheard(&mut pair);
    let pin = pin_of(&pair);
    let client = "203.0.113.9:9".parse().unwrap();
    for (id, len) in [(&dcid.as_bytes()[..7], 1200), (dcid.as_bytes(), 1199)] {
        let keys = initial_keys(Role::Client, VERSION_1, id, Some(&pin));
        let id = ConnectionId::new(id).unwrap();
        let mut datagram = forge(&keys, (id, scid), 0, 1, &[1]);
        datagram.resize(len, 0);
        pair.inject(End::Server, client, &datagram);
    }
    pair.run_for(Duration::from_millis(1));
    assert_eq!(pair.told.get(&client), None);
}

/// A Version Negotiation packet to a client, with the id that it shall have called.
fn version_negotiation(client: &ConnectionId, called: &[u8], versions: &[u32]) -> Vec<u8> {
    let mut buf = [0; 100];
    let mut writer = Writer::new(&mut buf);
    header::write_version_negotiation(&mut writer, client.as_bytes(), called, versions).unwrap();
    writer.written().to_vec()
}

#[test]
// spec-test: CON-16
// spec-test: WIRE-39
fn versions_are_negotiated_both_ways() {
    // The server answers a version that it does not know.
    let mut pair = Pair::new();
    let stranger = "203.0.113.9:9".parse().unwrap();
    let mut datagram = vec![0xc0, 0x0a, 0x0a, 0x0a, 0x0a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 2, 9, 9];
    datagram.resize(1200, 0);
    pair.inject(End::Server, stranger, &datagram);
    pair.inject(End::Server, stranger, &datagram[..1199]);
    pair.flush();
    // flags, version 0, the ids turned round, and one version: 5 + 3 + 9 + 4 bytes, once.
    assert_eq!(pair.told[&stranger], 21);

    // A client gives up when the server speaks none of its versions, and when that is no forgery.
    for (versions, wrong_id, ends) in
        [(&[7, 8][..], false, true), (&[7, VERSION_1], false, false), (&[7, 8], true, false)]
    {
        let mut pair = Pair::new();
        let (client, dcid, scid, _) = overheard(&mut pair);
        let called = if wrong_id { &[5; 8][..] } else { dcid.as_bytes() };
        let from = pair.server_addr;
        pair.inject(End::Client, from, &version_negotiation(&scid, called, versions));
        // The server is not heard: what was answered may be true.
        pair.filter = Box::new(|to, _| to == End::Server);
        pair.run_for(Duration::from_millis(3100));
        let reason = CloseReason::VersionMismatch { offered: versions.to_vec() };
        assert_eq!(pair.close_reason(End::Client, client), ends.then_some(reason));
    }
    // By somebody on the side it ends nothing: the server is heard soon after.
    let mut pair = Pair::new();
    let (client, dcid, scid, _) = overheard(&mut pair);
    let from = pair.server_addr;
    pair.inject(End::Client, from, &version_negotiation(&scid, dcid.as_bytes(), &[7]));
    pair.run_for(Duration::from_secs(2));
    assert!(pair.client.connection(client).unwrap().is_established());
    // It comes too late once anything else was heard.
    let mut pair = Pair::new();
    let (client, dcid, scid, _) = overheard(&mut pair);
    pair.run_for(Duration::from_millis(21));
    pair.inject(End::Client, from, &version_negotiation(&scid, dcid.as_bytes(), &[7]));
    pair.run_for(Duration::from_millis(500));
    assert!(pair.client.connection(client).unwrap().is_established());
}

#[test]
// spec-test: CON-7, CON-18
fn hellos_are_large_and_initial_keys_are_dropped_early() {
    let mut pair = Pair::new();
    pair.record = Some(Vec::new());
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_secs(1));
    let mut client_is_past = false;
    for (to, datagram) in pair.record.take().unwrap() {
        if to == End::Client {
            continue;
        }
        let is_initial = |datagram: &[u8]| matches!(Header::parse(datagram), Ok(Header::Long(h)) if h.kind == LongType::Initial);
        // A client's first datagrams are whole hellos; with its first Handshake packet it sends
        // its last Initial packet, an acknowledgement.
        assert!(!(client_is_past && is_initial(&datagram)));
        assert!(client_is_past || datagram.len() >= 1200 || has_handshake(&datagram));
        client_is_past |= has_handshake(&datagram);
    }
    assert!(client_is_past);
}

#[test]
// spec-test: WIRE-7
// spec-test: WIRE-37
fn what_stands_before_a_packet_does_not_hide_it() {
    // Before each packet of the handshake: one that nobody can open, and one of early data.
    let mut pair = Pair::new();
    let changed = Arc::new(AtomicU32::new(0));
    let sink = changed.clone();
    pair.filter = Box::new(move |_, datagram| {
        let Ok(Header::Long(header)) = Header::parse(datagram) else { return true };
        let (dcid, scid) = (header.dcid, header.scid);
        if dcid.len() == limits::CONNECTION_ID_LEN_INITIAL {
            // A datagram that opens a connection starts with an Initial packet.
            return true;
        }
        sink.fetch_add(1, Ordering::Relaxed);
        for kind in [LongType::Handshake, LongType::ZeroRtt] {
            let mut packet = [0x55; 100];
            let fields = LongFields { kind, dcid, scid, token: &[], pn: 0, pn_len: 1 };
            let layout = fields.write(&mut Writer::new(&mut packet)).unwrap();
            header::patch_length(&mut packet, layout, 100 - layout.pn_offset).unwrap();
            datagram.splice(0..0, packet);
        }
        true
    });
    let client = pair.connect();
    pair.run_until(|pair| pair.client.connection(client).unwrap().is_established());
    pair.run_for(Duration::from_secs(1));
    assert_eq!(pair.close_reason(End::Client, client), None);
    assert!(changed.load(Ordering::Relaxed) >= 2);
}
