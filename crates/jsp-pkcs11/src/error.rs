//! What goes wrong with tokens.

use std::path::PathBuf;

use thiserror::Error;

/// Why a token's key cannot be used.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The module is missing, or is no PKCS#11 module for this machine.
    #[error("{}: the PKCS#11 module does not load: {source}", path.display())]
    Module {
        /// The module's file.
        path: PathBuf,
        /// What the loader or the module said.
        source: cryptoki::error::Error,
    },
    /// No token has this label.
    #[error("no token is labelled {wanted:?}; the module sees {found:?}")]
    NoToken {
        /// The label that was asked for.
        wanted: String,
        /// The labels of the tokens that are there.
        found: Vec<String>,
    },
    /// Several tokens have the label.
    #[error("several tokens are labelled {0:?}: leave one plugged in, or label them anew")]
    SeveralTokens(String),
    /// The token does not take the PIN. It locks itself after a few wrong ones.
    #[error("the token does not take the PIN, and locks itself after a few wrong ones: {0}")]
    Pin(cryptoki::error::Error),
    /// The token has no Ed25519 key pair with this label.
    #[error("the token holds no Ed25519 key pair labelled {0:?}")]
    NoKey(String),
    /// Several keys have the label.
    #[error("the token holds several keys labelled {0:?}: label them anew")]
    SeveralKeys(String),
    /// A key has the label already, and was not to be replaced.
    #[error("the token holds a key labelled {0:?} already; an identity cannot be made again")]
    Exists(String),
    /// The token refused something else.
    #[error("the token refused: {0}")]
    Token(#[from] cryptoki::error::Error),
}
