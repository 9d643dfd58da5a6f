//! Networks that are dead for longer than any connection lives, in virtual time.
#![allow(missing_docs)]

use std::time::Duration;

use jsp::emulate::{Attachment, BadLink, Control, pair};
use jsp::{Connection, Endpoint, Identity, StreamConfig};
use jsp_session::{Event, Received, Session, SessionConfig, SessionError, Sessions};
use tokio::time::{Instant, sleep, timeout};

const SERVER: &str = "192.0.2.2:2";
const OUTAGE: Duration = Duration::from_secs(60);
const RTT: Duration = Duration::from_millis(50);

struct World {
    network: Control,
    /// Where the client is, which its monitor tells.
    attachment: Attachment,
    sessions: Sessions,
    session: Session,
    // They live as long as their sessions.
    _endpoints: [Endpoint; 2],
}

/// A client and a server, 50 ms apart by round trip, and a session between them.
async fn world(config: SessionConfig) -> World {
    let (near, far) = pair();
    let attachment = near.attachment();
    let slow = BadLink { one_way_delay: RTT / 2, ..BadLink::default() };
    let near = slow.link(near);
    let network = near.control();
    let server = Endpoint::builder().identity(Identity::generate()).link(Box::new(far));
    let server = server.build().unwrap();
    let client = Endpoint::builder().network_monitor(attachment.monitor()).link(Box::new(near));
    let client = client.build().unwrap();
    let sessions = Sessions::serve(&server, config);
    let trust = server.fingerprint();
    let session = Session::connect(&client, SERVER, trust, SessionConfig::default()).await.unwrap();
    assert_eq!(session.event().await, Some(Event::Started));
    World { network, attachment, sessions, session, _endpoints: [server, client] }
}

#[tokio::test(start_paused = true)]
async fn a_minute_without_a_network_loses_and_doubles_nothing() {
    let World { network, sessions, session, _endpoints, .. } =
        world(SessionConfig::default()).await;
    let there = sessions.accept().await.unwrap();
    let up = session.open("up", StreamConfig::messages()).await.unwrap();
    let echo = there.accept().await.unwrap();
    let down = there.open("down", StreamConfig::messages()).await.unwrap();
    let down_here = session.accept().await.unwrap();
    // Ten messages a second in each direction, all the time.
    const COUNT: u64 = 1200;
    let talk = |channel: jsp_session::Channel| async move {
        for number in 0..COUNT {
            channel.send(number.to_string()).await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
    };
    let hear = |channel: jsp_session::Channel| async move {
        let mut last = Instant::now();
        let mut gap = Duration::ZERO;
        for number in 0..COUNT {
            let payload = number.to_string().into();
            assert_eq!(channel.recv().await.unwrap(), Some(Received { number, payload }));
            gap = gap.max(last.elapsed());
            last = Instant::now();
        }
        gap
    };
    let break_and_mend = async {
        sleep(Duration::from_secs(10)).await;
        network.cut();
        sleep(OUTAGE).await;
        network.restore();
    };
    let (_, _, _, up_gap, down_gap) =
        tokio::join!(break_and_mend, talk(up), talk(down), hear(echo), hear(down_here));
    assert_eq!(session.event().await, Some(Event::Suspended));
    assert_eq!(session.event().await, Some(Event::Resumed));
    for gap in [up_gap, down_gap] {
        // The pause between attempts, an attempt, and the resumption.
        assert!(gap < OUTAGE + Duration::from_secs(12), "{gap:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_hint_ends_the_pause_between_attempts() {
    let World { network, sessions, session, _endpoints, .. } =
        world(SessionConfig::default()).await;
    let there = sessions.accept().await.unwrap();
    let up = session.open("up", StreamConfig::messages()).await.unwrap();
    network.cut();
    up.send("x").await.unwrap();
    assert_eq!(session.event().await, Some(Event::Suspended));
    sleep(OUTAGE).await;
    network.restore();
    let begun = Instant::now();
    session.hasten();
    assert_eq!(session.event().await, Some(Event::Resumed));
    let waited = begun.elapsed();
    assert!(waited <= 2 * RTT + Duration::from_millis(40), "{waited:?}");
    let echo = there.accept().await.unwrap();
    assert_eq!(echo.recv().await.unwrap().unwrap().payload, "x");
}

#[tokio::test(start_paused = true)]
async fn an_address_that_comes_ends_pauses_and_attempts() {
    let World { attachment, sessions, session, _endpoints, .. } =
        world(SessionConfig::default()).await;
    let there = sessions.accept().await.unwrap();
    let up = session.open("up", StreamConfig::messages()).await.unwrap();
    up.send("begin").await.unwrap();
    let echo = there.accept().await.unwrap();
    assert_eq!(echo.recv().await.unwrap().unwrap().payload, "begin");
    // An attempt takes ten seconds, and a pause five.
    for step in 0..16u8 {
        attachment.detach();
        up.send("x").await.unwrap();
        assert_eq!(session.event().await, Some(Event::Suspended));
        let away = OUTAGE + Duration::from_secs(step.into());
        assert!(timeout(away, session.event()).await.is_err());
        attachment.move_to(([198, 51, 100, step + 1], 4242).into());
        let begun = Instant::now();
        assert_eq!(session.event().await, Some(Event::Resumed));
        // The handshake, the greeting, and the pace of looking.
        let waited = begun.elapsed();
        assert!(waited <= RTT * 2 + Duration::from_millis(40), "{away:?}: {waited:?}");
        assert_eq!(echo.recv().await.unwrap().unwrap().payload, "x");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_forgets_after_its_grace_time() {
    let config = SessionConfig { grace: Duration::from_secs(20), ..SessionConfig::default() };
    let World { network, sessions, session, _endpoints, .. } = world(config).await;
    let there = sessions.accept().await.unwrap();
    let up = session.open("up", StreamConfig::messages()).await.unwrap();
    up.send("x").await.unwrap();
    network.cut();
    while there.error().is_none() {
        there.event().await;
    }
    assert!(matches!(there.error(), Some(SessionError::Forgotten)));
    assert!(sessions.is_empty());
    // The client gives up too: there is nothing to come back to.
    while session.error().is_none() {
        session.event().await;
    }
    assert_eq!(up.unconfirmed().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_turns_everybody_away_for_a_while_is_asked_with_pauses() {
    let (near, far) = pair();
    let server = Endpoint::builder().identity(Identity::generate()).link(Box::new(far));
    let server = server.build().unwrap();
    let client = Endpoint::builder().link(Box::new(near)).build().unwrap();
    let sessions = Sessions::new(SessionConfig::default());
    let attend = |connection| {
        let sessions = sessions.clone();
        tokio::spawn(async move { sessions.attend(connection).await })
    };
    let connect = Session::connect(&client, SERVER, server.fingerprint(), SessionConfig::default());
    let (session, (_there, first)) = tokio::join!(connect, async {
        let connection = server.accept().await.unwrap();
        attend(connection.clone());
        (sessions.accept().await.unwrap(), connection)
    });
    let session = session.unwrap();
    assert_eq!(session.event().await, Some(Event::Started));
    first.close(0, b"cut by the test");
    let closing = Instant::now() + Duration::from_secs(20);
    let mut turned_away = 0;
    while let Ok(connection) = tokio::time::timeout_at(closing, server.accept()).await {
        connection.unwrap().close(9, b"under repair");
        turned_away += 1;
    }
    // 100 ms, 200 ms, 400 ms and so on, up to 5 s between them.
    assert!((3..=10).contains(&turned_away), "{turned_away}");
    assert_eq!(session.event().await, Some(Event::Suspended));
    attend(server.accept().await.unwrap());
    assert_eq!(session.event().await, Some(Event::Resumed));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_before_its_session_is_taken_leaves_none() {
    let (near, far) = pair();
    let server = Endpoint::builder().identity(Identity::generate()).link(Box::new(far));
    let server = server.build().unwrap();
    let client = Endpoint::builder().link(Box::new(near)).build().unwrap();
    let sessions = Sessions::new(SessionConfig::default());
    let trust = server.fingerprint();
    let connect = || Session::connect(&client, SERVER, trust, SessionConfig::default());
    // As many as wait for the application, which takes none.
    let mut begun = Vec::new();
    for _ in 0..64 {
        let (session, _) = tokio::join!(connect(), attend_next(&server, &sessions));
        begun.push(session.unwrap());
    }
    let ends = async {
        let connection = attend_next(&server, &sessions).await;
        while sessions.len() == begun.len() {
            sleep(Duration::from_millis(1)).await;
        }
        connection.close(0, b"cut by the test");
        while sessions.len() > begun.len() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    let last = async { timeout(OUTAGE, connect()).await.map(|last| last.is_ok()) };
    let (last, ended) = tokio::join!(last, timeout(OUTAGE, ends));
    assert!(last != Ok(true), "nothing is granted");
    ended.expect("it is held without a client");
}

/// Has the next client's session run; returns its connection.
async fn attend_next(server: &Endpoint, sessions: &Sessions) -> Connection {
    let connection = server.accept().await.unwrap();
    let (attended, sessions) = (connection.clone(), sessions.clone());
    tokio::spawn(async move { sessions.attend(attended).await });
    connection
}
