//! A second connection to one server, which has room for it or none.

use super::*;

#[test]
// spec-test: CON-25
fn too_many_connections_are_refused() {
    let mut pair = Pair::seeded(TransportConfig::default(), RetryPolicy::Never, 1, 1);
    let (first, _) = pair.establish();
    match fails_soon(&mut pair) {
        CloseReason::PeerError { code, .. } => assert_eq!(code, CloseCode::REFUSED),
        other => panic!("{other:?}"),
    }
    assert!(!pair.client.connection(first).unwrap().is_closed());
    // Once the first is gone there is room again.
    let now = pair.now;
    pair.client.connection(first).unwrap().close(now, 0, b"");
    pair.run_for(Duration::from_secs(2));
    let third = pair.connect();
    pair.run_until(|pair| pair.client.connection(third).unwrap().is_established());
}

#[test]
fn two_connections_to_one_server_share_the_socket() {
    let mut pair = Pair::new();
    let (first, _) = pair.establish();
    let second = pair.connect();
    pair.run_until(|pair| pair.client.connection(second).unwrap().is_established());
    pair.run_for(Duration::from_millis(200));
    for handle in [first, second] {
        let now = pair.now;
        let connection = pair.client.connection(handle).unwrap();
        let stream = connection.open(now, StreamConfig::bytes()).unwrap();
        connection.write(now, stream, bytes::Bytes::from(vec![1; 5000])).unwrap();
        connection.finish(now, stream).unwrap();
        pair.run_until(|pair| {
            let done = Event::SendFinished { stream };
            pair.events.contains(&(End::Client, handle, done))
        });
        let _ = pair.client.connection(handle).unwrap().stats();
        pair.run_for(Duration::from_millis(100));
    }
    let now = pair.now;
    pair.client.connection(first).unwrap().close(now, 1, b"");
    pair.run_for(Duration::from_secs(3));
    assert!(!pair.client.connection(second).unwrap().is_closed());
}
