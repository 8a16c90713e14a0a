//! The one door to rtnetlink: opens sockets, sends requests, reads dumps and notifications. Decides nothing.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
    setsockopt, socket, sockopt,
};
use tokio::io::unix::AsyncFd;

/// What can go wrong between a request and its acknowledgement.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening a netlink socket")]
    Open(#[source] nix::Error),
    #[error("sending a netlink request")]
    Send(#[source] nix::Error),
    #[error("receiving a netlink answer")]
    Receive(#[source] nix::Error),
    #[error("a netlink answer is cut short")]
    Truncated,
    #[error("the kernel refused")]
    Refused(#[source] io::Error),
}

impl Error {
    /// The kernel's errno, when the kernel answered at all.
    pub(crate) fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused(error) => error.raw_os_error(),
            Self::Open(_) | Self::Send(_) | Self::Receive(_) | Self::Truncated => None,
        }
    }
}

/// A blocking request socket; it stays in the netns of the thread that opened it.
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's netns.
    pub(crate) fn open() -> Result<Self, Error> {
        let fd = open_socket(SockFlag::SOCK_CLOEXEC, 0)?;
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; 64 * 1024],
        })
    }

    /// Sends one request and waits for its acknowledgement.
    pub(crate) fn call(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Error> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK | flags)?;
        self.receive(|_| ())
    }

    /// Sends a dump request and collects its answers.
    pub(crate) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Error> {
        self.send(message, NLM_F_REQUEST | NLM_F_DUMP)?;
        let mut answers = Vec::new();
        self.receive(|message| answers.push(message))?;
        Ok(answers)
    }

    /// Sends a request for one object and returns it.
    pub(crate) fn ask(
        &mut self,
        message: RouteNetlinkMessage,
    ) -> Result<Option<RouteNetlinkMessage>, Error> {
        self.send(message, NLM_F_REQUEST | NLM_F_ACK)?;
        let mut answer = None;
        self.receive(|message| answer = Some(message))?;
        Ok(answer)
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Error> {
        self.sequence += 1;
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty()).map_err(Error::Send)?;
        Ok(())
    }

    fn receive(&mut self, mut each: impl FnMut(RouteNetlinkMessage)) -> Result<(), Error> {
        loop {
            let length = recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty())
                .map_err(Error::Receive)?;
            let mut rest = &self.buffer[..length];
            while !rest.is_empty() {
                let one = rest;
                rest = after_first(rest)?;
                // A message this kernel knows and the decoder does not is somebody else's link or route.
                let Ok(message) = NetlinkMessage::<RouteNetlinkMessage>::deserialize(one) else {
                    continue;
                };
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => each(inner),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => {
                        return match error.code {
                            None => Ok(()),
                            Some(_) => Err(Error::Refused(error.to_io())),
                        };
                    }
                    _ => {}
                }
            }
        }
    }
}

fn after_first(messages: &[u8]) -> Result<&[u8], Error> {
    let length = messages
        .first_chunk()
        .map(|bytes| u32::from_ne_bytes(*bytes) as usize);
    let length = length
        .filter(|length| *length >= 16)
        .ok_or(Error::Truncated)?;
    Ok(messages
        .get(length.next_multiple_of(4)..)
        .unwrap_or_default())
}

fn open_socket(extra: SockFlag, groups: u32) -> Result<OwnedFd, Error> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | extra,
        SockProtocol::NetlinkRoute,
    )
    .map_err(Error::Open)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(Error::Open)?;
    Ok(fd)
}

/// Says when links, addresses or routes of this netns change; carries no content.
pub struct Monitor {
    fd: AsyncFd<OwnedFd>,
}

const GROUPS: [i32; 5] = [
    libc::RTNLGRP_LINK as i32,
    libc::RTNLGRP_IPV4_IFADDR as i32,
    libc::RTNLGRP_IPV4_ROUTE as i32,
    libc::RTNLGRP_IPV6_IFADDR as i32,
    libc::RTNLGRP_IPV6_ROUTE as i32,
];

impl Monitor {
    /// Subscribes in the calling thread's netns.
    ///
    /// # Errors
    /// When the kernel gives no such socket.
    pub fn open() -> Result<Self, Error> {
        let groups = GROUPS.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        let fd = open_socket(SockFlag::SOCK_NONBLOCK, groups)?;
        // A burst that overflows the queue reads as ENOBUFS, which says "look again" just as well.
        let _ = setsockopt(&fd, sockopt::RcvBuf, &(256 * 1024));
        // SAFETY: the descriptor is owned by the registration and closed only after it.
        let fd = unsafe { AsyncFd::register(fd) }.map_err(|_| Error::Open(nix::Error::EIO))?;
        Ok(Self { fd })
    }

    /// Waits for at least one change and swallows all that are queued.
    ///
    /// # Errors
    /// When the socket is of no use any longer.
    pub async fn changed(&self) -> io::Result<()> {
        let mut guard = self.fd.readable().await?;
        let mut buffer = [0; 8192];
        loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(nix::Error::ENOBUFS | nix::Error::EINTR) => {}
                Err(nix::Error::EAGAIN) => {
                    guard.clear_ready();
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}
