//! Arguments that may hold a password.

use std::ffi::OsStr;
use std::fmt::Display;
use std::marker::PhantomData;
use std::str::FromStr;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};

/// Reads an argument that may hold a password: what is wrong with it is said without repeating it, unlike
/// clap's own parsers do, for what a terminal or a log shows stays there.
#[derive(Debug)]
pub(crate) struct Confidential<T>(PhantomData<fn() -> T>);

impl<T> Confidential<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<T> Clone for Confidential<T> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

impl<T> TypedValueParser for Confidential<T>
where
    T: FromStr<Err: Display> + Clone + Send + Sync + 'static,
{
    type Value = T;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let parsed = match value.to_str() {
            Some(text) => text.parse().map_err(|error: T::Err| error.to_string()),
            None => Err("it is no UTF-8".to_owned()),
        };
        parsed.map_err(|reason| {
            let name = argument.map(ToString::to_string).unwrap_or_default();
            let sentence = format!("the value of '{name}' is of no use: {reason}");
            command.clone().error(ErrorKind::ValueValidation, sentence)
        })
    }
}
