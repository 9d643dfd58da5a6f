//! What the simulator's boxes do, as rules of nftables.
//!
//! A box of Linux keeps an inner port where it is free, for every other end, and lets in what was asked for from just
//! there: it is the port-restricted one by itself. What lets in more, or hairpins, notes which inner host a port belongs to when
//! something leaves by it; what lets in certain hosts notes them as well.

use std::fmt::Write;
use std::net::Ipv4Addr;

use jsp_sim::nat::{Behaviour, Scope};

/// The rules of a box whose outer interface is `outside`, at this address.
pub(super) fn ruleset(behaviour: &Behaviour, outside: &str, outer: Ipv4Addr) -> String {
    let seconds = behaviour.lifetime.as_secs().max(1);
    let random = match behaviour.mapping {
        Scope::Any => "",
        _ => " random,fully-random",
    };
    let lets_in = match behaviour.filtering {
        Scope::Any => Some(""),
        Scope::Address => Some("ip saddr @contacted "),
        Scope::AddressAndPort => None,
    };
    let mut out = format!(
        "table ip box {{
            map ports {{ type inet_service : ipv4_addr; flags dynamic,timeout; timeout {seconds}s; size 4096; }}
            set contacted {{ type ipv4_addr; flags dynamic,timeout; timeout {seconds}s; size 4096; }}
            chain leaving {{
                type nat hook postrouting priority srcnat;
                oifname \"{outside}\" masquerade{random}
                ct status dnat oifname != \"{outside}\" iifname != \"{outside}\" snat to {outer}
            }}
            chain arriving {{
                type nat hook prerouting priority dstnat;\n"
    );
    if let Some(hosts) = lets_in {
        let _ = writeln!(
            out,
            "iifname \"{outside}\" ip protocol udp {hosts}dnat to udp dport map @ports"
        );
    }
    if behaviour.hairpin {
        let _ = writeln!(
            out,
            "iifname != \"{outside}\" ip daddr {outer} ip protocol udp dnat to udp dport map @ports"
        );
    }
    out.push_str("}\nchain passing {\ntype filter hook forward priority filter;\n");
    if behaviour.blocks_udp {
        out.push_str("ip protocol udp drop\n");
    }
    let leaves = format!("oifname \"{outside}\" ip protocol udp");
    let _ = writeln!(out, "{leaves} update @ports {{ udp sport : ip saddr }}");
    let _ = writeln!(out, "{leaves} update @contacted {{ ip daddr }}");
    // What nobody has asked for must leave no trace: the box would give its port to another.
    let _ = writeln!(
        out,
        "}}\nchain own {{\ntype filter hook input priority filter;\nip protocol udp drop\n}}\n}}"
    );
    out
}
