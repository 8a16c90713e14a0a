//! This node's own DNS server: opens it on the node's addresses in its pod CIDRs, so that the cluster's DNS Service
//! leads to it like to any endpoint. Never decides which names exist.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::{
    api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Forwarder, SharedZone, serve::Listeners};

/// Sockets to serve from now on, in place of any before.
pub(crate) struct Opened {
    listeners: Listeners,
    /// Asking these for other people's names would come back here.
    own: Vec<IpAddr>,
}

/// The node's server as the sync sees it.
pub(crate) struct Resident {
    pub(crate) zone: SharedZone,
    addresses: Vec<IpAddr>,
    opened: mpsc::UnboundedSender<Opened>,
}

impl Resident {
    /// A server that is not open yet, and where its sockets will come out.
    pub(crate) fn new(zone: SharedZone) -> (Self, mpsc::UnboundedReceiver<Opened>) {
        let (opened, sockets) = mpsc::unbounded_channel();
        let resident = Resident {
            zone,
            addresses: Vec::new(),
            opened,
        };
        (resident, sockets)
    }

    /// Opens the server on these addresses; nothing if it already is there or cannot be.
    pub(crate) fn open(
        &mut self,
        addresses: Vec<IpAddr>,
        service_addresses: &[IpAddr],
    ) -> Option<Vec<EndpointSlice>> {
        if addresses == self.addresses {
            return None;
        }
        let listeners = super::listen(&addresses)
            .inspect_err(|error| tracing::warn!("no cluster DNS on this node: {error:?}"))
            .ok();
        self.addresses.clone_from(&addresses);
        let listeners = listeners?;
        let slices = listeners.places().map(slice).collect();
        let own = [addresses.as_slice(), service_addresses].concat();
        let _nobody_serves_after_shutdown = self.opened.send(Opened { listeners, own });
        Some(slices)
    }
}

/// Serves what is opened until shutdown.
pub(crate) async fn run(
    mut sockets: mpsc::UnboundedReceiver<Opened>,
    zone: SharedZone,
    shutdown: CancellationToken,
) {
    let mut serving = CancellationToken::new();
    loop {
        let opened = tokio::select! {
            opened = sockets.recv() => opened,
            () = shutdown.cancelled() => None,
        };
        serving.cancel();
        let Some(Opened { listeners, own }) = opened else {
            return;
        };
        serving = shutdown.child_token();
        tokio::spawn(listeners.serve(zone.clone(), Forwarder::new(own), serving.clone()));
    }
}

/// One address of this node's server, as if an EndpointSlice of the DNS Service named it.
fn slice((udp, tcp): (SocketAddr, SocketAddr)) -> EndpointSlice {
    let port = |name: &str, protocol: &str, address: SocketAddr| EndpointPort {
        name: Some(name.to_owned()),
        protocol: Some(protocol.to_owned()),
        port: Some(address.port().into()),
        app_protocol: None,
    };
    let address_type = if udp.is_ipv4() { "IPv4" } else { "IPv6" };
    EndpointSlice {
        metadata: ObjectMeta::default(),
        address_type: address_type.to_owned(),
        endpoints: Some(vec![Endpoint {
            addresses: vec![udp.ip().to_string()],
            ..Endpoint::default()
        }]),
        ports: Some(vec![port("dns", "UDP", udp), port("dns-tcp", "TCP", tcp)]),
    }
}
