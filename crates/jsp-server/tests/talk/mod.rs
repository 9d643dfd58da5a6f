//! Two ends that talk until something has happened.

use jsp::{Connection, StreamConfig};

/// Says a number and hears it back, again and again, until it is enough.
pub(crate) async fn talk(
    caller: &Connection,
    called: &Connection,
    mut enough: impl FnMut(u64) -> bool,
) {
    let here = caller.open(StreamConfig::messages()).await.unwrap();
    here.send(0u64.to_be_bytes().to_vec()).await.unwrap();
    let there = called.accept().await.unwrap();
    for number in 0.. {
        let heard = there.recv().await.unwrap().unwrap();
        assert_eq!(heard.payload[..], u64::to_be_bytes(number));
        there.send(heard.payload).await.unwrap();
        let back = here.recv().await.unwrap().unwrap();
        assert_eq!(back.payload[..], u64::to_be_bytes(number));
        if enough(number) {
            return;
        }
        here.send((number + 1).to_be_bytes().to_vec()).await.unwrap();
    }
}
