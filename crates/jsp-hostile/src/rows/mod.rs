//! The list of attacks.

mod bystanders;
mod bytes;
mod early;
mod exchange;
mod flow;
mod frames;
mod machine;
mod paths;
mod peers;
mod records;
mod strangers;
mod tickets;
mod timing;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::row::{Figure, Kind, Row, Run};

/// Runs a row; a panic of the machine is an answer too.
///
/// # Errors
/// What the panic said.
pub fn guarded(measure: fn(&mut Run) -> Figure, run: &mut Run) -> Result<Figure, String> {
    catch_unwind(AssertUnwindSafe(|| measure(run))).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default()
    })
}

const fn measured(
    number: u8,
    attack: &'static str,
    wanted: &'static str,
    measure: fn(&mut Run) -> Figure,
) -> Row {
    Row { number, attack, wanted, kind: Kind::Measured(measure) }
}

const fn pending(
    number: u8,
    attack: &'static str,
    wanted: &'static str,
    feature: &'static str,
) -> Row {
    Row { number, attack, wanted, kind: Kind::Pending(feature) }
}

const E2EE: &str = "end-to-end encryption";
const GROUPS: &str = "groups with end-to-end encryption";

/// Every row, in order.
pub const ROWS: &[Row] = &[
    measured(1, "damaged hellos and parameters", "10^8 inputs, no panic", bytes::damaged),
    measured(
        2,
        "frames of unknown type, after decryption",
        "a typed close for each two-byte type",
        frames::unknown_types,
    ),
    measured(
        3,
        "datagrams of no byte and of one",
        "10^6 of them wake nobody and change nothing",
        bytes::tiny,
    ),
    measured(
        4,
        "forged packets in a connection",
        "10^6 change nothing; the next true packet is taken",
        bystanders::forgeries,
    ),
    measured(
        5,
        "hellos at 100,000 a second from made-up sources",
        "16 MiB more at most; 99 % of true clients connect in 3 tries, 95 % in the first",
        strangers::flood,
    ),
    measured(6, "first halves of hellos", "the same memory, to the byte", strangers::halves),
    measured(
        7,
        "pieces that repeat and overlap",
        "joined all the same; 10^6 in a second",
        strangers::pieces,
    ),
    measured(
        8,
        "a hello in two datagrams and a Retry, in every order",
        "all connect; the same Retry byte for byte",
        strangers::split_retry,
    ),
    measured(
        9,
        "strangers that make the server talk",
        "3.000 bytes out for each byte in, at most",
        strangers::amplification,
    ),
    measured(
        10,
        "cookies of others, old, damaged, used",
        "none accepted, and a true one once",
        strangers::cookies,
    ),
    measured(
        11,
        "Initial, Retry, negotiation and resets from off the path",
        "no effect on the handshake",
        bystanders::off_path,
    ),
    measured(
        12,
        "a man on the side answers first, 1 to 4 times",
        "99.9 % of handshakes finish; at most 4 exchanges more",
        bystanders::on_the_side,
    ),
    measured(
        13,
        "somebody else sends the hello first",
        "the client is not affected",
        bystanders::hello_race,
    ),
    measured(
        14,
        "offers stripped, versions and refusals forged, the classical exchange forced",
        "all found out before data",
        exchange::downgrade,
    ),
    measured(
        15,
        "each byte of each message changed",
        "all refused, with one code",
        exchange::transcript,
    ),
    measured(16, "keys of small order or outside their range", "all refused", exchange::bad_keys),
    measured(
        17,
        "another's identity without its key",
        "none accepted",
        exchange::borrowed_identity,
    ),
    Row {
        number: 18,
        attack: "signing with a public key of somebody else",
        wanted: "does not compile",
        kind: Kind::Elsewhere("cargo test -p jsp-crypto --doc identity::Identity"),
    },
    measured(
        19,
        "calls of the application in any order and state",
        "10^6 without a panic",
        machine::any_calls,
    ),
    measured(20, "early data sent again", "each taken once at most", early::copies),
    measured(
        21,
        "a full register, a clock that jumps",
        "early data refused, handshakes go on",
        early::full_register,
    ),
    measured(
        22,
        "tickets stolen, changed, too old",
        "refused, with one answer for all; timing: cargo xtask timing",
        tickets::stolen,
    ),
    measured(
        23,
        "early data where replay does harm",
        "closed with EARLY_DATA, nothing handed out",
        early::unsafe_streams,
    ),
    measured(
        24,
        "packets doubled and out of order",
        "none taken twice, none lost in the window",
        bystanders::replays,
    ),
    measured(
        25,
        "packet numbers at every edge of their window",
        "as the definition says, 10^8 times",
        bytes::numbers,
    ),
    measured(
        26,
        "packet numbers and key phases used up",
        "no number twice under a key; the last one refused",
        machine::numbers_used,
    ),
    Row {
        number: 27,
        attack: "forgeries up to the limit of the cipher",
        wanted: "closed at half the limit, exactly",
        kind: Kind::Elsewhere("cargo test -p jsp-proto --lib keys::tests::forgeries_end"),
    },
    measured(
        28,
        "key updates without pause",
        "one in 3 probe time-outs followed",
        machine::key_updates,
    ),
    measured(
        29,
        "timing of header protection and key phases",
        "|t| < 4.5 in 10^6 samples",
        timing::headers_and_phases,
    ),
    measured(
        30,
        "acknowledgements of what did not arrive",
        "closed within 2 windows",
        flow::optimistic,
    ),
    measured(
        31,
        "acknowledgements of what was never sent",
        "closed at once",
        frames::ack_of_unsent,
    ),
    measured(
        32,
        "acknowledgements full of gaps",
        "256 ranges kept at most, 50 us each",
        flow::ack_bomb,
    ),
    measured(
        33,
        "a stream in pieces of one byte with gaps",
        "1.25 windows of memory, or closed",
        flow::gaps,
    ),
    measured(
        34,
        "frames that bring nothing",
        "1000 in a round trip, then closed",
        flow::empty_frames,
    ),
    measured(
        35,
        "beyond credit, sizes that change, offsets near 2^62",
        "a typed close each",
        frames::overruns,
    ),
    measured(
        36,
        "streams beyond the limit, opened and reset",
        "no more state than configured; closed after 10 limits in 10 s",
        flow::stream_churn,
    ),
    measured(37, "connection ids poured in", "16 retirements wait, then closed", frames::id_storm),
    measured(
        38,
        "ids retired that were not issued",
        "closed; one answer each, no loop",
        frames::retire_loop,
    ),
    measured(39, "path challenges poured in", "8 answers wait, the latest win", paths::challenges),
    measured(
        40,
        "packets forwarded from other addresses",
        "3 bytes out for one in; back home in 3 probe time-outs; 10,000 addresses: none adopted, memory flat",
        paths::forwarded,
    ),
    measured(41, "lies about packet sizes", "never below 1200 bytes", paths::sizes),
    measured(
        42,
        "resets as an oracle, resets in a loop",
        "no loop; no reset for an id in use",
        paths::resets,
    ),
    measured(
        43,
        "10,000 handshakes that stop half-way",
        "4 kB each, for 10 s",
        strangers::half_open,
    ),
    measured(
        44,
        "the largest numbers in every field of time",
        "no panic",
        machine::largest_numbers,
    ),
    pending(45, "bombs of compression", "output as declared, at most", "compression"),
    measured(46, "bombs of CBOR", "twice the input, 5 ms", records::bombs),
    pending(47, "secrets guessed through compression", "off where secrets mix", "compression"),
    measured(
        48,
        "forged repairs, impossible members",
        "authenticated; memory bounded",
        flow::repairs,
    ),
    pending(49, "a relay that reorders, replays, splices", "no forgery accepted", E2EE),
    measured(
        50,
        "a coordinator that lies about addresses and keys",
        "no peer without its key; 3 times the bytes of the liar",
        peers::liars,
    ),
    pending(51, "a ratchet turned 2^31 steps", "1000 keys a chain at most", E2EE),
    pending(52, "a member removed, a key stolen", "cannot read after the next commit", GROUPS),
    pending(
        53,
        "commits replayed, forked, ghosts added",
        "all honest members agree, or know",
        GROUPS,
    ),
    pending(54, "one-time keys used up", "a bound for each who asks", E2EE),
    Row {
        number: 55,
        attack: "short codes guessed by a man in the middle",
        wanted: "one guess in 2^20 or more, then the code is void",
        kind: Kind::Elsewhere("cargo test -p jsp-cli --test code a_code_allows_one_guess"),
    },
    Row {
        number: 56,
        attack: "sizes and times analysed",
        wanted: "1.5 times chance at 25 % more bytes",
        kind: Kind::Missed("cargo xtask privacy; SECURITY.md says why"),
    },
    pending(57, "races in shared tables", "every order of 3 threads", "drivers that share tables"),
    Row {
        number: 58,
        attack: "secrets left in memory",
        wanted: "no key of a full handshake in a server's memory, 10 s after its connection",
        kind: Kind::Elsewhere("cargo xtask interop"),
    },
    measured(
        59,
        "30 % lost, 25 % doubled, 1 % of packets damaged",
        "99.9 % of handshakes within 10 s",
        machine::storm,
    ),
    Row {
        number: 60,
        attack: "dependencies with known weaknesses",
        wanted: "none",
        kind: Kind::Elsewhere("cargo xtask test --only deny"),
    },
];
