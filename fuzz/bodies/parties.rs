//! Who takes part in a handshake that is fuzzed: the same identities, and the same random bytes, each
//! time.

use std::sync::{Arc, OnceLock};

use jsp_crypto::{ClientConfig, Identity, Rng, ServerConfig, ServerIdentity};

/// Random bytes that are the same each time.
pub struct Seeded(pub u64);

impl Rng for Seeded {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            *byte = self.0 as u8;
        }
    }
}

/// A server, and a client that holds its pin.
pub struct Parties {
    pub client: Arc<ClientConfig>,
    pub server: Arc<ServerConfig>,
}

/// The same ones each time.
pub fn parties() -> &'static Parties {
    static PARTIES: OnceLock<Parties> = OnceLock::new();
    PARTIES.get_or_init(|| {
        let identity = Arc::new(Identity::generate(&mut Seeded(0x1234_5678_9abc_def1)));
        let server = Arc::new(ServerConfig::new(identity));
        let pinned = ServerIdentity::Pinned(server.fingerprint());
        Parties { client: Arc::new(ClientConfig::new(pinned)), server }
    })
}
