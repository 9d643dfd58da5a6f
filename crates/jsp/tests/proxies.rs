//! Connections through proxies: danted, microsocks and tor as they are installed, and a small HTTP
//! proxy.

use std::fs::File;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jsp::carrier::{StreamListener, StreamNetwork};
use jsp::emulate::StreamNet;
use jsp::{
    Carrier, CarrierKind, CarrierPolicy, ConnectError, Connection, Endpoint, Identity, Proxy,
    StreamConfig, TransportConfig,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

/// A proxy that runs as a program of its own, with its files; ended when it is dropped.
struct Program {
    child: Child,
    folder: PathBuf,
    port: u16,
}

impl Drop for Program {
    fn drop(&mut self) {
        // In order, as danted ends its children then.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Program {
    /// Starts a program whose configuration and arguments follow from its port and its folder, and
    /// waits until it accepts.
    async fn start(
        name: &str,
        config: impl Fn(u16, &str) -> String,
        args: impl Fn(u16, &str) -> Vec<String>,
    ) -> Self {
        // A port that is free at this moment.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = std::env::temp_dir().join(format!("jsp-{name}-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let place = folder.to_str().unwrap();
        std::fs::write(folder.join("config"), config(port, place)).unwrap();
        let log = File::create(folder.join("log")).unwrap();
        let child = Command::new(name)
            .args(args(port, place))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("{name} is needed, from the package of that name: {error}")
            });
        let program = Self { child, folder, port };
        let accepts = async {
            while TcpStream::connect(program.addr()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(Duration::from_secs(20), accepts).await.is_err() {
            let log = std::fs::read_to_string(program.folder.join("log"));
            panic!("{name} does not start: {log:?}");
        }
        program
    }

    fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    async fn danted() -> Self {
        let config = |port: u16, _: &str| {
            format!(
                "logoutput: stderr\ninternal: 127.0.0.1 port = {port}\nexternal: 127.0.0.1\n\
                 socksmethod: none\nclientmethod: none\n\
                 client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n\
                 socks pass {{ from: 0.0.0.0/0 to: 0.0.0.0/0 protocol: tcp udp }}\n"
            )
        };
        let args = |_, folder: &str| {
            ["-f", &format!("{folder}/config"), "-p", &format!("{folder}/pid")]
                .map(str::to_owned)
                .to_vec()
        };
        Self::start("danted", config, args).await
    }

    async fn microsocks(login: &[&str]) -> Self {
        let args = |port: u16, _: &str| {
            let port = port.to_string();
            let args = ["-i", "127.0.0.1", "-p", &port].into_iter().chain(login.iter().copied());
            args.map(str::to_owned).collect()
        };
        Self::start("microsocks", |_, _| String::new(), args).await
    }

    /// Tor without a network: its only authority is a closed port of this machine.
    async fn tor() -> Self {
        let config = |port: u16, folder: &str| {
            format!(
                "DataDirectory {folder}/data\nSocksPort 127.0.0.1:{port} IsolateSOCKSAuth\n\
                 ClientRejectInternalAddresses 1\n\
                 DirAuthority none orport=1 v3ident={:040} 127.0.0.1:1 {:040}\n",
                1, 2
            )
        };
        let args = |_, folder: &str| vec!["-f".to_owned(), format!("{folder}/config")];
        Self::start("tor", config, args).await
    }
}

/// A server over UDP and TCP at one port.
async fn server() -> (Endpoint, SocketAddr) {
    for _ in 0..50 {
        let addr = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let built =
            Endpoint::builder().bind(addr).listen_tcp(addr).identity(Identity::generate()).build();
        if let Ok(server) = built {
            return (server, addr);
        }
    }
    panic!("no port is free for both");
}

/// One message there and one back.
async fn talk(client: &Connection, server: &Connection) {
    let near = client.open(StreamConfig::chat()).await.unwrap();
    near.send(vec![7; 5000]).await.unwrap();
    let far = server.accept().await.unwrap();
    let asked = far.recv().await.unwrap().unwrap();
    far.send(asked.payload).await.unwrap();
    assert_eq!(near.recv().await.unwrap().unwrap().payload.len(), 5000);
}

async fn meet(client: &Endpoint, server: &Endpoint, to: &str) -> (Connection, Connection) {
    let trust = server.fingerprint();
    let (near, far) = tokio::join!(client.connect(to, trust), server.accept());
    (near.unwrap(), far.unwrap())
}

fn through(proxy: Proxy) -> jsp::Builder {
    Endpoint::builder().proxy(proxy)
}

fn only_tcp() -> CarrierPolicy {
    CarrierPolicy::Only(vec![Carrier::tcp()])
}

#[tokio::test]
/// spec-test: CAR-21
async fn danted_relays_datagrams() {
    let proxy = Program::danted().await;
    let (server, addr) = server().await;
    let client = through(Proxy::socks5(proxy.addr())).carriers(CarrierPolicy::UdpOnly);
    let client = client.build().unwrap();
    // There is no socket that could go around the proxy.
    assert_eq!(client.local_addr().unwrap().port(), 0);
    let (near, far) = meet(&client, &server, &addr.to_string()).await;
    let can = near.capabilities();
    assert_eq!((can.carrier, can.reliable), (CarrierKind::Udp, false));
    assert!(can.datagram_len + 10 <= 1452, "{}", can.datagram_len);
    talk(&near, &far).await;
}

#[tokio::test]
/// spec-test: CAR-20, CAR-25
async fn danted_connects_streams_to_a_name_that_it_resolves() {
    let proxy = Program::danted().await;
    let (server, addr) = server().await;
    let client = through(Proxy::socks5(proxy.addr())).carriers(only_tcp()).build().unwrap();
    let (near, far) = meet(&client, &server, &format!("localhost:{}", addr.port())).await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
    assert_eq!(near.remote_addr(), proxy.addr());
    talk(&near, &far).await;
}

#[tokio::test]
/// spec-test: CAR-20
async fn microsocks_wants_its_password_and_has_no_datagrams() {
    let proxy = Program::microsocks(&["-u", "ann", "-P", "secret"]).await;
    let (server, addr) = server().await;
    let right = Proxy::socks5(proxy.addr()).credentials("ann", "secret");
    // Datagrams first, as nothing else is said; the proxy refuses, and TCP takes their place at once.
    let client = through(right.clone()).build().unwrap();
    let (near, far) = meet(&client, &server, &addr.to_string()).await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
    talk(&near, &far).await;

    for wrong in [Proxy::socks5(proxy.addr()), right.credentials("ann", "wrong")] {
        let client = through(wrong).carriers(only_tcp()).build().unwrap();
        let error = client.connect(addr, server.fingerprint()).await.unwrap_err();
        assert!(matches!(error, ConnectError::Carrier { .. }), "{error}");
        assert!(error.to_string().contains("password"), "{error}");
    }
}

#[tokio::test]
/// spec-test: CAR-24
async fn tor_takes_the_handshake_of_each_connection() {
    let proxy = Program::tor().await;
    let (server, addr) = server().await;
    let client = through(Proxy::tor(proxy.addr())).build().unwrap();
    assert_eq!(client.local_addr().unwrap().port(), 0);
    // Tor knows user and password, and refuses what is no address of the Internet: so it was asked.
    let error = client.connect(addr, server.fingerprint()).await.unwrap_err();
    assert!(error.to_string().contains("the proxy does not connect"), "{error}");
    // Datagrams do not fit it.
    let both = through(Proxy::tor(proxy.addr())).carriers(CarrierPolicy::UdpOnly).build();
    assert!(both.is_err());
}

#[tokio::test]
/// spec-test: CAR-24
async fn what_goes_to_tor_goes_all_the_way_where_the_port_is_one() {
    // The same messages to a proxy that has a network.
    let proxy = Program::microsocks(&[]).await;
    let (server, addr) = server().await;
    let client = through(Proxy::tor(proxy.addr())).build().unwrap();
    let (near, far) = meet(&client, &server, &format!("localhost:{}", addr.port())).await;
    assert_eq!(near.capabilities().carrier, CarrierKind::Tcp);
    talk(&near, &far).await;
}

/// Answers one CONNECT and moves bytes; the lines that it was asked with, and who moves the bytes.
async fn http_proxy(listener: &TcpListener) -> (Vec<String>, AbortHandle) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut client = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        client.read_line(&mut line).await.unwrap();
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let target = lines[0].split(' ').nth(1).unwrap();
    let mut server = TcpStream::connect(target).await.unwrap();
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let moves =
        tokio::spawn(async move { tokio::io::copy_bidirectional(&mut client, &mut server).await });
    (lines, moves.abort_handle())
}

#[tokio::test]
/// spec-test: CAR-23, CAR-75
async fn an_http_proxy_connects_and_once_more_when_it_has_cut_the_stream() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::http(listener.local_addr().unwrap()).credentials("ann", "secret");
    let (server, addr) = server().await;
    let client = through(proxy).build().unwrap();
    let name = format!("localhost:{}", addr.port());
    let (asked, (near, far)) = tokio::join!(http_proxy(&listener), meet(&client, &server, &name));
    talk(&near, &far).await;
    let (lines, moves) = asked;
    moves.abort();
    let ((again, _), ()) = tokio::join!(http_proxy(&listener), talk(&near, &far));
    assert_eq!(again, lines);
    assert_eq!(lines[0], format!("CONNECT {name} HTTP/1.1"));
    assert!(lines.contains(&"Proxy-Authorization: Basic YW5uOnNlY3JldA==".to_owned()), "{lines:?}");
}

/// A SOCKS5 proxy that knows CONNECT alone, and always to `server`; how often it was asked for a relay.
async fn socks_without_relays(
    streams: StreamNet,
    mut listener: Box<dyn StreamListener>,
    server: SocketAddr,
    asked: Arc<AtomicUsize>,
) {
    loop {
        let (mut client, _) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        let (streams, asked) = (streams.clone(), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut request = [0; 3 + 10];
            client.read_exact(&mut request[..3]).await.unwrap();
            client.write_all(&[5, 0]).await.unwrap();
            client.read_exact(&mut request[3..]).await.unwrap();
            let is_connect = request[4] == 1;
            let reply = if is_connect { 0 } else { 7 };
            client.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await.unwrap();
            if !is_connect {
                asked.fetch_add(1, Ordering::Relaxed);
                return;
            }
            let mut onward = streams.connect(server).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut onward).await;
        });
    }
}

#[tokio::test(start_paused = true)]
/// spec-test: CAR-77
async fn a_proxy_that_relays_no_datagrams_is_not_asked_again_and_again() {
    let streams = StreamNet::new(Duration::from_millis(20));
    let network = || Arc::new(streams.clone()) as Arc<dyn StreamNetwork>;
    let at_proxy: SocketAddr = "192.0.2.3:1080".parse().unwrap();
    let addr: SocketAddr = "192.0.2.2:2".parse().unwrap();
    let asked = Arc::<AtomicUsize>::default();
    let listener = streams.listen(at_proxy).unwrap();
    tokio::spawn(socks_without_relays(streams.clone(), listener, addr, Arc::clone(&asked)));
    let server = Endpoint::builder()
        .bind("127.0.0.1:0")
        .identity(Identity::generate())
        .listen_tcp(addr)
        .stream_network(network())
        .build()
        .unwrap();
    let keep_alive = Some(Duration::from_secs(10));
    let client = through(Proxy::socks5(at_proxy))
        .transport(TransportConfig { keep_alive, ..Default::default() })
        .stream_network(network())
        .build()
        .unwrap();
    let (near, far) = meet(&client, &server, &addr.to_string()).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    talk(&near, &far).await;
    // To connect, 4 s later, and every 256 s.
    assert_eq!(asked.load(Ordering::Relaxed), 4);
}

/// A SOCKS5 proxy at which all is well, but the server behind it says nothing.
async fn socks_to_nobody(mut listener: Box<dyn StreamListener>) {
    loop {
        let (mut client, _) = poll_fn(|cx| listener.poll_accept(cx)).await.unwrap();
        tokio::spawn(async move {
            let mut heard = [0; 512];
            for reply in [&[5, 0][..], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]] {
                assert!(client.read(&mut heard).await.unwrap() > 0);
                client.write_all(reply).await.unwrap();
            }
            while client.read(&mut heard).await.is_ok_and(|len| len > 0) {}
        });
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_named_and_not_its_proxy() {
    let streams = StreamNet::new(Duration::from_millis(20));
    let at_proxy: SocketAddr = "192.0.2.3:1080".parse().unwrap();
    tokio::spawn(socks_to_nobody(streams.listen(at_proxy).unwrap()));
    let client = through(Proxy::socks5(at_proxy))
        .carriers(only_tcp())
        .stream_network(Arc::new(streams.clone()))
        .build()
        .unwrap();
    let trust = Identity::generate().fingerprint();
    for server in ["192.0.2.2:2", "server.test:2"] {
        let failed = client.connect(server, trust).await.unwrap_err().to_string();
        assert!(failed.contains(server) && !failed.contains("192.0.2.3"), "{failed}");
    }
    let server = "192.0.2.2:2";
    let early = client.connect_early(server, trust).await.unwrap();
    let failed = early.connected().await.unwrap_err().to_string();
    assert!(failed.contains(server) && !failed.contains("192.0.2.3"), "{failed}");
}
