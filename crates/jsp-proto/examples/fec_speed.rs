//! What forward error correction costs: encoding, decoding, and the share of a core that both take of
//! a stream of 1000 packets a second with 25 % of repair and 5 % of loss.
//!
//! `cargo run --release -p jsp-proto --example fec_speed`

use std::hint::black_box;
use std::time::{Duration, Instant};

use jsp_proto::BareFec;

/// Bytes of a packet.
const LEN: usize = 1200;
/// Packets of a window.
const WINDOW: u64 = 64;
/// Packets of it that are lost.
const LOST: u64 = 16;
/// How often each is measured.
const ROUNDS: u64 = 2000;

fn packet(pn: u64) -> Vec<u8> {
    (0..LEN as u64).map(|n| (pn * 31 + n * 7 + n / 251) as u8).collect()
}

fn main() {
    let packets: Vec<Vec<u8>> = (0..WINDOW).map(packet).collect();
    encoding(&packets);
    decoding(&packets);
    stream(&packets);
}

fn encoding(packets: &[Vec<u8>]) {
    let mut times = Vec::new();
    let mut room = [0; 1500];
    for _ in 0..ROUNDS {
        let mut fec = BareFec::new();
        for (pn, packet) in packets.iter().enumerate() {
            fec.send(pn as u64, packet);
        }
        // The first makes room for the sums.
        fec.repair(WINDOW, &mut room);
        let start = Instant::now();
        black_box(fec.repair(WINDOW + 1, &mut room));
        times.push(start.elapsed());
    }
    let quarter = median(&mut times) / (WINDOW as u32 / 4);
    println!("encode: {quarter:?} for a repair of {LEN} B and 4 members (at most 1 us)");
}

fn decoding(packets: &[Vec<u8>]) {
    let (mut steps, mut wholes) = (Vec::new(), Vec::new());
    let repairs: Vec<Vec<u8>> = (0..LOST).map(|n| repair(packets, WINDOW + n)).collect();
    for round in 0..ROUNDS / 4 {
        let mut fec = BareFec::new();
        for (pn, packet) in packets.iter().enumerate() {
            if !is_lost(pn as u64, round) {
                fec.arrive(pn as u64, packet);
            }
        }
        let mut whole = Duration::ZERO;
        for (n, repair) in repairs.iter().enumerate() {
            let start = Instant::now();
            fec.arrive_repair(WINDOW + n as u64, repair);
            steps.push(start.elapsed());
            whole += start.elapsed();
        }
        wholes.push(whole);
        let recovered = std::iter::from_fn(|| fec.recovered());
        assert_eq!(recovered.filter(|(pn, bytes)| packets[*pn as usize] == *bytes).count(), 16);
    }
    steps.sort_unstable();
    println!(
        "decode, window {WINDOW}, {LOST} unknown: a repair p50 {:?} p99 {:?} (at most 100 us), all {:?}",
        steps[steps.len() / 2],
        steps[steps.len() * 99 / 100],
        median(&mut wholes),
    );
}

/// Sixteen of 64, another sixteen each round.
fn is_lost(pn: u64, round: u64) -> bool {
    (pn * 7 + round * 3) % WINDOW < LOST
}

/// A repair that covers all packets, for the packet `pn`.
fn repair(packets: &[Vec<u8>], pn: u64) -> Vec<u8> {
    let mut fec = BareFec::new();
    for (pn, packet) in packets.iter().enumerate() {
        fec.send(pn as u64, packet);
    }
    let mut room = [0; 1500];
    fec.repair(pn, &mut room).expect("one was earned").to_vec()
}

/// Both ends of a stream: a repair for each four packets, bursts of three losses in 60 packets.
fn stream(packets: &[Vec<u8>]) {
    const PERIOD: u64 = 60;
    let mut fec = BareFec::new();
    let mut room = [0; 1500];
    let (mut pn, mut recovered) = (0u64, 0u64);
    let mut periods = Vec::new();
    for _ in 0..ROUNDS / 5 {
        let start = Instant::now();
        for n in 0..PERIOD {
            let packet = &packets[(n % WINDOW) as usize];
            fec.send(pn, packet);
            if n >= 3 {
                fec.arrive(pn, packet);
            }
            pn += 1;
            if n % 4 == 3
                && let Some(content) = fec.repair(pn, &mut room)
            {
                fec.arrive_repair(pn, content);
                pn += 1;
            }
            while fec.recovered().is_some() {
                recovered += 1;
            }
        }
        periods.push(start.elapsed());
    }
    let lost = periods.len() as u64 * 3;
    let share = median(&mut periods).as_secs_f64() / (PERIOD as f64 / 1000.0) * 100.0;
    println!(
        "1000 packets a second, 25 % repair, 5 % loss: {share:.2} % of a core (at most 3 %), {recovered} of {lost} recovered"
    );
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}
