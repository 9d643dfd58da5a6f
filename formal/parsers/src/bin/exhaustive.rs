//! All inputs up to a few bytes through each parser: none panics, and what is read is written back.
//!
//! The checks are those of the fuzz targets. One line of JSON is printed for each parser; a planted
//! parser that panics on a single input must be found.
#![forbid(unsafe_code)]

use std::panic::catch_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use jsp_wire::{Reader, Writer, varint};

#[path = "../../../../fuzz/bodies/wire.rs"]
#[allow(dead_code, unreachable_pub, reason = "the fuzz targets use the rest")]
mod bodies;

/// Threads that share the first bytes.
const THREADS: usize = 2;

/// Takes an input, and panics when a rule is broken.
type Parser = fn(&[u8]);

/// What is read is written in the shortest form and read again as the same value.
fn integer(data: &[u8]) {
    let mut reader = Reader::new(data);
    let Ok(value) = varint::read(&mut reader) else { return };
    let mut room = [0; 8];
    let mut writer = Writer::new(&mut room);
    varint::write(&mut writer, value).expect("what was read can be written");
    assert!(writer.len() <= data.len() - reader.remaining());
    assert_eq!(varint::read(&mut Reader::new(writer.written())), Ok(value));
}

/// A parser with a fault that one input in 2^24 shows.
fn planted(data: &[u8]) {
    assert_ne!(data, [0x51, 0x3a, 0x07]);
}

/// A shape's number and its payload: one byte more than the other parsers are given.
fn shapes(data: &[u8]) {
    let mut input = [0; 8];
    let Some(room) = input.get_mut(1..=data.len()) else { return };
    room.copy_from_slice(data);
    for shape in 0..bodies::SHAPES.len() as u8 {
        input[0] = shape;
        bodies::shapes(&input[..=data.len()]);
    }
}

/// Gives `parser` every input of up to `len_max` bytes; answers how many, and how many panicked.
fn run(parser: Parser, len_max: u32) -> (u64, u64) {
    let panics = AtomicU64::new(0);
    let count = AtomicU64::new(0);
    // `data` counts in big-endian; a panic costs its input alone.
    let range = |len: usize, from: u64, to: u64| {
        let mut next = from;
        while next < to {
            let at = AtomicU64::new(next);
            let done = catch_unwind(|| {
                for value in next..to {
                    at.store(value, Ordering::Relaxed);
                    parser(&value.to_be_bytes()[8 - len..]);
                }
            });
            if done.is_ok() {
                break;
            }
            panics.fetch_add(1, Ordering::Relaxed);
            next = at.load(Ordering::Relaxed) + 1;
        }
        count.fetch_add(to - from, Ordering::Relaxed);
    };
    for len in 0..=len_max {
        let total = 1u64 << (8 * len);
        let share = total.div_ceil(THREADS as u64);
        std::thread::scope(|scope| {
            for thread in 0..THREADS as u64 {
                let range = &range;
                let (from, to) = (thread * share, ((thread + 1) * share).min(total));
                scope.spawn(move || range(len as usize, from, to));
            }
        });
    }
    (count.into_inner(), panics.into_inner())
}

/// `[BYTES]`: the longest inputs, 3 bytes if not told.
fn main() -> std::process::ExitCode {
    let len_max = std::env::args().nth(1).and_then(|arg| arg.parse().ok()).unwrap_or(3).min(4);
    std::panic::set_hook(Box::new(|_| {}));
    let parsers: [(&str, Parser); 5] = [
        ("header", bodies::header),
        ("frames", bodies::frames),
        ("shapes", shapes),
        ("params", bodies::params),
        ("varint", integer),
    ];
    let mut good = true;
    let mut check = |name: &str, mutant: &str, parser: Parser| {
        let start = Instant::now();
        let (inputs, panics) = run(parser, len_max);
        let expected = if mutant.is_empty() { "holds" } else { "breaks" };
        let found = if panics == 0 { "holds" } else { "breaks" };
        let seconds = start.elapsed().as_secs_f64();
        println!(
            r#"{{"model":"all inputs to {len_max} bytes: {name}","mutant":"{mutant}","expected":"{expected}","found":"{found}","inputs":{inputs},"panics":{panics},"seconds":{seconds}}}"#
        );
        good &= expected == found;
    };
    for (name, parser) in parsers {
        check(name, "", parser);
    }
    if len_max >= 3 {
        check("frames", "one input panics", planted);
    }
    if good { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}
