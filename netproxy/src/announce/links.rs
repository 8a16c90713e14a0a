//! The links that neighbours are on, kept up to date by rtnetlink notifications.

use std::io;

use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::{
    Handle, MulticastGroup,
    packet_core::{NetlinkMessage, NetlinkPayload},
    packet_route::RouteNetlinkMessage,
};
use tokio::task::JoinHandle;

use super::wire::Mac;

/// Interfaces that knarr makes begin so; pods are no neighbours.
const OWN_LINK_PREFIX: &str = "kn";

/// An Ethernet link to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub index: u32,
    pub mac: Mac,
}

type Notifications = futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

/// The uplinks, and word of their changes.
pub(super) struct Changes {
    handle: Handle,
    notifications: Notifications,
    connection: JoinHandle<()>,
    uplinks: Vec<Link>,
    /// Set by a notification about such a link and cleared by a whole listing, so that a cancelled wait loses nothing.
    stale: bool,
}

impl Changes {
    pub(super) fn open() -> io::Result<Self> {
        let (connection, handle, notifications) =
            rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        let connection = tokio::spawn(connection);
        let notifications = notifications.map(|(message, _)| message).boxed();
        Ok(Changes {
            handle,
            notifications,
            connection,
            uplinks: Vec::new(),
            stale: true,
        })
    }

    pub(super) fn uplinks(&self) -> Vec<Link> {
        self.uplinks.clone()
    }

    pub(super) fn uplink(&self, index: u32) -> Option<Link> {
        self.uplinks
            .iter()
            .copied()
            .find(|link| link.index == index)
    }

    /// Returns when the set of uplinks is another than before.
    pub(super) async fn changed(&mut self) {
        loop {
            if self.stale {
                match list(&self.handle).await {
                    Ok(found) => {
                        self.stale = false;
                        if found != self.uplinks {
                            self.uplinks = found;
                            return;
                        }
                    }
                    Err(error) => tracing::warn!("cannot list links: {error}"),
                }
            }
            match self.notifications.next().await {
                Some(message) => self.stale |= may_concern_uplinks(&message),
                None => return std::future::pending().await,
            }
        }
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

async fn list(handle: &Handle) -> io::Result<Vec<Link>> {
    let mut links = Vec::new();
    let mut listing = handle.link().get().execute();
    while let Some(message) = listing.try_next().await.map_err(io::Error::other)? {
        links.extend(uplink_of(&message));
    }
    Ok(links)
}

/// Whether an uplink may differ now; pods' links come and go all the time, and a listing shows every link there is.
fn may_concern_uplinks(message: &NetlinkMessage<RouteNetlinkMessage>) -> bool {
    let NetlinkPayload::InnerMessage(
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link),
    ) = &message.payload
    else {
        return true;
    };
    let is_own = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfName(name) if name.starts_with(OWN_LINK_PREFIX));
    !link.attributes.iter().any(is_own)
}

fn uplink_of(message: &LinkMessage) -> Option<Link> {
    let header = &message.header;
    // Without a carrier nobody hears, and who comes with it must be told then.
    let is_heard = header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp);
    let ethernet = header.link_layer_type == LinkLayerType::Ether && is_heard;
    let (mut mac, mut own, mut bridge_port) = (None, false, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = Mac::try_from(bytes.as_slice()).ok(),
            LinkAttribute::IfName(name) => own = name.starts_with(OWN_LINK_PREFIX),
            // Frames of a bridge's ports arrive on the bridge.
            LinkAttribute::Controller(_) => bridge_port = true,
            _ => {}
        }
    }
    (ethernet && !own && !bridge_port).then_some(Link {
        index: header.index,
        mac: mac?,
    })
}
