//! Netlink sockets: framing, sending, receiving. Knows no subsystem.

pub(crate) mod message;

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use message::Message;

/// A socket failed.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct SocketError {
    /// What was tried.
    pub step: &'static str,
    /// The system's reason.
    #[source]
    pub cause: io::Error,
}

/// Room for one datagram of the kernel's.
pub(crate) const RECEIVE_BYTES: usize = 1 << 16;

pub(crate) fn socket_error(step: &'static str) -> SocketError {
    SocketError {
        step,
        cause: io::Error::last_os_error(),
    }
}

pub(crate) fn netlink() -> Result<OwnedFd, SocketError> {
    open(libc::NETLINK_NETFILTER)
}

/// A socket of any netlink family.
pub(crate) fn open(family: i32) -> Result<OwnedFd, SocketError> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: `socket` takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, family) };
    if fd < 0 {
        return Err(socket_error("open a netlink socket"));
    }
    // SAFETY: `fd` is open, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn set_option(
    fd: &OwnedFd,
    level: i32,
    option: i32,
    value: i32,
) -> Result<(), SocketError> {
    let length = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` is an `i32` that outlives the call, and `length` is its size.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(socket_error("set up the netfilter socket"))
    }
}

pub(crate) fn send(fd: &OwnedFd, bytes: &[u8]) -> Result<(), SocketError> {
    // SAFETY: `bytes` is valid for its length during the call.
    let sent = unsafe { libc::send(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if sent < 0 {
        Err(socket_error("send to the kernel"))
    } else {
        Ok(())
    }
}

/// One datagram, or nothing when there is none and the flags say not to wait.
pub(crate) fn receive(fd: &OwnedFd, flags: i32) -> Result<Option<Vec<u8>>, SocketError> {
    let mut bytes = vec![0; RECEIVE_BYTES];
    // SAFETY: `bytes` is writable for its length during the call.
    let received = unsafe {
        libc::recv(
            fd.as_raw_fd(),
            bytes.as_mut_ptr().cast(),
            bytes.len(),
            flags,
        )
    };
    match usize::try_from(received) {
        Ok(length) => {
            bytes.truncate(length);
            Ok(Some(bytes))
        }
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            error if error.kind() == io::ErrorKind::Interrupted => Ok(None),
            cause => Err(SocketError {
                step: "receive from the kernel",
                cause,
            }),
        },
    }
}

/// The code and words of an error message; nothing for an acknowledgement.
pub(crate) fn error_of(message: &Message<'_>) -> Option<(io::Error, String)> {
    const ORIGINAL_HEADER: usize = 16;
    const MESSAGE_TEXT: u16 = 1;
    if message.kind != libc::NLMSG_ERROR as u16 {
        return None;
    }
    let code = message
        .body
        .get(..4)?
        .try_into()
        .ok()
        .map(i32::from_ne_bytes)?;
    if code == 0 {
        return None;
    }
    let attributes = message.body.get(4 + ORIGINAL_HEADER..).unwrap_or_default();
    let words = message::Attributes(attributes)
        .text(MESSAGE_TEXT)
        .unwrap_or_default();
    Some((io::Error::from_raw_os_error(-code), words.to_owned()))
}
