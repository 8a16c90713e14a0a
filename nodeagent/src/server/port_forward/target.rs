//! Where forwarded connections end: a pod's own loopback.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use tokio::net::{TcpSocket, TcpStream};

use crate::netns;
use crate::paths::Paths;
use crate::pod::sandbox::Record;

/// One pod, as the end of connections.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pod: String,
    uid: String,
    /// None for a pod in the host's network.
    netns: Option<PathBuf>,
}

impl Target {
    pub(super) fn new(paths: &Paths, record: &Record) -> Self {
        let has_own = !record.addresses.is_empty();
        Self {
            pod: record.name.clone(),
            uid: record.uid.clone(),
            netns: has_own.then(|| paths.netns(&record.uid)),
        }
    }

    /// Connects to a port of the pod; what fails is said in the kubelet's words.
    pub(super) async fn connect(&self, port: u16) -> Result<TcpStream, String> {
        let v4 = match self.connect_to(Ipv4Addr::LOCALHOST.into(), port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let v6 = match self.connect_to(Ipv6Addr::LOCALHOST.into(), port).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let Self { pod, uid, .. } = self;
        Err(format!(
            "error forwarding port {port} to pod {pod}, uid {uid}: failed to connect to localhost:{port}: \
             IPv4: dial tcp4 127.0.0.1:{port}: {}, IPv6: dial tcp6 [::1]:{port}: {}",
            reason(&v4),
            reason(&v6)
        ))
    }

    async fn connect_to(&self, ip: IpAddr, port: u16) -> io::Result<TcpStream> {
        let family = match ip {
            IpAddr::V4(_) => AddressFamily::Inet,
            IpAddr::V6(_) => AddressFamily::Inet6,
        };
        // A socket belongs to the netns it is made in, wherever its calls come from.
        let file = match self.netns.clone() {
            Some(path) => tokio::task::spawn_blocking(move || {
                netns::within(&path, move || open(family)).map_err(io::Error::other)?
            })
            .await
            .map_err(io::Error::other)??,
            None => open(family)?,
        };
        let socket = TcpSocket::from_std_stream(file.into());
        let stream = socket.connect(SocketAddr::new(ip, port)).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// A failed connection as Go words it.
fn reason(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => {
            let text = nix::errno::Errno::from_raw(number).desc();
            format!("connect: {}", text.to_lowercase())
        }
        None => error.to_string(),
    }
}

fn open(family: AddressFamily) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(family, SockType::Stream, flags, None)?)
}
