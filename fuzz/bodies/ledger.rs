//! What must hold of loss recovery, whatever is acknowledged: each packet has arrived once, is held lost
//! once, only true acknowledgements count, and bytes in flight are those of packets without fate.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use jsp_proto::{BareLedger, CloseCode, Fates, Instant};
use jsp_wire::frame::{EcnCounts, write_ack, write_receive_times};
use jsp_wire::{Frame, FrameIter, Payload, Shape, Writer, limits};

/// Steps of one input.
const STEPS_MAX: usize = 400;
/// Left-out numbers that the ledger remembers.
const SKIPPED_MAX: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Outstanding,
    Acked,
    Lost,
    Late,
}

#[derive(Debug)]
struct Packet {
    size: u64,
    eliciting: bool,
    state: State,
}

/// The ledger, and a plain model of it.
struct Play {
    ledger: BareLedger,
    now: Instant,
    packets: BTreeMap<u64, Packet>,
    skipped: VecDeque<u64>,
    end: u64,
    largest_acked: Option<u64>,
    /// Some packets were said to be recovered: for those, arrival and the network's loss differ.
    recovered: BTreeSet<u64>,
    settled: usize,
}

/// The input is a list of steps: packets leave, time passes, ACK frames come. Answers how many packets
/// had a fate.
pub fn acknowledge(data: &[u8]) -> usize {
    let mut play = Play {
        ledger: BareLedger::new(),
        now: Instant::from_nanos(1_000_000_000),
        packets: BTreeMap::new(),
        skipped: VecDeque::new(),
        end: 0,
        largest_acked: None,
        recovered: BTreeSet::new(),
        settled: 0,
    };
    let mut u = Unstructured::new(data);
    for _ in 0..STEPS_MAX {
        if u.is_empty() || play.step(&mut u).is_err() {
            break;
        }
        play.check();
    }
    play.settle_down();
    play.settled
}

impl Play {
    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        match u.int_in_range(0..=9u8)? {
            0..=3 => {
                for _ in 0..u.int_in_range(1..=12u8)? {
                    let size = u.int_in_range(20..=1500u16)?;
                    let eliciting = !u.ratio(1u8, 5)?;
                    self.send(size, eliciting);
                }
            }
            4 => {
                let pn = self.ledger.skip();
                assert_eq!(pn, self.end);
                self.end += 1;
                self.skipped.push_back(pn);
            }
            5 => {
                let ms = u.int_in_range(0..=300u64)?;
                self.pass(Duration::from_millis(ms));
            }
            _ => self.ack(u)?,
        }
        Ok(())
    }

    fn send(&mut self, size: u16, eliciting: bool) {
        let Some(pn) = self.ledger.send(self.now, size, eliciting) else { return };
        assert_eq!(pn, self.end);
        self.end += 1;
        let packet = Packet { size: u64::from(size), eliciting, state: State::Outstanding };
        self.packets.insert(pn, packet);
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        if self.ledger.poll_timeout().is_some_and(|at| at <= self.now) {
            let fates = self.ledger.timeout(self.now);
            assert!(fates.acked.is_empty() && fates.late.is_empty());
            self.note_lost(&fates);
        }
    }

    /// An ACK of some ranges, which may be true or not.
    fn ack(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let back = u.int_in_range(0..=40u64)?;
        let beyond = u64::from(u.ratio(1u8, 40)?);
        let mut high = (self.end + beyond).saturating_sub(1 + back);
        let mut ranges = Vec::new();
        for _ in 0..u.int_in_range(1..=6)? {
            let low = high.saturating_sub(u.int_in_range(0..=12)?);
            ranges.push((low, high));
            let gap = u.int_in_range(0..=6)?;
            let Some(next) = low.checked_sub(2 + gap) else { break };
            high = next;
        }
        let flags: u8 = u.arbitrary()?;
        let delay = u.int_in_range(0..=10_000)?;
        let ecn = (flags & 1 != 0).then_some(EcnCounts { ect0: 1, ect1: 2, ce: back });
        let (times, recovered) = (self.times(u, flags, &ranges)?, marks(u, flags)?);
        let mut buffer = [0; 1024];
        let mut writer = Writer::new(&mut buffer);
        let iter = ranges.iter().copied();
        write_ack(&mut writer, true, delay, iter, ecn, &times, &recovered).expect("there is room");
        let Some(Ok(Frame::Ack(ack))) = FrameIter::new(writer.written()).next() else {
            panic!("an ACK that was written does not read");
        };
        let named = |pn: &u64| ranges.iter().any(|(low, high)| (low..=high).contains(&pn));
        let is_lie =
            ranges[0].1 >= self.end || self.skipped.iter().rev().take(SKIPPED_MAX).any(named);
        match self.ledger.ack(self.now, &ack) {
            Ok(fates) => {
                assert!(!is_lie, "an ACK of what was never sent was taken: {ranges:?}");
                self.note_ack(&ranges, &recovered, &fates);
            }
            Err(error) if error.code == CloseCode::ACK_OF_UNSENT => assert!(is_lie, "{ranges:?}"),
            Err(_) => assert!(!times.is_empty() || !recovered.is_empty()),
        }
        Ok(())
    }

    /// Receive times: true in form, or anything.
    fn times(&self, u: &mut Unstructured<'_>, flags: u8, ranges: &[(u64, u64)]) -> Result<Vec<u8>> {
        match flags >> 1 & 7 {
            0 => {
                let mut buffer = [0; 64];
                let mut writer = Writer::new(&mut buffer);
                let newest = (ranges[0].1, u64::from(u.arbitrary::<u16>()?));
                let _full = write_receive_times(&mut writer, newest, std::iter::empty());
                Ok(writer.written().to_vec())
            }
            1 => {
                let len = u.int_in_range(0..=20usize)?.min(u.len());
                Ok(u.bytes(len)?.to_vec())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn note_ack(&mut self, ranges: &[(u64, u64)], recovered: &[u8], fates: &Fates) {
        let named = |pn: &u64| ranges.iter().any(|(low, high)| (low..=high).contains(&pn));
        if !recovered.is_empty() {
            let all = ranges.iter().flat_map(|(low, high)| *low..=*high);
            self.recovered.extend(all);
        }
        let largest = self.largest_acked.map_or(ranges[0].1, |known| known.max(ranges[0].1));
        self.largest_acked = Some(largest);
        for pn in &fates.acked {
            let packet = self.packets.get_mut(pn).expect("a packet that was sent");
            assert!(named(pn), "{pn} has arrived, but nobody said so");
            assert_eq!(packet.state, State::Outstanding, "{pn} arrived twice");
            packet.state = State::Acked;
            self.settled += 1;
        }
        for pn in &fates.late {
            let packet = self.packets.get_mut(pn).expect("a packet that was sent");
            assert!(named(pn), "{pn} is late, but nobody said so");
            assert_eq!(packet.state, State::Lost, "{pn} is late, but was not lost");
            packet.state = State::Late;
        }
        self.note_lost(fates);
        for (pn, packet) in &self.packets {
            let forgotten = self.recovered.contains(pn) || packet.state != State::Outstanding;
            assert!(!named(pn) || forgotten, "{pn} was acknowledged, and nothing came of it");
        }
    }

    fn note_lost(&mut self, fates: &Fates) {
        for pn in &fates.lost {
            let packet = self.packets.get_mut(pn).expect("a packet that was sent");
            assert_eq!(packet.state, State::Outstanding, "{pn} is lost");
            let largest = self.largest_acked.expect("nothing is lost before something arrives");
            assert!(*pn < largest, "{pn} is lost, but nothing after it has arrived");
            packet.state = State::Lost;
            self.settled += 1;
        }
    }

    fn check(&self) {
        let outstanding = self.packets.iter().filter(|(pn, packet)| {
            packet.eliciting && packet.state == State::Outstanding && !self.recovered.contains(pn)
        });
        let bytes: u64 = outstanding.map(|(_, packet)| packet.size).sum();
        let marked = self.recovered.iter().filter_map(|pn| self.packets.get(pn));
        let unsure: u64 = marked.map(|packet| packet.size).sum();
        let flying = self.ledger.bytes_in_flight();
        assert!((bytes..=bytes + unsure).contains(&flying), "{bytes} {unsure} {flying}");
    }

    /// Once everything is acknowledged nothing is in flight, and no timer is left.
    fn settle_down(&mut self) {
        self.recovered.clear();
        let mut at = 0;
        for _ in 0..3 {
            let Some(pn) = self.ledger.send(self.now, 100, true) else { return };
            self.end = pn + 1;
            self.now = self.now + Duration::from_millis(100);
            let mut ranges = Vec::new();
            for skipped in self.skipped.iter().chain([&self.end]) {
                if *skipped > at {
                    ranges.push((at, *skipped - 1));
                }
                at = *skipped + 1;
            }
            at = pn + 1;
            for part in ranges.chunks(limits::ACK_RANGES_MAX / 2) {
                self.ack_exactly(part);
            }
        }
        assert_eq!(self.ledger.bytes_in_flight(), 0);
        assert_eq!(self.ledger.poll_timeout(), None);
    }

    fn ack_exactly(&mut self, ranges: &[(u64, u64)]) {
        let mut buffer = [0; 4096];
        let mut writer = Writer::new(&mut buffer);
        let iter = ranges.iter().rev().copied();
        write_ack(&mut writer, false, 0, iter, None, &[], &[]).expect("there is room");
        let mut frames = Payload::read(Shape::Ack, writer.written()).expect("an ACK");
        let Some(Ok(Frame::Ack(ack))) = frames.next() else { panic!("an ACK") };
        self.ledger.ack(self.now, &ack).expect("a true ACK");
    }
}

/// Numbers that are said to be recovered, as they come; mostly none.
fn marks(u: &mut Unstructured<'_>, flags: u8) -> Result<Vec<u8>> {
    if flags >> 4 != 0 {
        return Ok(Vec::new());
    }
    let len = u.int_in_range(1..=12usize)?.min(u.len());
    Ok(u.bytes(len)?.to_vec())
}
