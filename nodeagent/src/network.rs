//! The node's links and routes: what they should be, what they are, and the steps between.
//! Owns `knarr0`, the tunnels, the pods' veths and every route with knarr's protocol number; touches nothing else.

pub(crate) mod apply;
pub(crate) mod observe;
pub(crate) mod peers;
pub(crate) mod plan;
pub(crate) mod tunnel;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use self::tunnel::{Entry, Tunnel};

/// The node's anchor link: its own connects to service addresses find a route here.
pub(crate) const ANCHOR: &str = "knarr0";
/// `rtm_protocol` of every route knarr adds ('k'), so that they can be told from everybody else's.
pub(crate) const ROUTE_PROTOCOL: u8 = 107;
/// The pods' link-layer gateway: the same on every host end, so that a pod never asks.
pub(crate) const HOST_END_MAC: [u8; 6] = [0xee; 6];

/// Everything the host's network should hold for knarr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Desired {
    /// Addresses of the anchor; empty means no anchor.
    pub(crate) anchor: Vec<IpAddr>,
    pub(crate) pods: Vec<PodLink>,
    pub(crate) tunnels: Vec<Tunnel>,
    /// Where the tunnels lead.
    pub(crate) entries: BTreeSet<Entry>,
    pub(crate) routes: Vec<Route>,
}

/// One pod's veth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodLink {
    pub(crate) name: String,
    pub(crate) netns: PathBuf,
    pub(crate) addresses: Vec<IpAddr>,
}

impl PodLink {
    /// A locally administered address derived from the link's name, so that a repaired veth keeps it.
    pub(crate) fn mac(&self) -> [u8; 6] {
        let hash = fnv1a(self.name.as_bytes()).to_be_bytes();
        [0x02, hash[1], hash[2], hash[3], hash[4], hash[5]]
    }

    /// The host's routes to the pod.
    pub(crate) fn routes(&self) -> Vec<Route> {
        let to = |address: &IpAddr| Route {
            destination: IpNet::from(*address),
            link: Some(self.name.clone()),
            gateway: None,
            source: None,
        };
        self.addresses.iter().map(to).collect()
    }
}

/// One route of knarr's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) destination: IpNet,
    pub(crate) link: Option<String>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
}

/// What the host's network holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) links: BTreeMap<String, Link>,
    pub(crate) addresses: Vec<Address>,
    pub(crate) routes: Vec<ObservedRoute>,
    pub(crate) tunnels: Vec<Tunnel>,
    pub(crate) entries: BTreeSet<Entry>,
}

/// One link of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) state: LinkState,
    pub(crate) mtu: u32,
}

/// Whether a link is administratively up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkState {
    Up,
    Down,
}

/// One address of the host, with the prefix that is on its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) link_index: u32,
    pub(crate) net: IpNet,
}

/// One route with knarr's protocol number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObservedRoute {
    pub(crate) destination: IpNet,
    pub(crate) link_index: Option<u32>,
    pub(crate) gateway: Option<IpAddr>,
    pub(crate) source: Option<IpAddr>,
}

/// The host end's name for a pod: 15 bytes, the most a link name can have.
pub(crate) fn link_name(pod_uid: &str) -> String {
    format!("kn{:013x}", fnv1a(pod_uid.as_bytes()) >> 12)
}

/// Whether a link name has the shape of [`link_name`].
pub(crate) fn is_pod_link(name: &str) -> bool {
    name.strip_prefix("kn")
        .is_some_and(|hash| hash.len() == 13 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether a link is one that knarr makes.
pub(crate) fn is_own_link(name: &str) -> bool {
    name == ANCHOR || tunnel::is_name(name) || is_pod_link(name)
}

/// FNV-1a, 64 bits: names need to be stable and spread, not secret.
pub(crate) fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
