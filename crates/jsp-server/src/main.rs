//! `jspd`: the daemon's command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use jsp_server::{Config, Daemon};

const AFTER: &str = "\
Examples:
  jspd                                 at 0.0.0.0:4433, identity in ./jspd.key
  jspd --config /etc/jspd.toml         as the file says; options go before it
  jspd --bind [::]:4433 --status 60    IPv6 and IPv4, and counters every minute
  jspd --tcp 0.0.0.0:4433 --tls 0.0.0.0:443
                                       also for clients in networks that block UDP

The configuration file, with its defaults:
  bind = \"0.0.0.0:4433\"
  identity = \"jspd.key\"       # made if it is missing
  allow = []                  # fingerprints of clients; empty: all that show an identity
  # stun = \"192.0.2.1:3478\"   # another STUN server, told to clients
  status_every = 0            # seconds between lines of counters; 0: none
  [streams]                   # for networks that block UDP; none by default
  tcp = []                    # such as [\"0.0.0.0:4433\"], which clients try by themselves
  tls = []                    # such as [\"0.0.0.0:443\"], which clients try by themselves, too
  websocket = []              # plain, as behind a proxy that ends TLS: limits for one
                              # network then hold for all who come through it
  websocket_tls = []
  # certificate = { chain = \"chain.pem\", key = \"key.pem\" }   # for TLS; else one of its own
  # [turn]                    # a TURN server of somebody else, which clients are told of
  # server = \"turn.example:3478\"
  # secret = \"...\"            # shared with it (coturn: static-auth-secret); or user and password
  # lifetime = 86400          # seconds that a user of the secret is good for
  [limits]
  clients = 10000
  channels_per_client = 64
  asks_per_minute = 120
  relay_bytes_per_second = 1000000
  relay_bytes_per_second_total = 100000000

Peers need the fingerprint that is printed at the start. Ctrl-C or SIGTERM ends in order.";

/// The meeting point of JetStreamProto's peers: rendezvous by identity, STUN, a relay of sealed datagrams
///
/// It sees who talks to whom, when and how much. It has no key that opens what it forwards.
#[derive(Debug, Parser)]
#[command(name = "jspd", version, after_help = AFTER)]
struct Arguments {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The UDP address for connections, STUN and the relay
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<String>,
    /// An address for connections and the relay by TCP besides; may be given several times
    #[arg(long, value_name = "ADDRESS")]
    tcp: Vec<String>,
    /// The same inside TLS, commonly at port 443
    #[arg(long, value_name = "ADDRESS")]
    tls: Vec<String>,
    /// The same in WebSockets
    #[arg(long, value_name = "ADDRESS")]
    websocket: Vec<String>,
    /// The file of the identity; made if it is missing
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Another server that answers STUN, told to clients
    #[arg(long, value_name = "ADDRESS")]
    stun: Option<SocketAddr>,
    /// Print counters as JSON on standard output so often
    #[arg(long, value_name = "SECONDS")]
    status: Option<u64>,
}

impl Arguments {
    fn config(self) -> Result<Config, jsp_server::ConfigError> {
        let mut config = match &self.config {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        config.bind = self.bind.unwrap_or(config.bind);
        config.streams.tcp.extend(self.tcp);
        config.streams.tls.extend(self.tls);
        config.streams.websocket.extend(self.websocket);
        config.identity = self.key.unwrap_or(config.identity);
        config.stun = self.stun.or(config.stun);
        config.status_every = self.status.unwrap_or(config.status_every);
        Ok(config)
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jspd: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), Box<dyn std::error::Error>> {
    let config = Arguments::parse().config()?;
    let daemon = Daemon::start(&config)?;
    eprintln!("listening at {}", daemon.local_addr()?);
    for (kind, address) in daemon.stream_addrs() {
        eprintln!("listening at {address} for {kind}");
    }
    eprintln!("fingerprint {}", daemon.fingerprint());
    tokio::select! {
        () = daemon.serve() => {}
        () = print_status(&daemon, &config) => {}
        result = asked_to_end() => result?,
    }
    daemon.shutdown().await;
    Ok(())
}

/// Prints counters again and again, where that is wanted.
async fn print_status(daemon: &Daemon, config: &Config) {
    let Some(every) = config.status_every() else { return std::future::pending().await };
    loop {
        tokio::time::sleep(every).await;
        if let Ok(line) = serde_json::to_string(&daemon.status()) {
            println!("{line}");
        }
    }
}

#[cfg(unix)]
async fn asked_to_end() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn asked_to_end() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
