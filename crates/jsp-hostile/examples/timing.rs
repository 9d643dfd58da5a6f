//! Asks a clock whether comparisons of secrets tell how far two values agree, after dudect (Reparaz,
//! Balasch, Verbauwhede 2017): two classes of inputs in random order, and Welch's t between their times.
//! `cargo run --release -p jsp-hostile --example timing [-- --samples N] [--json]`.
//!
//! The first class is almost right (all but the last bit), the second is random. A comparison that ends
//! at the first difference tells them apart at once: the control, which must be noticed.

use jsp_crypto::{
    ClientConfig, CookieKeys, Fingerprint, Handshake, Identity, Level, Output, PathMemory, Rng,
    Role, ServerConfig, ServerIdentity, Suite, SystemRng, TICKET_LEN, TicketContents, TicketKeys,
    VERSION_1, initial_keys, reset_tokens_equal, retry_integrity_tag, verify_retry_integrity_tag,
};
use jsp_hostile::welch::{Failure, T_MAX, largest, measure};
use std::hint::black_box;
use std::sync::Arc;

/// Samples of each comparison by itself; of those that take a handshake each, a fiftieth.
const SAMPLES: usize = 1_000_000;
const HANDSHAKE_SHARE: usize = 50;
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRng.fill(&mut bytes);
    bytes
}

/// `right` but for its last bit, or random in its last `len` bytes.
fn wrong(right: &[u8], len: usize, is_random: bool) -> Vec<u8> {
    let mut bytes = right.to_vec();
    let from = bytes.len() - len;
    if is_random {
        SystemRng.fill(&mut bytes[from..]);
    } else if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes
}

/// Where results go.
struct Report {
    json: bool,
    held: bool,
}

impl Report {
    fn add(&mut self, case: &str, samples: &[jsp_hostile::welch::Sample], is_control: bool) {
        let t = largest(samples);
        let pass = (t.abs() < T_MAX) != is_control;
        self.held &= pass;
        let bar = if is_control { format!("|t| >= {T_MAX}") } else { format!("|t| < {T_MAX}") };
        if self.json {
            println!(
                "{{\"suite\":\"timing\",\"case\":\"{case}\",\"subject\":\"jsp\",\"metric\":\"welch_t\",\
                 \"value\":{t:.3},\"unit\":\"1\",\"bar\":\"{bar}\",\"pass\":{pass}}}"
            );
        } else {
            let word = if pass { "ok" } else { "MISSED" };
            println!("{case:40} {:>9} samples  t = {t:>9.2}  {bar}  {word}", samples.len());
        }
    }
}

/// Ends at the first difference: what must not be done with secrets.
#[inline(never)]
fn leaks(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).all(|(a, b)| black_box(a) == black_box(b))
}

fn tokens(report: &mut Report, samples: usize) -> Result<(), Failure> {
    let token = random::<16>();
    let make = |is_random| Ok(<[u8; 16]>::try_from(wrong(&token, 16, is_random).as_slice())?);
    let times = measure(samples, 64, make, |other| {
        black_box(leaks(&token, &*other));
    })?;
    report.add("control: ends at the first difference", &times, true);
    let times = measure(samples, 64, make, |other| {
        black_box(reset_tokens_equal(&token, other));
    })?;
    report.add("stateless reset token", &times, false);
    let (odcid, retry) = (random::<8>(), random::<64>());
    let packet = [&retry[..], &retry_integrity_tag(1, &odcid, &retry)].concat();
    let make = |is_random| Ok(wrong(&packet, 16, is_random));
    let times = measure(samples, 4, make, |packet| {
        black_box(verify_retry_integrity_tag(1, &odcid, packet));
    })?;
    report.add("integrity of Retry", &times, false);
    let keys = CookieKeys::new(&mut SystemRng);
    let cookie = keys.mint(b"192.0.2.1:1000", &odcid, None, 1000);
    let make = |is_random| Ok(wrong(&cookie, 16, is_random));
    let times = measure(samples, 4, make, |cookie| {
        let _refused = black_box(keys.verify(cookie, b"192.0.2.1:1000", None, 1000));
    })?;
    report.add("cookie", &times, false);
    Ok(())
}

fn ticket(keys: &TicketKeys, server: &Fingerprint) -> Result<[u8; TICKET_LEN], Failure> {
    let contents = TicketContents {
        post_quantum: true,
        suite: Suite::Aes128Gcm,
        issued_ms: 1000,
        lifetime_s: 3600,
        home_shard: 0,
        uid: random(),
        psk: random(),
        params_hash: [0; 8],
        client: None,
        max_early_data: 1000,
        prefix_hash: [0; 4],
        path: PathMemory::default(),
    };
    keys.seal(&contents, server, &mut SystemRng).ok_or_else(|| "a ticket is sealed".into())
}

fn sealed(report: &mut Report, samples: usize) -> Result<(), Failure> {
    let keys = TicketKeys::new(random(), 0);
    let server = Identity::generate(&mut SystemRng).fingerprint();
    let whole = ticket(&keys, &server)?;
    // The tag stands at the end, and the contents before it.
    for (case, len) in [("tag of a ticket", 16), ("contents of a ticket", TICKET_LEN - 16)] {
        let make = |is_random| Ok(wrong(&whole, len, is_random));
        let times = measure(samples, 1, make, |ticket| {
            black_box(keys.open(ticket, &server, 2000).is_ok());
        })?;
        report.add(case, &times, false);
    }
    let keys = initial_keys(Role::Client, VERSION_1, &random::<8>(), None).local;
    let packet = keys.packet;
    let mut whole = vec![7; 100 + 16];
    packet.seal_in_place(1, b"header", &mut whole)?;
    let make = |is_random| Ok(wrong(&whole, 16, is_random));
    let times = measure(samples, 1, make, |bytes| {
        black_box(packet.open_in_place(1, b"header", bytes).is_ok());
    })?;
    report.add("tag of a packet", &times, false);
    let make = |is_random: bool| Ok(if is_random { random() } else { [0; 16] });
    let times = measure(samples, 16, make, |sample| {
        black_box(keys.header.mask(sample));
    })?;
    report.add("mask of a header", &times, false);
    Ok(())
}

/// Both sides of handshakes.
struct Sides {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// The messages that a side wants sent.
fn sent(side: &mut Handshake) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(output) = side.poll() {
        if let Output::Send { message, .. } = output {
            messages.push(message);
        }
    }
    messages
}

impl Sides {
    fn new() -> Self {
        let identity = Arc::new(Identity::generate(&mut SystemRng));
        let client = ClientConfig::new(ServerIdentity::Pinned(identity.fingerprint()));
        Self { client: Arc::new(client), server: Arc::new(ServerConfig::new(identity)) }
    }

    /// A client that waits for the server's flight, the server, and the flight.
    fn begun(&self) -> Result<(Handshake, Handshake, Vec<Vec<u8>>), Failure> {
        let mut client = Handshake::client(self.client.clone(), b"params", &mut SystemRng)?;
        let mut server = Handshake::server(self.server.clone(), b"params".to_vec());
        let hello = sent(&mut client);
        server.read(Level::Initial, hello.first().ok_or("no hello")?, 0, &mut SystemRng)?;
        let flight = sent(&mut server);
        if flight.len() == 2 { Ok((client, server, flight)) } else { Err("another flight".into()) }
    }
}

/// Comparisons inside of the handshake; what one of them refuses serves for nothing more, so that each
/// sample takes a handshake.
fn handshakes(report: &mut Report, samples: usize) -> Result<(), Failure> {
    let sides = Sides::new();
    let make = |is_random| {
        let (mut client, server, flight) = sides.begun()?;
        client.read(Level::Initial, &flight[0], 0, &mut SystemRng)?;
        client.read(Level::Handshake, &flight[1], 0, &mut SystemRng)?;
        let finished = sent(&mut client);
        let finished = wrong(finished.first().ok_or("no FINISHED")?, 32, is_random);
        Ok((server, finished))
    };
    let times = measure(samples, 1, make, |(server, finished)| {
        let _refused = black_box(server.read(Level::Handshake, finished, 0, &mut SystemRng));
    })?;
    report.add("FINISHED of a client", &times, false);
    // A ciphertext of ML-KEM-768, the last 1088 bytes, that is right or is not: implicit rejection must
    // take as long as the secret. Both are candidates until the server's proof.
    let make = |is_changed| {
        let (client, _, mut flight) = sides.begun()?;
        let mut hello = flight.swap_remove(0);
        if is_changed {
            let place = usize::from(u16::from_be_bytes(random())) % 1088;
            let from = hello.len() - 1088;
            hello[from + place] ^= 1;
        }
        Ok((client, hello))
    };
    let times = measure(samples, 1, make, |(client, hello)| {
        let _candidate = black_box(client.read(Level::Initial, hello, 0, &mut SystemRng));
    })?;
    report.add("implicit rejection by ML-KEM", &times, false);
    Ok(())
}

fn run() -> Result<bool, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| arguments.iter().skip_while(|word| *word != name).nth(1);
    let samples = after("--samples").map_or(Ok(SAMPLES), |number| number.parse())?;
    let json = arguments.iter().any(|word| word == "--json");
    let mut report = Report { json, held: true };
    tokens(&mut report, samples)?;
    sealed(&mut report, samples)?;
    handshakes(&mut report, samples / HANDSHAKE_SHARE)?;
    Ok(report.held)
}

fn main() -> std::process::ExitCode {
    match run() {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::from(2)
        }
    }
}
