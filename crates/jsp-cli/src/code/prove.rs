//! The exchange that shows two sides that they know the same code, on the connection between them.
//!
//! The connection alone proves nothing: the identity that it was made to belongs to everyone who knows the
//! public part of the code, the coordinator included. So the exchange is tied to the connection's secret:
//! who stands in the middle has two connections with two secrets, and can but guess, once on each.

use std::time::Duration;

use jsp::{Connection, ConnectionError, Message, RecvError, SendError, Stream};
use jsp_crypto::SystemRng;
use jsp_crypto::pake::{Agreed, Exchange, PROOF_LEN, SHARE_LEN, Side};

use super::text::Code;
use crate::exit::{Exit, Failure};
use crate::protocol::{WRONG_CODE, code_stream, label, malformed};
use crate::transfer::resume::RECEIVER_NAME_LEN;

/// How long each step may take.
const STEP_WAIT: Duration = Duration::from_secs(10);
/// What the exchange is for, so that a proof is of no use elsewhere.
const CHANNEL: &[u8] = b"jsp-tools/1 code";
const EXPORT_LABEL: &str = "jsp tools code";
/// Length of what a side says about itself.
const ABOUT_LEN: usize = 1 + NAME_LEN;
const NAME_LEN: usize = RECEIVER_NAME_LEN;

/// What a side wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Sends,
    Receives,
}

/// What a side says about itself; only who knows the code can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) role: Role,
    /// Tells one receiver from another, so that senders name unfinished files for it alone.
    pub(crate) name: [u8; NAME_LEN],
}

impl About {
    fn encode(self) -> [u8; ABOUT_LEN] {
        let mut out = [0; ABOUT_LEN];
        out[0] = match self.role {
            Role::Sends => 1,
            Role::Receives => 2,
        };
        out[1..].copy_from_slice(&self.name);
        out
    }

    fn decode(bytes: &[u8; ABOUT_LEN]) -> Result<Self, Failure> {
        let [role, name @ ..] = *bytes;
        let role = match role {
            1 => Role::Sends,
            2 => Role::Receives,
            _ => return Err(malformed("a role that is unknown")),
        };
        Ok(Self { role, name })
    }
}

/// The first message of each side: about itself, and its share of the exchange.
fn hello(about: About, exchange: &Exchange) -> Message {
    let mut out = about.encode().to_vec();
    out.extend(exchange.share());
    Message::binary(out)
}

fn begin(
    side: Side,
    connection: &Connection,
    code: Code,
    about: About,
) -> Result<Exchange, Failure> {
    let mut session = [0; 32];
    connection.export(EXPORT_LABEL, b"", &mut session)?;
    let place = (CHANNEL, &session[..]);
    Ok(Exchange::start(side, &code.password(), place, &about.encode(), &mut SystemRng))
}

fn agree(exchange: Exchange, hello: &[u8]) -> Result<(About, Agreed), Failure> {
    let odd = || malformed("a greeting that makes no sense");
    let (about, share) = hello.split_first_chunk::<ABOUT_LEN>().ok_or_else(odd)?;
    let share: &[u8; SHARE_LEN] = share.try_into().map_err(|_| odd())?;
    let agreed = exchange.finish(share, about).ok_or_else(odd)?;
    Ok((About::decode(about)?, agreed))
}

async fn step(stream: &Stream) -> Result<Vec<u8>, Failure> {
    let silent = || Failure::new(Exit::PeerVanished, "the other side does not go on");
    match tokio::time::timeout(STEP_WAIT, stream.recv()).await.map_err(|_| silent())? {
        Ok(Some(message)) => Ok(message.payload.to_vec()),
        Ok(None) => Err(malformed("too little")),
        Err(RecvError::ConnectionLost(error)) => Err(refused(*error)),
        Err(error) => Err(error.into()),
    }
}

async fn say(stream: &Stream, message: impl Into<Message>) -> Result<(), Failure> {
    match stream.send(message).await {
        Ok(_) => Ok(()),
        Err(SendError::ConnectionLost(error)) => Err(refused(*error)),
        Err(error) => Err(error.into()),
    }
}

fn refused(error: ConnectionError) -> Failure {
    match error {
        ConnectionError::ClosedByPeer { code: WRONG_CODE, .. } => wrong_code(),
        error => error.into(),
    }
}

/// The two codes differ, or somebody stands between the two sides: nobody can tell which.
pub(crate) fn wrong_code() -> Failure {
    let sentence = "WRONG CODE: the other side has another one, or somebody else has answered in its \
                    place. Nothing was sent. The code is used up: make a new one";
    Failure::new(Exit::WrongIdentity, sentence)
}

/// The side that called: learns about the other, or that it does not know the code.
pub(crate) async fn call(
    connection: &Connection,
    code: Code,
    about: About,
) -> Result<About, Failure> {
    let exchange = begin(Side::Initiator, connection, code, about)?;
    let stream = connection.open(code_stream()).await?;
    say(&stream, hello(about, &exchange)).await?;
    let (theirs, agreed) = agree(exchange, &step(&stream).await?)?;
    say(&stream, Message::binary(agreed.proof().to_vec())).await?;
    if !agreed.is_proved_by(&step(&stream).await?) {
        connection.close(WRONG_CODE, b"wrong code");
        return Err(wrong_code());
    }
    Ok(theirs)
}

/// A caller that has shown what it takes for a proof. It has learnt nothing yet.
pub(crate) struct Claim {
    pub(crate) connection: Connection,
    pub(crate) about: About,
    stream: Stream,
    agreed: Agreed,
    proof: Vec<u8>,
}

/// The side that was called: hears the caller's proof, and does not answer it yet.
pub(crate) async fn hear(
    connection: Connection,
    code: Code,
    about: About,
) -> Result<Claim, Failure> {
    let silent = || Failure::new(Exit::PeerVanished, "a caller says nothing");
    let accepted = tokio::time::timeout(STEP_WAIT, connection.accept()).await;
    let stream = accepted.map_err(|_| silent())??;
    if stream.info().label != label::CODE {
        return Err(malformed("something else than a code"));
    }
    let exchange = begin(Side::Responder, &connection, code, about)?;
    let theirs = step(&stream).await?;
    say(&stream, hello(about, &exchange)).await?;
    let (about, agreed) = agree(exchange, &theirs)?;
    let proof = step(&stream).await?;
    if proof.len() != PROOF_LEN {
        return Err(malformed("a proof of the wrong length"));
    }
    Ok(Claim { connection, about, stream, agreed, proof })
}

impl Claim {
    /// Tells the caller that it is right, and shows the own proof; or that it is wrong. False then: that was the one
    /// guess that a code allows.
    pub(crate) fn judge(&self) -> bool {
        if !self.agreed.is_proved_by(&self.proof) {
            self.connection.close(WRONG_CODE, b"wrong code");
            return false;
        }
        // What fails here is the connection, and shows in what follows.
        let _ = self.stream.try_send(Message::binary(self.agreed.proof().to_vec()));
        let _ = self.stream.finish();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsp::{Endpoint, Identity};

    /// A connection, by its two ends.
    async fn connection() -> (Connection, Connection) {
        let server = Endpoint::server("127.0.0.1:0", Identity::generate()).unwrap();
        let client = Endpoint::client().unwrap();
        let (to, name) = (server.local_addr().unwrap(), server.fingerprint());
        let (called, accepted) = tokio::join!(client.connect(to, name), server.accept());
        (called.unwrap(), accepted.unwrap())
    }

    const SENDER: About = About { role: Role::Sends, name: [0; NAME_LEN] };
    const RECEIVER: About = About { role: Role::Receives, name: [7; NAME_LEN] };

    #[tokio::test]
    async fn two_with_one_code_learn_about_each_other() {
        let (here, there) = connection().await;
        let code = Code::random();
        let (called, ()) = tokio::join!(call(&here, code, SENDER), async {
            let claim = hear(there, code, RECEIVER).await.unwrap();
            assert_eq!(claim.about, SENDER);
            assert!(claim.judge());
            // The proof is on its way when the caller has it.
            claim.stream.recv().await.ok();
        });
        assert_eq!(called.unwrap(), RECEIVER);
    }

    #[tokio::test]
    async fn who_passes_messages_on_is_noticed() {
        let ((here, middle), (other_middle, there)) = tokio::join!(connection(), connection());
        let code = Code::random();
        let between = async {
            let one = middle.accept().await.unwrap();
            let two = other_middle.open(code_stream()).await.unwrap();
            for (from, to) in [(&one, &two), (&two, &one), (&one, &two)] {
                let message = from.recv().await.unwrap().unwrap();
                to.send(message.payload).await.unwrap();
            }
            // The called side answers nothing to a proof for another connection.
            assert!(two.recv().await.is_err());
            middle.close(0, b"");
        };
        let (called, claim, ()) = tokio::join!(
            call(&here, code, SENDER),
            async { hear(there, code, RECEIVER).await.unwrap().judge() },
            between
        );
        assert!(!claim && called.is_err());
    }

    #[tokio::test]
    async fn nonsense_is_no_claim() {
        for nonsense in [&b""[..], &[1; ABOUT_LEN + SHARE_LEN - 1], &[9; ABOUT_LEN + SHARE_LEN]] {
            let (here, there) = connection().await;
            let stream = here.open(code_stream()).await.unwrap();
            stream.send(Message::binary(nonsense.to_vec())).await.unwrap();
            assert!(hear(there, Code::random(), RECEIVER).await.is_err());
        }
        let (here, there) = connection().await;
        here.open(crate::protocol::file_stream()).await.unwrap().write_all("a").await.unwrap();
        assert!(hear(there, Code::random(), RECEIVER).await.is_err());
    }
}
