//! `jsp netcheck`: what the network in front of this machine lets through.

use std::net::SocketAddr;

use clap::Args;
use jsp::rendezvous::TurnServer;

use crate::cli::Global;
use crate::confidential::Confidential;
use crate::exit::{Exit, Failure, TABLE};
use crate::netcheck::{Passage, Report, try_datagrams, try_streams, try_turn, try_udp};
use crate::output::Output;
use crate::session;
use crate::target::Target;

const EXAMPLES: &str = "\
Examples:
  jsp netcheck --coordinator jsp://jsp1...@example.org   ask the `jspd` there
  jsp netcheck --stun 192.0.2.1:3478                     and a second server, about the box in between
  jsp netcheck --turn turn://ann:secret@turn.example.org whether a TURN server lends an address
  jsp netcheck --json                                    one object, for programs

It needs a coordinator: a machine outside that runs `jspd`, named here or in JSP_COORDINATOR. How the box
in between maps addresses shows when a second server that answers STUN, at another address, sees this
machine as well: the one that the coordinator names, or that of --stun.

The exit code is 0 when UDP passes, 1 when only another carrier does, 3 when nothing does.";

/// Find out what the network lets through: UDP, translated addresses, packet sizes, carriers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{TABLE}"))]
pub(crate) struct Netcheck {
    /// Whom to ask: a `jspd`
    #[arg(long, value_name = "HOST", env = "JSP_COORDINATOR")]
    coordinator: Option<Target>,
    /// A second server that answers STUN [default: the one that the coordinator names]
    #[arg(long, value_name = "ADDRESS")]
    stun: Option<SocketAddr>,
    /// A TURN server, turn://USER:PASSWORD@HOST[:PORT], to be asked for an address
    #[arg(long, value_name = "SERVER", env = "JSP_TURN", hide_env_values = true)]
    #[arg(value_parser = Confidential::<TurnServer>::new())]
    turn: Option<TurnServer>,
}

impl Netcheck {
    pub(crate) async fn run(self, global: &Global, output: Output) -> Result<Exit, Failure> {
        if !global.carriers.are_plain() || global.obfuscate {
            let sentence =
                "netcheck tries all carriers itself: without --carrier, --proxy and --obfuscate";
            return Err(Failure::usage(sentence));
        }
        let coordinator = self.coordinator.clone().ok_or_else(|| {
            Failure::usage(
                "netcheck asks a coordinator: name a machine outside of this network that runs `jspd`, \
                 with --coordinator jsp://FINGERPRINT@HOST or in JSP_COORDINATOR",
            )
        })?;
        tokio::select! {
            checked = self.check(&coordinator, global, output) => checked,
            () = session::interrupt() => Err(Failure::interrupted()),
        }
    }

    async fn check(
        &self,
        coordinator: &Target,
        global: &Global,
        output: Output,
    ) -> Result<Exit, Failure> {
        let [four, six] = resolve(coordinator).await?;
        let fingerprint = session::fingerprint_of(coordinator, global).await?;
        let patience = global.timeout;
        let first = four.or(six).ok_or_else(|| unresolved(coordinator))?;
        let (udp_ipv4, udp_ipv6, streams, turn) = tokio::join!(
            try_udp(four, fingerprint, patience),
            try_udp(six, fingerprint, patience),
            try_streams(first, fingerprint, patience),
            async { Some(try_turn(self.turn.as_ref()?, patience).await) },
        );
        let reached = match (&udp_ipv4, &udp_ipv6) {
            (Passage::Works { .. }, _) => four,
            (_, Passage::Works { .. }) => six,
            _ => None,
        };
        let datagrams = match reached {
            Some(address) => Some(try_datagrams(address, fingerprint, self.stun, patience).await?),
            None => None,
        };
        let coordinator =
            Target { fingerprint: Some(fingerprint), ..coordinator.clone() }.to_string();
        let event = "netcheck";
        let report = Report { event, coordinator, udp_ipv4, udp_ipv6, streams, turn, datagrams };
        report.print(output);
        Ok(match (report.udp_works(), report.anything_works()) {
            (true, _) => Exit::Success,
            (false, true) => Exit::BarMissed,
            (false, false) => Exit::Unreachable,
        })
    }
}

/// The coordinator's first address of each version of IP.
async fn resolve(coordinator: &Target) -> Result<[Option<SocketAddr>; 2], Failure> {
    let found = tokio::net::lookup_host(coordinator.authority.as_str()).await;
    let found: Vec<SocketAddr> = found.map_err(|_| unresolved(coordinator))?.collect();
    let first = |is_wanted: fn(&SocketAddr) -> bool| found.iter().copied().find(is_wanted);
    Ok([first(SocketAddr::is_ipv4), first(SocketAddr::is_ipv6)])
}

fn unresolved(coordinator: &Target) -> Failure {
    let name = &coordinator.authority;
    let sentence = format!("{name} does not resolve; check the spelling and the name service");
    Failure::new(Exit::Unreachable, sentence)
}
