//! The serving side of a measurement.

use std::sync::Arc;
use std::time::Duration;

use jsp::{Connection, Stream};
use tokio::time::{interval, sleep};

use super::{Meter, Request, Word, flow};
use crate::exit::Failure;
use crate::protocol::{decode, malformed, message_of};

/// How often the receiver says what has arrived.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// How long the ends of streams are waited for after the sender has said that it is done.
const STRAGGLERS: Duration = Duration::from_secs(5);

/// Does what the client asks for on a control stream. The caller hands the client's data streams to
/// `meter`.
pub(crate) async fn attend(
    connection: &Connection,
    control: &Stream,
    meter: &Arc<Meter>,
) -> Result<(), Failure> {
    let Word::Request(request) = hear(control).await? else {
        return Err(malformed("a word at the wrong place"));
    };
    if !request.is_acceptable() {
        control.send(message_of(&Word::Refuse)).await?;
        return Err(malformed("a measurement over the limits"));
    }
    meter.reset();
    control.send(message_of(&Word::Accept)).await?;
    let sending = async {
        if request.down {
            let sent = flow::fill(connection, request).await?;
            control.send(message_of(&Word::Sent(sent))).await?;
        }
        Ok::<(), Failure>(())
    };
    let receiving = async {
        if request.up {
            receive(control, meter, request).await?;
        }
        Ok::<(), Failure>(())
    };
    tokio::try_join!(sending, receiving)?;
    control.finish()?;
    Ok(())
}

pub(super) async fn hear(control: &Stream) -> Result<Word, Failure> {
    let message = control.recv().await?.ok_or_else(|| malformed("the end of a measurement"))?;
    decode(&message.payload)
}

/// Reports what arrives, and the total at the end.
async fn receive(control: &Stream, meter: &Meter, request: Request) -> Result<(), Failure> {
    let mut ticks = interval(REPORT_EVERY);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                control.send(message_of(&Word::Arrived(meter.read()))).await?;
            }
            word = hear(control) => match word? {
                Word::Sent(_) => break,
                _ => return Err(malformed("a word at the wrong place")),
            },
        }
    }
    tokio::select! {
        () = meter.all_ended(request.streams) => {}
        () = sleep(STRAGGLERS) => {}
    }
    control.send(message_of(&Word::Total(meter.read()))).await?;
    Ok(())
}
