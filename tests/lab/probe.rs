//! One question over the network, and what became of it. Speaks to `knarr echo`.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::socket::{SockaddrStorage, connect},
};

/// An answer takes far less, and a busy machine needs some of it.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(1500);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// The name that answered, and the address it saw.
    Answered { by: String, seen_as: String },
    /// Refused at once.
    Rejected,
    /// Nothing came back.
    Dropped,
    /// Something else, in words.
    Odd(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    Sctp,
    Icmp,
}

/// Asks from the namespace this thread is in.
pub(crate) fn ask(protocol: Protocol, to: SocketAddr) -> Outcome {
    let answer = match protocol {
        Protocol::Tcp => ask_tcp(to),
        Protocol::Udp => ask_udp(to),
        Protocol::Sctp => ask_sctp(to),
        Protocol::Icmp => ping(to),
    };
    match answer {
        Ok(text) => read_answer(&text),
        Err(error) => match error.kind() {
            ErrorKind::ConnectionRefused => Outcome::Rejected,
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Outcome::Dropped,
            _ => Outcome::Odd(error.to_string()),
        },
    }
}

/// Asks from a namespace that a file names, such as a pod's.
pub(crate) fn ask_from(netns: &Path, protocol: Protocol, to: SocketAddr) -> Outcome {
    run_in(netns, move || ask(protocol, to))
}

/// Runs a closure in a namespace that a file names.
pub(crate) fn run_in<T: Send + 'static>(
    netns: &Path,
    job: impl FnOnce() -> T + Send + 'static,
) -> T {
    let file = File::open(netns).unwrap_or_else(|error| panic!("{}: {error}", netns.display()));
    let running = std::thread::spawn(move || {
        setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
        job()
    });
    running.join().expect("the question was asked")
}

/// What an HTTP server says to a path, asked from a namespace that a file names.
pub(crate) fn fetch_from(netns: &Path, to: SocketAddr, path: &str) -> String {
    let path = path.to_owned();
    run_in(netns, move || {
        fetch(to, &path).unwrap_or_else(|error| format!("{error}"))
    })
}

fn ask_tcp(to: SocketAddr) -> std::io::Result<String> {
    fetch(to, "/client")
}

fn fetch(to: SocketAddr, path: &str) -> std::io::Result<String> {
    request(TcpStream::connect_timeout(&to, ANSWER_TIME_MAX)?, path)
}

/// Whether the kernel has SCTP at all, which many are built without.
pub(crate) fn sctp_socket(family: i32) -> std::io::Result<OwnedFd> {
    // SAFETY: `socket` takes no pointers.
    let fd = unsafe {
        libc::socket(
            family,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC,
            libc::IPPROTO_SCTP,
        )
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: `fd` is open, and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// One-to-one SCTP sockets are used like those of TCP.
fn ask_sctp(to: SocketAddr) -> std::io::Result<String> {
    let fd = sctp_socket(if to.is_ipv4() {
        libc::AF_INET
    } else {
        libc::AF_INET6
    })?;
    let stream = TcpStream::from(fd);
    stream.set_write_timeout(Some(ANSWER_TIME_MAX))?;
    connect(stream.as_raw_fd(), &SockaddrStorage::from(to))?;
    request(stream, "/client")
}

fn request(mut stream: TcpStream, path: &str) -> std::io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask_udp(to: SocketAddr) -> std::io::Result<String> {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    // A rule of the sender's own output hook shows as EPERM here; whether it refused or dropped shows below.
    if let Err(error) = socket.send(b"client")
        && error.kind() != ErrorKind::PermissionDenied
    {
        return Err(error);
    }
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// One echo request; what comes back is the whole reply, as text.
fn ping(to: SocketAddr) -> std::io::Result<String> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
    /// The kernel fills in the checksum of ICMPv6, of which the pseudo header is part.
    const ECHO: [u8; 8] = [8, 0, 0xf7, 0xfe, 0, 1, 0, 0];
    const ECHO_V6: [u8; 8] = [128, 0, 0, 0, 0, 1, 0, 0];
    let (family, protocol, echo) = match to {
        SocketAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, ECHO),
        SocketAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, ECHO_V6),
    };
    let fd = socket(family, SockType::Raw, SockFlag::empty(), protocol)?;
    if to.is_ipv6() {
        hear_only_echo_replies(&fd)?;
    }
    // Reading, sending and timeouts are the same calls for every kind of datagram.
    let socket = UdpSocket::from(fd);
    socket.connect(to)?;
    socket.set_read_timeout(Some(ANSWER_TIME_MAX))?;
    if let Err(error) = socket.send(&echo)
        && error.kind() != ErrorKind::PermissionDenied
    {
        return Err(error);
    }
    let mut buffer = [0; 1500];
    let length = socket.recv(&mut buffer)?;
    Ok(format!("echo reply: {:?}", &buffer[..length]))
}

/// A neighbour's other messages are no answer.
fn hear_only_echo_replies(fd: &OwnedFd) -> std::io::Result<()> {
    const ICMPV6_FILTER: i32 = 1;
    const ECHO_REPLY: usize = 129;
    // A set bit blocks that type of message.
    let mut blocked = [u32::MAX; 8];
    blocked[ECHO_REPLY / 32] &= !(1 << (ECHO_REPLY % 32));
    // SAFETY: the option's value is an array of that size, which lives for the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_ICMPV6,
            ICMPV6_FILTER,
            blocked.as_ptr().cast(),
            size_of_val(&blocked) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn read_answer(text: &str) -> Outcome {
    let after = |prefix: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(prefix))
            .map(str::trim)
    };
    match (after("You've hit "), after("client ")) {
        (Some(by), Some(client)) => {
            let address: SocketAddr = client
                .parse()
                .unwrap_or_else(|_| panic!("{client:?} is no address"));
            Outcome::Answered {
                by: by.to_owned(),
                seen_as: address.ip().to_string(),
            }
        }
        _ => Outcome::Odd(text.to_owned()),
    }
}
