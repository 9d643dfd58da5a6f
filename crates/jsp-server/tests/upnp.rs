//! A router that maps ports by UPnP alone, in small.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use jsp::rendezvous::{Peer, Policy, PortMapError};
use jsp::{Endpoint, Identity};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::{task, time};

const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

/// What was asked for: the action, and the request.
type Asked = (String, String);

struct Router {
    address: Ipv4Addr,
    asked: mpsc::UnboundedReceiver<Asked>,
}

impl Router {
    /// A router of its own for each test, for the port is the same for all. It refuses the ports that `is_taken` names.
    async fn start(last: u8, is_taken: fn(u16) -> bool) -> Self {
        Self::start_with(last, is_taken, "/control".to_owned()).await
    }

    /// One that says that its service is at `control`.
    async fn start_with(last: u8, is_taken: fn(u16) -> bool, control: String) -> Self {
        let address = Ipv4Addr::new(127, 0, 54, last);
        let search = UdpSocket::bind((address, 1900)).await.unwrap();
        let http = TcpListener::bind((address, 0)).await.unwrap();
        let location = format!("http://{}/root.xml", http.local_addr().unwrap());
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((len, from)) = search.recv_from(&mut buffer).await {
                assert!(buffer[..len].starts_with(b"M-SEARCH * HTTP/1.1"));
                let answer =
                    format!("HTTP/1.1 200 OK\r\nST: {SERVICE}\r\nLOCATION: {location}\r\n\r\n");
                search.send_to(answer.as_bytes(), from).await.unwrap();
            }
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = http.accept().await {
                tokio::spawn(serve(stream, tell.clone(), is_taken, control.clone()));
            }
        });
        Self { address, asked }
    }

    /// The next thing that is asked for which is no question.
    async fn asked(&mut self) -> Asked {
        self.asked.recv().await.unwrap()
    }
}

/// What stands between two tags of this name.
fn field<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("<{name}>")).unwrap();
    rest.split_once("</").unwrap().0
}

async fn serve(
    mut stream: TcpStream,
    tell: mpsc::UnboundedSender<Asked>,
    is_taken: fn(u16) -> bool,
    control: String,
) {
    let mut text = String::new();
    loop {
        let mut buffer = [0; 4096];
        let Ok(len) = stream.read(&mut buffer).await else { return };
        if len == 0 {
            return;
        }
        text.push_str(std::str::from_utf8(&buffer[..len]).unwrap());
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_lowercase();
        let wanted = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < wanted.map_or(0, |len| len.parse().unwrap()) {
            continue;
        }
        let (status, out) = answer(head.lines().next().unwrap(), body, &tell, is_taken, &control);
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\r\n",
            out.len()
        );
        stream.write_all((head + &out).as_bytes()).await.unwrap();
        text.clear();
    }
}

fn answer(
    request: &str,
    body: &str,
    tell: &mpsc::UnboundedSender<Asked>,
    is_taken: fn(u16) -> bool,
    control: &str,
) -> (&'static str, String) {
    if request.starts_with("get /root.xml") {
        let service = format!(
            "<service><serviceType>{SERVICE}</serviceType><SCPDURL>/scpd.xml</SCPDURL>\
             <controlURL>{control}</controlURL></service>"
        );
        let list = format!("<serviceList>{service}</serviceList>");
        return ("200 OK", format!("<?xml version=\"1.0\"?><root><device>{list}</device></root>"));
    }
    assert!(request.starts_with("post /control http/1.1"), "{request}");
    let envelope = |inner: String| {
        format!(
            "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>{inner}</s:Body></s:Envelope>"
        )
    };
    let response = |action: &str, inner: &str| {
        let tag = format!("u:{action}Response");
        ("200 OK", envelope(format!("<{tag} xmlns:u=\"{SERVICE}\">{inner}</{tag}>")))
    };
    let actions = ["GetExternalIPAddress", "AddPortMapping", "DeletePortMapping"];
    let action =
        actions.into_iter().find(|action| body.contains(&format!("<u:{action} "))).unwrap();
    if action == "GetExternalIPAddress" {
        let ip = "<NewExternalIPAddress>192.0.2.77</NewExternalIPAddress>";
        return response(action, ip);
    }
    if action == "AddPortMapping" && is_taken(field(body, "NewExternalPort").parse().unwrap()) {
        let error = "<UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>718</errorCode>\
                     <errorDescription>ConflictInMappingEntry</errorDescription></UPnPError>";
        let fault = "<faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring>";
        let fault = format!("<s:Fault>{fault}<detail>{error}</detail></s:Fault>");
        return ("500 Internal Server Error", envelope(fault));
    }
    tell.send((action.to_owned(), body.to_owned())).unwrap();
    response(action, "")
}

fn peer() -> Peer {
    let builder = Endpoint::builder().identity(Identity::generate());
    Peer::build(builder, Policy::Any).unwrap()
}

#[tokio::test]
async fn a_port_is_mapped_by_upnp_renewed_and_given_back() {
    let mut router = Router::start(1, |_| false).await;
    let peer = peer();
    let port = peer.endpoint().local_addr().unwrap().port();
    let map = peer.map_port(Some(router.address)).await.unwrap();
    assert_eq!(map.address(), SocketAddr::from(([192, 0, 2, 77], port)));
    let (action, body) = router.asked().await;
    assert_eq!((&action[..], field(&body, "NewProtocol")), ("AddPortMapping", "UDP"));
    assert_eq!(field(&body, "NewInternalPort"), port.to_string());
    assert_eq!(field(&body, "NewInternalClient"), "127.0.0.1");
    // What is not given back ends by itself.
    assert_eq!(field(&body, "NewLeaseDuration"), "600");
    // Renewed after half of that; first the task has to know when that is.
    task::yield_now().await;
    time::pause();
    time::advance(Duration::from_secs(301)).await;
    time::resume();
    let (action, again) = router.asked().await;
    assert_eq!((&action[..], again), ("AddPortMapping", body));
    map.release().await;
    let (action, body) = router.asked().await;
    assert_eq!(
        (&action[..], field(&body, "NewExternalPort")),
        ("DeletePortMapping", &port.to_string()[..])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_port_is_taken_where_the_own_one_is_not_free() {
    // Ports that the system gives out are even and odd; the router has the even ones left.
    let mut router = Router::start(2, |port| port % 2 == 1).await;
    let peer = loop {
        let peer = peer();
        if peer.endpoint().local_addr().unwrap().port() % 2 == 1 {
            break peer;
        }
    };
    let map = peer.map_port(Some(router.address)).await.unwrap();
    assert_eq!(map.address().port() % 2, 0);
    let (_, body) = router.asked().await;
    assert_eq!(field(&body, "NewExternalPort"), map.address().port().to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_router_that_has_no_port_left_says_so() {
    let router = Router::start(3, |_| true).await;
    let error = peer().map_port(Some(router.address)).await.unwrap_err();
    assert!(matches!(error, PortMapError::Refused(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_but_the_router_is_asked() {
    let other = TcpListener::bind((Ipv4Addr::new(127, 0, 54, 5), 0)).await.unwrap();
    let control = format!("http://{}/control", other.local_addr().unwrap());
    let router = Router::start_with(4, |_| false, control).await;
    let error = peer().map_port(Some(router.address)).await.unwrap_err();
    assert!(matches!(error, PortMapError::Refused(_)), "{error}");
    // A connection would be there by now.
    assert!(time::timeout(Duration::ZERO, other.accept()).await.is_err());
}
