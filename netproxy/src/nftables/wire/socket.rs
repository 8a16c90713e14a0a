//! The netlink socket: sends batches, reads dumps, listens for changes by others.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
};

use knarr_netproxy_plan::Family;

use super::{
    constant::{self as c, SUBSYSTEM},
    encode::{Batch, address_family},
};
use crate::netlink::{
    self, RECEIVE_BYTES, SocketError,
    message::{Message, Writer, messages},
    netlink, receive, send, set_option, socket_error,
};

/// What the kernel said no to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket itself failed.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// Somebody changed the ruleset since it was read.
    #[error("the ruleset changed meanwhile")]
    Stale,
    /// A message of a batch was refused, and with it the batch.
    #[error("the kernel refused edit {edit:?}: {message}")]
    Refused {
        /// The edit's index, if the message belongs to one.
        edit: Option<usize>,
        /// The kernel's words, where it has any.
        message: String,
        /// The kernel's reason.
        #[source]
        cause: io::Error,
    },
}

/// A socket to the nf_tables of the network namespace it was opened in.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    send_buffer_bytes: usize,
}

impl Socket {
    /// Opens a socket.
    ///
    /// # Errors
    /// When the kernel has no netfilter netlink, or does not let us use it.
    pub fn open() -> Result<Self, Error> {
        let fd = netlink()?;
        set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
        set_option(&fd, libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
        Ok(Self {
            fd,
            send_buffer_bytes: 0,
        })
    }

    /// Sends a batch, which the kernel applies as a whole or not at all.
    ///
    /// # Errors
    /// The first message that the kernel refused, or `Stale`.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), Error> {
        let wanted = batch.bytes.len() * 2 + RECEIVE_BYTES;
        if self.send_buffer_bytes < wanted {
            let bytes = i32::try_from(wanted).unwrap_or(i32::MAX);
            set_option(&self.fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)?;
            set_option(&self.fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, bytes)?;
            self.send_buffer_bytes = wanted;
        }
        send(&self.fd, &batch.bytes)?;
        // The kernel runs a batch inside `sendmsg`: every refusal is queued when it returns.
        let mut refusal = None;
        while let Some(bytes) = receive(&self.fd, libc::MSG_DONTWAIT)? {
            for message in messages(&bytes) {
                let error = refused(&message, batch);
                refusal = refusal.or(error);
            }
        }
        refusal.map_or(Ok(()), Err)
    }

    /// The number of the ruleset's present generation.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn generation(&mut self) -> Result<u32, Error> {
        let mut writer = Writer::default();
        let kind = SUBSYSTEM << 8 | c::message::GETGENERATION;
        let open = writer.start(kind, libc::NLM_F_REQUEST as u16, 1, 0, 0);
        writer.finish(open);
        send(&self.fd, &writer.bytes)?;
        let mut generation = None;
        while generation.is_none() {
            let Some(bytes) = receive(&self.fd, 0)? else {
                break;
            };
            for message in messages(&bytes) {
                check(&message)?;
                generation = generation.or(message.attributes().number(c::generation::ID));
            }
        }
        Ok(generation.ok_or_else(|| socket_error("ask for the generation"))?)
    }

    /// Hands every message of a dump to `each`.
    pub(super) fn dump(
        &mut self,
        kind: u16,
        family: Family,
        filter: impl FnOnce(&mut Writer),
        each: impl FnMut(Message<'_>),
    ) -> Result<(), Error> {
        self.dump_of(kind, address_family(family), filter, each)
    }

    /// The same for families that are not ours; 0 is all of them.
    pub(super) fn dump_of(
        &mut self,
        kind: u16,
        family: u8,
        filter: impl FnOnce(&mut Writer),
        mut each: impl FnMut(Message<'_>),
    ) -> Result<(), Error> {
        let mut writer = Writer::default();
        let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
        let open = writer.start(SUBSYSTEM << 8 | kind, flags, 1, family, 0);
        filter(&mut writer);
        writer.finish(open);
        send(&self.fd, &writer.bytes)?;
        loop {
            let Some(bytes) = receive(&self.fd, 0)? else {
                continue;
            };
            for message in messages(&bytes) {
                if message.kind == libc::NLMSG_DONE as u16 {
                    return Ok(());
                }
                check(&message)?;
                if message.flags & libc::NLM_F_DUMP_INTR as u16 != 0 {
                    self.drain_dump()?;
                    return Err(Error::Stale);
                }
                each(message);
            }
        }
    }

    /// Reads an interrupted dump to its end, so that the next question gets its own answer.
    fn drain_dump(&mut self) -> Result<(), Error> {
        while receive(&self.fd, libc::MSG_DONTWAIT)?.is_some() {}
        Ok(())
    }
}

/// The kernel's group of those who hear of changes of the ruleset.
const GROUP_NFTABLES: i32 = 7;

/// What others changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Our tables.
    pub ours: bool,
    /// Chains or rules of other tables.
    pub chains_of_others: bool,
}

fn is_about_chains(message: &Message<'_>) -> bool {
    let [kind, subsystem] = message.kind.to_le_bytes();
    u16::from(subsystem) == SUBSYSTEM
        && [
            c::message::DELTABLE,
            c::message::NEWCHAIN,
            c::message::DELCHAIN,
            c::message::NEWRULE,
            c::message::DELRULE,
        ]
        .contains(&u16::from(kind))
}

/// A socket that hears of changes that others make.
#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
}

impl Watch {
    /// Subscribes to changes of the ruleset, except those made through one socket.
    ///
    /// # Errors
    /// When the kernel does not let us listen.
    pub fn open(own: &Socket) -> Result<Self, Error> {
        let fd = netlink()?;
        ignore_sender(&fd, bind(&own.fd)?)?;
        // The kernel skips sockets without a port when it multicasts.
        bind(&fd)?;
        let watch = Self { fd };
        watch.listen()?;
        Ok(watch)
    }

    /// Hears of changes from now on.
    pub(in crate::nftables) fn listen(&self) -> Result<(), Error> {
        let option = libc::NETLINK_ADD_MEMBERSHIP;
        Ok(set_option(
            &self.fd,
            libc::SOL_NETLINK,
            option,
            GROUP_NFTABLES,
        )?)
    }

    /// Hears of nothing until it listens again.
    pub(in crate::nftables) fn rest(&self) -> Result<(), Error> {
        let option = libc::NETLINK_DROP_MEMBERSHIP;
        Ok(set_option(
            &self.fd,
            libc::SOL_NETLINK,
            option,
            GROUP_NFTABLES,
        )?)
    }

    /// The same subscription, for another owner.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
        })
    }

    /// What others touched since the last call, as far as can be told.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn touched(&self) -> Result<Touched, Error> {
        let mut touched = Touched::default();
        loop {
            match receive(&self.fd, libc::MSG_DONTWAIT) {
                Ok(None) => return Ok(touched),
                Ok(Some(bytes)) => {
                    for message in messages(&bytes) {
                        let table = message.attributes().text(c::set::TABLE);
                        let ours = table == Some(crate::nftables::TABLE);
                        touched.ours |= ours;
                        touched.chains_of_others |= !ours && is_about_chains(&message);
                    }
                }
                // Some changes went unheard.
                Err(error) if error.cause.raw_os_error() == Some(libc::ENOBUFS) => {
                    touched = Touched {
                        ours: true,
                        chains_of_others: true,
                    };
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Gives a socket a port, under which the kernel knows it.
fn bind(fd: &OwnedFd) -> Result<u32, Error> {
    // SAFETY: an all-zero `sockaddr_nl` is a valid value.
    let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
    address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
    let mut length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
    // SAFETY: `address` is writable and as long as `length` says; `bind` to port 0 picks one.
    let result = unsafe {
        let address = (&raw mut address).cast::<libc::sockaddr>();
        match libc::bind(fd.as_raw_fd(), address, length) {
            0 => libc::getsockname(fd.as_raw_fd(), address, &raw mut length),
            error => error,
        }
    };
    if result != 0 {
        return Err(socket_error("bind the netfilter socket").into());
    }
    Ok(address.nl_pid)
}

/// Has the kernel drop messages of one sender before they wake us.
fn ignore_sender(fd: &OwnedFd, port: u32) -> Result<(), Error> {
    const SENDER_OFFSET: u32 = 12;
    const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // The program loads words as big-endian; netlink headers are in host order.
    let port = u32::from_be_bytes(port.to_ne_bytes());
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_WORD, 0, 0, SENDER_OFFSET),
        step(JUMP_IF_EQUAL, 0, 1, port),
        step(RETURN, 0, 0, 0),
        step(RETURN, 0, 0, u32::MAX),
    ];
    let program = libc::sock_fprog {
        len: 4,
        filter: program.as_mut_ptr(),
    };
    let length = size_of::<libc::sock_fprog>() as libc::socklen_t;
    // SAFETY: the program outlives the call, which copies it; `len` is its number of steps.
    let result = unsafe {
        let program = (&raw const program).cast();
        let option = libc::SO_ATTACH_FILTER;
        libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, option, program, length)
    };
    if result != 0 {
        return Err(socket_error("filter netfilter's notifications").into());
    }
    Ok(())
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn refused(message: &Message<'_>, batch: &Batch) -> Option<Error> {
    let (cause, words) = netlink::error_of(message)?;
    if cause.raw_os_error() == Some(libc::ERESTART) {
        return Some(Error::Stale);
    }
    let index = usize::try_from(message.sequence).ok();
    let edit = index.and_then(|index| batch.edits.get(index).copied().flatten());
    Some(Error::Refused {
        edit,
        message: words,
        cause,
    })
}

fn check(message: &Message<'_>) -> Result<(), Error> {
    match netlink::error_of(message) {
        Some((cause, words)) => Err(Error::Refused {
            edit: None,
            message: words,
            cause,
        }),
        None => Ok(()),
    }
}
