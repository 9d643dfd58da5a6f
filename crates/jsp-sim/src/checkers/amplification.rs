//! A server sends an address that has proved nothing at most three times what came from there.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jsp_wire::{Header, Instant, LongType, limits};

use super::{Checker, Ledger, Verdict};
use crate::flow::{End, Pair, Side};
use crate::observation::Observation;

/// Counts bytes to and from each address until it is proved.
#[derive(Default)]
pub(super) struct Amplification {
    addresses: BTreeMap<(Pair, SocketAddr), Account>,
    /// Where each connection began: what the server says in the handshake goes there. Later addresses prove
    /// themselves otherwise.
    first: BTreeMap<Pair, SocketAddr>,
}

#[derive(Default)]
struct Account {
    received: u64,
    sent: u64,
    is_proved: bool,
}

impl Checker for Amplification {
    const NAME: &'static str = "amplification";

    fn observe(
        &mut self,
        _now: Instant,
        seen: &Observation<'_>,
        _ledger: &Ledger,
        verdict: &mut Verdict<'_>,
    ) {
        match *seen {
            Observation::DatagramArrived { at, from, payload, unwrapped, intact, .. }
                if is_server(at) =>
            {
                let first = *self.first.entry(at.pair).or_insert(from);
                self.addresses.entry((at.pair, from)).or_default().received += payload.len() as u64;
                if intact && proves_address(unwrapped, from == first) {
                    self.addresses.entry((at.pair, first)).or_default().is_proved = true;
                }
            }
            Observation::PathChanged { end, to } if is_server(end) => {
                self.addresses.entry((end.pair, to)).or_default().is_proved = true;
            }
            Observation::DatagramSent { from, to, payload } if is_server(from) => {
                let account = self.addresses.entry((from.pair, to)).or_default();
                account.sent += payload.len() as u64;
                let limit = account.received * limits::AMPLIFICATION_FACTOR;
                if !account.is_proved && account.sent > limit {
                    verdict.breach(format!(
                        "{from}: {} bytes sent to {to}, {} received",
                        account.sent, account.received
                    ));
                }
            }
            _ => {}
        }
    }
}

fn is_server(end: End) -> bool {
    end.side == Side::Server
}

/// Whether the sender of the datagram must have read what the server sent to the first address: it has a
/// cookie for the address that it comes from, or, wherever it comes from, keys that hang on the server's answer.
fn proves_address(datagram: &[u8], from_first: bool) -> bool {
    let mut rest = datagram;
    while !rest.is_empty() {
        match Header::parse(rest) {
            Ok(Header::Long(header)) => {
                let has_cookie = from_first && !header.token.is_empty();
                if header.kind == LongType::Handshake || has_cookie {
                    return true;
                }
                rest = rest.get(header.packet_len..).unwrap_or_default();
            }
            Ok(Header::Short) => return from_first,
            _ => return false,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::planted::*;
    use super::*;
    use std::time::Duration;

    fn long(kind: u8) -> Vec<u8> {
        let mut packet = vec![0xc0 | kind << 4];
        packet.extend(jsp_wire::VERSION_1.to_be_bytes());
        packet.extend([0, 0]);
        if kind == 0 {
            packet.push(0);
        }
        packet.extend([0x40, 50]);
        packet.resize(packet.len() + 50, 0);
        packet
    }

    fn exchange(first: &[u8], answer: usize) -> Vec<&'static str> {
        let address = "10.0.0.1:1".parse().unwrap();
        let answer = vec![0xc0; answer];
        let mut history = History::empty();
        history.see(&Observation::DatagramArrived {
            at: SERVER,
            from: address,
            payload: first,
            unwrapped: first,
            transit: Duration::ZERO,
            intact: true,
        });
        history.see(&Observation::DatagramSent { from: SERVER, to: address, payload: &answer });
        history.found()
    }

    #[test]
    fn more_than_three_times_as_much_is_found() {
        let hello = long(0);
        assert_eq!(exchange(&hello, hello.len() * 3), [""; 0]);
        assert_eq!(exchange(&hello, hello.len() * 3 + 1), ["amplification"]);
    }

    #[test]
    fn a_proved_address_may_get_more() {
        assert_eq!(exchange(&long(2), 100_000), [""; 0]);
    }
}
