//! What happens in a world, as the checkers see it.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use jsp_proto::{CloseReason, Event, MessageFate, StreamConfig};
use jsp_wire::StreamId;

use crate::app::MessagePlan;
use crate::flow::{End, Flow};

/// One thing that happened, or that an application did.
#[derive(Clone, Debug)]
pub enum Observation<'a> {
    /// The endpoint told its application something; what follows from it is observed apart.
    Event {
        /// Where.
        end: End,
        /// What.
        event: &'a Event,
    },
    /// The handshake is complete at this end.
    Connected(End),
    /// This end can read everything: at a server that has accepted early data, this comes later than the
    /// connection.
    Ready(End),
    /// The application closes the connection with this code and reason.
    Closing {
        /// Where.
        end: End,
        /// Code.
        code: u64,
        /// Reason.
        reason: &'a str,
    },
    /// An end disappears without a word.
    Vanished(End),
    /// The connection is over at this end.
    Closed {
        /// Where.
        end: End,
        /// Why.
        reason: &'a CloseReason,
    },
    /// The state of this end is gone.
    Drained(End),
    /// The application opened a stream.
    Opened {
        /// Where.
        end: End,
        /// The stream.
        stream: StreamId,
        /// Its parameters.
        config: &'a StreamConfig,
    },
    /// The application took a stream that the peer opened.
    Accepted {
        /// Where.
        end: End,
        /// The stream.
        stream: StreamId,
        /// What was told of it.
        label: &'a str,
        /// What was told of it.
        content_type: Option<&'a str>,
        /// What was told of it.
        profile: jsp_wire::Profile,
    },
    /// The application sent a message.
    MessageSent {
        /// Which way.
        flow: Flow,
        /// Its number.
        number: u64,
        /// The message.
        plan: MessagePlan,
    },
    /// The application wrote bytes.
    BytesWritten {
        /// Which way.
        flow: Flow,
        /// How many were taken.
        len: usize,
    },
    /// The application said that nothing more will come.
    Finished(Flow),
    /// The application gave a direction up.
    ResetSent {
        /// Which way.
        flow: Flow,
        /// The application's code.
        code: u64,
    },
    /// The application asked the peer to stop this flow.
    StopSent {
        /// Which way.
        flow: Flow,
        /// The application's code.
        code: u64,
    },
    /// The application received a message.
    MessageReceived {
        /// Which way.
        flow: Flow,
        /// Its number.
        number: u64,
        /// Its content.
        payload: &'a [u8],
        /// What it says about itself.
        attributes: jsp_wire::frame::Attributes,
        /// The reader takes everything at once, so that it came just now.
        prompt: bool,
    },
    /// The application told the peer's that it has taken all messages below a number.
    ConsumptionSaid {
        /// Which way the messages went.
        flow: Flow,
        /// The number.
        below: u64,
    },
    /// The application was told so.
    ConsumptionTold {
        /// Which way the messages went.
        flow: Flow,
        /// The number.
        below: u64,
    },
    /// The application read bytes.
    BytesRead {
        /// Which way.
        flow: Flow,
        /// Place in the stream.
        offset: u64,
        /// Content.
        data: &'a [u8],
        /// The reader takes everything at once, so that it came just now.
        prompt: bool,
    },
    /// The application read the end of a flow.
    Ended(Flow),
    /// The application read a reset.
    ResetSeen {
        /// Which way.
        flow: Flow,
        /// The code that was told.
        code: u64,
    },
    /// The fate of a message was told to its sender.
    Fate {
        /// Which way.
        flow: Flow,
        /// The message.
        number: u64,
        /// What was told.
        fate: MessageFate,
    },
    /// The sender was told that all of a finished flow arrived.
    SendFinished(Flow),
    /// The sender was told that the peer wants no more.
    SendStopped {
        /// Which way.
        flow: Flow,
        /// The code that was told.
        code: u64,
    },
    /// A call failed that should not have.
    CallFailed {
        /// Where.
        end: End,
        /// The call and its error.
        what: &'a str,
    },
    /// A datagram was handed to the network.
    DatagramSent {
        /// By whom.
        from: End,
        /// To which address.
        to: SocketAddr,
        /// Content.
        payload: &'a [u8],
    },
    /// A datagram came out of the network.
    DatagramArrived {
        /// At whom.
        at: End,
        /// From which address.
        from: SocketAddr,
        /// Content.
        payload: &'a [u8],
        /// Its content without the wrapping; nothing where it does not unwrap.
        unwrapped: &'a [u8],
        /// Time since it was sent.
        transit: Duration,
        /// It is as it was sent.
        intact: bool,
    },
    /// The connection takes another way now.
    PathChanged {
        /// Where.
        end: End,
        /// The peer's address.
        to: SocketAddr,
    },
    /// What an end holds in memory.
    Buffered {
        /// Where.
        end: End,
        /// Bytes of application data in all buffers.
        bytes: u64,
        /// Most bytes of reliable data that the configuration lets wait to be read.
        window_max: u64,
        /// Most bytes of unreliable messages that the configuration lets wait on one stream.
        unreliable_buffer: u64,
    },
    /// Nothing goes wrong on the links from here on.
    FaultsEnded,
    /// Time is up, and the work is not done; what the applications say about it.
    Overdue(&'a [String]),
    /// An endpoint keeps asking to be called without getting on.
    Spinning {
        /// Where, and in what call.
        what: &'a str,
    },
    /// All that was to be done is done, and the time for stragglers has passed.
    Settled {
        /// Datagrams a quiet connection may send a second, keep-alive included.
        allowed_per_second: f64,
    },
}

impl Observation<'_> {
    /// The flow that it is about, where it is about one.
    pub fn flow(&self) -> Option<Flow> {
        Some(match *self {
            Self::MessageSent { flow, .. }
            | Self::BytesWritten { flow, .. }
            | Self::Finished(flow)
            | Self::ResetSent { flow, .. }
            | Self::StopSent { flow, .. }
            | Self::MessageReceived { flow, .. }
            | Self::ConsumptionSaid { flow, .. }
            | Self::ConsumptionTold { flow, .. }
            | Self::BytesRead { flow, .. }
            | Self::Ended(flow)
            | Self::ResetSeen { flow, .. }
            | Self::Fate { flow, .. }
            | Self::SendFinished(flow)
            | Self::SendStopped { flow, .. } => flow,
            _ => return None,
        })
    }
}

impl fmt::Display for Observation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DatagramSent { from, to, payload } => {
                write!(f, "{from} -> {to}: {} bytes, first {:#04x}", payload.len(), first(payload))
            }
            Self::DatagramArrived { at, from, payload, transit, intact, .. } => {
                let state = if *intact { "" } else { ", DAMAGED" };
                write!(
                    f,
                    "{at} <- {from}: {} bytes, first {:#04x}, after {transit:?}{state}",
                    payload.len(),
                    first(payload)
                )
            }
            Self::MessageReceived { flow, number, payload, .. } => {
                write!(f, "{flow}: message {number} received, {} bytes", payload.len())
            }
            Self::MessageSent { flow, number, plan } => {
                write!(f, "{flow}: message {number} sent, {plan:?}")
            }
            Self::BytesRead { flow, offset, data, .. } => {
                write!(f, "{flow}: {} bytes read at {offset}", data.len())
            }
            Self::Opened { end, stream, config } => {
                write!(f, "{end} opens stream {stream}: {:?}", config.profile())
            }
            Self::Event { end, event } => write!(f, "{end} is told {event:?}"),
            other => write!(f, "{other:?}"),
        }
    }
}

fn first(payload: &[u8]) -> u8 {
    payload.first().copied().unwrap_or_default()
}
