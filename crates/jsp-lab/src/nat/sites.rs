//! Two sites and a hub, as namespaces: each host behind the boxes of its site, all boxes on one public router.

use std::io::Write;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use jsp_sim::nat::{Behaviour, Site};

use super::rules::ruleset;
use crate::hosts::ip;

/// Where the coordinator is.
pub(super) const HUB: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

/// The namespaces of one meeting; taken away when dropped, with what still runs in them.
pub(super) struct Town {
    names: Vec<String>,
    links: u32,
}

/// A place where a further box or host may be hung on.
#[derive(Clone)]
struct Port {
    namespace: String,
    /// The first three bytes of the network there; the router is the first address in it.
    network: [u8; 3],
}

impl Port {
    fn address(&self, last: u8) -> Ipv4Addr {
        let [a, b, c] = self.network;
        Ipv4Addr::new(a, b, c, last)
    }
}

impl Town {
    /// Builds everything for two sites.
    pub(super) fn new(sites: [Site; 2]) -> Result<Self> {
        let mut town = Self { names: Vec::new(), links: 0 };
        let world = town.namespace("w")?;
        forward(&world)?;
        let hub = Port { namespace: world.clone(), network: [203, 0, 113] };
        town.host("h", &hub)?;
        // All behind one carrier: what its box is for.
        let shared = match sites {
            [Site::Hairpin, Site::Hairpin] => Some(town.carrier(&world)?),
            _ => None,
        };
        for (site, side) in sites.into_iter().zip(0u8..) {
            let boxes = site.boxes();
            let skipped = usize::from(shared.is_some());
            let mut port = match &shared {
                Some(carrier) => Port { namespace: carrier.clone(), network: [100, 64, side] },
                None => Port { namespace: world.clone(), network: [198, 51, 100 + side] },
            };
            for (behaviour, depth) in boxes.iter().zip(0u8..).skip(skipped) {
                let inner = town.hang(&format!("b{side}{depth}"), &port, Some(behaviour))?;
                port = Port { namespace: inner, network: [10, side, depth] };
            }
            town.host(&format!("s{side}"), &port)?;
        }
        Ok(town)
    }

    fn namespace(&mut self, label: &str) -> Result<String> {
        let name = format!("jsplab{}{label}", std::process::id());
        ip(&["netns", "add", &name])?;
        self.names.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"])?;
        Ok(name)
    }

    fn carrier(&mut self, world: &str) -> Result<String> {
        let outside = Port { namespace: world.to_owned(), network: [198, 51, 100] };
        self.hang("c", &outside, Some(&Behaviour::HAIRPIN))
    }

    fn host(&mut self, label: &str, port: &Port) -> Result<()> {
        self.hang(label, port, None).map(drop)
    }

    /// A host, or a box of this behaviour, at a port; answers its namespace.
    fn hang(&mut self, label: &str, at: &Port, behaviour: Option<&Behaviour>) -> Result<String> {
        let name = self.namespace(label)?;
        self.links += 1;
        let (near, far) = (format!("in{}", self.links), format!("out{}", self.links));
        let (router, own) = (at.address(1), at.address(2));
        let above = &at.namespace;
        ip(&[
            "-n", above, "link", "add", &near, "type", "veth", "peer", "name", &far, "netns", &name,
        ])?;
        for (namespace, interface, address) in [(above, &near, router), (&name, &far, own)] {
            ip(&["-n", namespace, "addr", "add", &format!("{address}/24"), "dev", interface])?;
            ip(&["-n", namespace, "link", "set", interface, "up"])?;
        }
        ip(&["-n", &name, "route", "add", "default", "via", &router.to_string()])?;
        if let Some(behaviour) = behaviour {
            forward(&name)?;
            let seconds = behaviour.lifetime.as_secs().to_string();
            for timeout in ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"] {
                set(&name, &format!("net/netfilter/{timeout}"), &seconds)?;
            }
            load(&name, &ruleset(behaviour, &far, own))?;
        }
        Ok(name)
    }

    /// A program at the hub (`None`) or at a site.
    pub(super) fn command(&self, site: Option<usize>) -> Command {
        let label = site.map_or("h".to_owned(), |side| format!("s{side}"));
        let mut command = Command::new("ip");
        let name = format!("jsplab{}{label}", std::process::id());
        command.args(["netns", "exec", &name]).stdin(Stdio::null());
        command
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

fn forward(namespace: &str) -> Result<()> {
    set(namespace, "net/ipv4/ip_forward", "1")
}

/// Writes a setting of the kernel, as it is inside of a namespace.
fn set(namespace: &str, name: &str, value: &str) -> Result<()> {
    let script = format!("echo {value} > /proc/sys/{name}");
    let output = Command::new("ip")
        .args(["netns", "exec", namespace, "sh", "-c", &script])
        .output()
        .context("could not run `ip`: install iproute2")?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "this kernel has no {name}: {}", told.trim());
    Ok(())
}

fn load(namespace: &str, rules: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["netns", "exec", namespace, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("could not run `ip`: install iproute2")?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(rules.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success(),
        "nftables takes the rules of a box not (install nftables, or this kernel lacks something): {}",
        told.trim()
    );
    Ok(())
}
