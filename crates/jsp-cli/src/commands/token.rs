//! Options that name a key in a PKCS#11 token.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use jsp_pkcs11::{TokenError, TokenKey, TokenSigner};

use crate::exit::{Exit, Failure};

/// The longest PIN that is read, in bytes.
const PIN_LEN_MAX: u64 = 256;

/// A key in a token.
#[derive(Debug, Args)]
pub(crate) struct Token {
    /// The PKCS#11 module of the token that holds the key
    #[arg(long = "pkcs11", value_name = "MODULE", requires_all = ["token", "label", "pin_file"])]
    module: Option<PathBuf>,
    /// The label of the token
    #[arg(long, value_name = "LABEL", requires = "module")]
    token: Option<String>,
    /// The label of the key in the token
    #[arg(long, value_name = "LABEL", requires = "module")]
    label: Option<String>,
    /// A file with the token's PIN on its first line; - is standard input
    #[arg(long, value_name = "FILE", requires = "module")]
    pin_file: Option<PathBuf>,
}

impl Token {
    /// Finds the key; `None` when no token is named.
    pub(crate) fn open(&self) -> Result<Option<TokenSigner>, Failure> {
        self.with(TokenSigner::open)
    }

    /// Makes the key in the token; `None` when no token is named.
    pub(crate) fn generate(&self) -> Result<Option<TokenSigner>, Failure> {
        self.with(TokenSigner::generate)
    }

    fn with(
        &self,
        act: fn(&TokenKey, String) -> Result<TokenSigner, TokenError>,
    ) -> Result<Option<TokenSigner>, Failure> {
        let Self { module: Some(module), token: Some(token), label: Some(key), .. } = self else {
            return Ok(None);
        };
        let Some(pin_file) = &self.pin_file else { return Ok(None) };
        let place = TokenKey { module: module.clone(), token: token.clone(), key: key.clone() };
        let signer = act(&place, read_pin(pin_file)?);
        Ok(Some(signer.map_err(|error| Failure::new(Exit::Keys, error.to_string()))?))
    }
}

/// The PIN is not taken from the command line, which other users of the machine can see.
fn read_pin(path: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| {
        Failure::new(Exit::Keys, format!("{}: no PIN can be read: {error}", path.display()))
    };
    let mut text = String::new();
    if path == Path::new("-") {
        io::stdin().take(PIN_LEN_MAX).read_to_string(&mut text).map_err(failed)?;
    } else {
        let file = fs::File::open(path).map_err(failed)?;
        file.take(PIN_LEN_MAX).read_to_string(&mut text).map_err(failed)?;
    }
    Ok(text.lines().next().unwrap_or_default().to_owned())
}
