//! Endpoints and connections as all commands use them, and Ctrl-C.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jsp::{
    ClientAuth, ConnectError, Connection, Delegation, Endpoint, Fingerprint, HandshakeError,
    Identity, SignaturePolicy, TransportConfig, Trust,
};
use jsp_crypto::known_hosts::KnownHosts;
#[cfg(unix)]
use serde::Serialize;

use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::protocol::{APPLICATION_PROTOCOL, DONE, INTERRUPTED};
use crate::settings;
use crate::target::Target;

/// Windows that keep a process of `jsp send` or `jsp serve` small, yet fill 1 Gbit/s over 60 ms.
const STREAM_WINDOW_MAX: u64 = 6 << 20;
const CONNECTION_WINDOW_MAX: u64 = 8 << 20;
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_millis(500);

/// The transport of all commands. `timeout` is how long silence may last.
pub(crate) fn transport(timeout: Duration) -> TransportConfig {
    TransportConfig {
        idle_timeout: timeout,
        keep_alive: Some(timeout / 4),
        handshake_timeout: timeout,
        stream_window_max: STREAM_WINDOW_MAX,
        connection_window_max: CONNECTION_WINDOW_MAX,
        ..TransportConfig::default()
    }
}

/// An endpoint that accepts.
pub(crate) fn listen(
    bind: &str,
    identity: Identity,
    auth: ClientAuth,
    global: &Global,
) -> Result<Endpoint, Failure> {
    let fingerprint = identity.fingerprint();
    let builder = Endpoint::builder()
        .identity(identity)
        .client_auth(auth)
        .application_protocol(APPLICATION_PROTOCOL)
        .transport(transport(global.timeout));
    let mut builder = global.carriers.listen(builder, bind)?;
    if global.obfuscate {
        builder = builder.obfuscation(fingerprint);
    }
    Ok(builder.build()?)
}

/// The identity in `path`, or this user's own; made at the first use.
pub(crate) fn identity(path: Option<&Path>) -> Result<Identity, Failure> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => settings::identity_path()?,
    };
    settings::make_parent(&path)?;
    Ok(Identity::load_or_generate(path)?)
}

/// The identity in `path`, or this user's own, which must be there.
pub(crate) fn existing_identity(path: Option<&Path>) -> Result<Identity, Failure> {
    match path {
        Some(path) => Ok(Identity::load(path)?),
        None => Ok(Identity::load(settings::identity_path()?)?),
    }
}

/// The identity that a server shows: that of a key file, or that which has delegated to it.
pub(crate) fn server_identity(
    key: Option<&Path>,
    delegation: Option<&Path>,
) -> Result<Identity, Failure> {
    let Some(path) = delegation else { return identity(key) };
    Ok(existing_identity(key)?.delegated(Delegation::load(path)?)?)
}

/// From now on reads a delegated key's files again whenever a hang-up signal comes (`kill -HUP`), so
/// that the next online key or delegation takes over while connections go on.
#[cfg(unix)]
pub(crate) fn renew_on_hangup(
    endpoint: &Endpoint,
    key: Option<PathBuf>,
    delegation: PathBuf,
    output: Output,
) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let endpoint = endpoint.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match renew(&endpoint, key.as_deref(), &delegation) {
                Ok(until) => {
                    output.object(&RenewedEvent { event: "renewed", until });
                    output.line("the delegation is renewed");
                }
                Err(failure) => {
                    output.remark(format!("jsp: the delegation is not renewed: {failure}"));
                }
            }
        }
    });
}

/// The end of the new delegation, in seconds since 1970 UTC.
#[cfg(unix)]
fn renew(endpoint: &Endpoint, key: Option<&Path>, delegation: &Path) -> Result<u64, Failure> {
    let identity = server_identity(key, Some(delegation))?;
    endpoint
        .renew_identity(&identity)
        .map_err(|error| Failure::new(Exit::Keys, error.to_string()))?;
    Ok(identity.delegation().map_or(0, |delegation| delegation.period().1))
}

#[cfg(unix)]
#[derive(Serialize)]
struct RenewedEvent {
    event: &'static str,
    until: u64,
}

/// This user's identity if there is one: shown to servers that ask.
fn client_identity() -> Result<Option<Identity>, Failure> {
    let path = settings::identity_path()?;
    Ok(if path.exists() { Some(Identity::load(path)?) } else { None })
}

/// Connects, and tells the user whom it met for the first time.
pub(crate) async fn connect(
    target: &Target,
    global: &Global,
    output: Output,
) -> Result<(Endpoint, Connection), Failure> {
    let builder = Endpoint::builder()
        .application_protocol(APPLICATION_PROTOCOL)
        .signatures(signatures(global))
        .transport(transport(global.timeout));
    let mut builder = global.carriers.connect(builder);
    if global.obfuscate {
        let key = target.fingerprint.ok_or_else(|| {
            let words =
                "--obfuscate needs the server's fingerprint: use the jsp:// address that it prints";
            Failure::new(Exit::Usage, words.to_owned())
        })?;
        builder = builder.obfuscation(key);
    }
    if let Some(identity) = client_identity()? {
        builder = builder.client_identity(identity);
    }
    let endpoint = builder.build()?;
    let (trust, first_meeting) = trust(target)?;
    let connected = endpoint.connect(target.authority.as_str(), trust).await;
    let connection = connected.map_err(|error| explain(error, target))?;
    if let Some(store) = first_meeting
        && let Some(peer) = connection.peer_identity()
    {
        output.remark(format!(
            "jsp: {} is met for the first time; it is\n     {}\n     Compare this with what the \
             server prints. It is remembered in {}.",
            target.authority,
            peer.fingerprint,
            store.display()
        ));
    }
    Ok((endpoint, connection))
}

/// Identities of every kind, unless the user wants the strongest.
pub(crate) fn signatures(global: &Global) -> SignaturePolicy {
    if global.pq_identity { SignaturePolicy::PostQuantum } else { SignaturePolicy::Any }
}

/// Whom to trust, and the store when the host is not in it yet.
fn trust(target: &Target) -> Result<(Trust, Option<PathBuf>), Failure> {
    if let Some(fingerprint) = target.fingerprint {
        return Ok((Trust::Pinned(fingerprint), None));
    }
    let path = settings::known_hosts_path()?;
    let known = open_known_hosts(&path)?.get(&target.authority).is_some();
    Ok((Trust::FirstUse(path.clone()), (!known).then_some(path)))
}

/// The store of known hosts.
pub(crate) fn open_known_hosts(path: &Path) -> Result<KnownHosts, Failure> {
    KnownHosts::open(path).map_err(|error| Failure::new(Exit::Keys, error.to_string()))
}

/// The fingerprint of a coordinator: as given, as remembered, or as it shows itself at the first meeting, by the carriers
/// that are asked for.
pub(crate) async fn fingerprint_of(
    coordinator: &Target,
    global: &Global,
) -> Result<Fingerprint, Failure> {
    if let Some(fingerprint) = coordinator.fingerprint {
        return Ok(fingerprint);
    }
    let path = settings::known_hosts_path()?;
    if let Some((fingerprint, _)) = open_known_hosts(&path)?.get(&coordinator.authority) {
        return Ok(fingerprint);
    }
    let builder = Endpoint::builder()
        .client_identity(Identity::generate())
        .application_protocol(APPLICATION_PROTOCOL)
        .transport(transport(global.timeout));
    let endpoint = global.carriers.meet(builder).build()?;
    let connected = endpoint.connect(coordinator.authority.as_str(), Trust::FirstUse(path));
    let connection = connected.await.map_err(|error| explain(error, coordinator))?;
    let shown = connection.peer_identity().map(|peer| peer.fingerprint);
    endpoint.close(DONE, b"");
    shown.ok_or_else(|| Failure::new(Exit::WrongIdentity, "the coordinator has shown no identity"))
}

fn explain(error: ConnectError, target: &Target) -> Failure {
    let is_mismatch = matches!(error, ConnectError::Identity { .. });
    let required = HandshakeError::ClientIdentityRequired;
    let wants_identity =
        matches!(&error, ConnectError::Handshake { error, .. } if *error == required);
    let mut failure = Failure::from(error);
    if wants_identity {
        failure.sentence = format!(
            "{} takes only clients that it knows, and this user has no identity yet: make one with \
             `jsp key show`, and tell its fingerprint to whoever runs the server",
            target.authority
        );
    }
    if is_mismatch {
        failure.sentence = match target.fingerprint {
            Some(_) => format!("WRONG IDENTITY: {}", failure.sentence),
            None => format!(
                "THE IDENTITY HAS CHANGED: {}. If you know why it changed: jsp key forget {}",
                failure.sentence, target.authority
            ),
        };
    }
    failure
}

/// Runs `work` until it ends or the user presses Ctrl-C; then says goodbye.
pub(crate) async fn until_interrupted<T>(
    endpoint: &Endpoint,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let result = tokio::select! {
        // First, so that a signal is heard from the moment that the work says something.
        biased;
        () = interrupt() => Err(Failure::interrupted()),
        result = work => result,
    };
    match &result {
        Err(Failure { exit: Exit::Interrupted, .. }) => {
            endpoint.close(INTERRUPTED, b"interrupted by its user");
        }
        _ => endpoint.close(DONE, b"done"),
    }
    // The goodbye is a courtesy: without it the peer waits for its time-out.
    let _ = tokio::time::timeout(GOODBYE, endpoint.shutdown()).await;
    result
}

/// Returns when the user, or the system, wants the program to end.
pub(crate) async fn interrupt() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                result = tokio::signal::ctrl_c() => wait_unless(result.is_ok()).await,
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let result = tokio::signal::ctrl_c().await;
    wait_unless(result.is_ok()).await;
}

/// A system that cannot tell of Ctrl-C never interrupts.
async fn wait_unless(told: bool) {
    if !told {
        std::future::pending::<()>().await;
    }
}

/// The URI that others reach `endpoint` at.
pub(crate) fn uri(endpoint: &Endpoint) -> Result<(Target, SocketAddr), Failure> {
    let bound = endpoint.local_addr().map_err(|error| {
        Failure::new(Exit::CannotListen, format!("the socket has no address: {error}"))
    })?;
    let mut reached = bound;
    if bound.ip().is_unspecified() {
        // An address for documentation (RFC 5737) stands for the outside.
        let outside = SocketAddr::from(([192, 0, 2, 1], 9));
        reached.set_ip(own_address(outside).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
    let target =
        Target { authority: reached.to_string(), fingerprint: Some(endpoint.fingerprint()) };
    Ok((target, bound))
}

/// This machine's address towards another. Nothing is sent: connecting a UDP socket only chooses a
/// route.
pub(crate) fn own_address(towards: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match towards {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(towards).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}
