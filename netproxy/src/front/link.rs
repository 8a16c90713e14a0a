//! The front's own link, which holds addresses that only it asks from, and the networks of its other links.

use std::{collections::BTreeSet, io, net::IpAddr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use netlink_packet_route::{
    address::{AddressAttribute, AddressHeaderFlags, AddressMessage},
    link::LinkFlags,
};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder};
use tokio::task::JoinHandle;

/// A bridge without ports, because every kernel that routes pods has bridges.
const LINK: &str = "knarr-front";

/// The links of this machine.
pub(super) struct Links {
    handle: Handle,
    connection: JoinHandle<()>,
}

impl Links {
    pub(super) fn open() -> io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        let connection = tokio::spawn(connection);
        Ok(Self { handle, connection })
    }

    /// Has these addresses on the front's own link.
    pub(super) async fn add(&self, addresses: &[IpAddr]) -> io::Result<()> {
        if self.index().await?.is_some() {
            return Ok(());
        }
        let mut link = LinkMessageBuilder::<LinkBridge>::new(LINK).up().build();
        link.header.flags |= LinkFlags::Noarp;
        link.header.change_mask |= LinkFlags::Noarp;
        self.handle
            .link()
            .add(link)
            .execute()
            .await
            .map_err(io::Error::other)?;
        let index = self.index().await?.ok_or(io::ErrorKind::NotFound)?;
        for ip in addresses {
            let length = if ip.is_ipv4() { 32 } else { 128 };
            let mut request = self.handle.address().add(index, *ip, length);
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
            match request.execute().await {
                // A kernel without IPv6 has no nodes of that family either.
                Err(error) if ip.is_ipv6() => tracing::debug!("{ip} on {LINK}: {error}"),
                result => result.map_err(io::Error::other)?,
            }
        }
        Ok(())
    }

    /// Removes the front's own link, if there is one.
    pub(super) async fn remove(&self) -> io::Result<()> {
        match self.index().await? {
            Some(index) => {
                let removed = self.handle.link().del(index).execute().await;
                removed.map_err(io::Error::other)
            }
            None => Ok(()),
        }
    }

    async fn index(&self) -> io::Result<Option<u32>> {
        let mut found = self
            .handle
            .link()
            .get()
            .match_name(LINK.to_owned())
            .execute();
        match found.try_next().await {
            Ok(link) => Ok(link.map(|link| link.header.index)),
            Err(rtnetlink::Error::NetlinkError(message)) if message.raw_code() == -libc::ENODEV => {
                Ok(None)
            }
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// The networks of this machine's links that any of these addresses is in.
    pub(super) async fn networks_with(&self, nodes: &BTreeSet<IpAddr>) -> BTreeSet<IpNet> {
        let mut networks = BTreeSet::new();
        let mut listing = self.handle.address().get().execute();
        while let Ok(Some(address)) = listing.try_next().await {
            networks.extend(network_of(&address));
        }
        networks.retain(|network: &IpNet| nodes.iter().any(|ip| network.contains(ip)));
        networks
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Of a point-to-point link, the network is the other end's.
fn network_of(address: &AddressMessage) -> Option<IpNet> {
    let ip = address
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(ip) => Some(*ip),
            _ => None,
        })?;
    let network = IpNet::new(ip, address.header.prefix_len).ok()?;
    Some(network.trunc())
}
