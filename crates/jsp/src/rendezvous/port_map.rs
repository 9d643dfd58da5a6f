//! A port of the router in front of this host, mapped to the peer's: PCP (RFC 6887), else NAT-PMP (RFC 6886), else
//! UPnP.
//!
//! The first two are spoken by `crab_nat`, which has no more than it takes for that; UPnP by `upnp`, for no crate was
//! found that bounds what an answer costs.

use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crab_nat::{
    GATEWAY_PORT, GatewayAddress, InternetProtocol, PortMapping, PortMappingOptions,
    PortMappingType, TimeoutConfig, natpmp,
};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::upnp::Igd;
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
/// Without an answer for so long, UPnP is tried.
const HEAD_START: Duration = Duration::from_secs(1);
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

    /// Gives the port back, and waits until the router has said so, a second at most. Dropping it does the
    /// same without waiting, while the runtime lives.
    ///
    /// Cancel-safe: the port is given back although the call is dropped.
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
    /// held. Takes two round trips to the router; by UPnP, five and a second. Where it does not answer, some 10 s, and never
    /// more than 20 s.
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
        let port = self.endpoint.local_addr().ok().map(|own| own.port());
        let Some((IpAddr::V4(own), port)) = own.zip(port) else {
            return Err(PortMapError::NoRouter);
        };
        let mapping = Mapping::make(router, SocketAddrV4::new(own, port)).await?;
        let address = match mapping.outer_address().await {
            Ok(address) => address,
            Err(error) => {
                mapping.release().await;
                return Err(PortMapError::Refused(error));
            }
        };
        slot.tell(Some(address));
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(hold(mapping, slot, stopped));
        Ok(PortMap { address, stop, task })
    }
}

/// A mapping, by what the router speaks.
enum Mapping {
    /// PCP or NAT-PMP.
    Plain(PortMapping),
    Upnp(Igd),
}

impl Mapping {
    /// By PCP or NAT-PMP, which say for how long. A router that does not answer is likely to know neither: it is asked
    /// by UPnP as well before it is given up.
    async fn make(router: Ipv4Addr, own: SocketAddrV4) -> Result<Self, PortMapError> {
        let port = NonZeroU16::new(own.port()).ok_or(PortMapError::NoRouter)?;
        let options = PortMappingOptions {
            external_port: Some(port),
            lifetime_seconds: Some(LIFETIME),
            timeout_config: Some(TIMEOUTS),
        };
        let gateway = GatewayAddress::IpV4(router);
        let host = IpAddr::from(*own.ip());
        let mut asked = pin!(PortMapping::new(gateway, host, InternetProtocol::Udp, port, options));
        let early = timeout(HEAD_START, &mut asked).await;
        if let Ok(Ok(mapping)) = early {
            return Ok(Self::Plain(mapping));
        }
        let upnp = match Igd::map(router, own, LIFETIME).await {
            Ok(igd) => return Ok(Self::Upnp(igd)),
            Err(error) => error,
        };
        let answer = match early {
            Ok(answer) => answer,
            Err(_) => asked.await,
        };
        answer.map(Self::Plain).map_err(|error| PortMapError::Refused(format!("{error}; {upnp}")))
    }

    fn lifetime(&self) -> Duration {
        Duration::from_secs(match self {
            Self::Plain(mapping) => mapping.lifetime().into(),
            Self::Upnp(igd) => igd.lifetime().into(),
        })
    }

    /// PCP tells it with the mapping, the others when asked.
    async fn outer_address(&self) -> Result<SocketAddr, String> {
        let mapping = match self {
            Self::Plain(mapping) => mapping,
            Self::Upnp(igd) => return igd.outer_address().await.map_err(|error| error.to_string()),
        };
        let ip = match mapping.mapping_type() {
            PortMappingType::Pcp { external_ip, .. } => external_ip.to_canonical(),
            PortMappingType::NatPmp => {
                let asked = natpmp::external_address(mapping.gateway(), Some(TIMEOUTS)).await;
                IpAddr::from(asked.map_err(|error| error.to_string())?)
            }
        };
        Ok(SocketAddr::new(ip, mapping.external_port().get()))
    }

    /// Has the router map the port for longer: the address that leads here then.
    async fn renewed(&mut self) -> Option<SocketAddr> {
        let is_renewed = match self {
            Self::Plain(mapping) => mapping.renew().await.is_ok(),
            Self::Upnp(igd) => igd.renew().await,
        };
        if is_renewed { self.outer_address().await.ok() } else { None }
    }

    async fn release(self) {
        match self {
            Self::Plain(mut mapping) => {
                mapping.timeout_config = RELEASE_TIMEOUTS;
                // One that the router does not take back ends by itself.
                let _ = mapping.try_drop().await;
            }
            Self::Upnp(igd) => igd.release().await,
        }
    }
}

/// Renews a mapping until it is of no more use, and gives it back.
async fn hold(mut mapping: Mapping, slot: Slot, mut stopped: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            _ = &mut stopped => break,
            () = sleep((mapping.lifetime() / 2).clamp(RENEW_MIN, RENEW_MAX)) => {}
        }
        // What cannot be renewed is told no more; it is asked for again.
        let address = tokio::select! {
            _ = &mut stopped => break,
            address = mapping.renewed() => address,
        };
        if !slot.tell(address) {
            break;
        }
    }
    slot.tell(None);
    mapping.release().await;
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
