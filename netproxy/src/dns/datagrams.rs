//! Many datagrams for one system call, in and out. Owns buffers, and knows nothing of what is in them.

use std::{
    io,
    mem::{MaybeUninit, size_of},
    net::UdpSocket,
    os::fd::AsRawFd,
    ptr,
};

use super::message::UDP_BYTES_MAX;

/// More than this are taken in turns.
const BATCH_COUNT: usize = 32;
const DATAGRAM_BYTES_MAX: usize = 4096;
const REPLY_BYTES_MAX: usize = UDP_BYTES_MAX as usize;

/// Datagrams that came together, and a reply to each.
pub(super) struct Batch {
    slots: Box<[Slot]>,
    arrived_count: usize,
}

struct Slot {
    client: Client,
    question: [u8; DATAGRAM_BYTES_MAX],
    question_length: usize,
    reply: [u8; REPLY_BYTES_MAX],
    /// None is sent while it is zero.
    reply_length: usize,
}

/// Who sent a datagram.
#[derive(Clone, Copy)]
pub(super) struct Client {
    address: libc::sockaddr_storage,
    length: libc::socklen_t,
}

/// One question, and room for its reply.
pub(super) struct Turn<'a> {
    pub(super) client: Client,
    pub(super) question: &'a [u8],
    pub(super) reply: &'a mut [u8],
    reply_length: &'a mut usize,
}

impl Turn<'_> {
    /// Has so many bytes of the room sent.
    pub(super) fn send(self, length: usize) {
        *self.reply_length = length.min(self.reply.len());
    }
}

impl Batch {
    pub(super) fn new() -> Self {
        // SAFETY: numbers and bytes are valid when all zero.
        let slot = || unsafe { MaybeUninit::<Slot>::zeroed().assume_init() };
        Self {
            slots: (0..BATCH_COUNT).map(|_| slot()).collect(),
            arrived_count: 0,
        }
    }

    /// Waits for at least one datagram, and takes what else is there.
    ///
    /// # Errors
    /// When the socket fails; a signal is a failure too.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<()> {
        self.arrived_count = 0;
        let mut buffers = [EMPTY; BATCH_COUNT];
        let mut headers = [NOTHING; BATCH_COUNT];
        for ((slot, buffer), header) in self.slots.iter_mut().zip(&mut buffers).zip(&mut headers) {
            slot.reply_length = 0;
            *buffer = io_vector(&mut slot.question);
            header.msg_hdr.msg_name = (&raw mut slot.client.address).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = buffer;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: every header points to a buffer and an address of its own, which outlive the call.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                BATCH_COUNT as libc::c_uint,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        self.arrived_count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        for (slot, header) in self.slots.iter_mut().zip(&headers).take(self.arrived_count) {
            slot.client.length = header.msg_hdr.msg_namelen;
            slot.question_length = header.msg_len as usize;
        }
        Ok(())
    }

    /// What arrived, one by one.
    pub(super) fn turns(&mut self) -> impl Iterator<Item = Turn<'_>> {
        let arrived = self.slots.iter_mut().take(self.arrived_count);
        arrived.map(|slot| Turn {
            client: slot.client,
            question: slot
                .question
                .get(..slot.question_length)
                .unwrap_or_default(),
            reply: &mut slot.reply,
            reply_length: &mut slot.reply_length,
        })
    }

    /// Sends every reply; one that cannot be sent is lost, as any datagram may be.
    pub(super) fn send(&mut self, socket: &UdpSocket) {
        let mut buffers = [EMPTY; BATCH_COUNT];
        let mut headers = [NOTHING; BATCH_COUNT];
        let replies = self.slots.iter_mut().take(self.arrived_count);
        let replies = replies.filter(|slot| slot.reply_length > 0);
        let mut count = 0;
        for ((slot, buffer), header) in replies.zip(&mut buffers).zip(&mut headers) {
            *buffer = io_vector(&mut slot.reply);
            buffer.iov_len = slot.reply_length;
            header.msg_hdr.msg_name = (&raw mut slot.client.address).cast();
            header.msg_hdr.msg_namelen = slot.client.length;
            header.msg_hdr.msg_iov = buffer;
            header.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        let mut left = headers.get_mut(..count).unwrap_or_default();
        while !left.is_empty() {
            // SAFETY: every header points to bytes and an address of its own, which outlive the call.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    left.as_mut_ptr(),
                    left.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            // The call ends at the first that cannot be sent, and says why if that is the very first.
            let done = usize::try_from(sent).unwrap_or(0).max(1);
            left = left.get_mut(done..).unwrap_or_default();
        }
    }
}

impl Client {
    /// Sends one datagram; one that cannot be sent is lost.
    pub(super) fn send(&self, socket: &UdpSocket, bytes: &[u8]) {
        // SAFETY: bytes and address are valid for the lengths beside them during the call.
        let _lost_as_any_datagram_may_be = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                bytes.as_ptr().cast(),
                bytes.len(),
                libc::MSG_DONTWAIT,
                (&raw const self.address).cast(),
                self.length,
            )
        };
    }
}

const EMPTY: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

const NOTHING: libc::mmsghdr = libc::mmsghdr {
    // SAFETY: a header of zeros has no address, no buffers and no flags.
    msg_hdr: unsafe { MaybeUninit::zeroed().assume_init() },
    msg_len: 0,
};

fn io_vector(bytes: &mut [u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pair() -> (UdpSocket, UdpSocket) {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        client
            .connect(server.local_addr().expect("an address"))
            .expect("loopback");
        let patience = Some(Duration::from_secs(10));
        client.set_read_timeout(patience).expect("a timeout");
        (server, client)
    }

    #[test]
    fn each_reply_goes_to_who_asked_and_silence_is_possible() {
        let (server, one) = pair();
        let other = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let to = server.local_addr().expect("an address");
        for word in ["first", "nothing", "second"] {
            one.send(word.as_bytes()).expect("sent");
        }
        other.send_to(b"third", to).expect("sent");
        let mut batch = Batch::new();
        batch.receive(&server).expect("datagrams");
        assert_eq!(batch.arrived_count, 4);
        for turn in batch.turns() {
            if turn.question != b"nothing" {
                let length = turn.question.len();
                turn.reply[..length].copy_from_slice(turn.question);
                turn.send(length);
            }
        }
        batch.send(&server);
        let mut buffer = [0; 100];
        for expected in ["first", "second"] {
            let length = one.recv(&mut buffer).expect("a reply");
            assert_eq!(&buffer[..length], expected.as_bytes());
        }
        let (length, from) = other.recv_from(&mut buffer).expect("a reply");
        assert_eq!((&buffer[..length], from), (&b"third"[..], to));
    }

    #[test]
    fn more_than_a_batch_comes_in_turns() {
        let (server, client) = pair();
        (0..BATCH_COUNT + 3).for_each(|_| assert_eq!(client.send(b"?").ok(), Some(1)));
        let mut batch = Batch::new();
        let counts = [(); 2].map(|()| {
            batch.receive(&server).expect("datagrams");
            batch.turns().count()
        });
        assert_eq!(counts, [BATCH_COUNT, 3]);
    }
}
