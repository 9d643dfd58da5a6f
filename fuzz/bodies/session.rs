//! What must hold of a session, whatever its peer sends: nothing panics, a refusal changes nothing that the
//! session has promised, and no more is kept than the limits say.

use std::time::Duration;

use bytes::Bytes;
use jsp_app::session::{
    Arrival, Binding, CHANNELS_MAX, Client, Item, Limits, RECORD_MAX, Registry, Session,
};

/// Messages, each a byte of kind, two bytes of length and the content, to both ends of a session. Answers
/// how many were taken.
pub fn records(data: &[u8]) -> usize {
    let limits = Limits { waiting_bytes: 1 << 10, ..Limits::default() };
    let mut registry = Registry::new(4, Duration::from_secs(60));
    let mut client = Session::client(limits, false);
    let own = client.open("own").expect("the first channel");
    client.attach();
    let greeting = client.poll_record().expect("a greeting");
    let Ok(Arrival::New(grant)) = registry.greet(&greeting, Client::default(), [7; 32]) else {
        unreachable!()
    };
    let mut server = Session::server(limits, false);
    registry.insert(&grant, Client::default(), ());
    server.grant(&grant).expect("a new session");
    while let Some(record) = server.poll_record() {
        client.handle_record(&record).expect("the grant");
    }
    assert!(client.is_running() && server.is_running());
    client.send(own, Bytes::from_static(b"kept")).expect("room");
    let mut taken = 0;
    let mut rest = data;
    while let Some((head, more)) = rest.split_first_chunk::<3>() {
        let [kind, high, low] = *head;
        let len = usize::from(u16::from_be_bytes([high, low])).min(more.len());
        let (content, after) = more.split_at(len);
        rest = after;
        let session = if kind & 1 == 0 { &mut client } else { &mut server };
        taken += usize::from(match kind >> 1 & 3 {
            0 => session.handle_record(content).is_ok(),
            1 => match session.handle_bind(content) {
                Ok(Binding::Bound(id)) => session.wants(id),
                Ok(_) => true,
                Err(_) => false,
            },
            2 => registry.greet(content, Client::default(), [9; 32]).is_ok(),
            _ => items(session, content),
        });
        check(session, &limits);
    }
    // What was not taken by the server's application is kept, whatever it says that it has.
    if client.end().is_none() && client.channels().any(|(id, _)| id == own) {
        assert!(client.unconfirmed(own).len() <= 1);
    }
    taken
}

/// Messages from the streams of all channels, as far as the session takes them.
fn items(session: &mut Session, content: &[u8]) -> bool {
    let ids: Vec<_> = session.channels().map(|(id, _)| id).collect();
    ids.into_iter().all(|id| {
        let item = match content.first() {
            Some(0) => Item::End,
            _ => Item::Message(Bytes::copy_from_slice(content)),
        };
        let taken = !session.wants(id) || session.handle_item(id, item).is_ok();
        session.recv(id);
        taken
    })
}

fn check(session: &mut Session, limits: &Limits) {
    assert!(session.channels().count() <= 2 * CHANNELS_MAX);
    session.confirm_taken(true);
    while let Some(record) = session.poll_record() {
        assert!(record.len() <= RECORD_MAX);
    }
    while session.poll_event().is_some() {}
    while session.poll_bind().is_some() {}
    let ids: Vec<_> = session.channels().map(|(id, _)| id).collect();
    for id in ids {
        while session.poll_item(id).is_some() {}
        assert!(session.unconfirmed(id).len() <= limits.unconfirmed_messages);
    }
}
