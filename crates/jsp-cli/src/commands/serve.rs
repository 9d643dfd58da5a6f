//! `jsp serve` and `jsp recv`: receive files, answer pings and measurements, chat.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use jsp::{ClientAuth, Fingerprint};
use serde::Serialize;

use super::chat::Room;
use super::send::parse_retry;
use crate::cli::Global;
use crate::code::{About, Codes, Met, Role};
use crate::exit::{Exit, Failure, TABLE};
use crate::output::{Output, Tone};
use crate::services::{self, Served, Services};
use crate::session;
use crate::transfer::folder::{Folder, Taken};
use crate::transfer::resume::receiver_name;

const EXAMPLES: &str = "\
Examples:
  jsp serve --dir inbox                    receive into ./inbox until Ctrl-C
  jsp serve --bind [::]:9000 --chat        IPv6 and IPv4, another port, and chat
  jsp serve --obfuscate                    answer only those who know the fingerprint, and hide
  jsp serve --allow jsp1...                only the holder of this identity (`jsp key show`)

Files appear under their names once they are whole, checked with BLAKE3 and on the disk. Nothing is
overwritten and nothing leaves the folder.";

const RECV_EXAMPLES: &str = "\
Examples:
  jsp recv                   receive one transfer into this folder, then end
  jsp recv --dir inbox       into ./inbox
  jsp recv --rename          files whose names are taken get a number
  jsp recv --code            print a code; the sender types it and needs no address
  jsp recv --code CODE       type the code that the sender has printed

A code is good for one transfer and one guess. Both sides name the same coordinator, a machine with
`jspd` that both reach, with --coordinator or in JSP_COORDINATOR; it brings them together, even when
neither can be reached from outside, and cannot read or change what they send. After Ctrl-C on either
side the same command goes on where it was; the side that made the code adds CODE and --wait.";

/// Receive files, answer pings and measurements, chat
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{TABLE}"))]
pub(crate) struct Serve {
    /// The address to listen at; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:4433")]
    bind: String,
    /// End after the first transfer
    #[arg(long)]
    once: bool,
    /// Show chat lines of clients, and send them what is typed here
    #[arg(long)]
    chat: bool,
    #[command(flatten)]
    inbox: Inbox,
}

/// Receive one transfer of files, then end
#[derive(Debug, Args)]
#[command(after_help = RECV_EXAMPLES, after_long_help = format!("{RECV_EXAMPLES}\n\n{TABLE}"))]
pub(crate) struct Recv {
    /// The address to listen at; port 0 takes any free port
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:4433", conflicts_with = "code")]
    bind: String,
    #[command(flatten)]
    inbox: Inbox,
    #[command(flatten)]
    codes: Codes,
    /// How long to call again when the sender vanishes in the middle
    #[arg(long, value_name = "SECONDS", default_value = "300", requires = "code")]
    #[arg(value_parser = parse_retry)]
    retry: Duration,
}

#[derive(Debug, Args)]
struct Inbox {
    /// The folder that receives; made if it is missing
    #[arg(long, value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The identity to show; made if it is missing [default: this user's own]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Show the identity that has delegated to the key (see `jsp key delegate`); SIGHUP reads both again
    #[arg(long, value_name = "FILE", requires = "key")]
    delegation: Option<PathBuf>,
    /// Give files whose names are taken a number, instead of refusing them
    #[arg(long)]
    rename: bool,
    /// Accept only clients with this fingerprint; may be given several times
    #[arg(long, value_name = "FINGERPRINT")]
    allow: Vec<Fingerprint>,
}

#[derive(Serialize)]
struct ListeningEvent<'a> {
    event: &'static str,
    address: String,
    fingerprint: String,
    uri: &'a str,
    dir: String,
}

impl Recv {
    pub(crate) async fn run(self, global: &Global, output: Output) -> Result<Exit, Failure> {
        if self.codes.are_wanted() {
            return self.run_by_code(global, output).await;
        }
        let Self { bind, inbox, .. } = self;
        Serve { bind, once: true, chat: false, inbox }.run(global, output).await
    }

    async fn run_by_code(self, global: &Global, output: Output) -> Result<Exit, Failure> {
        let Self { inbox: Inbox { dir, key, delegation, rename, allow }, codes, retry, .. } = self;
        if key.is_some() || delegation.is_some() || !allow.is_empty() {
            let sentence = "a code takes the place of --key, --delegation and --allow";
            return Err(Failure::usage(sentence));
        }
        let taken = if rename { Taken::Number } else { Taken::Refuse };
        let folder = Arc::new(Folder::open(&dir, taken)?);
        output.line(format!("receiving into {}", folder.root().display()));
        let services = Services { folder: Some(folder), chat: None, perf: false, output };
        let about = About { role: Role::Receives, name: receiver_name()? };
        let work =
            async |met: &Met| services::receive_one(met.connection.clone(), services.clone()).await;
        let summary = codes.run(about, retry, (global, output), work).await?;
        Ok(if summary.failed == 0 { Exit::Success } else { Exit::File })
    }
}

impl Serve {
    pub(crate) async fn run(self, global: &Global, output: Output) -> Result<Exit, Failure> {
        let Inbox { dir, key, delegation, rename, allow } = self.inbox;
        let identity = session::server_identity(key.as_deref(), delegation.as_deref())?;
        let taken = if rename { Taken::Number } else { Taken::Refuse };
        let folder = Arc::new(Folder::open(&dir, taken)?);
        let auth = if allow.is_empty() { ClientAuth::None } else { ClientAuth::only(allow) };
        let endpoint = session::listen(&self.bind, identity, auth, global)?;
        #[cfg(unix)]
        if let Some(delegation) = delegation {
            session::renew_on_hangup(&endpoint, key, delegation, output);
        }
        let (uri, address) = session::uri(&endpoint)?;
        let uri = uri.to_string();
        output.object(&ListeningEvent {
            event: "listening",
            address: address.to_string(),
            fingerprint: endpoint.fingerprint().to_string(),
            uri: &uri,
            dir: folder.root().display().to_string(),
        });
        output.line(format!("receiving into {}", folder.root().display()));
        output.line(format!("fingerprint {}", endpoint.fingerprint()));
        output.line(format!("listening at {address}; others reach this with"));
        let option = if global.obfuscate { "--obfuscate " } else { "" };
        output.line(format!("  jsp send {option}FILE.. {}", output.tinted(Tone::Strong, &uri)));
        let chat = self.chat.then(|| Arc::new(Room::open(output)));
        let services = Services { folder: Some(folder), chat, perf: true, output };
        let once = self.once;
        let enough = move |served: &Served| once && served.transfer.is_some();
        let served =
            session::until_interrupted(&endpoint, services::serve(&endpoint, services, enough));
        match served.await?.and_then(|served| served.transfer) {
            None => Ok(Exit::Success),
            Some(Ok(summary)) if summary.failed == 0 => Ok(Exit::Success),
            Some(Ok(_)) => Ok(Exit::File),
            // Said when it happened.
            Some(Err(failure)) => Ok(failure.exit),
        }
    }
}
