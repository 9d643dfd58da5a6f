//! What must hold of a receiver of repairs, whatever its peer says: no panic, and no more memory than
//! a constant.

use jsp_proto::BareFec;
use jsp_wire::limits;

/// Symbols that a receiver keeps at most: packets, and repairs that it cannot use yet.
const SYMBOLS_MAX: usize = 160;

/// The input is a list of steps: `kind 1 | step 1 | length 1 | bytes`.
///
/// The number of the next packet is that of the last one plus the step, or less the step with bit 1 of
/// the kind, or the step shifted up by 20 bits with bit 2. With bit 0 of the kind the packet holds a
/// repair with these bytes, else it is these bytes. Answers how many packets were put together.
pub fn repairs(mut input: &[u8]) -> usize {
    let mut fec = BareFec::new();
    let (mut pn, mut highest, mut count) = (0u64, 0u64, 0);
    while let Some(([kind, step, len], rest)) = input.split_first_chunk() {
        let (bytes, rest) = rest.split_at(rest.len().min(usize::from(*len)));
        input = rest;
        let step = u64::from(*step);
        pn = match kind >> 1 & 3 {
            0 => pn.saturating_add(step),
            1 => pn.saturating_sub(step),
            _ => pn.saturating_add(step << 20),
        };
        highest = highest.max(pn);
        if kind & 1 == 1 {
            fec.arrive_repair(pn, bytes);
        } else {
            fec.arrive(pn, bytes);
        }
        while let Some((number, packet)) = fec.recovered() {
            assert!(number < highest, "a repair speaks of packets before it");
            assert!(!packet.is_empty() && packet.len() <= limits::PROTECTED_LEN_MAX);
            count += 1;
        }
        assert!(fec.kept() <= SYMBOLS_MAX * (limits::PROTECTED_LEN_MAX + 2));
    }
    count
}
