//! Sessions over real sockets: connections that end, servers that forget, programs that start again.
#![allow(missing_docs)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jsp::{Connection, Endpoint, Fingerprint, Identity, StreamConfig};
use jsp_app::session::{Change, GRANT_LEN, Saved};
use jsp_session::{
    Channel, Event, Item, Received, RedbStore, Session, SessionConfig, SessionError, Sessions,
    SessionsStore,
};

struct Server {
    endpoint: Endpoint,
    sessions: Sessions,
    /// The newest connection, to be cut by the tests.
    newest: Arc<Mutex<Option<Connection>>>,
    addr: std::net::SocketAddr,
    fingerprint: Fingerprint,
}

fn server(config: SessionConfig) -> Server {
    let endpoint = Endpoint::server("127.0.0.1:0", Identity::generate()).unwrap();
    let (addr, fingerprint) = (endpoint.local_addr().unwrap(), endpoint.fingerprint());
    let sessions = Sessions::new(config);
    let newest = Arc::<Mutex<Option<Connection>>>::default();
    let serving = (endpoint.clone(), sessions.clone(), Arc::clone(&newest));
    tokio::spawn(async move {
        let (endpoint, sessions, newest) = serving;
        while let Some(connection) = endpoint.accept().await {
            *newest.lock().unwrap() = Some(connection.clone());
            let sessions = sessions.clone();
            tokio::spawn(async move { sessions.attend(connection).await });
        }
    });
    Server { endpoint, sessions, newest, addr, fingerprint }
}

impl Server {
    async fn connect(&self, client: &Endpoint, config: SessionConfig) -> Session {
        Session::connect(client, self.addr, self.fingerprint, config).await.unwrap()
    }

    /// The newest connection ends, whatever is under way.
    fn cut(&self) {
        self.newest.lock().unwrap().take().unwrap().close(0, b"cut by the test");
    }
}

/// Reads numbered messages and checks that each comes once, in order.
async fn read(channel: &Channel, from: u64, to: u64) {
    for number in from..to {
        let payload = number.to_string().into();
        assert_eq!(channel.recv().await.unwrap(), Some(Received { number, payload }));
    }
}

async fn write(channel: &Channel, from: u64, to: u64) {
    for number in from..to {
        assert_eq!(channel.send(number.to_string()).await.unwrap(), number);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_its_connections() {
    let server = server(SessionConfig::default());
    let client = Endpoint::client().unwrap();
    let session = server.connect(&client, SessionConfig::default()).await;
    let there = server.sessions.accept().await.unwrap();
    assert_eq!(session.event().await, Some(Event::Started));
    let up = session.open("up", StreamConfig::chat()).await.unwrap();
    let echo = there.accept().await.unwrap();
    assert_eq!((up.label(), echo.label()), ("up".to_owned(), "up".to_owned()));
    let down = there.open("down", StreamConfig::messages()).await.unwrap();
    let down_here = session.accept().await.unwrap();

    let writers = tokio::spawn({
        let (up, down) = (up.clone(), down.clone());
        async move { tokio::join!(write(&up, 0, 3000), write(&down, 0, 3000)) }
    });
    for part in 0..6 {
        read(&echo, part * 500, (part + 1) * 500).await;
        read(&down_here, part * 500, (part + 1) * 500).await;
        // The server drops everybody; messages are under way in both directions.
        if part < 5 {
            server.cut();
            assert_eq!(session.event().await, Some(Event::Suspended));
            assert_eq!(session.event().await, Some(Event::Resumed));
        }
    }
    writers.await.unwrap();
    up.finish().await.unwrap();
    assert_eq!(echo.recv().await.unwrap(), None);
    up.confirmed().await.unwrap();
    assert!(up.unconfirmed().is_empty());
    assert_eq!(server.sessions.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_started_again_goes_on() {
    let folder = Folder::new("restart");
    let server = server(SessionConfig::default());
    let file = folder.0.join("session.redb");
    let config = || {
        let store = Some(Arc::new(RedbStore::open(&file).unwrap()) as _);
        SessionConfig { store, ..SessionConfig::default() }
    };
    let client = Endpoint::client().unwrap();
    let session = server.connect(&client, config()).await;
    let there = server.sessions.accept().await.unwrap();
    let up = session.open("up", StreamConfig::messages()).await.unwrap();
    write(&up, 0, 20).await;
    let echo = there.accept().await.unwrap();
    read(&echo, 0, 10).await;
    write(&echo, 0, 4).await;
    read(&up, 0, 2).await;
    up.confirm().await.unwrap();
    // Given, but not confirmed.
    assert_eq!(up.recv().await.unwrap().unwrap().number, 2);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "it holds tokens");
    }
    drop((up, session));
    client.close(0, b"the process dies");
    client.shutdown().await;

    let client = Endpoint::client().unwrap();
    let session = loop {
        // The file is free once the last task of before is gone.
        match RedbStore::open(&file) {
            Ok(store) => {
                let config = SessionConfig { store: Some(Arc::new(store)), ..Default::default() };
                break server.connect(&client, config).await;
            }
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let up = session.open("up", StreamConfig::messages()).await.unwrap();
    write(&up, 20, 30).await;
    read(&up, 2, 4).await;
    read(&echo, 10, 30).await;
    assert_eq!(session.event().await, Some(Event::Resumed));
    assert_eq!(server.sessions.len(), 1);
    // Another channel, under a number that was not used before.
    let other = session.open("other", StreamConfig::messages()).await.unwrap();
    other.send("x").await.unwrap();
    assert_eq!(there.accept().await.unwrap().label(), "other");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_learns_what_a_forgetful_server_has_not_confirmed() {
    let config = SessionConfig { grace: Duration::ZERO, ..SessionConfig::default() };
    let server = server(config);
    let client = Endpoint::client().unwrap();
    let session = server.connect(&client, SessionConfig::default()).await;
    let there = server.sessions.accept().await.unwrap();
    let up = session.open("up", StreamConfig::messages()).await.unwrap();
    up.send("seen").await.unwrap();
    let echo = there.accept().await.unwrap();
    echo.recv().await.unwrap();
    echo.confirm().await.unwrap();
    up.confirmed().await.unwrap();
    up.send("never taken").await.unwrap();
    server.cut();
    while session.error().is_none() {
        session.event().await;
    }
    assert!(matches!(session.error(), Some(SessionError::Forgotten)));
    assert_eq!(up.unconfirmed(), [(1, Item::Message("never taken".into()))]);
    assert!(up.send("x").await.is_err());
    assert!(up.recv().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_heard_by_both() {
    let server = server(SessionConfig::default());
    let client = Endpoint::client().unwrap();
    let session = server.connect(&client, SessionConfig::default()).await;
    let there = server.sessions.accept().await.unwrap();
    session.end(7).await;
    while there.event().await.is_some() {}
    for error in [session.error(), there.error()] {
        assert!(matches!(error, Some(SessionError::Ended(7))), "{error:?}");
    }
    assert!(there.accept().await.is_none());
    while !server.sessions.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_full_says_so() {
    let server = server(SessionConfig { sessions_max: 1, ..SessionConfig::default() });
    let client = Endpoint::client().unwrap();
    let _first = server.connect(&client, SessionConfig::default()).await;
    let second =
        Session::connect(&client, server.addr, server.fingerprint, SessionConfig::default()).await;
    assert!(matches!(second, Err(SessionError::Refused(_))), "{second:?}");
    server.endpoint.close(0, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_holds_its_sender_back() {
    let server = server(SessionConfig::default());
    let client = Endpoint::client().unwrap();
    let mut config = SessionConfig::default();
    config.limits.unconfirmed_bytes = 1000;
    let session = server.connect(&client, config).await;
    let there = server.sessions.accept().await.unwrap();
    let up = session.open("up", StreamConfig::messages()).await.unwrap();
    let send = |n: u8| up.send(vec![n; 400]);
    send(0).await.unwrap();
    send(1).await.unwrap();
    let mut third = Box::pin(send(2));
    assert!(matches!(futures_poll(&mut third), std::task::Poll::Pending));
    let echo = there.accept().await.unwrap();
    let (sent, _) = tokio::join!(third, async {
        echo.recv().await.unwrap();
        echo.confirm().await.unwrap();
    });
    assert_eq!(sent.unwrap(), 2);
    assert!(up.send(vec![0; 1001]).await.is_err());
}

/// Looks once whether a future is ready.
fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context)
}

/// A folder that goes with its value.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("jsp-session-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A disk on which nothing can be kept.
#[derive(Debug)]
struct FullDisk;

impl SessionsStore for FullDisk {
    fn load(&self) -> std::io::Result<Vec<Saved>> {
        Ok(Vec::new())
    }

    fn save(&self, _: &[u8; GRANT_LEN], _: &[Change]) -> std::io::Result<()> {
        Err(std::io::ErrorKind::StorageFull.into())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_could_not_be_kept_is_over_and_waits_for_nobody() {
    let endpoint = Endpoint::server("127.0.0.1:0", Identity::generate()).unwrap();
    let (addr, fingerprint) = (endpoint.local_addr().unwrap(), endpoint.fingerprint());
    let store = Arc::new(FullDisk);
    let sessions = Sessions::restore(&endpoint, store, SessionConfig::default()).await.unwrap();
    let client = Endpoint::client().unwrap();
    let connecting = tokio::spawn(async move {
        Session::connect(&client, addr, fingerprint, SessionConfig::default()).await
    });
    let there = sessions.accept().await.unwrap();
    assert!(there.accept().await.is_none());
    connecting.abort();
    // It is forgotten with its connection, and not parked until its client comes back.
    let forgotten = async {
        while !sessions.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), forgotten).await.expect("it is forgotten");
}
