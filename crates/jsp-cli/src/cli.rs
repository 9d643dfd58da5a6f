//! The command line, as clap sees it.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::carriers::Carriers;
use crate::commands::{chat, completions, demo, key, netcheck, perf, ping, send, serve};
use crate::exit::TABLE;

const EXAMPLES: &str = "\
Examples:
  jsp demo                          voice, chat and a file over one bad link, in this terminal
  jsp serve --dir inbox             receive files; prints the address that others need
  jsp send a.iso photos HOST        send a file and a folder, and wait until they are stored
  jsp send a.iso jsp://KEY@HOST     the same, sure of who receives
  jsp send a.iso --code             to somebody anywhere, who types the code that is printed
  jsp chat HOST                     talk to somebody who runs `jsp chat --listen`
  jsp perf HOST --reverse           how fast is the way back?
  jsp netcheck                      does UDP pass, what does the router do, which carriers work?
  jsp completions bash > ~/.local/share/bash-completion/completions/jsp

HOST is a name or an address with an optional port (4433 otherwise): example.org, [::1]:5000,
or jsp://FINGERPRINT@example.org:4433 as `jsp serve` prints it.";

/// Files, chat and measurements over JetStreamProto: one encrypted connection, many streams, each
/// with its own way of delivery.
#[derive(Debug, Parser)]
#[command(name = "jsp", version, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Try `jsp demo`; `jsp help COMMAND` shows examples and exit codes.")]
#[command(after_long_help = format!("{EXAMPLES}\n\n{TABLE}"))]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Print one JSON object per line on standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Show no progress
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Hide the protocol from observers and strangers; the other side must do the same
    #[arg(long, global = true)]
    pub(crate) obfuscate: bool,
    /// Accept only servers whose identity no quantum computer can forge (ML-DSA-65)
    #[arg(long, global = true)]
    pub(crate) pq_identity: bool,
    /// Give up after this long without an answer
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10")]
    #[arg(value_parser = parse_timeout)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) carriers: Carriers,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Demo(demo::Demo),
    Serve(serve::Serve),
    Recv(serve::Recv),
    Send(send::Send),
    Chat(chat::Chat),
    Netcheck(netcheck::Netcheck),
    Ping(ping::Ping),
    Perf(perf::Perf),
    Key(key::Key),
    Completions(completions::Completions),
    Man(completions::Man),
}

pub(crate) fn parse_timeout(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=86_400.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("a time-out is 0.1 to 86400 seconds".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example"), "{}", command.get_name());
        }
    }

    #[test]
    fn a_password_is_not_told_when_its_proxy_is_none() {
        for proxy in ["socks5://ann:secret@proxy", "://ann:secret@proxy:1", "secret"] {
            let parsed = Cli::try_parse_from(["jsp", "ping", "--proxy", proxy, "host"]);
            let told = parsed.unwrap_err().to_string();
            assert!(told.contains("--proxy") && told.contains("this is no proxy"), "{told}");
            assert!(!told.contains("secret"), "{told}");
        }
    }

    #[test]
    fn time_outs_are_sane() {
        assert_eq!(parse_timeout("1.5"), Ok(Duration::from_millis(1500)));
        for bad in ["0", "-1", "nan", "inf", "x", "1e9"] {
            assert!(parse_timeout(bad).is_err(), "{bad}");
        }
    }
}
