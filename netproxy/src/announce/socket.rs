//! The packet sockets of the announcer: the one place that speaks AF_PACKET.

use std::{
    collections::BTreeSet,
    io,
    mem::size_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use libc::{c_int, c_void, sock_filter, sock_fprog, sockaddr_ll, socklen_t};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    filter,
    links::Link,
    wire::{self, Heard},
};

/// Why load-balancer IPs cannot be announced.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Needs CAP_NET_RAW and a kernel with AF_PACKET.
    #[error("cannot open a packet socket")]
    Open(#[source] io::Error),
    /// The kernel refused a filter program.
    #[error("cannot set a packet filter")]
    Filter(#[source] io::Error),
    /// Links cannot be watched.
    #[error("cannot watch links")]
    Netlink(#[source] io::Error),
}

/// Two filtered sockets that hear every link.
pub(super) struct Ears {
    arp: AsyncFd<OwnedFd>,
    ndp: AsyncFd<OwnedFd>,
}

/// Longer than any question: 86 bytes with Ethernet header.
const FRAME_BYTES_MAX: usize = 256;

impl Ears {
    /// Hears nothing until told what to listen for.
    pub(super) fn open() -> Result<Self, Error> {
        let open = |ethertype: c_int, deaf: Vec<sock_filter>| -> Result<AsyncFd<OwnedFd>, Error> {
            let fd = open_socket().map_err(Error::Open)?;
            set_filter(&fd, &deaf)?;
            bind(&fd, ethertype).map_err(Error::Open)?;
            // SAFETY: the descriptor is owned by the AsyncFd, stays open and is never replaced.
            unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }
                .map_err(|error| Error::Open(error.into()))
        };
        Ok(Ears {
            arp: open(libc::ETH_P_ARP, filter::arp(&[]))?,
            ndp: open(libc::ETH_P_IPV6, filter::ndp(&[]))?,
        })
    }

    /// Lets what neighbours say of these addresses through, and has links pass their multicast on.
    pub(super) fn listen_for(
        &self,
        addresses: &BTreeSet<IpAddr>,
        links: &[Link],
    ) -> Result<(), Error> {
        let v4: Vec<Ipv4Addr> = addresses
            .iter()
            .filter_map(|ip| {
                if let IpAddr::V4(ip) = ip {
                    Some(*ip)
                } else {
                    None
                }
            })
            .collect();
        let v6: Vec<Ipv6Addr> = addresses
            .iter()
            .filter_map(|ip| {
                if let IpAddr::V6(ip) = ip {
                    Some(*ip)
                } else {
                    None
                }
            })
            .collect();
        set_filter(self.arp.get_ref(), &filter::arp(&v4))?;
        set_filter(self.ndp.get_ref(), &filter::ndp(&v6))?;
        for link in links {
            for ip in &v6 {
                let [.., a, b, c] = ip.octets();
                join(
                    self.ndp.get_ref(),
                    link.index,
                    [0x33, 0x33, 0xff, a, b, c, 0, 0],
                );
            }
            if !v6.is_empty() {
                join(
                    self.ndp.get_ref(),
                    link.index,
                    [0x33, 0x33, 0, 0, 0, 1, 0, 0],
                );
            }
        }
        Ok(())
    }

    /// What is heard next and the link it came from; `None` for a frame that is neither question nor claim after all.
    pub(super) async fn next(&self) -> Option<(u32, Heard)> {
        tokio::select! {
            received = receive(&self.arp) => received,
            received = receive(&self.ndp) => received,
        }
    }

    /// Sends a whole frame; a link that went away meanwhile has no neighbours to tell.
    pub(super) fn send(&self, link_index: u32, frame: &[u8]) {
        let to = link_address(link_index, 0);
        // SAFETY: frame and address are valid for the call, and their lengths are their own.
        let sent = unsafe {
            libc::sendto(
                self.arp.get_ref().as_raw_fd(),
                frame.as_ptr().cast::<c_void>(),
                frame.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                size_of::<sockaddr_ll>() as socklen_t,
            )
        };
        if sent < 0 {
            tracing::debug!(
                "link {link_index} takes no frame: {}",
                io::Error::last_os_error()
            );
        }
    }
}

async fn receive(socket: &AsyncFd<OwnedFd>) -> Option<(u32, Heard)> {
    let mut frame = [0u8; FRAME_BYTES_MAX];
    let received = socket
        .async_io(Interest::READABLE, |fd| receive_frame(fd, &mut frame))
        .await;
    match received {
        Ok((length, link_index)) => Some((link_index, wire::read(&frame[..length])?)),
        // A link that went down reports here once.
        Err(error) => {
            tracing::debug!("packet socket: {error}");
            None
        }
    }
}

fn receive_frame(fd: &OwnedFd, frame: &mut [u8]) -> io::Result<(usize, u32)> {
    let mut from = link_address(0, 0);
    let mut from_length = size_of::<sockaddr_ll>() as socklen_t;
    // SAFETY: the buffer and the address outlive the call and are as long as stated.
    let length = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            frame.as_mut_ptr().cast::<c_void>(),
            frame.len(),
            libc::MSG_DONTWAIT,
            (&raw mut from).cast(),
            &raw mut from_length,
        )
    };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // Our own frames come back as PACKET_OUTGOING.
    let heard = if from.sll_pkttype == libc::PACKET_OUTGOING {
        0
    } else {
        length
    };
    Ok((heard, u32::try_from(from.sll_ifindex).unwrap_or(0)))
}

/// Protocol 0: the socket hears nothing before it is filtered and bound.
fn open_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket() takes no pointers.
    let fd = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(fd: &OwnedFd, ethertype: c_int) -> io::Result<()> {
    let address = link_address(0, ethertype as u16);
    let length = size_of::<sockaddr_ll>() as socklen_t;
    // SAFETY: the address is valid for the call and as long as stated.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    if bound == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn link_address(index: u32, ethertype: u16) -> sockaddr_ll {
    sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: c_int::try_from(index).unwrap_or(0),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    }
}

fn set_filter(fd: &OwnedFd, program: &[sock_filter]) -> Result<(), Error> {
    let mut program = program.to_vec();
    let length = u16::try_from(program.len())
        .map_err(|_| Error::Filter(io::ErrorKind::InvalidInput.into()))?;
    let option = sock_fprog {
        len: length,
        filter: program.as_mut_ptr(),
    };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &option).map_err(Error::Filter)
}

/// Has the link's own filter pass a group's frames, without promiscuous mode.
fn join(fd: &OwnedFd, link_index: u32, group: [u8; 8]) {
    let request = libc::packet_mreq {
        mr_ifindex: c_int::try_from(link_index).unwrap_or(0),
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: 6,
        mr_address: group,
    };
    if let Err(error) = set_option(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request) {
        tracing::debug!("link {link_index} takes no multicast membership: {error}");
    }
}

fn set_option<T>(fd: &OwnedFd, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value is valid for the call and its size is its type's.
    let set = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (value as *const T).cast(),
            size_of::<T>() as socklen_t,
        )
    };
    if set == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
