//! Reads the clients that a dynamic set remembers.

use std::{net::IpAddr, time::Duration};

use knarr_netproxy_plan::Family;

use super::{
    constant::{self as c, LIST_ITEM},
    socket::{Error, Socket},
};
use crate::{
    netlink::message::{Attributes, Writer},
    nftables::{TABLE, octets::address},
};

/// A client that keeps its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remembered {
    /// Its address.
    pub client: IpAddr,
    /// When it is forgotten, unless it comes again.
    pub forgotten_in: Duration,
}

/// The clients of one set.
///
/// # Errors
/// When the kernel refuses.
pub fn clients(socket: &mut Socket, family: Family, set: &str) -> Result<Vec<Remembered>, Error> {
    let mut found = Vec::new();
    let filter = |writer: &mut Writer| {
        writer.text(c::element::TABLE, TABLE);
        writer.text(c::element::SET, set);
    };
    socket.dump(c::message::GETELEMENT, family, filter, |message| {
        let list = message.attributes().nested(c::element::LIST);
        let items = list.into_iter().flatten();
        let items = items.filter(|(kind, _)| *kind == LIST_ITEM);
        found.extend(items.filter_map(|(_, bytes)| remembered(Attributes(bytes))));
    })?;
    found.sort();
    Ok(found)
}

fn remembered(item: Attributes<'_>) -> Option<Remembered> {
    let key = item.nested(c::element::KEY)?.find(c::data::VALUE)?;
    let expiration: [u8; 8] = item.find(c::element::EXPIRATION)?.try_into().ok()?;
    Some(Remembered {
        client: address(key)?,
        forgotten_in: Duration::from_millis(u64::from_be_bytes(expiration)),
    })
}
