//! Connections to an API server: whom to trust, and who one is shown to be.

use std::{
    collections::BTreeSet,
    future, io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result};
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderValue, Request, Uri, header, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::{TokioExecutor, TokioIo},
};
use knarr_client::{AnyCertificate, Identity};
use kube::{Client, client::Body};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{net::TcpStream, sync::watch};
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// A connection that is quiet for so long is asked whether its other end still answers, and again after the interval.
const QUIET_TIME_MAX: Duration = Duration::from_secs(10);
const ASK_INTERVAL: Duration = Duration::from_secs(3);
/// Without any answer for so long, a connection is given up.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(10);

/// A server as a client sees it.
pub(crate) struct Server {
    pub(crate) url: Uri,
    pub(crate) trust: Trust,
    pub(crate) identity: Option<Proof>,
    pub(crate) token: Option<String>,
    /// The addresses of this machine, where somebody follows them: a connection from one that is gone is dead.
    pub(crate) local: Option<Local>,
}

/// Every address that answers on this machine, at any time.
type Local = watch::Receiver<BTreeSet<IpAddr>>;

/// The certificate that says who a client is.
pub(crate) enum Proof {
    /// A chain and its key, as PEM.
    Pem(String, String),
    /// One that is replaced while the client is used.
    Renewed(Arc<Identity>),
}

/// Which certificates a server may show.
pub(crate) enum Trust {
    /// Those that one of these authorities signed, as PEM.
    Authorities(String),
    /// Any: what such a server says must be checked by other means.
    Anybody,
}

/// A client of `server`; nothing is sent yet.
pub(crate) fn client(server: Server) -> Result<Client> {
    let Server {
        url,
        trust,
        identity,
        token,
        local,
    } = server;
    let tls = TlsConnector::from(Arc::new(tls(trust, identity)?));
    let connector = tower::service_fn(move |to: Uri| {
        let (tls, local) = (tls.clone(), local.clone());
        Box::pin(async move {
            let connecting = tokio::time::timeout(CONNECT_TIME_MAX, connect(tls, to, &local));
            tokio::select! {
                connected = connecting => connected.unwrap_or(Err(io::ErrorKind::TimedOut.into())),
                // What was sent from elsewhere is answered there.
                () = changed(local.clone()) => Err(io::ErrorKind::NetworkDown.into()),
            }
        })
    });
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
    let bearer = match token {
        Some(token) => Some(bearer(&token)?),
        None => None,
    };
    let service = tower::service_fn(move |mut request: Request<Body>| {
        let (http, addressed) = (http.clone(), address(&url, request.uri()));
        if let Some(bearer) = &bearer {
            let headers = request.headers_mut();
            headers.insert(header::AUTHORIZATION, bearer.clone());
        }
        async move {
            *request.uri_mut() = addressed?;
            Ok::<_, tower::BoxError>(http.request(request).await?)
        }
    });
    Ok(Client::new(service, "default"))
}

fn bearer(token: &str) -> Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {token}"))
        .context("the token holds characters that no token has")?;
    value.set_sensitive(true);
    Ok(value)
}

/// `wanted`, which is a path and a query, below the server's URL.
fn address(server: &Uri, wanted: &Uri) -> Result<Uri, http::Error> {
    let path = wanted.path_and_query().map_or("/", |path| path.as_str());
    let mut parts = server.clone().into_parts();
    let below = server.path().trim_end_matches('/');
    parts.path_and_query = Some(format!("{below}{path}").try_into()?);
    Ok(Uri::from_parts(parts)?)
}

async fn connect(tls: TlsConnector, to: Uri, local: &Option<Local>) -> io::Result<Stream> {
    let host = to.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_tls = to.scheme() != Some(&Scheme::HTTP);
    let port = to.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    notice_silence(&stream)?;
    let own = stream.local_addr()?.ip();
    let stream = if is_tls {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Either::Left(tls.connect(name, stream).await?)
    } else {
        Either::Right(stream)
    };
    Ok(Stream {
        inner: TokioIo::new(stream),
        gone: local.clone().map(|local| gone(local, own).boxed()),
        is_cut: false,
    })
}

/// A server that answers nothing any more is given up, whether it is spoken to or only listened to.
fn notice_silence(stream: &TcpStream) -> io::Result<()> {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &seconds(QUIET_TIME_MAX))?;
    setsockopt(stream, sockopt::TcpKeepInterval, &seconds(ASK_INTERVAL))?;
    let patience_ms = u32::try_from(SILENCE_TIME_MAX.as_millis()).unwrap_or(u32::MAX);
    Ok(setsockopt(stream, sockopt::TcpUserTimeout, &patience_ms)?)
}

/// Returns when this machine has other addresses.
async fn changed(local: Option<Local>) {
    match local {
        Some(mut local) => {
            local.mark_unchanged();
            if local.changed().await.is_ok() {
                return;
            }
            future::pending().await
        }
        None => future::pending().await,
    }
}

/// Returns when this machine has that address no longer.
async fn gone(mut local: Local, own: IpAddr) {
    if local.wait_for(|local| !local.contains(&own)).await.is_err() {
        future::pending().await
    }
}

fn tls(trust: Trust, identity: Option<Proof>) -> Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::Authorities(pem) => builder.with_root_certificates(roots(&pem)?),
        Trust::Anybody => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    };
    Ok(match identity {
        Some(Proof::Renewed(identity)) => builder.with_client_cert_resolver(identity),
        Some(Proof::Pem(certificate, key)) => {
            let identity = Identity::new(&certificate, &key);
            let identity = identity.context("the client certificate")?;
            builder.with_client_cert_resolver(Arc::new(identity))
        }
        None => builder.with_no_client_auth(),
    })
}

fn roots(pem: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        roots.add(certificate.context("the CA is not PEM")?)?;
    }
    Ok(roots)
}

/// What hyper sends requests over.
struct Stream {
    inner: TokioIo<Either<tokio_rustls::client::TlsStream<TcpStream>, TcpStream>>,
    /// Ready once nothing can arrive any more.
    gone: Option<BoxFuture<'static, ()>>,
    is_cut: bool,
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let gone = self.gone.as_mut();
        if gone.is_some_and(|gone| gone.poll_unpin(context).is_ready()) {
            self.gone = None;
            self.is_cut = true;
        }
        if self.is_cut {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(server: &str, wanted: &str, expected: &str) {
        let uri = |text: &str| text.parse::<Uri>().expect("a URI");
        let found = address(&uri(server), &uri(wanted)).expect("an address");
        assert_eq!(found, uri(expected));
    }

    #[test]
    fn requests_go_below_the_servers_url() {
        check(
            "https://192.0.2.1:6443",
            "/api/v1/pods?limit=5",
            "https://192.0.2.1:6443/api/v1/pods?limit=5",
        );
        check(
            "https://[::1]:6443/",
            "/readyz",
            "https://[::1]:6443/readyz",
        );
        check(
            "https://example.test/clusters/a/",
            "/api",
            "https://example.test/clusters/a/api",
        );
    }

    #[test]
    fn a_token_is_not_printed() {
        let value = bearer("s3cret").expect("a header");
        assert!(!format!("{value:?}").contains("s3cret"));
        assert!(bearer("two\nlines").is_err());
    }
}
