//! Measures sealing, opening and the handshake on this machine, one line of
//! JSON for each figure: `cargo run --release -p jsp-crypto --example speed`.
//! Every figure is the best of several rounds, in nanoseconds or microseconds.

use jsp_crypto::{
    Backend, ClientConfig, CookieKeys, DataKeys, Handshake, Identity, Keys, Level, Output,
    ServerConfig, ServerIdentity, Suite, SystemRng, TAG_LEN,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

type Failure = Box<dyn std::error::Error>;

const ROUNDS: usize = 7;

fn print(subject: &str, metric: &str, value: f64, unit: &str) {
    println!(
        "{{\"suite\": \"crypto-speed\", \"case\": \"best of {ROUNDS}\", \"subject\": \
         \"{subject}\", \"metric\": \"{metric}\", \"value\": {value:.3}, \"unit\": \"{unit}\"}}"
    );
}

fn best(mut round: impl FnMut() -> Result<Duration, Failure>) -> Result<Duration, Failure> {
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        best = best.min(round()?);
    }
    Ok(best)
}

struct Sides {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Sides {
    fn new(suite: Suite, backend: Backend) -> Self {
        let identity = Arc::new(Identity::generate(&mut SystemRng));
        let mut client = ClientConfig::new(ServerIdentity::Pinned(identity.fingerprint()));
        (client.backend, client.suites) = (backend, vec![suite]);
        let mut server = ServerConfig::new(identity);
        (server.backend, server.suites) = (backend, vec![suite]);
        Self { client: Arc::new(client), server: Arc::new(server) }
    }

    /// One handshake: `(client time, server time, client data keys, server data keys)`.
    fn shake(&self) -> Result<(Duration, Duration, Keys, Keys), Failure> {
        let rng = &mut SystemRng;
        let params = vec![7; 64];
        let start = Instant::now();
        let mut client = Handshake::client(self.client.clone(), &params, rng)?;
        let hello = messages(&mut client).0.remove(0);
        let mut of_client = start.elapsed();
        let start = Instant::now();
        let mut server = Handshake::server(self.server.clone(), params);
        server.read(Level::Initial, &hello, 0, rng)?;
        let (flight, _) = messages(&mut server);
        let mut of_server = start.elapsed();
        let start = Instant::now();
        client.read(Level::Initial, &flight[0], 0, rng)?;
        client.read(Level::Handshake, &flight[1], 0, rng)?;
        let (finished, client_keys) = messages(&mut client);
        of_client += start.elapsed();
        let start = Instant::now();
        server.read(Level::Handshake, &finished[0], 0, rng)?;
        let (_, server_keys) = messages(&mut server);
        of_server += start.elapsed();
        let take = |keys: Option<DataKeys>| keys.and_then(|mut keys| keys.take_keys());
        let missing = "the handshake gave no data keys";
        let client_keys = take(client_keys).ok_or(missing)?;
        let server_keys = take(server_keys).ok_or(missing)?;
        Ok((of_client, of_server, client_keys, server_keys))
    }
}

fn messages(handshake: &mut Handshake) -> (Vec<Vec<u8>>, Option<DataKeys>) {
    let (mut sent, mut keys) = (Vec::new(), None);
    while let Some(output) = handshake.poll() {
        match output {
            Output::Send { message, .. } => sent.push(message),
            Output::DataKeys(data) => keys = Some(data),
            _ => {}
        }
    }
    (sent, keys)
}

fn packets(name: &str, local: &Keys, remote: &Keys) -> Result<(), Failure> {
    const COUNT: u64 = 20_000;
    let per_packet = |time: Duration| time.as_nanos() as f64 / COUNT as f64;
    for size in [64, 1452] {
        let mut buf = vec![0x5a; size + TAG_LEN];
        let seal = best(|| {
            let start = Instant::now();
            for pn in 0..COUNT {
                local.local.packet.seal_in_place(pn, b"12345678", &mut buf)?;
            }
            Ok(start.elapsed())
        })?;
        let mut sealed = vec![0x5a; size + TAG_LEN];
        local.local.packet.seal_in_place(0, b"12345678", &mut sealed)?;
        let open = best(|| {
            let start = Instant::now();
            for _ in 0..COUNT {
                buf.copy_from_slice(&sealed);
                remote.remote.packet.open_in_place(0, b"12345678", &mut buf)?;
            }
            Ok(start.elapsed())
        })?;
        print(name, &format!("seal_{size}"), per_packet(seal), "ns");
        print(name, &format!("open_{size}"), per_packet(open), "ns");
    }
    let mask = best(|| {
        let start = Instant::now();
        let mut sample = [0; 16];
        for _ in 0..COUNT {
            sample[0] = local.local.header.mask(&sample)[0];
        }
        std::hint::black_box(sample);
        Ok(start.elapsed())
    })?;
    print(name, "header_mask", per_packet(mask), "ns");
    Ok(())
}

fn main() -> Result<(), Failure> {
    let backends: &[(&str, Backend)] = &[
        #[cfg(feature = "native")]
        ("native", Backend::Native),
        #[cfg(feature = "portable")]
        ("portable", Backend::Portable),
    ];
    for (backend_name, backend) in backends {
        for suite in Suite::ALL {
            let sides = Sides::new(suite, *backend);
            let (_, _, client, server) = sides.shake()?;
            packets(&format!("jsp {backend_name} {suite:?}"), &client, &server)?;
        }
        let sides = Sides::new(Suite::Aes128Gcm, *backend);
        let (mut client, mut server) = (Duration::MAX, Duration::MAX);
        for _ in 0..300 {
            let (of_client, of_server, ..) = sides.shake()?;
            (client, server) = (client.min(of_client), server.min(of_server));
        }
        let subject = format!("jsp {backend_name}");
        print(&subject, "handshake_client", client.as_nanos() as f64 / 1000.0, "us");
        print(&subject, "handshake_server", server.as_nanos() as f64 / 1000.0, "us");
    }
    let keys = CookieKeys::new(&mut SystemRng);
    let cookie = keys.mint(b"123456", b"12345678", Some(&[1; 32]), 100);
    let time = best(|| {
        let start = Instant::now();
        for _ in 0..20_000 {
            keys.verify(&cookie, b"123456", Some(&[1; 32]), 100)?;
        }
        Ok(start.elapsed())
    })?;
    print("jsp", "cookie_verify", time.as_nanos() as f64 / 20_000.0, "ns");
    Ok(())
}
