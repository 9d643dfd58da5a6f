//! Whom to connect to: `host:port`, or `jsp://fingerprint@host:port`.

use std::fmt;
use std::str::FromStr;

use jsp::Fingerprint;

/// The port where none is given.
pub(crate) const DEFAULT_PORT: u16 = 4433;

/// A host, and its fingerprint where the user gave one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    /// Name or address, with brackets around an IPv6 address, and port.
    pub(crate) authority: String,
    /// Who must answer.
    pub(crate) fingerprint: Option<Fingerprint>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            Some(("jsp", rest)) => rest.strip_suffix('/').unwrap_or(rest),
            Some((scheme, _)) => return Err(format!("{scheme}:// is not jsp://")),
            None => text,
        };
        let (fingerprint, host) = match rest.rsplit_once('@') {
            Some((fingerprint, host)) => {
                let parsed = fingerprint.parse::<Fingerprint>().map_err(|e| e.to_string())?;
                (Some(parsed), host)
            }
            None => (None, rest),
        };
        Ok(Self { authority: authority(host)?, fingerprint })
    }
}

/// The host with its port, which has a default.
fn authority(host: &str) -> Result<String, String> {
    if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/') {
        return Err("a host is a name or an address, as example.org:4433 or [::1]:4433".into());
    }
    if host.parse::<std::net::Ipv6Addr>().is_ok() {
        return Ok(format!("[{host}]:{DEFAULT_PORT}"));
    }
    let after_brackets = host.rsplit_once(']').map_or(host, |(_, after)| after);
    match after_brackets.rsplit_once(':') {
        None => Ok(format!("{host}:{DEFAULT_PORT}")),
        Some((_, port)) => match port.parse::<u16>() {
            Ok(1..) => Ok(host.to_owned()),
            _ => Err(format!("{port} is no port; ports are 1 to 65535")),
        },
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fingerprint {
            Some(fingerprint) => write!(f, "jsp://{fingerprint}@{}", self.authority),
            None => f.write_str(&self.authority),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_with_and_without_port() {
        let authority = |text: &str| text.parse::<Target>().map(|target| target.authority);
        assert_eq!(authority("example.org").unwrap(), "example.org:4433");
        assert_eq!(authority("example.org:1").unwrap(), "example.org:1");
        assert_eq!(authority("::1").unwrap(), "[::1]:4433");
        assert_eq!(authority("[::1]").unwrap(), "[::1]:4433");
        assert_eq!(authority("[::1]:9").unwrap(), "[::1]:9");
        assert_eq!(authority("jsp://a.b:7/").unwrap(), "a.b:7");
        for bad in ["", "a b", "a:0", "a:99999", "a:b", "http://a", "jsp://", "a/b:1"] {
            assert!(authority(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_uri_carries_the_fingerprint() {
        let fingerprint = Fingerprint::from_bytes([7; 32]);
        let text = format!("jsp://{fingerprint}@[::1]:4433");
        let target: Target = text.parse().unwrap();
        assert_eq!(target.fingerprint, Some(fingerprint));
        assert_eq!(target.to_string(), text);
        assert!("jsp://jsp1abc@host:1".parse::<Target>().unwrap_err().contains("fingerprint"));
    }
}
