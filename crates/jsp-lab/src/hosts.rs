//! Two hosts: network namespaces with a TUN device each.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tun_rs::{DeviceBuilder, SyncDevice};

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    Left,
    Right,
}

/// Where the right host listens.
pub(crate) const RIGHT_ADDRESS: &str = "10.213.0.2";
/// Where the left host is at first, and where it moves to.
pub(crate) const LEFT_ADDRESS: &str = "10.213.0.1";
pub(crate) const LEFT_ADDRESS_NEXT: &str = "10.213.0.3";
/// Bytes of an IP packet.
pub(crate) const MTU: usize = 1500;

/// The two namespaces; taken away when dropped, with what still runs in them.
pub(crate) struct Hosts {
    names: [String; 2],
}

/// Whether this process may make namespaces and TUN devices.
///
/// # Errors
/// What stands against it.
pub(crate) fn permitted() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "this is not root");
    ensure!(Path::new("/dev/net/tun").exists(), "there is no /dev/net/tun");
    let name = format!("jsplab{}x", std::process::id());
    ip(&["netns", "add", &name])?;
    ip(&["netns", "del", &name])
}

impl Hosts {
    /// Makes both, and the ends of their devices that the link hangs on.
    pub(crate) fn new(number: u32) -> Result<(Self, [SyncDevice; 2])> {
        let id = std::process::id();
        let hosts =
            Self { names: [format!("jsplab{id}l{number}"), format!("jsplab{id}r{number}")] };
        let device = |index: usize, address: &str| -> Result<SyncDevice> {
            let name = &hosts.names[index];
            ip(&["netns", "add", name])?;
            // Interface names have at most 15 bytes.
            let interface = format!("jl{}{index}{number}", id % 100_000);
            let device = DeviceBuilder::new()
                .name(&interface)
                .build_sync()
                .context("could not make a TUN device")?;
            device.set_nonblocking(true)?;
            ip(&["link", "set", &interface, "netns", name])?;
            let inside = |arguments: &[&str]| ip(&[&["-n", name], arguments].concat());
            inside(&["addr", "add", &format!("{address}/24"), "dev", &interface])?;
            inside(&["link", "set", &interface, "mtu", &MTU.to_string(), "up"])?;
            inside(&["link", "set", "lo", "up"])?;
            Ok(device)
        };
        let devices = [device(0, LEFT_ADDRESS)?, device(1, RIGHT_ADDRESS)?];
        Ok((hosts, devices))
    }

    fn name(&self, side: Side) -> &str {
        &self.names[usize::from(side == Side::Right)]
    }

    /// This program in another role, inside a namespace; its output is ours to read.
    pub(crate) fn role(&self, side: Side, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", self.name(side)])
            .arg(std::env::current_exe()?)
            .arg("role")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        Ok(command)
    }

    /// The left host gets another address, as when it leaves one network for another, and has none for so long in
    /// between. Answers how long it was.
    pub(crate) fn move_left(&self, away: Duration) -> Result<Duration> {
        let name = self.name(Side::Left);
        let shown = Command::new("ip").args(["-n", name, "-o", "-4", "addr"]).output()?;
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        let line = shown.lines().find(|line| line.contains(LEFT_ADDRESS));
        let interface = line.and_then(|line| line.split_whitespace().nth(1));
        let Some(interface) = interface else { bail!("the left host has no address: {shown}") };
        let start = Instant::now();
        ip(&["-n", name, "addr", "del", &format!("{LEFT_ADDRESS}/24"), "dev", interface])?;
        std::thread::sleep(away);
        ip(&["-n", name, "addr", "add", &format!("{LEFT_ADDRESS_NEXT}/24"), "dev", interface])?;
        Ok(start.elapsed())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).stderr(Stdio::null()).status();
        }
    }
}

pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    let what = format!("ip {}", arguments.join(" "));
    let output = Command::new("ip")
        .args(arguments)
        .output()
        .with_context(|| format!("could not run `{what}`: install iproute2"))?;
    ensure!(
        output.status.success(),
        "`{what}` failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
