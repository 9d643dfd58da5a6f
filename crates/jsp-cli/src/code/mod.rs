//! Transfers between two that have met through a coordinator by a short code (`docs/TOOLS.md`).

mod meet;
mod prove;
mod text;

use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args;
use jsp::Identity;
use jsp::rendezvous::{Policy, TurnServer};
use serde::Serialize;

use crate::cli::{Global, parse_timeout};
use crate::confidential::Confidential;
use crate::exit::{Exit, Failure};
use crate::output::{Output, Tone};
use crate::session;
use crate::target::Target;
use meet::{Guest, Host, Place, span};
pub(crate) use meet::{Meeting, Met};
pub(crate) use prove::{About, Role};
use text::Code;

/// How to meet by a code.
#[derive(Debug, Args)]
#[command(next_help_heading = "Short codes")]
pub(crate) struct Codes {
    /// Meet by a code: print a new one for the other side to type, or type the one it has printed
    #[arg(long, value_name = "CODE", num_args = 0..=1)]
    code: Option<Option<Code>>,
    /// Where to meet: a `jspd` that both sides reach
    #[arg(long, value_name = "HOST", env = "JSP_COORDINATOR")]
    coordinator: Option<Target>,
    /// Wait under CODE as the side that has made it, to go on after an interruption
    #[arg(long, requires = "code")]
    wait: bool,
    /// How long a code may wait for the other side
    #[arg(long, requires = "code", value_name = "SECONDS", default_value = "3600")]
    #[arg(value_parser = parse_timeout)]
    expires: Duration,
    /// Never tell the other side this machine's address: all goes over the coordinator's relay, or the TURN server
    #[arg(long, requires = "code")]
    relay_only: bool,
    /// Never show this machine's address to anybody but the --proxy: open no UDP socket, and meet at the coordinator in
    /// streams through the proxy, whose address is all that it sees; implies --relay-only
    #[arg(long, requires = "code")]
    proxy_only: bool,
    /// Ask the router in front of this machine to map a port (PCP, NAT-PMP, UPnP), which makes direct ways likelier;
    /// with =ROUTER, that at this address
    #[arg(long, requires = "code", conflicts_with_all = ["relay_only", "proxy_only"])]
    #[arg(value_name = "ROUTER", num_args = 0..=1, require_equals = true)]
    map_port: Option<Option<Ipv4Addr>>,
    /// A TURN server, turn://USER:PASSWORD@HOST[:PORT], in the place of the coordinator's relay where no direct way is
    /// found [default: the one that the coordinator names, if it does]
    #[arg(long, value_name = "SERVER", env = "JSP_TURN", hide_env_values = true)]
    #[arg(value_parser = Confidential::<TurnServer>::new())]
    turn: Option<TurnServer>,
}

#[derive(Serialize)]
struct CodeEvent<'a> {
    event: &'static str,
    code: &'a str,
    coordinator: &'a str,
    expires_seconds: u64,
}

impl Codes {
    /// Whether this is to go by a code.
    pub(crate) fn are_wanted(&self) -> bool {
        self.code.is_some()
    }

    /// Goes to the coordinator, and does there what `work` wants with each connection, until it is done.
    pub(crate) async fn run<T>(
        self,
        about: About,
        retry: Duration,
        (global, output): (&Global, Output),
        work: impl AsyncFnMut(&Met) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (code, has_made_it) = match self.code.flatten() {
            Some(code) => (code, self.wait),
            None if self.wait => return Err(Failure::usage("--wait needs the CODE to wait under")),
            None => (Code::random(), true),
        };
        let policy = self.checked_policy(global)?;
        let coordinator = self.checked_coordinator(global)?;
        let has_udp = policy.allows_udp() && !global.carriers.forbid_udp();
        if self.turn.is_some() && !has_udp {
            return Err(Failure::usage(
                "--turn (or JSP_TURN) is reached by UDP: leave it out, or --no-udp and --proxy-only",
            ));
        }
        let identity = if has_made_it { code.place()? } else { Identity::generate() };
        let mut place = Place::open(identity, &coordinator, policy, global).await?;
        let endpoint = place.endpoint().clone();
        let work = async {
            if let Some(turn) = &self.turn
                && let Err(reason) = place.use_turn(turn, global.timeout).await
            {
                output.remark(format!("jsp: {}: {reason}; going on without", turn.server()));
            }
            let mapped = match self.map_port {
                Some(router) => place.map_port(router, output).await,
                None => None,
            };
            // Before a code is told: it leads here from the first moment.
            place.register().await?;
            // A TURN server is reached by UDP.
            if self.turn.is_none() && has_udp {
                place.use_granted_turn(global.timeout).await;
            }
            let mut meeting = if has_made_it {
                tell(code, &coordinator, self.expires, about.role, output);
                Meeting::Host(Host::new(place, code, about, self.expires, output))
            } else {
                Meeting::Guest(Guest::new(place, code, about))
            };
            let ended = meet::together(&mut meeting, retry, output, work).await;
            if let Some(mapped) = mapped {
                mapped.release().await;
            }
            ended
        };
        let mut ended = session::until_interrupted(&endpoint, work).await;
        if let Err(failure) = &mut ended
            && has_made_it
            && failure.exit == Exit::Interrupted
        {
            let command = command_of(about.role);
            failure.sentence = format!(
                "interrupted; the code stays good for `jsp {command} --code {code} --wait`"
            );
        }
        ended
    }

    /// What this side may use and tell, which holds before anything leaves.
    fn checked_policy(&self, global: &Global) -> Result<Policy, Failure> {
        let has_proxy = global.carriers.have_proxy();
        if self.proxy_only && !has_proxy {
            let sentence = "--proxy-only needs the proxy to go through: name it with --proxy, as in \
                            --proxy socks5://HOST:PORT, http://HOST:PORT or tor://HOST:PORT";
            return Err(Failure::usage(sentence));
        }
        if has_proxy && !self.proxy_only {
            let sentence = "by a code, a direct way would go around the proxy: add --proxy-only to go through it \
                            alone, over the coordinator's relay, or leave --proxy out";
            return Err(Failure::usage(sentence));
        }
        Ok(if self.proxy_only {
            Policy::ProxyOnly
        } else if self.relay_only || global.carriers.forbid_udp() {
            Policy::RelayOnly
        } else {
            Policy::Any
        })
    }

    fn checked_coordinator(&self, global: &Global) -> Result<Target, Failure> {
        if global.obfuscate || global.pq_identity {
            let sentence =
                "a code goes by identities of its own: without --obfuscate and --pq-identity";
            return Err(Failure::usage(sentence));
        }
        self.coordinator.clone().ok_or_else(|| {
            let sentence = "codes need a coordinator, the same for both sides: name a machine that runs \
                            `jspd` with --coordinator jsp://FINGERPRINT@HOST or in JSP_COORDINATOR";
            Failure::usage(sentence)
        })
    }
}

fn command_of(role: Role) -> &'static str {
    match role {
        Role::Sends => "send FILE..",
        Role::Receives => "recv",
    }
}

fn tell(code: Code, coordinator: &Target, patience: Duration, role: Role, output: Output) {
    let other = match role {
        Role::Sends => Role::Receives,
        Role::Receives => Role::Sends,
    };
    let code = code.to_string();
    let coordinator = coordinator.to_string();
    output.object(&CodeEvent {
        event: "code",
        code: &code,
        coordinator: &coordinator,
        expires_seconds: patience.as_secs(),
    });
    output.line(format!("the other side runs, within {},", span(patience)));
    let code = output.tinted(Tone::Strong, &code);
    output.line(format!("  jsp {} --code {code}", command_of(other)));
    output.line(output.tinted(Tone::Quiet, format!("at the coordinator {coordinator}")));
}
