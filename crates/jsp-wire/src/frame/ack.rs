//! The ACK frame.
//!
//! ```text
//! type | largest | delay | further ranges n | first run | n x (gap, run)
//!      | [ECT(0), ECT(1), CE]  | [length, receive times] | [length, recovered]
//! ```
//! Runs and gaps count packets as in RFC 9000, section 19.3; the delay is in units of 8
//! microseconds.

use super::kind;
use crate::cursor::{DecodeError, Full, Reader, Writer};
use crate::limits;
use crate::varint;

const ECN: u64 = 1;
const TIMES: u64 = 2;
const RECOVERED: u64 = 4;

/// How many packets arrived with each mark, since the start of the path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EcnCounts {
    /// Marked ECT(0).
    pub ect0: u64,
    /// Marked ECT(1).
    pub ect1: u64,
    /// Marked CE: the network is congested.
    pub ce: u64,
}

/// Which packets arrived. Equal are those that say the same, however their numbers are written.
#[derive(Clone, Copy, Debug)]
pub struct Ack<'a> {
    /// The highest packet number received.
    pub largest: u64,
    /// How long the receiver held the acknowledgement back, in units of 8 microseconds.
    pub delay_8us: u64,
    first_run: u64,
    further: &'a [u8],
    /// Counts of ECN marks.
    pub ecn: Option<EcnCounts>,
    /// Receive times: [`super::ReceiveTimes`] reads them where they are negotiated.
    pub times: &'a [u8],
    /// Which of the packets were recovered by FEC, opaque here.
    pub recovered: &'a [u8],
}

impl PartialEq for Ack<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.delay_8us == other.delay_8us
            && self.ecn == other.ecn
            && self.times == other.times
            && self.recovered == other.recovered
            && self.ranges().eq(other.ranges())
    }
}

impl Eq for Ack<'_> {}

impl<'a> Ack<'a> {
    // spec: WIRE-18
    pub(super) fn read(reader: &mut Reader<'a>, kind: u64) -> Result<Self, DecodeError> {
        let largest = reader.varint()?;
        let delay_8us = reader.varint()?;
        let further_count = reader.varint()?;
        if further_count >= limits::ACK_RANGES_MAX as u64 {
            return Err(DecodeError::Invalid);
        }
        let first_run = reader.varint()?;
        let mut low = largest.checked_sub(first_run).ok_or(DecodeError::Invalid)?;
        let before = reader.rest();
        for _ in 0..further_count {
            let (gap, run) = (reader.varint()?, reader.varint()?);
            low = step(low, gap, run).ok_or(DecodeError::Invalid)?.0;
        }
        let further_len = before.len().saturating_sub(reader.remaining());
        let further = before.get(..further_len).ok_or(DecodeError::Truncated)?;
        let ecn = if kind & ECN == 0 {
            None
        } else {
            Some(EcnCounts { ect0: reader.varint()?, ect1: reader.varint()?, ce: reader.varint()? })
        };
        let times = if kind & TIMES == 0 { &[] } else { reader.length_prefixed()? };
        let recovered = if kind & RECOVERED == 0 { &[] } else { reader.length_prefixed()? };
        Ok(Self { largest, delay_8us, first_run, further, ecn, times, recovered })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let ranges = self.ranges();
        write_ack(writer, true, self.delay_8us, ranges, self.ecn, self.times, self.recovered)
    }

    /// The ranges from the highest down, each as (lowest, highest).
    pub const fn ranges(&self) -> AckRanges<'a> {
        AckRanges {
            next: Some((self.largest.saturating_sub(self.first_run), self.largest)),
            further: Reader::new(self.further),
        }
    }
}

/// The next range below one that starts at `low`: answers (lowest, highest).
fn step(low: u64, gap: u64, run: u64) -> Option<(u64, u64)> {
    let high = low.checked_sub(gap)?.checked_sub(2)?;
    Some((high.checked_sub(run)?, high))
}

/// Iterates over the ranges of an [`Ack`].
#[derive(Clone, Debug)]
pub struct AckRanges<'a> {
    next: Option<(u64, u64)>,
    further: Reader<'a>,
}

impl Iterator for AckRanges<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        let range = self.next?;
        self.next = match (self.further.varint(), self.further.varint()) {
            (Ok(gap), Ok(run)) => step(range.0, gap, run),
            _ => None,
        };
        Some(range)
    }
}

/// Writes an ACK from ranges that descend and do not touch; at most as many as fit into the writer
/// and the limit of the format, and none from the first on that does not keep that order. With
/// `typed` false the type is left out, as shape ack wants it, which has no counts and sections.
///
/// # Errors
/// [`Full`] when not even the first range fits, when there is none, or when there are counts or
/// sections without a type that tells of them.
pub fn write_ack(
    writer: &mut Writer<'_>,
    typed: bool,
    delay_8us: u64,
    ranges: impl Iterator<Item = (u64, u64)> + Clone,
    ecn: Option<EcnCounts>,
    times: &[u8],
    recovered: &[u8],
) -> Result<(), Full> {
    let is_bare = ecn.is_none() && times.is_empty() && recovered.is_empty();
    if !typed && !is_bare {
        return Err(Full);
    }
    let mut list = ranges.clone();
    let (mut low, largest) = list.next().ok_or(Full)?;
    let first_run = largest.checked_sub(low).ok_or(Full)?;
    let delay_8us = delay_8us.min(varint::MAX);
    let fixed_len = usize::from(typed)
        .saturating_add(varint::len(largest))
        .saturating_add(varint::len(delay_8us))
        .saturating_add(varint::len(first_run))
        .saturating_add(section_len(ecn, times, recovered));
    let room = writer.remaining().saturating_sub(fixed_len);
    let (mut count, mut spent) = (0u64, 0usize);
    for range in list.take(limits::ACK_RANGES_MAX.saturating_sub(1)) {
        let Some((gap, run)) = gap_and_run(low, range) else { break };
        let with_this = spent.saturating_add(varint::len(gap)).saturating_add(varint::len(run));
        let count_with_this = count.saturating_add(1);
        if with_this.saturating_add(varint::len(count_with_this)) > room {
            break;
        }
        (count, spent, low) = (count_with_this, with_this, range.0);
    }
    writer.whole(|writer| {
        if typed {
            let mut bits = kind::ACK;
            bits |= if ecn.is_some() { ECN } else { 0 };
            bits |= if times.is_empty() { 0 } else { TIMES };
            bits |= if recovered.is_empty() { 0 } else { RECOVERED };
            writer.varint(bits)?;
        }
        writer.varint(largest)?;
        writer.varint(delay_8us)?;
        writer.varint(count)?;
        writer.varint(first_run)?;
        let mut list = ranges;
        let (mut low, _) = list.next().ok_or(Full)?;
        for range in list.take(count as usize) {
            let (gap, run) = gap_and_run(low, range).ok_or(Full)?;
            writer.varint(gap)?;
            writer.varint(run)?;
            low = range.0;
        }
        write_sections(writer, ecn, times, recovered)
    })
}

/// How the format tells a range below one that starts at `low`; `None` for one that is not below
/// it, or touches it: the inverse of [`step`].
fn gap_and_run(low: u64, (next_low, next_high): (u64, u64)) -> Option<(u64, u64)> {
    let gap = low.checked_sub(next_high)?.checked_sub(2)?;
    Some((gap, next_high.checked_sub(next_low)?))
}

/// Bytes of what stands behind the ranges.
fn section_len(ecn: Option<EcnCounts>, times: &[u8], recovered: &[u8]) -> usize {
    let counts = ecn.map_or([0; 3], |ecn| [ecn.ect0, ecn.ect1, ecn.ce].map(varint::len));
    let sections = [times, recovered].map(|section| match section.len() {
        0 => 0,
        len => varint::len(len as u64).saturating_add(len),
    });
    counts.into_iter().chain(sections).fold(0, usize::saturating_add)
}

fn write_sections(
    writer: &mut Writer<'_>,
    ecn: Option<EcnCounts>,
    times: &[u8],
    recovered: &[u8],
) -> Result<(), Full> {
    if let Some(counts) = ecn {
        writer.varint(counts.ect0)?;
        writer.varint(counts.ect1)?;
        writer.varint(counts.ce)?;
    }
    for section in [times, recovered] {
        if !section.is_empty() {
            writer.length_prefixed(section)?;
        }
    }
    Ok(())
}
