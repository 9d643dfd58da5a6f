//! The client's side of SOCKS5 (RFC 1928) with user and password (RFC 1929). Written here, because the
//! kept crates either know no UDP ASSOCIATE or bring far more than these few messages.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{malformed, refused};
use crate::carrier::stream::BoxStream;
use crate::remote::Target;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const ASSOCIATE: u8 = 3;
/// The reply to a command that the proxy does not know.
const UNSUPPORTED: u8 = 7;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// User and password.
type Credentials = (String, String);

/// Asks for a connection to `target`.
// spec: CAR-20
pub(super) async fn connect(
    stream: &mut BoxStream,
    target: &Target,
    credentials: Option<&Credentials>,
) -> io::Result<()> {
    greet(stream, credentials).await?;
    request(stream, CONNECT, target).await.map(|_| ())
}

/// Asks for a relay of datagrams; answers where it is.
// spec: CAR-21
pub(super) async fn associate(
    stream: &mut BoxStream,
    proxy: SocketAddr,
    credentials: Option<&Credentials>,
) -> io::Result<SocketAddr> {
    greet(stream, credentials).await?;
    // Where our datagrams will come from is not known yet.
    let unknown = match proxy {
        SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let relay = request(stream, ASSOCIATE, &Target::Addr(SocketAddr::new(unknown, 0))).await?;
    match relay {
        // A proxy that names no address means its own.
        Target::Addr(relay) if relay.ip().is_unspecified() => {
            Ok(SocketAddr::new(proxy.ip(), relay.port()))
        }
        Target::Addr(relay) => Ok(relay),
        Target::Name(..) => Err(malformed("the proxy names its relay, and gives no address")),
    }
}

/// Agrees on a way to authenticate, and does.
async fn greet(stream: &mut BoxStream, credentials: Option<&Credentials>) -> io::Result<()> {
    let methods: &[u8] = match credentials {
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
        None => &[VERSION, 1, NO_AUTHENTICATION],
    };
    stream.write_all(methods).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match (answer, credentials) {
        ([VERSION, NO_AUTHENTICATION], _) => Ok(()),
        ([VERSION, USER_AND_PASSWORD], Some(credentials)) => {
            authenticate(stream, credentials).await
        }
        ([VERSION, _], None) => Err(refused("the proxy asks for a user and a password")),
        ([VERSION, _], Some(_)) => {
            Err(refused("the proxy knows neither user and password nor nothing"))
        }
        _ => Err(malformed("this is no SOCKS5 proxy")),
    }
}

async fn authenticate(stream: &mut BoxStream, (user, password): &Credentials) -> io::Result<()> {
    let mut message = BytesMut::new();
    message.put_u8(1);
    for text in [user, password] {
        let len = u8::try_from(text.len()).ok().filter(|len| *len > 0);
        let reason = "user and password of a proxy have 1 to 255 bytes";
        message.put_u8(len.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, reason))?);
        message.put_slice(text.as_bytes());
    }
    stream.write_all(&message).await?;
    let mut answer = [0; 2];
    stream.read_exact(&mut answer).await?;
    match answer {
        [1, 0] => Ok(()),
        _ => Err(refused("the proxy does not accept the user and password")),
    }
}

/// One request and its reply: the address that the proxy answers with.
async fn request(stream: &mut BoxStream, command: u8, target: &Target) -> io::Result<Target> {
    let mut message = BytesMut::new();
    message.put_slice(&[VERSION, command, 0]);
    put_target(&mut message, target)?;
    stream.write_all(&message).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [VERSION, reply, _, kind] = head else {
        return Err(malformed("this is no SOCKS5 proxy"));
    };
    if reply != 0 {
        let kind = match reply {
            UNSUPPORTED => io::ErrorKind::Unsupported,
            _ => io::ErrorKind::ConnectionRefused,
        };
        let reason = format!("the proxy does not connect: {}", meaning(reply));
        return Err(io::Error::new(kind, reason));
    }
    let mut address = BytesMut::zeroed(match kind {
        IPV4 => 4 + 2,
        IPV6 => 16 + 2,
        NAME => usize::from(stream.read_u8().await?) + 2,
        _ => return Err(malformed("the proxy's reply holds an unknown kind of address")),
    });
    stream.read_exact(&mut address).await?;
    let unreadable = || malformed("the proxy's reply holds no address");
    take_target(kind, &mut &address[..]).ok_or_else(unreadable)
}

fn put_target(out: &mut BytesMut, target: &Target) -> io::Result<()> {
    match target {
        Target::Addr(SocketAddr::V4(addr)) => {
            out.put_u8(IPV4);
            out.put_slice(&addr.ip().octets());
        }
        Target::Addr(SocketAddr::V6(addr)) => {
            out.put_u8(IPV6);
            out.put_slice(&addr.ip().octets());
        }
        Target::Name(host, _) => {
            let len = u8::try_from(host.len()).ok().filter(|len| *len > 0);
            let reason = "a name has 1 to 255 bytes";
            let too_long = || io::Error::new(io::ErrorKind::InvalidInput, reason);
            out.put_u8(NAME);
            out.put_u8(len.ok_or_else(too_long)?);
            out.put_slice(host.as_bytes());
        }
    }
    out.put_u16(target.port());
    Ok(())
}

/// Reads an address of this kind; a name comes without its length.
fn take_target(kind: u8, bytes: &mut &[u8]) -> Option<Target> {
    let target = match kind {
        IPV4 => {
            let ip = IpAddr::from(*bytes.first_chunk::<4>()?);
            bytes.advance(4);
            Target::Addr(SocketAddr::new(ip, bytes.try_get_u16().ok()?))
        }
        IPV6 => {
            let ip = IpAddr::from(*bytes.first_chunk::<16>()?);
            bytes.advance(16);
            Target::Addr(SocketAddr::new(ip, bytes.try_get_u16().ok()?))
        }
        _ => {
            let len = bytes.len().checked_sub(2)?;
            let name = String::from_utf8(bytes.get(..len)?.to_vec()).ok()?;
            bytes.advance(len);
            Target::Name(name, bytes.try_get_u16().ok()?)
        }
    };
    Some(target)
}

/// What stands before each datagram to the relay (RFC 1928, section 7).
#[derive(Clone, Debug)]
pub(crate) struct UdpHeader(BytesMut);

impl UdpHeader {
    /// For datagrams to `target`.
    pub(crate) fn new(target: &Target) -> io::Result<Self> {
        let mut header = BytesMut::from(&[0, 0, 0][..]);
        put_target(&mut header, target)?;
        Ok(Self(header))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A datagram of the relay without its header; `None` for a fragment, which nobody sends, or for
/// something else.
// spec: CAR-22
pub(crate) fn strip_udp_header(mut datagram: BytesMut) -> Option<BytesMut> {
    let [0, 0, 0, kind] = *datagram.first_chunk::<4>()? else { return None };
    let len = match kind {
        IPV4 => 4 + 4 + 2,
        IPV6 => 4 + 16 + 2,
        NAME => 4 + 1 + usize::from(*datagram.get(4)?) + 2,
        _ => return None,
    };
    (datagram.len() > len).then(|| datagram.split_off(len))
}

fn meaning(reply: u8) -> String {
    let known = match reply {
        1 => "it has failed",
        2 => "its rules do not allow it",
        3 => "the network is out of reach",
        4 => "the host is out of reach",
        5 => "the connection is refused",
        6 => "the way is too long",
        UNSUPPORTED => "it does not know what is asked",
        8 => "it does not know this kind of address",
        _ => return format!("code {reply}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the client says and makes of `answers`.
    async fn dialogue(
        target: Target,
        credentials: Option<(&str, &str)>,
        answers: &[u8],
    ) -> (io::Result<()>, Vec<u8>) {
        let (near, mut far) = tokio::io::duplex(4096);
        far.write_all(answers).await.unwrap();
        let mut near: BoxStream = Box::new(near);
        let credentials = credentials.map(|(user, pass)| (user.to_owned(), pass.to_owned()));
        let result = connect(&mut near, &target, credentials.as_ref()).await;
        drop(near);
        let mut said = Vec::new();
        far.read_to_end(&mut said).await.unwrap();
        (result, said)
    }

    fn name() -> Target {
        Target::Name("a.test".to_owned(), 443)
    }

    #[tokio::test]
    /// spec-test: CAR-20
    async fn a_name_goes_to_the_proxy_as_it_is() {
        let granted = [5, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        let (result, said) = dialogue(name(), None, &granted).await;
        result.unwrap();
        assert_eq!(said, b"\x05\x01\x00\x05\x01\x00\x03\x06a.test\x01\xbb");
    }

    #[tokio::test]
    async fn user_and_password_are_told_when_asked_for() {
        let granted = [5, 2, 1, 0, 5, 0, 0, 3, 1, b'x', 0, 1];
        let (result, said) = dialogue(name(), Some(("me", "pw")), &granted).await;
        result.unwrap();
        assert_eq!(said, b"\x05\x02\x00\x02\x01\x02me\x02pw\x05\x01\x00\x03\x06a.test\x01\xbb");
        let refusals: [&[u8]; 6] = [
            &[5, 2, 1, 1],
            &[5, 0xff],
            &[4, 0],
            &[5, 0, 5, 5, 0, 1, 0, 0, 0, 0, 0, 0],
            &[5, 0, 5, 0, 0, 9, 0, 0, 0, 0, 0, 0],
            &[5, 0, 4, 0, 0, 1, 0, 0, 0, 0, 0, 0],
        ];
        for refusal in refusals {
            let (result, _) = dialogue(name(), Some(("me", "pw")), refusal).await;
            assert!(result.is_err(), "{refusal:?}");
        }
        // Who does not know what is asked is told from who does not do it.
        let unknown = [5, 0, 5, UNSUPPORTED, 0, 1, 0, 0, 0, 0, 0, 0];
        let (result, _) = dialogue(name(), None, &unknown).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::Unsupported);
        let (result, _) = dialogue(name(), None, &[5, 2]).await;
        assert!(result.unwrap_err().to_string().contains("password"));
    }

    #[test]
    /// spec-test: CAR-22
    fn headers_of_datagrams_come_off() {
        let target: SocketAddr = "192.0.2.1:9".parse().unwrap();
        let mut datagram =
            BytesMut::from(UdpHeader::new(&Target::Addr(target)).unwrap().as_bytes());
        assert_eq!(&datagram[..], [0, 0, 0, 1, 192, 0, 2, 1, 0, 9]);
        datagram.put_slice(b"hello");
        assert_eq!(strip_udp_header(datagram.clone()).unwrap(), &b"hello"[..]);
        datagram[2] = 1;
        assert!(strip_udp_header(datagram).is_none(), "a fragment");
        for bytes in
            [&[][..], &[0, 0, 0, 3, 200, 1], &[0, 0, 0, 1, 1, 2, 3, 4, 5, 6], &[0, 0, 0, 9]]
        {
            assert!(strip_udp_header(BytesMut::from(bytes)).is_none(), "{bytes:?}");
        }
    }
}
