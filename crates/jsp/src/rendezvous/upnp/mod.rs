//! A port that a router maps by UPnP: WANIPConnection 1 and 2, and WANPPPConnection, of an Internet Gateway Device.
//!
//! The router alone is asked, at its own address and not by multicast: nobody else in the network is told, nor can
//! anybody answer in its place, and what it names as its services is at its own address too. Every answer is bounded in
//! time and length.

mod description;
mod http;
mod xml;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use thiserror::Error;
use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout, timeout_at};

use description::{Place, Service, services};
use xml::Document;

/// Where routers wait for searches (UPnP Device Architecture 1.1, section 1.3.2).
const PORT: u16 = 1900;
/// What is searched for.
const DEVICES: [&str; 2] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
];
/// So often, for datagrams are lost; and the wait for answers after each.
const SEARCHES: u32 = 3;
const SEARCH_WAIT: Duration = Duration::from_millis(700);
/// So many descriptions are asked for: a router may describe itself by several.
const PLACES_MAX: usize = 4;
/// All that it takes until a port is mapped takes no longer, nor does giving it back.
const MAP_WAIT: Duration = Duration::from_secs(10);
const RELEASE_WAIT: Duration = Duration::from_secs(1);
/// Ports that are asked for where the same one is not free.
const PORTS_MAX: u16 = 8;
/// The error of a port that is not free (WANIPConnection:1, section 2.4.16).
const CONFLICT: u16 = 718;
/// What the mapping is called in the router's list.
const NAME: &str = "JetStreamProto";

/// Why it maps no port.
#[derive(Debug, Error)]
pub(super) enum UpnpError {
    #[error("no answer by UPnP")]
    Silent,
    #[error("error {0} by UPnP")]
    Refused(u16),
    #[error("what it answers by UPnP is not understood")]
    Malformed,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// A port of a router.
#[derive(Debug)]
pub(super) struct Igd {
    service: Service,
    /// Where it leads.
    own: SocketAddrV4,
    outer_port: u16,
    lifetime: u32,
}

impl Igd {
    /// Has a router map a port to `own` for `lifetime` seconds: the same one, if it is free, else one of those after it.
    /// Routers that map for ever alone refuse that: nobody would take it back after a crash.
    pub(super) async fn map(
        router: Ipv4Addr,
        own: SocketAddrV4,
        lifetime: u32,
    ) -> Result<Self, UpnpError> {
        let mapped = async {
            let mut why = UpnpError::Silent;
            for service in search(router, *own.ip()).await? {
                let igd = Self { service, own, outer_port: own.port(), lifetime };
                match igd.add_any().await {
                    Ok(igd) => return Ok(igd),
                    Err(error) => why = error,
                }
            }
            Err(why)
        };
        timeout(MAP_WAIT, mapped).await.unwrap_or(Err(UpnpError::Silent))
    }

    async fn add_any(mut self) -> Result<Self, UpnpError> {
        let mut left = PORTS_MAX;
        loop {
            match self.add().await {
                Ok(()) => return Ok(self),
                Err(UpnpError::Refused(CONFLICT)) if left > 0 => left -= 1,
                Err(error) => return Err(error),
            }
            self.outer_port = self.outer_port.checked_add(1).unwrap_or(1024);
        }
    }

    async fn add(&self) -> Result<(), UpnpError> {
        let (outer, own) = (self.outer_port.to_string(), self.own.port().to_string());
        let (host, lifetime) = (self.own.ip().to_string(), self.lifetime.to_string());
        let arguments = [
            ("NewRemoteHost", ""),
            ("NewExternalPort", &outer),
            ("NewProtocol", "UDP"),
            ("NewInternalPort", &own),
            ("NewInternalClient", &host),
            ("NewEnabled", "1"),
            ("NewPortMappingDescription", NAME),
            ("NewLeaseDuration", &lifetime),
        ];
        self.service.call("AddPortMapping", &arguments).await.map(drop)
    }

    /// The address that leads here.
    pub(super) async fn outer_address(&self) -> Result<SocketAddr, UpnpError> {
        let answer = self.service.call("GetExternalIPAddress", &[]).await?;
        let ip = answer.value("NewExternalIPAddress").and_then(|ip| ip.parse::<Ipv4Addr>().ok());
        // A router whose own line is down has none.
        let ip = ip.filter(|ip| !ip.is_unspecified()).ok_or(UpnpError::Malformed)?;
        Ok((ip, self.outer_port).into())
    }

    /// Asks for the same port once more.
    pub(super) async fn renew(&self) -> bool {
        self.add().await.is_ok()
    }

    pub(super) fn lifetime(&self) -> u32 {
        self.lifetime
    }

    /// Gives the port back.
    pub(super) async fn release(self) {
        let outer = self.outer_port.to_string();
        let arguments =
            [("NewRemoteHost", ""), ("NewExternalPort", &outer), ("NewProtocol", "UDP")];
        // One that the router does not take back ends by itself.
        let _ = timeout(RELEASE_WAIT, self.service.call("DeletePortMapping", &arguments)).await;
    }
}

/// Asks a router for its services that map ports.
async fn search(router: Ipv4Addr, own: Ipv4Addr) -> Result<Vec<Service>, UpnpError> {
    // Not connected: there are routers that answer from another port.
    let socket = UdpSocket::bind((own, 0)).await?;
    let (mut tried, mut buffer) = (Vec::new(), [0; 1500]);
    for _ in 0..SEARCHES {
        for device in DEVICES {
            let search = format!(
                "M-SEARCH * HTTP/1.1\r\nHOST: {router}:{PORT}\r\nMAN: \"ssdp:discover\"\r\n\
                 MX: 1\r\nST: {device}\r\n\r\n"
            );
            socket.send_to(search.as_bytes(), (router, PORT)).await?;
        }
        let end = Instant::now() + SEARCH_WAIT;
        while let Ok(came) = timeout_at(end, socket.recv_from(&mut buffer)).await {
            let (len, from) = came?;
            let answer = buffer.get(..len).filter(|_| from.ip() == router);
            let place = answer.and_then(|answer| Place::of_answer(answer, router));
            let Some(place) = place.filter(|place| !tried.contains(place)) else { continue };
            if let Ok(services) = describe(&place).await
                && !services.is_empty()
            {
                return Ok(services);
            }
            tried.push(place);
            if tried.len() == PLACES_MAX {
                return Err(UpnpError::Malformed);
            }
        }
    }
    Err(if tried.is_empty() { UpnpError::Silent } else { UpnpError::Malformed })
}

async fn describe(place: &Place) -> Result<Vec<Service>, UpnpError> {
    let Place { server, path } = place;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n");
    let answer = http::ask(*server, &request).await?;
    if answer.status != 200 {
        return Err(UpnpError::Malformed);
    }
    Ok(services(&answer.body, place))
}

impl Service {
    /// Has the router do something (UPnP Device Architecture 1.1, section 3.1.1): what it answers.
    async fn call(&self, action: &str, arguments: &[(&str, &str)]) -> Result<Document, UpnpError> {
        let Self { kind, control: Place { server, path } } = self;
        let arguments: String =
            arguments.iter().map(|(name, value)| format!("<{name}>{value}</{name}>")).collect();
        let body = format!(
            "<?xml version=\"1.0\"?>\r\n\
             <s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body>\
             <u:{action} xmlns:u=\"{kind}\">{arguments}</u:{action}></s:Body></s:Envelope>\r\n"
        );
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\
             Content-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: \"{kind}#{action}\"\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let answer = http::ask(*server, &(head + &body)).await?;
        let document = Document::new(&answer.body);
        if answer.status != 200 {
            let code = document.value("errorCode").and_then(|code| code.parse().ok());
            return Err(code.map_or(UpnpError::Malformed, UpnpError::Refused));
        }
        // Whoever answers everything with a page of his own has mapped nothing.
        let response = format!("{action}Response");
        let is_done = document.tags().any(|(tag, _)| tag.opens(&response));
        if is_done { Ok(document) } else { Err(UpnpError::Malformed) }
    }
}
