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
enum Kind {
    /// TCP
    Tcp,
    /// TLS over TCP
    Tls,
    /// WebSocket over TCP
    Websocket,
}

/// UDP, and streams as coordinators accept them: at their port, and TLS at the port that is open everywhere.
pub(crate) fn any() -> CarrierPolicy {
    let tls = || Carrier::tls(TlsClient::new());
    CarrierPolicy::Race(vec![Carrier::tcp(), tls().port(HTTPS), tls(), Carrier::websocket("/")])
}

impl Carriers {
    /// For a client.
    pub(crate) fn connect(&self, mut builder: Builder) -> Builder {
        if let Some(proxy) = &self.proxy {
            builder = builder.proxy(proxy.clone());
        }
        let Some(kind) = self.carrier else { return builder };
        let carriers = vec![match kind {
            Kind::Tcp => Carrier::tcp(),
            Kind::Tls => Carrier::tls(TlsClient::new()),
            Kind::Websocket => Carrier::websocket("/"),
        }];
        builder.carriers(match self.no_udp {
            true => CarrierPolicy::Only(carriers),
            false => CarrierPolicy::Race(carriers),
        })
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

    /// For who meets others at a coordinator: unless told otherwise, whatever leads there.
    pub(crate) fn meet(&self, builder: Builder) -> Builder {
        if self.carrier.is_some() { self.connect(builder) } else { builder.carriers(any()) }
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
