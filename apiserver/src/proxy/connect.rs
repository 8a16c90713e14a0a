//! Connections to those that requests are passed on to.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a request goes, and how it is spoken to.
#[derive(Clone)]
pub(crate) enum Backend {
    Plain(SocketAddr),
    /// Shows our certificate and checks theirs against a name, which outlives every address of a roaming machine.
    Tls(SocketAddr, ServerName<'static>, Arc<ClientConfig>),
}

/// A connection of either sort.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Backend {
    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Backend::Plain(address) | Backend::Tls(address, ..) => *address,
        }
    }

    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        match timeout(CONNECT_TIMEOUT, self.open()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    async fn open(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address()).await?;
        // A connection without it works, only slower.
        let _ = stream.set_nodelay(true);
        match self {
            Backend::Plain(_) => Ok(Box::new(stream)),
            Backend::Tls(_, name, config) => {
                let connector = TlsConnector::from(config.clone());
                Ok(Box::new(connector.connect(name.clone(), stream).await?))
            }
        }
    }
}
