//! What was found, for people and for programs.

use jsp::rendezvous::{Filtering, Mapping};
use serde::Serialize;

use super::{Datagrams, Lent, Passage, Streams};
use crate::output::{Output, Tone};

/// Everything, as one JSON object.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) event: &'static str,
    pub(crate) coordinator: String,
    pub(crate) udp_ipv4: Passage,
    pub(crate) udp_ipv6: Passage,
    #[serde(flatten)]
    pub(crate) streams: Streams,
    /// A TURN server, where one was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) turn: Option<Lent>,
    #[serde(serialize_with = "plainly", flatten)]
    pub(crate) datagrams: Option<Datagrams>,
}

/// The fields of [`Datagrams`] as they are told.
#[derive(Serialize)]
struct Plain<'a> {
    own_address: Option<String>,
    mapped_address: Option<String>,
    other_stun: Option<String>,
    mapping: Option<&'static str>,
    filtering: Option<&'static str>,
    hairpinning: Option<bool>,
    udp_payload_max: usize,
    udp_payload_is_largest_tried: bool,
    round_trip_ms: f64,
    relay_round_trip_ms: Option<f64>,
    relay_error: Option<&'a str>,
    direct_paths: &'static str,
}

fn plainly<S: serde::Serializer>(
    datagrams: &Option<Datagrams>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    datagrams
        .as_ref()
        .map(|found| Plain {
            own_address: found.own.map(|address| address.to_string()),
            mapped_address: found.seen.map(|address| address.to_string()),
            other_stun: found.other.map(|address| address.to_string()),
            mapping: found.mapping.map(name_of),
            filtering: found.filtering.map(|filtering| match filtering {
                Filtering::EndpointIndependent => "endpoint_independent",
                Filtering::Dependent => "dependent",
            }),
            hairpinning: found.hairpin,
            udp_payload_max: found.payload,
            udp_payload_is_largest_tried: found.is_ceiling,
            round_trip_ms: found.round_trip_ms,
            relay_round_trip_ms: found.relay_ms.as_ref().ok().copied(),
            relay_error: found.relay_ms.as_ref().err().map(String::as_str),
            direct_paths: match found.mapping {
                Some(Mapping::None | Mapping::EndpointIndependent) => "likely",
                Some(Mapping::Dependent) => "some",
                None => "unknown",
            },
        })
        .serialize(serializer)
}

const fn name_of(mapping: Mapping) -> &'static str {
    match mapping {
        Mapping::None => "none",
        Mapping::EndpointIndependent => "endpoint_independent",
        Mapping::Dependent => "dependent",
    }
}

impl Report {
    pub(crate) fn udp_works(&self) -> bool {
        self.udp_ipv4.works() || self.udp_ipv6.works()
    }

    pub(crate) fn anything_works(&self) -> bool {
        self.udp_works() || self.streams.each().iter().any(|(_, _, way)| way.works())
    }

    /// One line each, aligned, and what it means.
    pub(crate) fn print(&self, output: Output) {
        output.object(self);
        let line = |name: &str, text: String| output.line(format!("{name:<14}{text}"));
        line("coordinator", self.coordinator.clone());
        for (name, passage) in [("UDP, IPv4", &self.udp_ipv4), ("UDP, IPv6", &self.udp_ipv6)] {
            line(name, told(passage, "UDP is dropped on the way", output));
        }
        for (name, _, passage) in self.streams.each() {
            line(name, told(passage, "the port is blocked", output));
        }
        if let Some(found) = &self.datagrams {
            for (name, text) in rows(found) {
                line(name, text);
            }
        }
        if let Some(turn) = &self.turn {
            let told = told(&turn.passage, "the TURN server is not reached", output);
            let lent = turn.address.as_ref().map(|lent| format!(", lends {lent}"));
            line("TURN", told + &lent.unwrap_or_default());
        }
        output.line("");
        output.line(self.verdict());
    }

    fn verdict(&self) -> String {
        let Some(found) = self.datagrams.as_ref().filter(|_| self.udp_works()) else {
            let works = self.streams.each().into_iter().find(|(_, _, way)| way.works());
            return match works {
                Some((name, flag, _)) => format!(
                    "UDP does not pass, but this does: {name}. Use --carrier {flag}, which costs quality but not \
                     the connection."
                ),
                None => "The coordinator is not reached at all.".into(),
            };
        };
        match found.mapping {
            Some(Mapping::None) => {
                "Peers reach this machine directly, unless a firewall drops what was not asked for."
            }
            Some(Mapping::EndpointIndependent) => {
                "Direct paths to nearly all peers; the relay for those behind symmetric boxes."
            }
            Some(Mapping::Dependent) => {
                "A symmetric box: direct paths only to peers whose box is open to any port; else the relay."
            }
            None => {
                "Peers are reached over the relay at least; a second server (--stun) would tell about direct paths."
            }
        }
        .into()
    }
}

fn told(passage: &Passage, dropped: &str, output: Output) -> String {
    match passage {
        Passage::Works { connected_ms } => {
            format!("{}, connected in {connected_ms:.1} ms", output.tinted(Tone::Good, "works"))
        }
        Passage::NoAnswer => {
            format!("{}: {dropped}, or nobody is there", output.tinted(Tone::Bad, "no answer"))
        }
        Passage::Refused => {
            "refused: the coordinator does not offer it, or a firewall forbids it".into()
        }
        Passage::NoAddress => {
            "not tried: this machine or the coordinator has no such address".into()
        }
        Passage::Failed { error } => {
            format!("{}: {error}", output.tinted(Tone::Bad, "fails"))
        }
    }
}

fn rows(found: &Datagrams) -> Vec<(&'static str, String)> {
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| "unknown".into());
    let mut rows = vec![
        ("own address", or_unknown(found.own.map(|address| address.to_string()))),
        ("seen as", or_unknown(found.seen.map(|address| address.to_string()))),
    ];
    let needs_other = match found.other {
        None => "unknown; it takes a second server, see --stun",
        Some(_) => "unknown; the second server does not help",
    };
    rows.push((
        "mapping",
        match found.mapping {
            Some(Mapping::None) => "none: no box translates addresses",
            Some(Mapping::EndpointIndependent) => "endpoint-independent: the same address for all",
            Some(Mapping::Dependent) => "dependent on the other end (symmetric)",
            None => needs_other,
        }
        .into(),
    ));
    rows.push((
        "filtering",
        match found.filtering {
            Some(Filtering::EndpointIndependent) => "none: whoever knows the address is let in",
            Some(Filtering::Dependent) => "only those are let in to whom something was sent",
            None => needs_other,
        }
        .into(),
    ));
    if let Some(hairpin) = found.hairpin {
        let text = if hairpin { "yes" } else { "no: neighbours meet by their inner addresses" };
        rows.push(("hairpinning", text.into()));
    }
    let more = if found.is_ceiling { ", the largest that was tried" } else { "" };
    let headers = match found.seen.is_some_and(|seen| seen.ip().to_canonical().is_ipv6()) {
        true => 48,
        false => 28,
    };
    rows.push((
        "path MTU",
        format!("{} bytes: {} of UDP payload{more}", found.payload + headers, found.payload),
    ));
    rows.push(("round trip", format!("{:.1} ms to the coordinator", found.round_trip_ms)));
    rows.push((
        "relay",
        match &found.relay_ms {
            Ok(round_trip) => {
                format!("works, round trip {round_trip:.1} ms between two peers here")
            }
            Err(error) => format!("fails: {error}"),
        },
    ));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(datagrams: Option<Datagrams>) -> Report {
        let works = Passage::Works { connected_ms: 1.0 };
        let udp_ipv4 = if datagrams.is_some() { works } else { Passage::NoAnswer };
        Report {
            event: "netcheck",
            coordinator: "jsp://here".into(),
            udp_ipv4,
            udp_ipv6: Passage::NoAddress,
            streams: Streams {
                tcp: Passage::Refused,
                tls_443: Passage::NoAnswer,
                tls: Passage::Failed { error: "odd".into() },
                websocket: Passage::Refused,
            },
            turn: None,
            datagrams,
        }
    }

    fn found(mapping: Option<Mapping>) -> Datagrams {
        Datagrams {
            own: "192.168.0.2:5".parse().ok(),
            seen: "[2001:db8::1]:6".parse().ok(),
            mapping,
            filtering: Some(Filtering::Dependent),
            hairpin: Some(false),
            other: None,
            payload: 1392,
            is_ceiling: false,
            round_trip_ms: 1.5,
            relay_ms: Ok(2.5),
        }
    }

    #[test]
    fn programs_get_one_flat_object() {
        let json = serde_json::to_value(report(Some(found(Some(Mapping::Dependent))))).unwrap();
        assert_eq!(json["udp_ipv4"]["result"], "works");
        assert_eq!(json["udp_ipv6"]["result"], "no_address");
        assert_eq!(json["tls"]["error"], "odd");
        assert_eq!(json["tls_443"]["result"], "no_answer");
        assert_eq!(json["mapping"], "dependent");
        assert_eq!(json["filtering"], "dependent");
        assert_eq!(json["direct_paths"], "some");
        assert_eq!(json["mapped_address"], "[2001:db8::1]:6");
        assert_eq!(json["relay_round_trip_ms"], 2.5);
        let lent = Lent {
            server: "turn.example:3478".into(),
            address: Some("203.0.113.9:1".into()),
            passage: Passage::Works { connected_ms: 2.0 },
        };
        let with_turn = Report { turn: Some(lent), ..report(None) };
        let json = serde_json::to_value(with_turn).unwrap();
        assert_eq!(json["turn"]["result"], "works");
        assert_eq!(json["turn"]["address"], "203.0.113.9:1");
        let json = serde_json::to_value(report(None)).unwrap();
        assert!(json.get("turn").is_none());
        assert_eq!(json["udp_ipv4"]["result"], "no_answer");
        assert!(json.get("mapping").is_none());
    }

    #[test]
    fn the_verdict_follows_what_was_found() {
        assert!(report(None).verdict().contains("not reached at all"));
        assert!(!report(None).anything_works());
        let works = Passage::Works { connected_ms: 3.0 };
        let streams = Streams { tls_443: works, ..report(None).streams };
        let https = Report { streams, ..report(None) };
        assert!(https.anything_works() && !https.udp_works());
        let verdict = https.verdict();
        assert!(verdict.contains("port 443") && verdict.contains("--carrier tls"), "{verdict}");
        assert!(report(Some(found(None))).verdict().contains("--stun"));
        assert!(report(Some(found(Some(Mapping::Dependent)))).verdict().contains("symmetric"));
    }

    #[test]
    fn an_mtu_counts_the_headers() {
        let text = |found: &Datagrams| {
            rows(found).into_iter().find(|(name, _)| *name == "path MTU").unwrap().1
        };
        assert_eq!(text(&found(None)), "1440 bytes: 1392 of UDP payload");
        let seen = "192.0.2.1:6".parse().ok();
        let four = Datagrams { seen, is_ceiling: true, payload: 1472, ..found(None) };
        let expected = "1500 bytes: 1472 of UDP payload, the largest that was tried";
        assert_eq!(text(&four), expected);
    }
}
