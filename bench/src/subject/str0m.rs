//! Data channels of WebRTC: SCTP over DTLS, found by ICE, through str0m with aws-lc-rs. What a program would carry between the two sides
//! for their introduction is agreed here, the fingerprint of the server apart; the client goes unnamed, as with TLS.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use ring::digest;
use str0m::channel::{ChannelConfig, ChannelData, ChannelId, Reliability};
use str0m::crypto::{CryptoProvider, Fingerprint, dtls::DtlsCert, from_feature_flags};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceCreds, Input, Output, Rtc, RtcConfig};

use super::sans_io::{self, Got, Machine, Maker, State};

/// UDP payload of a full packet, as for every subject.
const FULL_PACKET: usize = 1452;
/// Bytes of one message of a stream of bytes.
const PIECE_BYTES: usize = 64 << 10;
/// The channel of unreliable datagrams, which both sides have from the start.
const DATAGRAMS: u16 = 1000;
/// A text ends a stream: a channel that is closed says nothing about what came before.
const END: &str = "end";

/// A listening endpoint on a loopback port, its address and fingerprint.
pub(crate) fn listen() -> Result<(Endpoint, SocketAddr, String)> {
    let setting = Setting::new(None)?;
    let trust = setting.fingerprint().to_string();
    let (endpoint, address) = Endpoint::listen(setting)?;
    Ok((endpoint, address, trust))
}

/// An endpoint that trusts the server with the fingerprint `trust`.
pub(crate) fn dialler(trust: &str) -> Result<Endpoint> {
    let Ok(trusted) = trust.parse() else { anyhow::bail!("{trust:?} is no fingerprint") };
    Ok(Endpoint::dialler(Setting::new(Some(trusted))?))
}

/// An endpoint of str0m.
pub(crate) type Endpoint = sans_io::Endpoint<Setting>;

/// Certificate, and whom a client trusts.
#[derive(Clone)]
pub(crate) struct Setting {
    provider: Arc<CryptoProvider>,
    certificate: DtlsCert,
    trusted: Option<Fingerprint>,
}

fn credentials(side: &str) -> IceCreds {
    IceCreds { ufrag: side.to_owned(), pass: "known to both sides of it".to_owned() }
}

impl Setting {
    fn new(trusted: Option<Fingerprint>) -> Result<Self> {
        let provider = from_feature_flags();
        let certificate = provider.dtls_provider.generate_certificate();
        let certificate = certificate.context("no certificate was made")?;
        Ok(Self { provider: Arc::new(provider), certificate, trusted })
    }

    fn fingerprint(&self) -> Fingerprint {
        let digest = digest::digest(&digest::SHA256, &self.certificate.certificate);
        Fingerprint { hash_func: "sha-256".to_owned(), bytes: digest.as_ref().to_vec() }
    }

    fn side(&self, local: SocketAddr, peer: SocketAddr, is_client: bool) -> Result<Peer> {
        let (own, theirs) = if is_client { ("clnt", "serv") } else { ("serv", "clnt") };
        let mut rtc = RtcConfig::new()
            .set_crypto_provider(Arc::clone(&self.provider))
            .set_dtls_cert(self.certificate.clone())
            .set_fingerprint_verification(is_client)
            .set_ice_lite(!is_client)
            .set_local_ice_credentials(credentials(own))
            .set_mtu(FULL_PACKET..=usize::MAX)
            .build(Instant::now());
        rtc.add_local_candidate(Candidate::host(local, "udp")?);
        rtc.add_remote_candidate(Candidate::host(peer, "udp")?);
        let mut api = rtc.direct_api();
        // A server asks nobody who he is; its own stands for that.
        api.set_remote_fingerprint(self.trusted.clone().unwrap_or_else(|| self.fingerprint()));
        api.set_remote_ice_credentials(credentials(theirs));
        api.set_ice_controlling(is_client);
        api.start_dtls(is_client)?;
        api.start_sctp(is_client);
        let reliability = Reliability::MaxRetransmits { retransmits: 0 };
        let negotiated = Some(DATAGRAMS);
        let datagrams = api.create_data_channel(ChannelConfig {
            ordered: false,
            reliability,
            negotiated,
            ..ChannelConfig::default()
        });
        Ok(Peer::new(rtc, local, peer, datagrams))
    }
}

impl Maker for Setting {
    type Machine = Peer;

    fn accept(
        &self,
        local: SocketAddr,
        client: SocketAddr,
        datagram: &[u8],
    ) -> Result<Option<Peer>> {
        // STUN begins with two bits of 0, and no client with anything else.
        let is_stun = datagram.first().is_some_and(|first| *first < 4);
        is_stun.then(|| self.side(local, client, false)).transpose()
    }

    fn connect(&self, local: SocketAddr, server: SocketAddr) -> Result<Peer> {
        self.side(local, server, true)
    }
}

/// A connection, and what its events said.
pub(crate) struct Peer {
    rtc: Rtc,
    local: SocketAddr,
    peer: SocketAddr,
    deadline: Option<Instant>,
    is_open: bool,
    /// Channels by the number that stands for them here.
    channels: Vec<ChannelId>,
    accepted: VecDeque<u64>,
    datagrams: ChannelId,
    datagram_lengths: VecDeque<usize>,
    inboxes: HashMap<ChannelId, VecDeque<ChannelData>>,
    outgoing: VecDeque<Vec<u8>>,
}

impl Peer {
    fn new(rtc: Rtc, local: SocketAddr, peer: SocketAddr, datagrams: ChannelId) -> Self {
        Self {
            rtc,
            local,
            peer,
            deadline: None,
            is_open: false,
            channels: Vec::new(),
            accepted: VecDeque::new(),
            datagrams,
            datagram_lengths: VecDeque::new(),
            inboxes: HashMap::new(),
            outgoing: VecDeque::new(),
        }
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::ChannelOpen(id, _) if id == self.datagrams => self.is_open = true,
            Event::ChannelOpen(id, _) if !self.channels.contains(&id) => {
                self.accepted.push_back(self.channels.len() as u64);
                self.channels.push(id);
            }
            Event::ChannelData(data) if data.id == self.datagrams => {
                self.datagram_lengths.push_back(data.data.len());
            }
            Event::ChannelData(data) => {
                self.inboxes.entry(data.id).or_default().push_back(data);
            }
            _ => {}
        }
    }

    /// Asks for all that is there; the library wants that after whatever is done to it.
    fn poll(&mut self) {
        loop {
            match self.rtc.poll_output() {
                Ok(Output::Timeout(at)) => {
                    self.deadline = Some(at);
                    return;
                }
                Ok(Output::Transmit(transmit)) => self.outgoing.push_back(transmit.contents.into()),
                Ok(Output::Event(event)) => self.note(event),
                Err(_) => {
                    self.rtc.disconnect();
                    return;
                }
            }
        }
    }

    fn put(&mut self, channel: ChannelId, is_binary: bool, message: &[u8]) -> Result<bool> {
        let Some(mut channel) = self.rtc.channel(channel) else { return Ok(false) };
        Ok(channel.write(is_binary, message)?)
    }

    fn channel(&self, stream: u64) -> Result<ChannelId> {
        self.channels.get(stream as usize).copied().context("no such channel")
    }
}

impl Machine for Peer {
    const HAS_MESSAGES: bool = true;

    fn receive(&mut self, datagram: &mut [u8]) {
        if let Ok(receive) = Receive::new(Protocol::Udp, self.peer, self.local, datagram) {
            // An error ends the connection, which shows in its state.
            if self.rtc.handle_input(Input::Receive(Instant::now(), receive)).is_err() {
                self.rtc.disconnect();
            }
            self.poll();
        }
    }

    fn transmit(&mut self, into: &mut [u8]) -> Option<usize> {
        if self.outgoing.is_empty() {
            self.poll();
        }
        let datagram = self.outgoing.pop_front()?;
        into[..datagram.len()].copy_from_slice(&datagram);
        Some(datagram.len())
    }

    fn deadline(&mut self) -> Option<Instant> {
        self.deadline
    }

    fn expire(&mut self) {
        if self.rtc.handle_input(Input::Timeout(Instant::now())).is_err() {
            self.rtc.disconnect();
        }
        self.poll();
    }

    fn state(&mut self) -> State {
        if !self.rtc.is_alive() {
            State::Closed
        } else if self.is_open {
            State::Open
        } else {
            State::Connecting
        }
    }

    fn close(&mut self) {
        if self.rtc.close().is_err() {
            self.rtc.disconnect();
        }
    }

    fn ready(&mut self, each: &mut dyn FnMut(u64)) {
        // Any acknowledgement may have made room.
        (0..self.channels.len() as u64).for_each(&mut *each);
    }

    fn open(&mut self) -> Result<Option<u64>> {
        let channel = self.rtc.direct_api().create_data_channel(ChannelConfig::default());
        self.channels.push(channel);
        Ok(Some(self.channels.len() as u64 - 1))
    }

    fn accept(&mut self) -> Option<u64> {
        self.accepted.pop_front()
    }

    fn write(&mut self, stream: u64, piece: &[u8]) -> Result<usize> {
        let length = piece.len().min(PIECE_BYTES);
        let channel = self.channel(stream)?;
        Ok(if self.put(channel, true, &piece[..length])? { length } else { 0 })
    }

    fn read(&mut self, stream: u64) -> Result<Got> {
        let channel = self.channel(stream)?;
        let Some(message) = self.inboxes.get_mut(&channel).and_then(VecDeque::pop_front) else {
            return Ok(Got::Nothing);
        };
        Ok(if message.binary { Got::Piece(Bytes::from(message.data)) } else { Got::End })
    }

    fn finish(&mut self, stream: u64) -> Result<bool> {
        let channel = self.channel(stream)?;
        self.put(channel, false, END.as_bytes())
    }

    fn send_datagram(&mut self, datagram: &[u8]) -> Result<bool> {
        ensure!(datagram.len() < FULL_PACKET, "a datagram of {} bytes", datagram.len());
        self.put(self.datagrams, true, datagram)
    }

    fn recv_datagram(&mut self) -> Result<Option<usize>> {
        Ok(self.datagram_lengths.pop_front())
    }
}
