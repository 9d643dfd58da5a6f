//! The receive times of an ACK: when the newest of the packets that it names arrived.
//!
//! ```text
//! stamp 2 | any number of times (distance, earlier)
//! ```
//! `stamp` is when the largest acknowledged packet arrived, in units of 128 microseconds from an
//! origin of the receiver's choice, modulo 2^16. Each pair names the packet `distance + 1` numbers
//! below the one before it, which arrived `earlier` units before that one.

use core::time::Duration;

use crate::cursor::{DecodeError, Full, Reader, Writer};

/// What one unit of a receive time stands for: fine enough for a trend of queues, coarse enough
/// that 16 bits tell 8 s apart.
pub const RECEIVE_TIME_UNIT: Duration = Duration::from_micros(128);

/// Pairs behind the stamp, at most.
pub const RECEIVE_TIMES_MAX: usize = 15;

/// Units that a packet may have arrived before the one named before it, at most: beyond, the
/// 16 bits of a stamp are ambiguous.
const EARLIER_MAX: u64 = 1 << 15;

/// Packets and their receive times, from the largest number down; all of them readable.
#[derive(Clone, Debug)]
pub struct ReceiveTimes<'a> {
    next: Option<(u64, u16)>,
    rest: Reader<'a>,
}

impl<'a> ReceiveTimes<'a> {
    /// Reads the section of an ACK that names `largest`. An empty section holds no times.
    ///
    /// # Errors
    /// When the section is cut short, names a number below 0, goes too far back, or holds more than
    /// [`RECEIVE_TIMES_MAX`] pairs.
    // spec: WIRE-43
    pub fn read(largest: u64, section: &'a [u8]) -> Result<Self, DecodeError> {
        let mut rest = Reader::new(section);
        if rest.is_empty() {
            return Ok(Self { next: None, rest });
        }
        let stamp = rest.u16()?;
        let mut check = rest;
        let (mut at, mut pairs) = ((largest, stamp), 0usize);
        while !check.is_empty() {
            at = step(at, check.varint()?, check.varint()?).ok_or(DecodeError::Invalid)?;
            pairs = pairs.saturating_add(1);
            if pairs > RECEIVE_TIMES_MAX {
                return Err(DecodeError::Invalid);
            }
        }
        Ok(Self { next: Some((largest, stamp)), rest })
    }
}

impl Iterator for ReceiveTimes<'_> {
    type Item = (u64, u16);

    fn next(&mut self) -> Option<(u64, u16)> {
        let at = self.next?;
        self.next = match (self.rest.varint(), self.rest.varint()) {
            (Ok(distance), Ok(earlier)) => step(at, distance, earlier),
            _ => None,
        };
        Some(at)
    }
}

fn step((pn, stamp): (u64, u16), distance: u64, earlier: u64) -> Option<(u64, u16)> {
    let pn = pn.checked_sub(distance)?.checked_sub(1)?;
    let units = u16::try_from(earlier).ok().filter(|_| earlier <= EARLIER_MAX)?;
    Some((pn, stamp.wrapping_sub(units)))
}

/// Writes a section from packets and their receive times, in units since the origin. The first is
/// the largest acknowledged; of the others those are left out that do not have a lower number and
/// an earlier time than the one before.
///
/// # Errors
/// [`Full`] when it does not fit; nothing is to be told then.
pub fn write_receive_times(
    writer: &mut Writer<'_>,
    largest: (u64, u64),
    others: impl Iterator<Item = (u64, u64)>,
) -> Result<(), Full> {
    // The low 16 bits are what is told.
    writer.u16(largest.1 as u16)?;
    let (mut last, mut pairs) = (largest, 0usize);
    for (pn, units) in others {
        let distance = last.0.checked_sub(pn).and_then(|distance| distance.checked_sub(1));
        let earlier = last.1.checked_sub(units).filter(|units| *units <= EARLIER_MAX);
        if let (Some(distance), Some(earlier)) = (distance, earlier)
            && pairs < RECEIVE_TIMES_MAX
        {
            writer.varint(distance)?;
            writer.varint(earlier)?;
            last = (pn, units);
            pairs = pairs.saturating_add(1);
        }
    }
    Ok(())
}
