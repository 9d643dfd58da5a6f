//! What a router says of itself (UPnP Device Architecture 1.1, chapters 1 and 2), and where it says that its services
//! are: at its own address, or nowhere.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::xml::{Document, Tag, plain};

/// Services that map ports, as they are named.
const KINDS: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// So many services of a router are tried.
const SERVICES_MAX: usize = 4;
/// Longest path, in bytes.
const PATH_LEN_MAX: usize = 512;

/// Something of the router's that is reached by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) server: SocketAddrV4,
    pub(super) path: String,
}

impl Place {
    /// Where an answer to a search says that the description is, if that is at the router's address.
    pub(super) fn of_answer(answer: &[u8], router: Ipv4Addr) -> Option<Self> {
        let answer = String::from_utf8_lossy(answer);
        let mut fields = answer.lines().filter_map(|line| line.split_once(':'));
        let (_, url) = fields.find(|(name, _)| name.eq_ignore_ascii_case("location"))?;
        Self::absolute(url.trim(), router)
    }

    /// An URL with an IPv4 address; none but the router's.
    fn absolute(url: &str, router: Ipv4Addr) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        let server = authority
            .parse()
            .or_else(|_| authority.parse().map(|ip| SocketAddrV4::new(ip, 80)))
            .ok()?;
        let is_there = *server.ip() == router && server.port() != 0;
        let is_there = is_there && scheme.eq_ignore_ascii_case("http");
        is_there.then(|| Self::checked(server, path.to_owned()))?
    }

    /// What a reference means that stands at this place (RFC 3986, section 5.2; `..` is left to the router).
    fn join(&self, reference: &str) -> Option<Self> {
        let path = match reference.find(['/', ':']) {
            _ if reference.is_empty() => return None,
            _ if reference.starts_with('/') => reference.to_owned(),
            Some(at) if reference[at..].starts_with("://") => {
                return Self::absolute(reference, *self.server.ip());
            }
            _ => {
                let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                format!("{folder}/{reference}")
            }
        };
        Self::checked(self.server, path)
    }

    /// No path that would end the line of a request.
    fn checked(server: SocketAddrV4, path: String) -> Option<Self> {
        let is_plain = path.bytes().all(|byte| byte.is_ascii_graphic());
        (is_plain && path.len() <= PATH_LEN_MAX).then_some(Self { server, path })
    }
}

/// A service that maps ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) kind: &'static str,
    pub(super) control: Place,
}

/// The services that map ports, of a description that was found at this place.
pub(super) fn services(description: &str, place: &Place) -> Vec<Service> {
    let document = Document::new(description);
    let base = document.value("URLBase").filter(|base| !base.is_empty());
    let Some(base) = base.map_or(Some(place.clone()), |base| place.join(&base)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let (mut kind, mut control) = (None, None);
    for (tag, text) in document.tags() {
        match tag {
            Tag::Open("service") => (kind, control) = (None, None),
            Tag::Open("serviceType") => {
                kind = KINDS.into_iter().find(|kind| *kind == text.trim());
            }
            Tag::Open("controlURL") => control = base.join(&plain(text)),
            Tag::Close("service") => {
                if let (Some(kind), Some(control)) = (kind.take(), control.take()) {
                    found.push(Service { kind, control });
                }
            }
            _ => {}
        }
        if found.len() == SERVICES_MAX {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

    fn place(port: u16, path: &str) -> Place {
        Place { server: SocketAddrV4::new(ROUTER, port), path: path.to_owned() }
    }

    #[test]
    fn a_description_is_the_routers_own() {
        let at = |url: &str| {
            let answer = format!("HTTP/1.1 200 OK\r\nSt: x\r\nLocation: {url}\r\n\r\n");
            Place::of_answer(answer.as_bytes(), ROUTER)
        };
        assert_eq!(at("http://192.0.2.1:5000/root.xml"), Some(place(5000, "/root.xml")));
        assert_eq!(at("HTTP://192.0.2.1"), Some(place(80, "/")));
        let others = [
            "http://192.0.2.2:5000/root.xml",
            "http://127.0.0.1/",
            "http://192.0.2.1@198.51.100.1/",
            "http://router.test/",
            "http://[::1]/",
            "https://192.0.2.1/",
            "http://192.0.2.1:0/",
            "http://192.0.2.1:99999/",
            "http://192.0.2.1/a b",
            "/root.xml",
            "",
        ];
        for url in others {
            assert_eq!(at(url), None, "{url}");
        }
        assert_eq!(Place::of_answer(b"\xff\xff:\r\nlocation", ROUTER), None);
    }

    #[test]
    fn services_are_the_routers_own() {
        let base = place(5000, "/igd/root.xml");
        let control = |url: &str, head: &str| {
            let text = format!(
                "<root>{head}<device><serviceList><service><serviceType>other</serviceType>\
                 <controlURL>/other</controlURL></service><service><serviceType> {} </serviceType>\
                 <controlURL>{url}</controlURL></service></serviceList></device></root>",
                KINDS[1]
            );
            let mut found = services(&text, &base).into_iter();
            let first = found.next().map(|service| (service.kind, service.control));
            assert!(found.next().is_none());
            first
        };
        let ours = |port, path: &str| Some((KINDS[1], place(port, path)));
        assert_eq!(control("/ctl?a=1&amp;b=2", ""), ours(5000, "/ctl?a=1&b=2"));
        assert_eq!(control("ctl", ""), ours(5000, "/igd/ctl"));
        assert_eq!(control("http://192.0.2.1:81/ctl", ""), ours(81, "/ctl"));
        assert_eq!(control("ctl", "<URLBase>http://192.0.2.1:81/x/</URLBase>"), ours(81, "/x/ctl"));
        assert_eq!(control("uuid:1/ctl", ""), ours(5000, "/igd/uuid:1/ctl"));
        let elsewhere =
            ["http://198.51.100.1/ctl", "http://127.0.0.1:22/", "https://192.0.2.1/", ""];
        for url in elsewhere {
            assert_eq!(control(url, ""), None, "{url}");
        }
        assert_eq!(control("/ctl\r\nHost: x", ""), None);
        assert_eq!(control("/ctl", "<URLBase>http://198.51.100.1/</URLBase>"), None);
        assert_eq!(control(&"x".repeat(PATH_LEN_MAX), ""), None);
    }

    #[test]
    fn not_more_services_than_some_are_told() {
        let one = format!(
            "<service><serviceType>{}</serviceType><controlURL>/</controlURL></service>",
            KINDS[0]
        );
        let found = services(&one.repeat(1000), &place(80, "/"));
        assert_eq!(found.len(), SERVICES_MAX);
    }
}
