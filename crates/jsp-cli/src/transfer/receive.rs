//! Receiving: records become orders for the storing thread, its replies become answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use indicatif::ProgressBar;
use jsp::{SendStream, Stream};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use super::Summary;
use super::claim::Claim;
use super::folder::Folder;
use super::record::{
    Complete, FileHead, FolderHead, From, HASH_LEN, Offer, Record, RecordReader, kind, put_control,
};
use super::send::FileEvent;
use super::sink::{self, Order, Reply};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone, harmless};
use crate::protocol::{MALFORMED, malformed};

/// Orders between the network and the storing thread; each holds at most one read of the network.
const ORDERS_WAITING: usize = 8;
/// Replies that wait for the network.
const REPLIES_WAITING: usize = 1024;
/// Silence after which a sender is given up: it keeps others out, and can go on when it is started again.
const SILENCE: Duration = Duration::from_secs(300);
/// Of a transfer whose sender has begun anew: for so long nothing came, and so long it is heard at most. What is still
/// on its way here need not be sent again. The file must be free before [`Folder::resume`] gives up.
const LAST_WORDS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));

/// Receives one transfer into `folder`. Returns when everything is stored and confirmed.
pub(crate) async fn receive(
    stream: Stream,
    folder: Arc<Folder>,
    output: Output,
) -> Result<Summary, Failure> {
    let (send, recv) = stream.split();
    let mut records = RecordReader::new(recv);
    let bar = output.bytes_bar(0);
    let (orders, orders_out) = mpsc::channel(ORDERS_WAITING);
    let (replies_in, replies) = mpsc::channel(REPLIES_WAITING);
    let storing = tokio::task::spawn_blocking({
        let folder = Arc::clone(&folder);
        move || sink::run(folder, orders_out, replies_in)
    });
    let answering = tokio::spawn(answer(send, replies, bar.clone(), output));
    let heard = hear(&mut records, &folder, orders, &bar).await;
    if heard.as_ref().is_err_and(|failure| failure.exit == Exit::Refused) {
        records.stop(MALFORMED);
    }
    // The orders have ended, and so do these two.
    let _ = storing.await;
    let answered = answering.await;
    bar.finish_and_clear();
    heard?;
    let (summary, complete) =
        answered.map_err(|_| Failure::file("the transfer broke off inside this program"))??;
    if complete {
        Ok(summary)
    } else {
        Err(Failure::file("the disk did not confirm the new names; check it and send again"))
    }
}

/// The next record. Once the same sender has begun anew in another transfer, only what follows without a pause: it was on
/// its way.
async fn next(
    records: &mut RecordReader,
    claim: Option<&Claim>,
    displaced: &mut Option<Instant>,
) -> Result<Record, Failure> {
    let Some(claim) = claim else { return heard(records).await };
    if displaced.is_none() {
        tokio::select! {
            biased;
            record = heard(records) => return record,
            () = claim.displaced() => *displaced = Some(Instant::now()),
        }
    }
    let (pause, longest) = LAST_WORDS;
    let until = displaced.map_or_else(Instant::now, |since| since + longest);
    match timeout_at(until, timeout(pause, records.next())).await {
        Ok(Ok(record)) => record?.ok_or_else(vanished),
        _ => Err(Failure::new(Exit::PeerVanished, "the sender has begun again")),
    }
}

async fn heard(records: &mut RecordReader) -> Result<Record, Failure> {
    match timeout(SILENCE, records.next()).await {
        Ok(record) => record?.ok_or_else(vanished),
        Err(_) => Err(Failure::new(
            Exit::PeerVanished,
            "the sender said nothing for five minutes; what came of the file is kept for it",
        )),
    }
}

/// Turns records into orders, up to FINISH.
async fn hear(
    records: &mut RecordReader,
    folder: &Folder,
    orders: mpsc::Sender<Order>,
    bar: &ProgressBar,
) -> Result<(), Failure> {
    let first = heard(records).await?;
    let offer: Offer = first.expect(kind::OFFER)?;
    bar.set_length(offer.bytes);
    let (mut claim, mut displaced) = (None, None);
    loop {
        let record = next(records, claim.as_ref(), &mut displaced).await?;
        let order = match record {
            Record::Data(pieces) => {
                bar.inc(pieces.iter().map(|piece| piece.len() as u64).sum());
                Order::Data(pieces)
            }
            Record::Control(kind::FILE, _) => {
                let head: FileHead = record.expect(kind::FILE)?;
                bar.set_message(harmless(&head.path));
                claim = head.resumable().map(|token| folder.claim(token));
                Order::File(head)
            }
            Record::Control(kind::FROM, _) => {
                let From { offset } = record.expect(kind::FROM)?;
                bar.inc(offset);
                Order::From(offset)
            }
            Record::Control(kind::FOLDER, _) => {
                Order::Folder(record.expect::<FolderHead>(kind::FOLDER)?.path)
            }
            Record::Control(kind::END, hash) => {
                let hash: [u8; HASH_LEN] =
                    hash.try_into().map_err(|_| malformed("a hash of the wrong length"))?;
                Order::End(hash)
            }
            Record::Control(kind::SKIP, _) => Order::Skip,
            Record::Control(kind::FINISH, _) => Order::Finish,
            Record::Control(..) => return Err(malformed("a record of an unknown kind")),
        };
        let last = matches!(order, Order::Finish);
        if orders.send(order).await.is_err() {
            return Err(Failure::file("the storing thread has ended; see the errors before"));
        }
        if last {
            return Ok(());
        }
    }
}

fn vanished() -> Failure {
    Failure::new(Exit::PeerVanished, "the sender ended the transfer in the middle")
}

/// Sends the replies as answers, several at once where several wait. Goes on reporting when the
/// network is gone. Answers whether the last reply came.
async fn answer(
    send: SendStream,
    mut replies: mpsc::Receiver<Reply>,
    bar: ProgressBar,
    output: Output,
) -> Result<(Summary, bool), Failure> {
    let mut summary = Summary::default();
    let mut complete = false;
    let mut batch = Vec::new();
    let mut out = BytesMut::new();
    let mut sent = Ok(());
    while replies.recv_many(&mut batch, REPLIES_WAITING).await > 0 {
        for reply in batch.drain(..) {
            bar.suspend(|| report(&reply, output));
            match reply {
                Reply::Stored { stored, bytes, .. } => {
                    summary.stored += 1;
                    summary.bytes += bytes;
                    put_control(&mut out, kind::STORED, &stored);
                }
                Reply::Refused { refused, .. } => {
                    summary.failed += 1;
                    put_control(&mut out, kind::REFUSED, &refused);
                }
                Reply::Have(have) => put_control(&mut out, kind::HAVE, &have),
                Reply::Complete => {
                    complete = true;
                    let Summary { stored, failed: refused, .. } = summary;
                    put_control(&mut out, kind::COMPLETE, &Complete { stored, refused });
                }
            }
        }
        let answers = out.split().freeze();
        if sent.is_ok() {
            sent = send.write_all(answers).await;
        }
    }
    sent?;
    if complete {
        // The sender wants no more, and closes the connection, once it has heard all: that may be
        // before this side says that this was all.
        let _ = send.finish();
        let _ = send.closed().await;
    } else {
        send.finish()?;
    }
    Ok((summary, complete))
}

fn report(reply: &Reply, output: Output) {
    match reply {
        Reply::Stored { stored, path, bytes } => {
            let Some(hash) = stored.hash else { return };
            let hash = blake3::Hash::from(hash).to_hex();
            output.object(&FileEvent {
                bytes: Some(*bytes),
                blake3: Some(hash.to_string()),
                ..FileEvent::new("received", path)
            });
            let word = output.tinted(Tone::Good, "received");
            output.line(format!("{word} {}", harmless(path)));
        }
        Reply::Refused { refused, path } => {
            let why = Some(refused.why.as_str());
            output.object(&FileEvent { why, ..FileEvent::new("failed", path) });
            output.remark(format!("jsp: {}: {}", harmless(path), refused.why));
        }
        Reply::Have(_) | Reply::Complete => {}
    }
}
