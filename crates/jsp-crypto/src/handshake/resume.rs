//! Resumption: what a ticket's secret gives before the server has answered, and
//! how a server checks the ticket of a hello.

use super::config::{ClientAuth, ServerConfig};
use super::messages::{ClientHello, ext};
use super::secrets::early_secret;
use super::{codec::Reader, server};
use crate::packet::DirectionKeys;
use crate::primitives::{Backend, MacKey};
use crate::schedule::Schedule;
use crate::secret::{Digest, constant_time_eq};
use crate::suite::Suite;
use crate::ticket::{PathMemory, TicketContents, TicketError, TicketKeys};
use alloc::vec::Vec;

/// The secrets that follow from a ticket alone.
pub(super) struct EarlySecrets {
    schedule: Schedule,
    suite: Suite,
    secret: Digest,
}

impl EarlySecrets {
    pub(super) fn new(backend: Backend, suite: Suite, version: u32, psk: &[u8; 32]) -> Self {
        let schedule = Schedule::new(backend, suite, version);
        let secret = early_secret(&schedule, Some(psk));
        Self { schedule, suite, secret }
    }

    pub(super) fn secret(&self) -> &Digest {
        &self.secret
    }

    /// The proof that the hello's sender holds the ticket's secret, over the
    /// hello up to the proof itself.
    // spec: HS-67
    pub(super) fn binder(&self, start: &[u8]) -> Digest {
        let key = self.schedule.expand(&self.secret, "jsp1 client binder", &[]);
        let hash = self.schedule.hash(&[start]);
        MacKey::new(self.schedule.alg, key.as_bytes()).mac(&[hash.as_bytes()])
    }

    /// What hides the ticket's age from those who could recognise it by that.
    // spec: HS-68
    pub(super) fn age_mask(&self, random: &[u8; 32]) -> u32 {
        let mut mask = [0; 4];
        self.schedule.expander(&self.secret).fill("jsp1 ticket age", random, &mut mask);
        u32::from_be_bytes(mask)
    }

    /// The keys of 0-RTT packets, for the whole hello.
    // spec: HS-69
    pub(super) fn packet_keys(&self, hello: &[u8]) -> DirectionKeys {
        let hash = self.schedule.hash(&[hello]);
        let secret = self.schedule.expand(&self.secret, "jsp1 client early", hash.as_bytes());
        self.schedule.direction(self.suite, &secret)
    }
}

/// The TICKET extension, taken apart.
struct Offered<'a> {
    early: bool,
    masked_age: u32,
    ticket: &'a [u8],
}

impl<'a> Offered<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let early = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self { early, masked_age: reader.u32()?, ticket: reader.rest() })
    }
}

/// The body of a TICKET extension.
pub(super) fn offer(early: bool, masked_age: u32, ticket: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(ticket.len().saturating_add(5));
    body.push(u8::from(early));
    body.extend_from_slice(&masked_age.to_be_bytes());
    body.extend_from_slice(ticket);
    body
}

/// A ticket that a server has opened, and whose holder has sent the hello.
pub struct Resumption {
    pub(super) contents: TicketContents,
    wants_early: bool,
    hello_ms: u64,
    protocol: Option<Vec<u8>>,
    /// Whether the early data are taken; the caller decides, `false` at first.
    pub accept_early: bool,
}

/// What a full hello names: a ticket with which its client was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusedTicket {
    /// The ticket's number.
    pub uid: [u8; 16],
    /// The server that it came from, among those that take each other's.
    pub home_shard: u16,
    /// The latest time that a hello with it can tell, in milliseconds since 1970 UTC.
    pub hello_ms_max: u64,
}

impl Resumption {
    /// Checks the ticket of a whole client hello at `now_ms` (milliseconds since
    /// 1970 UTC); `None` when it has none, or is no hello at all.
    ///
    /// # Errors
    /// Whatever is wrong: the client is to send a full hello.
    // spec: HS-70
    pub fn check(
        keys: &TicketKeys,
        config: &ServerConfig,
        hello: &[u8],
        now_ms: u64,
    ) -> Result<Option<Self>, TicketError> {
        let Ok(hello_parts) = ClientHello::read(hello) else { return Ok(None) };
        let Some(offered) = hello_parts.extensions.get(ext::TICKET) else { return Ok(None) };
        let offered = Offered::read(offered).ok_or(TicketError::Invalid)?;
        let contents = keys.open(offered.ticket, &config.fingerprint(), now_ms)?;
        let version = server::choose_version(config, &hello_parts).ok_or(TicketError::Invalid)?;
        let secrets = EarlySecrets::new(config.backend, contents.suite, version, &contents.psk);
        let (start, binder) = hello_parts.binder.ok_or(TicketError::Invalid)?;
        if !constant_time_eq(secrets.binder(start).as_bytes(), binder) {
            return Err(TicketError::Invalid);
        }
        let offers = hello_parts.core.suites.contains(&contents.suite.id());
        if !offers || !config.suites.contains(&contents.suite) || !admits(config, &contents) {
            return Err(TicketError::Invalid);
        }
        let age = offered.masked_age ^ secrets.age_mask(&hello_parts.core.random);
        let hello_ms = contents.issued_ms.saturating_add(u64::from(age));
        // spec: HS-209
        if hello_ms > contents.ends_ms() {
            return Err(TicketError::Expired);
        }
        let protocols = hello_parts.extensions.get(ext::APPLICATION_PROTOCOLS);
        let protocol =
            server::choose_protocol(config, protocols).map_err(|_| TicketError::Invalid)?;
        Ok(Some(Self {
            wants_early: offered.early,
            hello_ms,
            contents,
            protocol,
            accept_early: false,
        }))
    }

    /// The ticket of a full hello whose client was refused with it before,
    /// where this server can open it. It may be over, or not have begun by a
    /// clock that was set back.
    // spec: HS-76
    pub fn refused(
        keys: &TicketKeys,
        config: &ServerConfig,
        hello: &[u8],
    ) -> Option<RefusedTicket> {
        let hello = ClientHello::read(hello).ok()?;
        let ticket = hello.extensions.get(ext::REFUSED_TICKET)?;
        let contents = keys.unseal(ticket, &config.fingerprint())?;
        let hello_ms_max = contents.ends_ms();
        Some(RefusedTicket { uid: contents.uid, home_shard: contents.home_shard, hello_ms_max })
    }

    /// Whether the client has early data.
    pub fn wants_early(&self) -> bool {
        self.wants_early
    }

    /// The ticket's number.
    pub fn uid(&self) -> &[u8; 16] {
        &self.contents.uid
    }

    /// When the hello was made: by the server's clock when the ticket was
    /// issued and the client's since then, in milliseconds since 1970 UTC.
    pub fn hello_ms(&self) -> u64 {
        self.hello_ms
    }

    /// The shard that the ticket's early data belong to.
    pub fn home_shard(&self) -> u16 {
        self.contents.home_shard
    }

    /// Hash of what early data rely on, as it was when the ticket was issued.
    pub fn params_hash(&self) -> &[u8; 8] {
        &self.contents.params_hash
    }

    /// The application protocol that this connection will have.
    pub fn protocol(&self) -> Option<&[u8]> {
        self.protocol.as_deref()
    }

    /// What the path was like, if the client's network still has this hash.
    pub fn path_memory(&self, prefix_hash: &[u8; 4]) -> Option<PathMemory> {
        (self.contents.prefix_hash == *prefix_hash).then_some(self.contents.path)
    }

    /// The most early data that may come, in bytes of 0-RTT packets.
    pub fn max_early_data(&self) -> u32 {
        self.contents.max_early_data
    }
}

/// Whether the ticket's client may still come in: who is refused by signature
/// is refused by ticket.
fn admits(config: &ServerConfig, contents: &TicketContents) -> bool {
    match (&config.client_auth, &contents.client) {
        (ClientAuth::None, client) => client.is_none(),
        (ClientAuth::Optional(_), None) => true,
        (ClientAuth::Required(_), None) => false,
        (ClientAuth::Optional(verifier) | ClientAuth::Required(verifier), Some(client)) => {
            verifier.verify(client).is_ok()
        }
    }
}
