//! The batch under construction or on its way to the link.

use std::io;

use jsp_proto::Batch;

use crate::link::{Links, Transmit};

/// Bytes of one batch: what one send call with segmentation offload takes at most.
pub(super) const BATCH_LEN: usize = 65_507;

/// A batch, and how much of it the link has taken.
pub(crate) struct Outbox {
    pub(crate) batch: Batch,
    sent: usize,
}

impl Outbox {
    pub(crate) fn new(link: &Links) -> Self {
        Self { batch: Batch::new(BATCH_LEN, link.segments_max()), sent: 0 }
    }

    /// True when nothing waits for the link.
    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Gives the link what there is. An error of kind `WouldBlock` leaves the rest here.
    pub(crate) fn send(&mut self, link: &Links) -> io::Result<()> {
        while let Some(route) = self.batch.route() {
            let contents = self.batch.contents().get(self.sent..).unwrap_or_default();
            if contents.is_empty() {
                self.sent = 0;
                self.batch.clear();
                continue;
            }
            let segment_len = self.batch.segment_len().max(1);
            let transmit = Transmit { route, ecn: self.batch.ecn(), contents, segment_len };
            match link.try_send(&transmit)? {
                0 => return Err(io::ErrorKind::WouldBlock.into()),
                sent => self.sent += sent,
            }
        }
        Ok(())
    }
}
