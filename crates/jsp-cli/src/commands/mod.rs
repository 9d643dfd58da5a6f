//! One file per command.

pub(crate) mod chat;
pub(crate) mod completions;
mod delegate;
pub(crate) mod demo;
pub(crate) mod key;
pub(crate) mod netcheck;
pub(crate) mod perf;
pub(crate) mod ping;
pub(crate) mod send;
pub(crate) mod serve;
#[cfg(feature = "pkcs11")]
mod token;
