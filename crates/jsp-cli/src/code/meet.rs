//! How two with the same code come together, and again after a break.

use std::future::pending;
use std::net::Ipv4Addr;
use std::time::Duration;

use jsp::rendezvous::{
    CallError, Passage, Peer, Policy, PortMap, Refusal, RegisterError, Registration, TurnServer,
};
use jsp::{Connection, Endpoint, Fingerprint, Identity};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::prove::{self, About, Claim, wrong_code};
use super::text::Code;
use crate::cli::Global;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::protocol::{APPLICATION_PROTOCOL, REFUSED};
use crate::session;
use crate::target::Target;

/// Callers that are heard at once; further ones are turned away.
const CLAIMS_MAX: usize = 8;
/// Calls in a row in which the other side has not shown that it knows the code. Each may have been a guess of
/// somebody in its place.
const UNPROVED_MAX: u32 = 3;
/// How long the coordinator, and the TURN server that it names, may take: the code is told after that.
const GRANT_WAIT: Duration = Duration::from_secs(3);
/// Between two attempts to reach the coordinator or the other side.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The other side, which knows the code.
pub(crate) struct Met {
    pub(crate) connection: Connection,
    pub(crate) about: About,
}

/// This side's place at the coordinator.
pub(super) struct Place {
    peer: Peer,
    coordinator: String,
    fingerprint: Fingerprint,
    registration: Option<Registration>,
}

impl Place {
    pub(super) async fn open(
        identity: Identity,
        coordinator: &Target,
        policy: Policy,
        global: &Global,
    ) -> Result<Self, Failure> {
        let builder = Endpoint::builder()
            .identity(identity)
            .application_protocol(APPLICATION_PROTOCOL)
            .transport(session::transport(global.timeout));
        let peer = Peer::build(global.carriers.meet(builder), policy)?;
        let fingerprint = session::fingerprint_of(coordinator, global).await?;
        let coordinator = coordinator.authority.clone();
        Ok(Self { peer, coordinator, fingerprint, registration: None })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.peer.endpoint()
    }

    /// Has a TURN server lend an address, or says why it does not.
    pub(super) async fn use_turn(
        &self,
        server: &TurnServer,
        patience: Duration,
    ) -> Result<(), String> {
        match timeout(patience, self.peer.use_turn(server)).await {
            Ok(lent) => lent.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err("the TURN server does not answer".to_owned()),
        }
    }

    /// Has the TURN server lend an address that the coordinator has its clients use, if it names one. Without, it goes
    /// on as well.
    pub(super) async fn use_granted_turn(&self, patience: Duration) {
        let Some(registration) = &self.registration else { return };
        let granted = timeout(GRANT_WAIT.min(patience), registration.turn_server()).await;
        if let Ok(Some((server, _))) = granted {
            let _ = self.use_turn(&server, GRANT_WAIT.min(patience)).await;
        }
    }

    /// Has the router map a port, or says why it does not.
    pub(super) async fn map_port(
        &self,
        router: Option<Ipv4Addr>,
        output: Output,
    ) -> Option<PortMap> {
        match self.peer.map_port(router).await {
            Ok(mapped) => Some(mapped),
            Err(error) => {
                output.remark(format!("jsp: {error}; going on without"));
                None
            }
        }
    }

    /// A place at the coordinator, kept while it lasts.
    pub(super) async fn register(&mut self) -> Result<&Registration, Failure> {
        let registration = match self.registration.take() {
            Some(registration) => registration,
            None => self.peer.register(self.coordinator.as_str(), self.fingerprint).await?,
        };
        Ok(self.registration.insert(registration))
    }

    /// Returns when the coordinator is gone, and forgets the place there.
    async fn lost(&mut self) {
        if let Some(registration) = &self.registration {
            let _ = registration.closed().await;
        }
        self.registration = None;
    }
}

impl From<RegisterError> for Failure {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::Connect(error) => {
                let failure = Self::from(error);
                Self { sentence: format!("the coordinator: {}", failure.sentence), ..failure }
            }
            error => Self::new(Exit::Unreachable, error.to_string()),
        }
    }
}

/// The side that has made the code, and waits.
pub(crate) struct Host {
    place: Place,
    code: Code,
    about: About,
    /// How long it waits.
    patience: Duration,
    claims: JoinSet<Result<Claim, Failure>>,
    /// Somebody has guessed wrong: nobody else may.
    used_up: bool,
    output: Output,
}

impl Host {
    pub(super) fn new(
        place: Place,
        code: Code,
        about: About,
        patience: Duration,
        output: Output,
    ) -> Self {
        let claims = JoinSet::new();
        Self { place, code, about, patience, claims, used_up: false, output }
    }

    /// Waits for the other side.
    async fn wait(&mut self) -> Result<Met, Failure> {
        let until = Instant::now() + self.patience;
        tokio::select! {
            met = self.next() => met,
            () = sleep_until(until) => {
                let sentence = format!(
                    "nobody came within {}; the code has expired, make a new one",
                    span(self.patience)
                );
                Err(Failure::new(Exit::Unreachable, sentence))
            }
        }
    }

    /// The next caller that knows the code, or that somebody did not. Cancel-safe: callers that are being heard wait.
    async fn next(&mut self) -> Result<Met, Failure> {
        let mut pause = PAUSE_MIN;
        loop {
            if self.used_up {
                return Err(wrong_code());
            }
            match self.place.register().await {
                Ok(_) => pause = PAUSE_MIN,
                Err(failure) if failure.exit == Exit::Unreachable => {
                    sleep(pause).await;
                    pause = PAUSE_MAX.min(pause * 2);
                    continue;
                }
                Err(failure) => return Err(failure),
            }
            let peer = self.place.peer.clone();
            tokio::select! {
                () = self.place.lost() => {}
                connection = peer.accept() => {
                    let Some(connection) = connection else { return Err(Failure::interrupted()) };
                    if self.claims.len() < CLAIMS_MAX {
                        self.claims.spawn(prove::hear(connection, self.code, self.about));
                    } else {
                        connection.close(REFUSED, b"too many at once");
                    }
                }
                Some(claim) = self.claims.join_next() => {
                    if let Ok(Ok(claim)) = claim
                        && let Some(met) = self.judge(claim)?
                    {
                        return Ok(met);
                    }
                }
            }
        }
    }

    /// One after the other, so that of many guesses at once only the first is answered.
    fn judge(&mut self, claim: Claim) -> Result<Option<Met>, Failure> {
        if !claim.judge() {
            self.used_up = true;
            return Err(wrong_code());
        }
        let Claim { connection, about, .. } = claim;
        if about.role == self.about.role {
            // The caller knows it, too, and goes.
            self.output.remark(format!("jsp: {}", same_role(about)));
            return Ok(None);
        }
        Ok(Some(Met { connection, about }))
    }
}

/// A time as people say it.
pub(super) fn span(time: Duration) -> String {
    match time.as_secs() {
        seconds if seconds >= 120 => format!("{} minutes", seconds / 60),
        _ => format!("{} seconds", time.as_secs_f64()),
    }
}

fn same_role(about: About) -> String {
    let (what, other) = match about.role {
        prove::Role::Sends => ("send", "recv"),
        prove::Role::Receives => ("receive", "send"),
    };
    format!("both sides want to {what}; one has to run `jsp {other}`")
}

/// The side that was told the code, and calls.
pub(crate) struct Guest {
    place: Place,
    code: Code,
    about: About,
    unproved: u32,
}

impl Guest {
    pub(super) fn new(place: Place, code: Code, about: About) -> Self {
        Self { place, code, about, unproved: 0 }
    }

    async fn call(&mut self) -> Result<Met, Failure> {
        let there = self.code.place()?.fingerprint();
        let registration = self.place.register().await?;
        let connection = match registration.connect(there).await {
            Ok(connection) => connection,
            Err(CallError::Refused { reason: Refusal::Unknown, .. }) => return Err(nobody()),
            Err(CallError::Refused { reason, .. }) => {
                return Err(Failure::new(
                    Exit::Refused,
                    format!("the coordinator refuses: {reason}"),
                ));
            }
            Err(call @ CallError::Connect { .. }) => return Err(call.into()),
            Err(error) => {
                self.place.registration = None;
                return Err(Failure::new(Exit::Unreachable, error.to_string()));
            }
        };
        self.unproved += 1;
        let about = match prove::call(&connection, self.code, self.about).await {
            Err(_) if self.unproved >= UNPROVED_MAX => return Err(wrong_code()),
            proved => proved?,
        };
        self.unproved = 0;
        if about.role == self.about.role {
            connection.close(REFUSED, b"both have the same role");
            return Err(Failure::usage(same_role(about)));
        }
        Ok(Met { connection, about })
    }
}

fn nobody() -> Failure {
    let sentence = "nobody waits under this code: it was used, has expired, or is of another \
                    coordinator; ask the other side for a new one";
    Failure::new(Exit::Unreachable, sentence)
}

/// Either side.
pub(crate) enum Meeting {
    Host(Host),
    Guest(Guest),
}

impl Meeting {
    fn peer(&self) -> &Peer {
        match self {
            Self::Host(host) => &host.place.peer,
            Self::Guest(guest) => &guest.place.peer,
        }
    }

    async fn first(&mut self) -> Result<Met, Failure> {
        match self {
            Self::Host(host) => host.wait().await,
            Self::Guest(guest) => guest.call().await,
        }
    }

    /// After a break, which `failure` tells of: within `retry`, or as long as a code waits.
    async fn again(&mut self, retry: Duration, failure: Failure) -> Result<Met, Failure> {
        let guest = match self {
            Self::Host(host) => return host.wait().await,
            Self::Guest(guest) => guest,
        };
        let until = Instant::now() + retry;
        let mut pause = PAUSE_MIN;
        loop {
            match guest.call().await {
                Err(error) if matches!(error.exit, Exit::Unreachable | Exit::PeerVanished) => {}
                ended => return ended,
            }
            if Instant::now() >= until {
                return Err(failure);
            }
            sleep(pause).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
    }

    /// The other side comes anew, before its going was noticed.
    async fn returned(&mut self) -> Met {
        if let Self::Host(host) = self
            && let Ok(met) = host.next().await
        {
            return met;
        }
        pending().await
    }
}

#[derive(Serialize)]
struct WayEvent {
    event: &'static str,
    direct: bool,
    way: &'static str,
}

/// Which way the work went at its end.
fn tell_way(passage: Passage, output: Output) {
    let (way, told) = match passage {
        Passage::Direct => ("direct", "directly"),
        Passage::Turn => ("turn", "through a TURN server, to the end"),
        Passage::Relay => ("relay", "over the coordinator's relay, to the end"),
    };
    let direct = passage == Passage::Direct;
    output.object(&WayEvent { event: "way", direct, way });
    output.line(output.tinted(Tone::Quiet, format!("went {told}")));
}

/// Meets the other side and works with it until the work is done, however often the connection breaks.
pub(crate) async fn together<T>(
    meeting: &mut Meeting,
    retry: Duration,
    output: Output,
    mut work: impl AsyncFnMut(&Met) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut met = meeting.first().await?;
    loop {
        let mut next = None;
        let ended = {
            let mut working = Box::pin(work(&met));
            tokio::select! {
                ended = &mut working => ended,
                returned = meeting.returned() => {
                    // What is left of the old connection ends, and is tidied up, at once.
                    met.connection.close(REFUSED, b"begun anew by another connection");
                    next = Some(returned);
                    working.await
                }
            }
        };
        met = match (ended, next) {
            (Ok(done), _) => {
                tell_way(meeting.peer().passage(&met.connection), output);
                return Ok(done);
            }
            (Err(_), Some(next)) => next,
            (Err(failure), None) if failure.exit == Exit::PeerVanished && !retry.is_zero() => {
                output.remark(format!("jsp: the other side vanished; waiting for it: {failure}"));
                meeting.again(retry, failure).await?
            }
            (Err(failure), None) => return Err(failure),
        };
    }
}
