//! `jsp key delegate`: an identity lets an online key speak for it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jsp::{Delegation, PublicIdentity};
use serde::Serialize;

use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::session;

/// Let an online key speak for an identity for a while
#[derive(Debug, Args)]
pub(crate) struct Delegate {
    /// The online key, as `jsp key public` prints it
    #[arg(value_name = "PUBLIC_KEY")]
    online: PublicIdentity,
    /// The file to write; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// How long from now, 1 to 71; it begins an hour ago, as clocks differ
    #[arg(long, value_name = "HOURS", default_value = "48")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=71))]
    hours: u64,
    /// The key file of the identity [default: this user's own]
    #[arg(long, value_name = "FILE")]
    #[cfg_attr(feature = "pkcs11", arg(conflicts_with = "module"))]
    key: Option<PathBuf>,
    #[cfg(feature = "pkcs11")]
    #[command(flatten)]
    token: super::token::Token,
}

#[derive(Serialize)]
struct DelegatedEvent {
    event: &'static str,
    fingerprint: String,
    online: String,
    from: u64,
    until: u64,
    path: String,
}

impl Delegate {
    pub(crate) fn run(self, output: Output) -> Result<Exit, Failure> {
        let delegation = self.issue()?;
        delegation.save(&self.out)?;
        let fingerprint = delegation.identity().fingerprint().to_string();
        let (from, until) = delegation.period();
        let path = self.out.display().to_string();
        output.line(format!("fingerprint {fingerprint}\ndelegation  {path}, for {} h", self.hours));
        let online = delegation.online().to_string();
        let event = "delegated";
        output.object(&DelegatedEvent { event, fingerprint, online, from, until, path });
        Ok(Exit::Success)
    }

    fn issue(&self) -> Result<Delegation, Failure> {
        let valid_for = Duration::from_secs(self.hours * 3600);
        #[cfg(feature = "pkcs11")]
        if let Some(signer) = self.token.open()? {
            return Ok(jsp::delegate(&signer, self.online.clone(), valid_for)?);
        }
        let identity = session::existing_identity(self.key.as_deref())?;
        Ok(jsp::delegate(identity.signer(), self.online.clone(), valid_for)?)
    }
}
