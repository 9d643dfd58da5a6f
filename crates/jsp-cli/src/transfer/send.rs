//! Sending: records go out as fast as the network takes them, answers come in beside them.

use std::sync::Arc;

use indicatif::ProgressBar;
use jsp::{Bytes, Connection, SendStream};
use serde::Serialize;
use tokio::sync::mpsc;

use super::Summary;
use super::record::{Complete, Have, Record, RecordReader, Refused, Stored, kind};
use super::resume::Settled;
use super::source::{self, Ledger, Plan, Unreadable};
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone, harmless};
use crate::protocol::{self, malformed};

/// Chunks between the reading thread and the transport.
const CHUNKS_WAITING: usize = 8;

/// What `--json` says about an item.
#[derive(Debug, Serialize)]
pub(crate) struct FileEvent<'a> {
    pub(crate) event: &'static str,
    pub(crate) name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) blake3: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stored_as: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) why: Option<&'a str>,
}

impl<'a> FileEvent<'a> {
    pub(crate) fn new(event: &'static str, name: &'a str) -> Self {
        Self { event, name, bytes: None, blake3: None, stored_as: None, why: None }
    }
}

/// Sends everything of the plan that is not settled, and returns once the receiver has confirmed that
/// it is stored. Problems with single files are reported and counted; the others go on. `plan` and
/// `summary` learn what was settled, also when the transfer breaks off.
pub(crate) async fn send(
    connection: &Connection,
    plan: &mut Plan,
    summary: &mut Summary,
    output: Output,
) -> Result<(), Failure> {
    let (send, recv) = connection.open(protocol::file_stream()).await?.split();
    let bar = output.bytes_bar(plan.bytes());
    let ledger = Arc::new(Ledger::default());
    let (chunks_in, chunks) = mpsc::channel(CHUNKS_WAITING);
    let (problems_in, problems) = mpsc::unbounded_channel();
    let reading = tokio::task::spawn_blocking({
        let (ledger, plan) = (Arc::clone(&ledger), plan.clone());
        move || source::run(&plan, ledger, chunks_in, problems_in)
    });
    let writing = tokio::spawn(write(send, chunks, bar.clone()));
    let settled = &mut plan.settled;
    let mut report = Report { output, bar, ledger, problems, summary, settled };
    let result = report.hear(RecordReader::new(recv)).await;
    report.bar.finish_and_clear();
    if result.is_err() {
        writing.abort();
    }
    // It has ended, or will soon: nobody takes what it reads.
    let _ = writing.await;
    let _ = reading.await;
    report.unreadable();
    let unanswered = report.ledger.unanswered();
    result.map_err(|failure| explain(failure, report.summary.stored, unanswered))
}

async fn write(
    send: SendStream,
    mut chunks: mpsc::Receiver<Bytes>,
    bar: ProgressBar,
) -> Result<(), Failure> {
    while let Some(chunk) = chunks.recv().await {
        let len = chunk.len() as u64;
        send.write_all(chunk).await?;
        bar.inc(len);
    }
    send.finish()?;
    Ok(())
}

fn explain(mut failure: Failure, stored: u64, unanswered: usize) -> Failure {
    if failure.exit == Exit::PeerVanished {
        failure.sentence = format!(
            "the receiver vanished ({}); it has confirmed {stored} files and folders and not the \
             {unanswered} that were under way; run the same command again when it is back, and it \
             goes on where it was",
            failure.sentence
        );
    }
    failure
}

struct Report<'p> {
    output: Output,
    bar: ProgressBar,
    ledger: Arc<Ledger>,
    problems: mpsc::UnboundedReceiver<Unreadable>,
    summary: &'p mut Summary,
    settled: &'p mut Settled,
}

impl Report<'_> {
    /// Hears the receiver's answers until the last.
    async fn hear(&mut self, mut answers: RecordReader) -> Result<(), Failure> {
        loop {
            let record = answers.next().await?;
            self.unreadable();
            match record {
                Some(Record::Control(kind::STORED, content)) => {
                    self.stored(&protocol::decode(&content)?)?;
                }
                Some(Record::Control(kind::REFUSED, content)) => {
                    self.refused(&protocol::decode(&content)?);
                }
                Some(Record::Control(kind::HAVE, content)) => {
                    self.have(protocol::decode(&content)?);
                }
                Some(record @ Record::Control(kind::COMPLETE, _)) => {
                    let _: Complete = record.expect(kind::COMPLETE)?;
                    return match self.ledger.unanswered() {
                        0 => Ok(()),
                        _ => Err(malformed("its last word before its answers")),
                    };
                }
                Some(_) => return Err(malformed("a record at the wrong place")),
                None => {
                    let sentence = "it ended the transfer without confirming it";
                    return Err(Failure::new(Exit::PeerVanished, sentence));
                }
            }
        }
    }

    /// The reading thread decides whether it goes on there.
    fn have(&self, have: Have) {
        let Some(name) = self.ledger.have(have) else { return };
        if have.bytes > 0 {
            let bytes = Some(have.bytes);
            self.output.object(&FileEvent { bytes, ..FileEvent::new("begun", &name) });
            self.bar.inc(have.bytes);
        }
    }

    fn stored(&mut self, stored: &Stored) -> Result<(), Failure> {
        let Some(sent) = self.ledger.answer(stored.item) else {
            return Err(malformed("an answer to what was not asked"));
        };
        if !sent.is_folder && (sent.hash.is_none() || sent.hash != stored.hash) {
            return Err(malformed("a confirmation with another hash"));
        }
        self.settled.answered.insert(sent.name.clone());
        self.summary.stored += 1;
        self.summary.bytes += sent.bytes;
        if sent.is_folder {
            return Ok(());
        }
        let renamed = stored.renamed.as_deref();
        self.output.object(&FileEvent {
            bytes: Some(sent.bytes),
            blake3: sent.hash.map(|hash| blake3::Hash::from(hash).to_hex().to_string()),
            stored_as: renamed,
            ..FileEvent::new("stored", &sent.name)
        });
        self.bar.suspend(|| {
            let note = renamed.map(|name| format!(" as {}", harmless(name))).unwrap_or_default();
            self.output.line(format!(
                "{} {}{note}",
                self.output.tinted(Tone::Good, "stored"),
                harmless(&sent.name)
            ));
        });
        Ok(())
    }

    fn refused(&mut self, refused: &Refused) {
        // A file that this side has skipped is answered too, but was reported already.
        if let Some(sent) = self.ledger.answer(refused.item) {
            self.failed(&sent.name, &format!("the receiver refuses it: {}", refused.why));
            self.settled.answered.insert(sent.name);
        }
    }

    fn unreadable(&mut self) {
        while let Ok(Unreadable { name, why }) = self.problems.try_recv() {
            self.failed(&name, &format!("it cannot be read: {why}"));
            self.settled.unreadable.insert(name);
        }
    }

    fn failed(&mut self, name: &str, why: &str) {
        self.summary.failed += 1;
        self.output.object(&FileEvent { why: Some(why), ..FileEvent::new("failed", name) });
        let text = format!("jsp: {}: {}", harmless(name), harmless(why));
        self.bar.suspend(|| self.output.remark(text));
    }
}
