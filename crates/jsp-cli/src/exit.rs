//! How a command ends: an exit code that scripts can tell apart, and a sentence for people.

use std::fmt;

use jsp::rendezvous::CallError;
use jsp::{
    BindError, ConnectError, ConnectionError, DelegationError, DelegationFileError, IdentityError,
    IssueError, OpenError, RecvError, SendError,
};

/// The exit codes of every command. The numbers are part of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All is well.
    Success = 0,
    /// A bar of a measurement did not hold.
    BarMissed = 1,
    /// The command line makes no sense. clap uses the same number.
    Usage = 2,
    /// The name does not resolve, nobody answers, or the address cannot be bound.
    Unreachable = 3,
    /// Another identity than expected answers.
    WrongIdentity = 4,
    /// A file could not be read, written or stored.
    File = 5,
    /// The peer vanished in the middle.
    PeerVanished = 6,
    /// The peer refused, or a limit was passed.
    Refused = 7,
    /// A key file or the store of known hosts cannot be used.
    Keys = 8,
    /// The port is in use, or the address is not this machine's.
    CannotListen = 9,
    /// Ctrl-C: 128 + SIGINT, as shells count.
    Interrupted = 130,
}

/// The table that the help shows.
pub(crate) const TABLE: &str = "\
Exit codes:
  0    all is well
  1    a bar of a measurement did not hold
  2    the command line makes no sense
  3    no connection: the name does not resolve, or nobody answers
  4    another identity than expected answers
  5    a file could not be read, written or stored
  6    the peer vanished in the middle
  7    the peer refused, or a limit was passed
  8    a key file or the store of known hosts cannot be used
  9    cannot listen: the port is in use, or the address is not this machine's
  130  interrupted with Ctrl-C";

/// Why a command failed: what happened and what to do, and the code to leave with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) sentence: String,
    /// The peer's user has ended it: there is nobody to wait for.
    pub(crate) by_user: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, sentence: impl Into<String>) -> Self {
        Self { exit, sentence: sentence.into(), by_user: false }
    }

    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Exit::Usage, sentence)
    }

    pub(crate) fn file(sentence: impl Into<String>) -> Self {
        Self::new(Exit::File, sentence)
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Exit::Interrupted, "interrupted")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl std::error::Error for Failure {}

impl From<BindError> for Failure {
    fn from(error: BindError) -> Self {
        Self::new(Exit::CannotListen, format!("cannot listen: {error}"))
    }
}

impl From<IdentityError> for Failure {
    fn from(error: IdentityError) -> Self {
        Self::new(Exit::Keys, error.to_string())
    }
}

impl From<DelegationError> for Failure {
    fn from(error: DelegationError) -> Self {
        Self::new(Exit::Keys, error.to_string())
    }
}

impl From<DelegationFileError> for Failure {
    fn from(error: DelegationFileError) -> Self {
        Self::new(Exit::Keys, error.to_string())
    }
}

impl From<IssueError> for Failure {
    fn from(error: IssueError) -> Self {
        Self::new(Exit::Keys, error.to_string())
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let exit = match &error {
            ConnectError::Identity { .. } => Exit::WrongIdentity,
            ConnectError::Refused { .. }
            | ConnectError::VersionMismatch { .. }
            | ConnectError::Handshake { .. }
            | ConnectError::Ended { error: ConnectionError::PeerError { .. }, .. } => Exit::Refused,
            ConnectError::KnownHosts { .. } => Exit::Keys,
            _ => Exit::Unreachable,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<CallError> for Failure {
    fn from(call: CallError) -> Self {
        let message = call.to_string();
        let exit = match call {
            CallError::Connect { error, .. } => Self::from(error).exit,
            CallError::Refused { .. } => Exit::Refused,
            _ => Exit::Unreachable,
        };
        Self::new(exit, message)
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        let exit = match &error {
            ConnectionError::ClosedByPeer { code, .. } if *code != 0 => {
                crate::protocol::exit_of(*code)
            }
            ConnectionError::PeerError { .. } | ConnectionError::ProtocolViolation(_) => {
                Exit::Refused
            }
            _ => Exit::PeerVanished,
        };
        let ended = crate::protocol::INTERRUPTED;
        let by_user = matches!(error, ConnectionError::ClosedByPeer { code, .. } if code == ended);
        Self { by_user, ..Self::new(exit, error.to_string()) }
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::ConnectionLost(error) => (*error).into(),
            error => Self::new(Exit::Refused, error.to_string()),
        }
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::ConnectionLost(error) => (*error).into(),
            SendError::Stopped(code) => Self::stopped(code),
            error => Self::new(Exit::Refused, error.to_string()),
        }
    }
}

impl From<RecvError> for Failure {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::ConnectionLost(error) => (*error).into(),
            RecvError::Reset(code) => Self::stopped(code),
            error => Self::new(Exit::Refused, error.to_string()),
        }
    }
}

impl Failure {
    /// The peer stopped or reset a stream with one of the protocol's codes.
    fn stopped(code: u64) -> Self {
        Self::new(crate::protocol::exit_of(code), crate::protocol::sentence_of(code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_code() {
        let codes = [
            Exit::Success,
            Exit::BarMissed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::WrongIdentity,
            Exit::File,
            Exit::PeerVanished,
            Exit::Refused,
            Exit::Keys,
            Exit::CannotListen,
            Exit::Interrupted,
        ];
        for code in codes {
            let number = (code as u8).to_string();
            let found = TABLE.lines().any(|line| line.split_whitespace().next() == Some(&number));
            assert!(found, "{number}");
        }
    }

    #[test]
    fn ends_of_a_connection_have_their_codes() {
        let exit = |error: ConnectionError| Failure::from(error).exit;
        assert_eq!(exit(ConnectionError::TimedOut), Exit::PeerVanished);
        assert_eq!(exit(ConnectionError::Reset), Exit::PeerVanished);
        let reason = String::new();
        let refused = ConnectionError::ClosedByPeer { code: crate::protocol::REFUSED, reason };
        assert_eq!(exit(refused), Exit::Refused);
    }
}
