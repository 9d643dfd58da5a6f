//! `jsp key`: this user's identity, and the hosts that are known.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jsp::{Endpoint, Fingerprint, Identity, SignatureScheme, Trust};
use jsp_crypto::identity::Floor;
use jsp_crypto::known_hosts::{KnownHosts, KnownHostsError, Lookup};
use serde::Serialize;

use super::delegate::Delegate;
use crate::cli::Global;
use crate::exit::{Exit, Failure, TABLE};
use crate::output::Output;
use crate::protocol::APPLICATION_PROTOCOL;
use crate::session;
use crate::settings;
use crate::target::Target;

const EXAMPLES: &str = "\
Examples:
  jsp key show                         this user's fingerprint, and where the key is
  jsp key new --out server.key         another identity, for `jsp serve --key server.key`
  jsp key new --ml-dsa --out pq.key    one whose signatures no quantum computer can forge
  jsp key fingerprint example.org      who answers there? (nothing is remembered)
  jsp key trust example.org jsp1...    remember a fingerprint that somebody told you
  jsp key forget example.org           after a server was set up anew
  jsp key list                         all hosts that are known

A server whose identity stays elsewhere runs on an online key that changes every few days:
  jsp key new --out online.key         on the server
  jsp key public --key online.key      prints jsp1key-..., which goes to the identity
  jsp key delegate jsp1key-... --key identity.key --out online.delegation
  jsp serve --key online.key --delegation online.delegation
The next delegation goes into the same file: kill -HUP makes the server read it.
The identity may be in a PKCS#11 token: give new and delegate
  --pkcs11 libsofthsm2.so --token LABEL --label LABEL --pin-file FILE

Keys and known hosts are in the folder that `jsp key show` names; JSP_CONFIG_DIR chooses another.";

/// Manage identities and known hosts
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, after_long_help = format!("{EXAMPLES}\n\n{TABLE}"))]
pub(crate) struct Key {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    New(New),
    /// Show this user's identity; makes it at the first use
    Show,
    /// Print a fingerprint: of this user, of a key file, or of who answers at a host
    Fingerprint {
        /// A host to ask
        #[arg(value_name = "HOST", conflicts_with = "key")]
        host: Option<Target>,
        /// A key file
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    /// Print the public key that `jsp key delegate` takes
    Public {
        /// A key file [default: this user's own]
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
    },
    Delegate(Delegate),
    /// Remember a host's fingerprint
    Trust {
        /// The host
        #[arg(value_name = "HOST")]
        host: Target,
        /// Its fingerprint, unless HOST carries it as jsp://FINGERPRINT@HOST
        #[arg(value_name = "FINGERPRINT")]
        fingerprint: Option<Fingerprint>,
        /// Replace another fingerprint that is remembered
        #[arg(long)]
        replace: bool,
    },
    /// Forget a host
    Forget {
        /// The host
        #[arg(value_name = "HOST")]
        host: Target,
    },
    /// List the known hosts
    List,
}

/// Make a new identity; never replaces one
#[derive(Debug, Args)]
struct New {
    /// The file to write [default: this user's own]
    #[arg(long, value_name = "FILE")]
    #[cfg_attr(feature = "pkcs11", arg(conflicts_with = "module"))]
    out: Option<PathBuf>,
    /// Sign by ML-DSA-65 instead of Ed25519: post-quantum, and 5 kB more in each handshake
    #[arg(long)]
    #[cfg_attr(feature = "pkcs11", arg(conflicts_with = "module"))]
    ml_dsa: bool,
    #[cfg(feature = "pkcs11")]
    #[command(flatten)]
    token: super::token::Token,
}

#[derive(Serialize)]
struct KeyEvent {
    event: &'static str,
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
}

#[derive(Serialize)]
struct PublicEvent {
    event: &'static str,
    public: String,
    fingerprint: String,
}

impl Key {
    pub(crate) fn needs_network(&self) -> bool {
        matches!(self.action, Action::Fingerprint { host: Some(_), .. })
    }

    pub(crate) fn run_offline(self, output: Output) -> Result<Exit, Failure> {
        match self.action {
            Action::New(new) => new.run(output),
            Action::Show => show(output),
            Action::Fingerprint { key, .. } => own_fingerprint(key, output),
            Action::Public { key } => public(key, output),
            Action::Delegate(delegate) => delegate.run(output),
            Action::Trust { host, fingerprint, replace } => {
                trust(&host, fingerprint, replace, output)
            }
            Action::Forget { host } => forget(&host, output),
            Action::List => list(output),
        }
    }

    pub(crate) async fn run_online(self, global: &Global, output: Output) -> Result<Exit, Failure> {
        match &self.action {
            Action::Fingerprint { host: Some(host), .. } => ask(host, global, output).await,
            _ => self.run_offline(output),
        }
    }
}

impl New {
    fn run(self, output: Output) -> Result<Exit, Failure> {
        #[cfg(feature = "pkcs11")]
        if let Some(signer) = self.token.generate()? {
            let fingerprint = jsp::Signer::public(&signer).fingerprint().to_string();
            output.line(format!("fingerprint {fingerprint}\nthe key is in the token"));
            output.object(&KeyEvent { event: "created", fingerprint, path: None, host: None });
            return Ok(Exit::Success);
        }
        let path = self.out.map_or_else(settings::identity_path, Ok)?;
        settings::make_parent(&path)?;
        let scheme = if self.ml_dsa { SignatureScheme::MlDsa65 } else { SignatureScheme::Ed25519 };
        let identity = Identity::generate_with(scheme);
        identity.save(&path)?;
        tell("created", &identity, &path.display().to_string(), output);
        Ok(Exit::Success)
    }
}

fn show(output: Output) -> Result<Exit, Failure> {
    let path = settings::identity_path()?;
    tell("identity", &session::identity(None)?, &path.display().to_string(), output);
    Ok(Exit::Success)
}

fn tell(event: &'static str, identity: &Identity, path: &str, output: Output) {
    let fingerprint = identity.fingerprint().to_string();
    output.line(format!("fingerprint {fingerprint}\nkey file    {path} (secret: keep it)"));
    output.object(&KeyEvent { event, fingerprint, path: Some(path.to_owned()), host: None });
}

fn public(key: Option<PathBuf>, output: Output) -> Result<Exit, Failure> {
    let identity = session::existing_identity(key.as_deref())?;
    let (public, fingerprint) = (identity.public().to_string(), identity.fingerprint().to_string());
    output.line(&public);
    output.object(&PublicEvent { event: "public", public, fingerprint });
    Ok(Exit::Success)
}

fn own_fingerprint(key: Option<PathBuf>, output: Output) -> Result<Exit, Failure> {
    let identity = match key {
        Some(path) => Identity::load(path)?,
        None => session::identity(None)?,
    };
    let fingerprint = identity.fingerprint().to_string();
    output.line(&fingerprint);
    output.object(&KeyEvent { event: "fingerprint", fingerprint, path: None, host: None });
    Ok(Exit::Success)
}

/// Connects only to see who answers. Without a fingerprint to compare, the answer is as good as the
/// network on the way.
async fn ask(host: &Target, global: &Global, output: Output) -> Result<Exit, Failure> {
    let endpoint = Endpoint::builder()
        .application_protocol(APPLICATION_PROTOCOL)
        .signatures(session::signatures(global))
        .transport(session::transport(global.timeout))
        .build()?;
    let trust = host.fingerprint.map_or(Trust::Insecure, Trust::Pinned);
    let work = async {
        let connection = endpoint.connect(host.authority.as_str(), trust).await?;
        connection.peer_identity().map(|peer| peer.fingerprint.to_string()).ok_or_else(|| {
            Failure::new(Exit::Refused, format!("{} has shown no identity", host.authority))
        })
    };
    let fingerprint = session::until_interrupted(&endpoint, work).await?;
    output.line(&fingerprint);
    let host = Some(host.authority.clone());
    output.object(&KeyEvent { event: "fingerprint", fingerprint, path: None, host });
    Ok(Exit::Success)
}

fn store() -> Result<KnownHosts, Failure> {
    let path = settings::known_hosts_path()?;
    session::open_known_hosts(&path)
}

fn explain(error: KnownHostsError) -> Failure {
    let exit = match error {
        KnownHostsError::Changed { .. } => Exit::WrongIdentity,
        _ => Exit::Keys,
    };
    Failure::new(exit, error.to_string())
}

fn trust(
    host: &Target,
    fingerprint: Option<Fingerprint>,
    replace: bool,
    output: Output,
) -> Result<Exit, Failure> {
    let fingerprint = match (fingerprint, host.fingerprint) {
        (Some(given), Some(carried)) if given != carried => {
            return Err(Failure::usage("HOST carries another fingerprint than the one given"));
        }
        (given, carried) => given.or(carried).ok_or_else(|| {
            Failure::usage("give the fingerprint, or HOST as jsp://FINGERPRINT@HOST")
        })?,
    };
    let mut store = store()?;
    let host = &host.authority;
    match store.lookup(host, &fingerprint) {
        Lookup::Changed { .. } if replace => store.replace(host, fingerprint, Floor::default()),
        Lookup::Changed { old, .. } => {
            let sentence =
                format!("{host} is remembered as {old}; use --replace if you know why it changed");
            return Err(Failure::new(Exit::WrongIdentity, sentence));
        }
        Lookup::Unknown | Lookup::Match(_) => store.remember(host, fingerprint, Floor::default()),
    }
    .map_err(explain)?;
    output.line(format!("{host} is trusted as {fingerprint}"));
    let (fingerprint, host) = (fingerprint.to_string(), Some(host.clone()));
    output.object(&KeyEvent { event: "trusted", fingerprint, path: None, host });
    Ok(Exit::Success)
}

fn forget(host: &Target, output: Output) -> Result<Exit, Failure> {
    let mut store = store()?;
    let known = store.get(&host.authority).map(|(fingerprint, _)| fingerprint.to_string());
    store.forget(&host.authority).map_err(explain)?;
    output.line(format!("{} is forgotten", host.authority));
    let (fingerprint, host) = (known.unwrap_or_default(), Some(host.authority.clone()));
    output.object(&KeyEvent { event: "forgotten", fingerprint, path: None, host });
    Ok(Exit::Success)
}

fn list(output: Output) -> Result<Exit, Failure> {
    let store = store()?;
    for problem in store.problems() {
        output.remark(format!("jsp: known_hosts, line {}: {}", problem.line, problem.why));
    }
    for (host, fingerprint, _) in store.iter() {
        output.line(format!("{fingerprint} {host}"));
        let (fingerprint, host) = (fingerprint.to_string(), Some(host.to_owned()));
        output.object(&KeyEvent { event: "known", fingerprint, path: None, host });
    }
    Ok(Exit::Success)
}
