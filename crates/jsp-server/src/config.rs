//! The configuration file: TOML, every field optional.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jsp::carrier::{TlsError, TlsServer};
use jsp::{Builder, Fingerprint};
use jsp_nat::coordinator::Limits;
use serde::Deserialize;
use thiserror::Error;

/// What a daemon is to do.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The UDP address for everything: connections, STUN and the relay.
    pub bind: String,
    /// Addresses for connections and the relay besides, for clients in networks that block UDP.
    pub streams: StreamsConfig,
    /// The file of the identity; made if it is missing.
    pub identity: PathBuf,
    /// Fingerprints of the clients that may come; all may when there is none.
    pub allow: Vec<String>,
    /// Another server that answers STUN, told to clients.
    pub stun: Option<SocketAddr>,
    /// A TURN server of somebody else, which clients are told of and may use.
    pub turn: Option<TurnConfig>,
    /// Seconds between two lines of counters on standard output; 0 for none.
    pub status_every: u64,
    /// Bounds.
    pub limits: LimitsConfig,
}

/// Where streams are accepted, and what lies over them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamsConfig {
    /// Addresses for TCP.
    pub tcp: Vec<String>,
    /// Addresses for TLS, commonly at port 443.
    pub tls: Vec<String>,
    /// Addresses for WebSocket, as behind a proxy that ends TLS.
    pub websocket: Vec<String>,
    /// Addresses for WebSocket inside TLS.
    pub websocket_tls: Vec<String>,
    /// The chain of certificates for TLS, and its key; one that the daemon signs itself without. Clients take any.
    pub certificate: Option<CertificateConfig>,
}

/// Files in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateConfig {
    /// The chain of certificates.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl StreamsConfig {
    /// Has an endpoint accept them.
    pub(crate) fn listen(&self, mut builder: Builder) -> Result<Builder, ConfigError> {
        let all = |addrs: &[String], builder, listen: &dyn Fn(Builder, &String) -> Builder| {
            addrs.iter().fold(builder, listen)
        };
        builder = all(&self.tcp, builder, &|builder, addr| builder.listen_tcp(addr));
        builder = all(&self.websocket, builder, &|builder, addr| builder.listen_websocket(addr));
        if self.tls.is_empty() && self.websocket_tls.is_empty() {
            return Ok(builder);
        }
        let tls = match &self.certificate {
            Some(files) => TlsServer::from_pem(&read(&files.chain)?, &read(&files.key)?)?,
            None => TlsServer::self_signed(["localhost"])?,
        };
        builder = all(&self.tls, builder, &|builder, addr| builder.listen_tls(addr, tls.clone()));
        Ok(all(&self.websocket_tls, builder, &|builder, addr| {
            builder.listen_websocket_tls(addr, tls.clone())
        }))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(path).map_err(|source| ConfigError::File { path: path.to_owned(), source })
}

/// A TURN server, and how clients prove that they may use it: by a secret that it shares with the daemon
/// (`use-auth-secret` of coturn), from which each gets a user of its own for a while, or all as one user.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TurnConfig {
    /// `host:port`, reached by UDP.
    pub server: String,
    /// The secret.
    pub secret: Option<String>,
    /// How long a user of the secret is good for, in seconds; 0 for a day.
    pub lifetime: u32,
    /// The user, where there is no secret.
    pub user: String,
    /// The user's password.
    pub password: String,
}

impl fmt::Debug for TurnConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Secret and password are nobody's business.
        f.debug_struct("TurnConfig").field("server", &self.server).finish_non_exhaustive()
    }
}

/// What the text of a grant holds at most, in bytes.
const TURN_TEXT_MAX: usize = 255;
const TURN_LIFETIME: u32 = 86_400;

impl TurnConfig {
    /// With all that there must be.
    pub(crate) fn checked(mut self) -> Result<Self, ConfigError> {
        let fits = |text: &String| !text.is_empty() && text.len() <= TURN_TEXT_MAX;
        let has_secret = self.secret.as_ref().is_some_and(|secret| !secret.is_empty());
        let has_user =
            has_secret || (self.secret.is_none() && fits(&self.user) && fits(&self.password));
        if !fits(&self.server) || !has_user {
            return Err(ConfigError::Turn);
        }
        if self.lifetime == 0 {
            self.lifetime = TURN_LIFETIME;
        }
        Ok(self)
    }
}

/// Bounds on what clients have and do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Clients at once.
    pub clients: usize,
    /// Ways that one client has asked for, and as many that were asked for to it; one caller has no more
    /// of the latter than are left for others.
    pub channels_per_client: usize,
    /// Ways that a client may ask for in a minute; those of one network half of them to one peer.
    pub asks_per_minute: u32,
    /// Bytes a second that one client may have forwarded, with 37 for the headers of each datagram.
    pub relay_bytes_per_second: u64,
    /// Bytes a second that all together may have forwarded.
    pub relay_bytes_per_second_total: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            clients: limits.clients_max,
            channels_per_client: limits.channels_max,
            asks_per_minute: limits.asks_per_minute,
            relay_bytes_per_second: limits.relay_rate,
            relay_bytes_per_second_total: limits.relay_rate_total,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            bind: "0.0.0.0:4433".to_owned(),
            streams: StreamsConfig::default(),
            identity: PathBuf::from("jspd.key"),
            allow: Vec::new(),
            stun: None,
            turn: None,
            status_every: 0,
            limits: LimitsConfig::default(),
        }
    }
}

/// Why a configuration is of no use.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is no TOML, or has other fields than it may.
    #[error("{}: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<toml::de::Error>,
    },
    /// The certificate or its key is of no use.
    #[error("the certificate: {0}")]
    Tls(#[from] TlsError),
    /// The TURN server is not told of in full.
    #[error("`turn` needs a server, as host:port, and a secret, or a user and password")]
    Turn,
    /// A fingerprint in it is none.
    #[error("`allow` holds {text}, which is no fingerprint")]
    Fingerprint {
        /// What stands there.
        text: String,
    },
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let file = |source| ConfigError::File { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(file)?;
        let format =
            |source| ConfigError::Format { path: path.to_owned(), source: Box::new(source) };
        toml::from_str(&text).map_err(format)
    }

    /// The clients that may come; `None` for all.
    ///
    /// # Errors
    /// When one of them is no fingerprint.
    pub fn allowed(&self) -> Result<Option<Vec<Fingerprint>>, ConfigError> {
        let parse = |text: &String| {
            text.parse().map_err(|_| ConfigError::Fingerprint { text: text.clone() })
        };
        let allowed: Vec<Fingerprint> = self.allow.iter().map(parse).collect::<Result<_, _>>()?;
        Ok((!allowed.is_empty()).then_some(allowed))
    }

    /// Time between two lines of counters.
    pub fn status_every(&self) -> Option<Duration> {
        (self.status_every > 0).then(|| Duration::from_secs(self.status_every))
    }

    pub(crate) fn limits(&self) -> Limits {
        let LimitsConfig {
            clients,
            channels_per_client,
            asks_per_minute,
            relay_bytes_per_second,
            relay_bytes_per_second_total,
        } = self.limits;
        Limits {
            clients_max: clients,
            channels_max: channels_per_client,
            asks_per_minute,
            relay_rate: relay_bytes_per_second,
            relay_rate_total: relay_bytes_per_second_total,
            ..Limits::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_differs_and_nothing_unknown() {
        assert_eq!(toml::from_str::<Config>("").unwrap(), Config::default());
        let text = "bind = '[::]:1'\nstun = '192.0.2.1:3478'\n[limits]\nclients = 3\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!((config.bind.as_str(), config.limits().clients_max), ("[::]:1", 3));
        assert_eq!(config.limits().channels_max, Limits::default().channels_max);
        let text = "[turn]\nserver = 'turn.example:3478'\nsecret = 'north'\n";
        let turn = toml::from_str::<Config>(text).unwrap().turn.unwrap();
        assert!(!format!("{turn:?}").contains("north"));
        assert_eq!(turn.checked().unwrap().lifetime, TURN_LIFETIME);
        let alone = TurnConfig { server: "turn.example:3478".to_owned(), ..TurnConfig::default() };
        let open = TurnConfig { secret: Some(String::new()), ..alone.clone() };
        assert!(matches!(alone.checked(), Err(ConfigError::Turn)));
        assert!(matches!(open.checked(), Err(ConfigError::Turn)), "an empty secret is none");
        let text = "[streams]\ntcp = ['[::]:4433']\ncertificate = { chain = 'a', key = 'b' }\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!((config.streams.tcp.len(), config.streams.tls.len()), (1, 0));
        let nowhere = StreamsConfig { tls: vec!["[::]:443".to_owned()], ..config.streams };
        let error = nowhere.listen(jsp::Endpoint::builder()).unwrap_err();
        assert!(matches!(&error, ConfigError::File { path, .. } if path == Path::new("a")));
        let error = toml::from_str::<Config>("[limits]\nclient = 3\n").unwrap_err();
        assert!(error.to_string().contains("client"));
        let config = Config { allow: vec!["nobody".to_owned()], ..Config::default() };
        assert!(config.allowed().unwrap_err().to_string().contains("nobody"));
    }
}
