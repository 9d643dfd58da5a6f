//! Every row that is measured, with counts that fit into the tests.

use std::sync::{Mutex, PoisonError};

use jsp_hostile::row::{Kind, Run, Scale};
use jsp_hostile::rows::{ROWS, guarded};

/// Rows whose figure is not reached; this list may only shrink.
const MISSED: &[u8] = &[];

/// Memory is counted for the whole process: one row at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn hold(number: u8) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let row = ROWS.iter().find(|row| row.number == number).expect("the row");
    let Kind::Measured(measure) = row.kind else { panic!("row {number} is not measured") };
    let figure = guarded(measure, &mut Run::new(Scale::Quick));
    let figure = figure.unwrap_or_else(|panic| panic!("row {number}: {panic}"));
    let wanted = !MISSED.contains(&number);
    assert_eq!(figure.held, wanted, "row {number}, {}: {}", row.attack, figure.measured);
}

macro_rules! rows {
    ($($name:ident: $number:literal),* $(,)?) => {
        $(#[test] fn $name() { hold($number); })*

        #[test]
        fn every_measured_row_has_a_test() {
            let tested = [$($number),*];
            for row in ROWS {
                let is_measured = matches!(row.kind, Kind::Measured(_));
                assert_eq!(is_measured, tested.contains(&row.number), "row {}", row.number);
            }
        }
    };
}

rows! {
    row_01_damaged_hellos: 1,
    row_02_unknown_frames: 2,
    row_03_tiny_datagrams: 3,
    row_04_forged_packets: 4,
    row_05_hello_flood: 5,
    row_06_half_hellos: 6,
    row_07_overlapping_pieces: 7,
    row_08_split_hello_and_retry: 8,
    row_09_amplification: 9,
    row_10_cookies: 10,
    row_11_off_path: 11,
    row_12_man_on_the_side: 12,
    row_13_hello_race: 13,
    row_14_downgrade: 14,
    row_15_transcript: 15,
    row_16_bad_keys: 16,
    row_17_borrowed_identity: 17,
    row_19_any_calls: 19,
    row_20_copies_of_early_data: 20,
    row_21_full_register: 21,
    row_22_stolen_tickets: 22,
    row_23_unsafe_early_data: 23,
    row_24_replays: 24,
    row_25_packet_numbers: 25,
    row_26_numbers_used_up: 26,
    row_28_key_updates: 28,
    // spec-test: CON-69
    row_29_timing: 29,
    row_30_optimistic_acks: 30,
    row_31_acks_of_unsent: 31,
    row_32_ack_bomb: 32,
    row_33_gaps: 33,
    row_34_empty_frames: 34,
    row_35_overruns: 35,
    row_36_stream_churn: 36,
    row_37_id_storm: 37,
    row_38_retire_loop: 38,
    row_39_challenges: 39,
    row_40_forwarded: 40,
    row_41_sizes: 41,
    row_42_resets: 42,
    row_43_half_open: 43,
    row_44_largest_numbers: 44,
    row_46_bombs_of_cbor: 46,
    row_48_repairs: 48,
    row_50_liars_between_peers: 50,
    row_59_storm: 59,
}
