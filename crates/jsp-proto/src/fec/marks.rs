//! Which of the latest packets were recovered: what ACKs say of them.

use jsp_wire::frame::write_recovered;
use jsp_wire::{Writer, limits};

/// Recovered packet numbers, as bits below the highest.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecoveredMarks {
    /// The number that bit 0 stands for.
    top: u64,
    bits: u128,
}

impl RecoveredMarks {
    /// The packet was recovered. Marks that are too far below the highest are forgotten.
    pub(crate) fn set(&mut self, pn: u64) {
        if pn > self.top {
            let up = u32::try_from(pn.saturating_sub(self.top)).unwrap_or(u32::MAX);
            self.bits = self.bits.checked_shl(up).unwrap_or(0);
            self.top = pn;
        }
        self.bits |= self.bit(pn);
    }

    /// The packet came after all.
    pub(crate) fn clear(&mut self, pn: u64) {
        self.bits &= !self.bit(pn);
    }

    /// The packet was recovered, and has not come since.
    pub(crate) fn has(&self, pn: u64) -> bool {
        self.bits & self.bit(pn) != 0
    }

    fn bit(&self, pn: u64) -> u128 {
        let below = self.top.checked_sub(pn).and_then(|below| u32::try_from(below).ok());
        below.and_then(|below| 1u128.checked_shl(below)).unwrap_or(0)
    }

    /// The section of an ACK whose largest number is `largest`, in `room`: marks at most
    /// [`limits::REPAIR_REACH`] below that.
    // spec: FEC-7
    pub(crate) fn section<'a>(&self, largest: u64, room: &'a mut [u8]) -> &'a [u8] {
        let lowest = largest.saturating_sub(limits::REPAIR_REACH as u64);
        let numbers = (0..u128::BITS)
            .filter(|below| self.bits >> below & 1 == 1)
            .filter_map(|below| self.top.checked_sub(u64::from(below)))
            .filter(|pn| (lowest..=largest).contains(pn));
        let mut writer = Writer::new(room);
        write_recovered(&mut writer, largest, numbers);
        let len = writer.len();
        room.get(..len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use jsp_wire::frame::RecoveredNumbers;

    use super::*;

    fn told(marks: &RecoveredMarks, largest: u64) -> Vec<u64> {
        let mut room = [0; 128];
        RecoveredNumbers::read(marks.section(largest, &mut room), largest).unwrap().collect()
    }

    #[test]
    /// spec-test: FEC-7
    fn the_latest_are_told_until_they_are_old_or_come_after_all() {
        let mut marks = RecoveredMarks::default();
        assert!(told(&marks, 1000).is_empty());
        for pn in [1000, 990, 1005, 1006] {
            marks.set(pn);
        }
        assert_eq!(told(&marks, 1010), [1006, 1005, 1000, 990]);
        marks.clear(1005);
        assert_eq!(told(&marks, 1010), [1006, 1000, 990]);
        assert_eq!(told(&marks, 1120), [1006, 1000]);
        marks.set(5000);
        assert_eq!(told(&marks, 5000), [5000]);
        marks.set(3);
        assert_eq!(told(&marks, 5000), [5000]);
        for pn in 6000..6200 {
            marks.set(pn);
        }
        assert_eq!(told(&marks, 6200).len(), limits::RECOVERED_NUMBERS_MAX);
    }
}
