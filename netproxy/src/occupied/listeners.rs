//! Sockets that listen in this network namespace, as the kernel's `inet_diag` tells.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use knarr_netproxy_plan::Protocol;

use crate::netlink::{
    self, SocketError,
    message::{Attributes, messages},
    receive, send,
};

const BY_FAMILY: u16 = 20;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;
/// `struct inet_diag_req_v2` without family, protocol and states.
const SOCKET_ID_BYTES: usize = 48;
/// `struct inet_diag_msg`.
const ANSWER_BYTES: usize = 72;
const ONLY_V6: u16 = 11;

/// A socket that hears whoever knocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    /// Whether it is an IPv6 socket that hears IPv4 too.
    pub(super) takes_v4: bool,
    pub(super) inode: u32,
}

/// Every TCP socket that listens, and every UDP socket without a peer.
pub(super) fn listeners() -> Result<Vec<Listener>, SocketError> {
    let fd = netlink::open(libc::NETLINK_SOCK_DIAG)?;
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        for (protocol, state) in [(Protocol::Tcp, TCP_LISTEN), (Protocol::Udp, TCP_CLOSE)] {
            send(&fd, &question(family as u8, protocol, state))?;
            'answers: loop {
                let Some(bytes) = receive(&fd, 0)? else {
                    continue;
                };
                for message in messages(&bytes) {
                    if message.kind == libc::NLMSG_DONE as u16 {
                        break 'answers;
                    }
                    if let Some((cause, _)) = netlink::error_of(&message) {
                        let step = "list sockets that listen";
                        return Err(SocketError { step, cause });
                    }
                    found.extend(read(message.body, protocol));
                }
            }
        }
    }
    Ok(found)
}

fn question(family: u8, protocol: Protocol, state: u32) -> Vec<u8> {
    let body_length = 8 + SOCKET_ID_BYTES;
    let length = u32::try_from(netlink::message::HEADER + body_length).unwrap_or(u32::MAX);
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend([family, protocol.number(), 0, 0]);
    bytes.extend((1_u32 << state).to_ne_bytes());
    bytes.resize(bytes.len() + SOCKET_ID_BYTES, 0);
    bytes
}

/// Nothing for an answer that is too short, or of a family nobody asked for.
fn read(body: &[u8], protocol: Protocol) -> Option<Listener> {
    let family = i32::from(*body.first()?);
    let port = u16::from_be_bytes(body.get(4..6)?.try_into().ok()?);
    let ip: IpAddr = match family {
        libc::AF_INET => Ipv4Addr::from(<[u8; 4]>::try_from(body.get(8..12)?).ok()?).into(),
        libc::AF_INET6 => Ipv6Addr::from(<[u8; 16]>::try_from(body.get(8..24)?).ok()?).into(),
        _ => return None,
    };
    let inode = u32::from_ne_bytes(body.get(ANSWER_BYTES - 4..ANSWER_BYTES)?.try_into().ok()?);
    let only_v6 = Attributes(body.get(ANSWER_BYTES..)?).find(ONLY_V6);
    let takes_v4 = family == libc::AF_INET6 && ip.is_unspecified() && only_v6 == Some(&[0]);
    Some(Listener {
        address: SocketAddr::new(ip, port),
        protocol,
        takes_v4,
        inode,
    })
}
