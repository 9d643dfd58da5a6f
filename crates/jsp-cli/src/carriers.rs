//! `--carrier`, `--no-udp` and `--proxy`.

use clap::{Args, ValueEnum};
use jsp::carrier::{TlsClient, TlsServer};
use jsp::{Builder, Carrier, CarrierPolicy, Proxy};

use crate::confidential::Confidential;
use crate::exit::{Exit, Failure};

/// The port of TLS for the web.
const HTTPS: u16 = 443;

/// Ways around networks without UDP.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Carriers {
    /// Connect by this carrier where UDP does not pass; a server accepts it at its port besides
    #[arg(long, global = true, value_name = "CARRIER")]
    carrier: Option<Kind>,
    /// Use the carrier alone
    #[arg(long, global = true, requires = "carrier")]
    no_udp: bool,
    /// Connect through socks5://[USER:PASSWORD@]HOST:PORT, http://... or tor://...
    #[arg(long, global = true, value_name = "PROXY", value_parser = Confidential::<Proxy>::new())]
    proxy: Option<Proxy>,
}

/// What carries datagrams instead of UDP.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// TCP
    Tcp,
    /// TLS over TCP
    Tls,
    /// WebSocket over TCP
    Websocket,
}

/// TLS at the port that is open everywhere.
pub(crate) fn https() -> Carrier {
    Carrier::tls(TlsClient::new()).port(HTTPS)
}

impl Kind {
    const ALL: [Self; 3] = [Self::Tcp, Self::Tls, Self::Websocket];

    /// At the port that is connected to.
    pub(crate) fn carrier(self) -> Carrier {
        match self {
            Self::Tcp => Carrier::tcp(),
            Self::Tls => Carrier::tls(TlsClient::new()),
            Self::Websocket => Carrier::websocket("/"),
        }
    }

    /// As coordinators accept it: at their port, and TLS at its own besides.
    fn at_coordinators(self) -> Vec<Carrier> {
        match self {
            Self::Tls => vec![https(), self.carrier()],
            Self::Tcp | Self::Websocket => vec![self.carrier()],
        }
    }
}

impl Carriers {
    /// For a client.
    pub(crate) fn connect(&self, mut builder: Builder) -> Builder {
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        let Some(kind) = self.carrier else { return builder };
        builder.carriers(self.beside_udp(vec![kind.carrier()]))
    }

    fn beside_udp(&self, carriers: Vec<Carrier>) -> CarrierPolicy {
        match self.no_udp {
            true => CarrierPolicy::Only(carriers),
            false => CarrierPolicy::Race(carriers),
        }
    }

    /// Whether nothing but UDP is asked for.
    pub(crate) fn are_plain(&self) -> bool {
        self.carrier.is_none() && self.proxy.is_none()
    }

    /// Whether a proxy is asked for.
    pub(crate) fn have_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// Whether UDP is not to be used.
    pub(crate) fn forbid_udp(&self) -> bool {
        self.no_udp
    }

    /// For who meets others at a coordinator: unless told otherwise, whatever leads there; of streams alone, through
    /// a proxy.
    pub(crate) fn meet(&self, builder: Builder) -> Builder {
        let carriers = match self.carrier {
            Some(kind) => kind.at_coordinators(),
            None => Kind::ALL.into_iter().flat_map(Kind::at_coordinators).collect(),
        };
        match &self.proxy {
            Some(proxy) => builder.proxy(proxy.clone()).carriers(CarrierPolicy::Only(carriers)),
            None => builder.carriers(self.beside_udp(carriers)),
        }
    }

    /// For a server at `bind`.
    pub(crate) fn listen(&self, builder: Builder, bind: &str) -> Result<Builder, Failure> {
        let builder = if self.no_udp { builder } else { builder.bind(bind) };
        Ok(match self.carrier {
            None => builder,
            Some(Kind::Tcp) => builder.listen_tcp(bind),
            Some(Kind::Websocket) => builder.listen_websocket(bind),
            Some(Kind::Tls) => {
                let tls = TlsServer::self_signed(["localhost"])
                    .map_err(|error| Failure::new(Exit::CannotListen, error.to_string()))?;
                builder.listen_tls(bind, tls)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_to_a_coordinator_is_tried_at_the_port_of_the_web_too() {
        let told = |carriers: Vec<Carrier>| format!("{carriers:?}");
        let both = vec![https(), Carrier::tls(TlsClient::new())];
        assert!(told(both.clone()).contains("443"));
        assert_eq!(told(Kind::Tls.at_coordinators()), told(both));
        assert_eq!(told(Kind::Tcp.at_coordinators()), told(vec![Carrier::tcp()]));
    }
}
