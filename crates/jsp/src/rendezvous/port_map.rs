//! A port of the router in front of this host, mapped to the peer's: PCP (RFC 6887), else NAT-PMP (RFC 6886).
//!
//! Both are spoken by `crab_nat`, which has no more than it takes for that. UPnP-IGD is not: the crate for it,
//! `igd-next`, brings 65 others, with HTTP and XML that are read from whoever answers a multicast.

use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU16;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crab_nat::{
    GATEWAY_PORT, GatewayAddress, InternetProtocol, MappingFailure, PortMapping,
    PortMappingOptions, PortMappingType, TimeoutConfig, natpmp,
};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{Peer, Shared, link, locked};

/// What a mapping is asked to live, in seconds: what is not given back is soon forgotten.
const LIFETIME: u32 = 600;
/// It is renewed after half of what it lives, within these bounds.
const RENEW_MIN: Duration = Duration::from_secs(10);
const RENEW_MAX: Duration = Duration::from_secs(1800);
/// Questions to the router: given up after some 8 s.
const TIMEOUTS: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 4,
    max_retry_timeout: None,
};
/// Giving it back takes no longer.
const RELEASE_TIMEOUTS: TimeoutConfig = TimeoutConfig { max_retries: 1, ..TIMEOUTS };

/// Why no port is mapped.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PortMapError {
    /// The peer's policy allows no address to be told.
    #[error("a peer that may tell no address has no port mapped")]
    Forbidden,
    /// No router is known: this system does not tell, or there is none.
    #[error("no router in front of this host is known; name its address")]
    NoRouter,
    /// The router maps a port to this peer's already, for another [`PortMap`].
    #[error("the router maps a port to this peer's already")]
    InUse,
    /// The router does not do it.
    #[error("the router maps no port: {0}")]
    Refused(String),
}

/// A port that is mapped for as long as this is held.
#[derive(Debug)]
pub struct PortMap {
    address: SocketAddr,
    /// Ends the task when it is dropped.
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl PortMap {
    /// The address that the router mapped at first. It may become another one; peers are told.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the port back, and waits until the router has said so, half a second at most. Dropping it does the
    /// same without waiting, while the runtime lives.
    pub async fn release(self) {
        drop(self.stop);
        let _ = self.task.await;
    }
}

/// What a router maps to a peer's port is one thing, whoever asks for it: it is asked for once at a time, and told
/// to other peers while this lives.
struct Slot {
    shared: Weak<Shared>,
    router: IpAddr,
}

impl Slot {
    fn take(shared: &Arc<Shared>, router: IpAddr) -> Option<Self> {
        match locked(&shared.mapped).entry(router) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                free.insert(None);
                Some(Self { shared: Arc::downgrade(shared), router })
            }
        }
    }

    /// Tells other peers the address from now on; false when the peer is gone.
    fn tell(&self, address: Option<SocketAddr>) -> bool {
        let Some(shared) = self.shared.upgrade() else { return false };
        locked(&shared.mapped).insert(self.router, address);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            locked(&shared.mapped).remove(&self.router);
        }
    }
}

impl Peer {
    /// Asks the router in front of this host to map a port to this peer's, and tells other peers of it from then on.
    /// Without a `router` it is the one that the system sends by (on Linux). The mapping is renewed while it is
    /// held. Takes two round trips to the router, or 8 s where it does not answer.
    ///
    /// Cancel-safe, but a mapping that was made and not answered yet stays for ten minutes.
    ///
    /// # Errors
    /// See [`PortMapError`]; nothing is sent where the policy allows no address to be told.
    // spec: RDV-30
    pub async fn map_port(&self, router: Option<Ipv4Addr>) -> Result<PortMap, PortMapError> {
        if !self.shared.policy.allows_direct() {
            return Err(PortMapError::Forbidden);
        }
        let router = router.or_else(default_router).ok_or(PortMapError::NoRouter)?;
        let slot = Slot::take(&self.shared, router.into()).ok_or(PortMapError::InUse)?;
        let own = link::own_ip(SocketAddr::new(router.into(), GATEWAY_PORT));
        let port = self.endpoint.local_addr().ok().and_then(|own| NonZeroU16::new(own.port()));
        let (own, port) = own.zip(port).ok_or(PortMapError::NoRouter)?;
        let options = PortMappingOptions {
            external_port: Some(port),
            lifetime_seconds: Some(LIFETIME),
            timeout_config: Some(TIMEOUTS),
        };
        let gateway = GatewayAddress::IpV4(router);
        let mapping = PortMapping::new(gateway, own, InternetProtocol::Udp, port, options).await;
        let mapping = mapping.map_err(refused)?;
        let address = outer_address(&mapping).await?;
        slot.tell(Some(address));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(hold(mapping, slot, stopped));
        Ok(PortMap { address, stop, task })
    }
}

fn refused(error: MappingFailure) -> PortMapError {
    PortMapError::Refused(error.to_string())
}

/// PCP tells it with the mapping, NAT-PMP when asked.
async fn outer_address(mapping: &PortMapping) -> Result<SocketAddr, PortMapError> {
    let ip = match mapping.mapping_type() {
        PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
        PortMappingType::NatPmp => {
            let asked = natpmp::external_address(mapping.gateway(), Some(TIMEOUTS)).await;
            IpAddr::from(asked.map_err(|error| PortMapError::Refused(error.to_string()))?)
        }
    };
    Ok(SocketAddr::new(ip, mapping.external_port().get()))
}

/// Renews a mapping until it is of no more use, and gives it back.
async fn hold(mut mapping: PortMapping, slot: Slot, mut stopped: oneshot::Receiver<()>) {
    loop {
        let lifetime = Duration::from_secs(mapping.lifetime().into());
        tokio::select! {
            _ = &mut stopped => break,
            () = sleep((lifetime / 2).clamp(RENEW_MIN, RENEW_MAX)) => {}
        }
        // What cannot be renewed is told no more; it is asked for again.
        let renewed = mapping.renew().await.is_ok();
        let address = if renewed { outer_address(&mapping).await.ok() } else { None };
        if !slot.tell(address) {
            break;
        }
    }
    slot.tell(None);
    mapping.timeout_config = RELEASE_TIMEOUTS;
    // One that the router does not take back ends by itself.
    let _ = mapping.try_drop().await;
}

/// The router that the system sends by.
#[cfg(target_os = "linux")]
fn default_router() -> Option<Ipv4Addr> {
    router_in(&std::fs::read_to_string("/proc/net/route").ok()?)
}

#[cfg(not(target_os = "linux"))]
fn default_router() -> Option<Ipv4Addr> {
    None
}

/// The gateway of the first route to everywhere, in the table as Linux shows it.
#[cfg(target_os = "linux")]
fn router_in(table: &str) -> Option<Ipv4Addr> {
    /// RTF_GATEWAY.
    const BY_ROUTER: u32 = 2;
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let mut number = || u32::from_str_radix(fields.next()?, 16).ok();
        let (to, router, flags) = (number()?, number()?, number()?);
        // Addresses stand as the machine has them in memory.
        let router = Ipv4Addr::from(router.to_ne_bytes());
        (to == 0 && flags & BY_ROUTER != 0).then_some(router)
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_router_is_that_of_the_default_route() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\n\
                     eth0\t000200C0\t00000000\t0001\t0\n\
                     eth0\t00000000\t010200C0\t0003\t0\n";
        assert_eq!(router_in(table), Some(Ipv4Addr::new(192, 0, 2, 1)));
        assert_eq!(router_in("Iface\neth0\tzz\n\n"), None);
    }
}
