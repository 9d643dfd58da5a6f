//! What must hold of any bytes that come as a handshake message: no panic, no peer that proves
//! itself by chance, and no completed handshake of which a byte was changed on the way.

use jsp_crypto::{Handshake, Level, Output};

use super::parties::{Seeded, parties};

/// A time within the validity of everything.
const NOW_UNIX_SECONDS: u64 = 1_800_000_000;

fn client() -> Handshake {
    let config = parties().client.clone();
    Handshake::client(config, b"params", &mut Seeded(99)).expect("a client can start")
}

fn server() -> Handshake {
    Handshake::server(parties().server.clone(), b"params".to_vec())
}

/// Everything that the handshake wants sent, by level.
fn sent(handshake: &mut Handshake) -> Vec<(Level, Vec<u8>)> {
    let mut messages = Vec::new();
    while let Some(output) = handshake.poll() {
        if let Output::Send { level, message } = output {
            messages.push((level, message));
        }
    }
    messages
}

fn read(handshake: &mut Handshake, level: Level, message: &[u8]) -> bool {
    handshake.read(level, message, NOW_UNIX_SECONDS, &mut Seeded(7)).is_ok()
}

/// The first byte says who reads the rest, and as what.
pub fn message(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    match choice % 5 {
        0 => {
            let mut server = server();
            let accepted = read(&mut server, Level::Initial, rest);
            assert!(!server.is_complete());
            assert_eq!(accepted, !sent(&mut server).is_empty());
        }
        1 => {
            let mut client = client();
            sent(&mut client);
            read(&mut client, Level::Initial, rest);
            assert!(!client.is_complete() && !client.is_failed());
        }
        2 => changed(rest, 0),
        3 => changed(rest, 1),
        _ => changed(rest, 2),
    }
}

/// A whole handshake of which the `nth` message is changed on the way: three bytes of the input say
/// where and how.
fn changed(changes: &[u8], nth: usize) {
    let (mut client, mut server) = (client(), server());
    let mut count = 0;
    let mut is_changed = false;
    let mut to_server = sent(&mut client);
    // A handshake has three flights.
    for _ in 0..3 {
        let mut to_client = Vec::new();
        for (level, message) in to_server.drain(..) {
            let message = pass(message, changes, count == nth, &mut is_changed);
            count += 1;
            read(&mut server, level, &message);
            to_client.extend(sent(&mut server));
        }
        for (level, message) in to_client {
            let message = pass(message, changes, count == nth, &mut is_changed);
            count += 1;
            read(&mut client, level, &message);
            to_server.extend(sent(&mut client));
        }
    }
    let complete = client.is_complete() && server.is_complete();
    assert_eq!(complete, !is_changed, "complete, changed");
}

fn pass(mut message: Vec<u8>, changes: &[u8], is_it: bool, is_changed: &mut bool) -> Vec<u8> {
    if !is_it {
        return message;
    }
    let original = message.clone();
    for change in changes.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]]));
        let len = message.len();
        match place.checked_sub(len) {
            None => message[place] ^= change[2],
            Some(beyond) if beyond % 2 == 0 => message.push(change[2]),
            Some(_) => message.truncate(len.saturating_sub(usize::from(change[2]))),
        }
        if message.is_empty() {
            break;
        }
    }
    *is_changed |= message != original;
    message
}
