//! Proxies: somebody else opens the connection.

mod http;
mod socks5;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::str::FromStr;

use jsp_crypto::{Rng, SystemRng};
use thiserror::Error;

use crate::carrier::stream::{BoxStream, StreamNetwork};
use crate::remote::{Remote, Target};

pub(crate) use socks5::{UdpHeader, strip_udp_header};

/// A proxy between this side and its servers: [`Builder::proxy`](crate::Builder::proxy).
///
/// Text forms are `socks5://user:password@host:port`, `http://host:port` and `tor://host:port`; in
/// user and password, `%40` stands for `@`, and so on.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    kind: ProxyKind,
    server: String,
    credentials: Option<(String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ProxyKind {
    Socks5,
    Http,
    Tor,
}

/// A text names no proxy. It is not told: whatever it is, there may be a password in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this is no proxy: {0}; write socks5://host:port, http://host:port or tor://host:port")]
pub struct ProxyError(&'static str);

/// A datagram relay at a proxy (RFC 1928, section 7).
pub(crate) struct UdpRelay {
    /// Says nothing, but the relay lives as long as it does.
    pub(crate) control: BoxStream,
    /// Where datagrams go.
    pub(crate) relay: SocketAddr,
}

impl Proxy {
    /// A SOCKS5 proxy (RFC 1928) at `server`, `host:port`. Datagrams go through it where it relays
    /// them, and streams in any case. It resolves the names of servers.
    pub fn socks5(server: impl ToString) -> Self {
        Self { kind: ProxyKind::Socks5, server: server.to_string(), credentials: None }
    }

    /// An HTTP proxy at `server` that knows CONNECT (RFC 9110, section 9.3.6). It carries streams
    /// alone, and resolves names itself.
    pub fn http(server: impl ToString) -> Self {
        Self { kind: ProxyKind::Http, server: server.to_string(), credentials: None }
    }

    /// Tor's SOCKS port at `server`, such as `127.0.0.1:9050`. It carries streams alone; names are
    /// resolved inside of Tor and nowhere else, and each connection takes a circuit of its own
    /// (`IsolateSOCKSAuth`), so that two of them cannot be told to come from one client.
    pub fn tor(server: impl ToString) -> Self {
        Self { kind: ProxyKind::Tor, server: server.to_string(), credentials: None }
    }

    /// User and password, each of 1 to 255 bytes. Tor takes none.
    pub fn credentials(mut self, user: impl ToString, password: impl ToString) -> Self {
        self.credentials = Some((user.to_string(), password.to_string()));
        self
    }

    /// True when it can carry datagrams.
    pub(crate) fn relays_datagrams(&self) -> bool {
        self.kind == ProxyKind::Socks5
    }

    /// A stream to the proxy itself.
    async fn reach(&self, network: &dyn StreamNetwork) -> io::Result<(BoxStream, SocketAddr)> {
        let mut failure = None;
        for addr in Remote::from(&self.server).resolve().await? {
            match network.connect(addr).await {
                Ok(stream) => return Ok((stream, addr)),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| io::ErrorKind::NotFound.into()))
    }

    /// A stream to `target` through the proxy, and the proxy's address.
    pub(crate) async fn connect(
        &self,
        network: &dyn StreamNetwork,
        target: &Target,
    ) -> io::Result<(BoxStream, SocketAddr)> {
        let (mut stream, proxy) = self.reach(network).await?;
        match self.kind {
            ProxyKind::Http => {
                http::connect(&mut stream, target, self.credentials.as_ref()).await?;
            }
            ProxyKind::Socks5 => {
                socks5::connect(&mut stream, target, self.credentials.as_ref()).await?;
            }
            // spec: CAR-24
            ProxyKind::Tor => {
                socks5::connect(&mut stream, target, Some(&fresh_credentials())).await?;
            }
        }
        Ok((stream, proxy))
    }

    /// A relay for datagrams.
    pub(crate) async fn associate(&self, network: &dyn StreamNetwork) -> io::Result<UdpRelay> {
        let (mut control, proxy) = self.reach(network).await?;
        let relay = socks5::associate(&mut control, proxy, self.credentials.as_ref()).await?;
        Ok(UdpRelay { control, relay })
    }
}

/// Names that nobody has used before: Tor gives each a circuit of its own.
fn fresh_credentials() -> (String, String) {
    let mut random = [0; 16];
    SystemRng.fill(&mut random);
    let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    (name, "jsp".to_owned())
}

impl FromStr for Proxy {
    type Err = ProxyError;

    fn from_str(text: &str) -> Result<Self, ProxyError> {
        let refuse = |reason| move || ProxyError(reason);
        let (scheme, rest) = text.split_once("://").ok_or_else(refuse("it has no scheme"))?;
        let kind = match scheme {
            "socks5" | "socks5h" => ProxyKind::Socks5,
            "http" => ProxyKind::Http,
            "tor" => ProxyKind::Tor,
            _ => return Err(ProxyError("its scheme is unknown")),
        };
        let rest = rest.trim_end_matches('/');
        let (login, server) = match rest.rsplit_once('@') {
            Some((login, server)) => (Some(login), server),
            None => (None, rest),
        };
        let has_port = server.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        if !has_port {
            return Err(ProxyError("it has no host, or no port"));
        }
        let credentials = match login {
            Some(login) => {
                let no_password = refuse("it has a user without a password");
                let (user, password) = login.split_once(':').ok_or_else(no_password)?;
                let texts = decode(user).zip(decode(password));
                Some(
                    texts
                        .ok_or_else(refuse("its user or password has a % that encodes nothing"))?,
                )
            }
            None => None,
        };
        Ok(Self { kind, server: server.to_owned(), credentials })
    }
}

/// Undoes percent encoding.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digits = [bytes.next()?, bytes.next()?];
        let digits = std::str::from_utf8(&digits).ok()?;
        out.push(u8::from_str_radix(digits, 16).ok()?);
    }
    String::from_utf8(out).ok()
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Credentials are nobody's business, also where they do not belong.
        let server = self.server.rsplit('@').next().unwrap_or_default();
        f.debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("server", &server)
            .finish_non_exhaustive()
    }
}

fn refused(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionRefused, message.into())
}

fn malformed(message: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_name_proxies() {
        let proxy: Proxy = "socks5://ann:p%40ss%3a@proxy.example:1080".parse().unwrap();
        assert_eq!(proxy, Proxy::socks5("proxy.example:1080").credentials("ann", "p@ss:"));
        assert!(!format!("{proxy:?}").contains("p@ss"));
        assert_eq!("http://[::1]:3128/".parse::<Proxy>().unwrap(), Proxy::http("[::1]:3128"));
        assert_eq!("tor://127.0.0.1:9050".parse::<Proxy>().unwrap(), Proxy::tor("127.0.0.1:9050"));
        for text in
            ["", "socks5://", "socks4://a:1", "socks5://host", "http://a:b@c", "http://%zz:a@c:1"]
        {
            assert!(text.parse::<Proxy>().is_err(), "{text}");
        }
    }

    #[test]
    fn neither_user_nor_password_is_printed() {
        let texts = [
            "ann:secret@proxy.example:1080",
            "ftp://ann:secret@proxy.example:1080",
            "ann://secret",
            "socks5://ann:secret",
            "socks5://ann:secret@proxy.example",
            "socks5://ann:secret@proxy.example:1080/path",
            "socks5://ann:sec@ret@proxy.example:0",
            "socks5://ann:secret%zz@proxy.example:1080",
            "socks5://ann@secret@proxy.example:1080",
        ];
        let is_told =
            |printed: &str| ["ann", "sec", "ret@"].into_iter().any(|part| printed.contains(part));
        for text in texts {
            let error = text.parse::<Proxy>().unwrap_err();
            let printed = format!("{error} {error:?} {error:#?}");
            assert!(!is_told(&printed), "{text}: {printed}");
        }
        let misplaced = Proxy::socks5("ann:secret@proxy.example:1080");
        let right = Proxy::http("proxy.example:1").credentials("ann", "secret");
        for proxy in [misplaced, right] {
            let printed = format!("{proxy:?} {proxy:#?}");
            assert!(!is_told(&printed) && printed.contains("proxy.example"), "{printed}");
        }
    }

    #[test]
    /// spec-test: CAR-24
    fn circuits_differ() {
        assert_ne!(fresh_credentials(), fresh_credentials());
    }
}
