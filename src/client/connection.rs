//! Connections to an API server: whom to trust, and who one is shown to be.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use anyhow::{Context as _, Result};
use http::{HeaderValue, Request, Uri, header, uri::Scheme};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::{
    client::legacy::connect::{Connected, Connection},
    rt::{TokioExecutor, TokioIo},
};
use knarr_client::{AnyCertificate, Identity};
use kube::{Client, client::Body};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);

/// A server as a client sees it.
pub(crate) struct Server {
    pub(crate) url: Uri,
    pub(crate) trust: Trust,
    pub(crate) identity: Option<Proof>,
    pub(crate) token: Option<String>,
}

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
    } = server;
    let tls = TlsConnector::from(Arc::new(tls(trust, identity)?));
    let connector = tower::service_fn(move |to: Uri| {
        let tls = tls.clone();
        Box::pin(async move {
            match tokio::time::timeout(CONNECT_TIME_MAX, connect(tls, to)).await {
                Ok(stream) => stream,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
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

async fn connect(tls: TlsConnector, to: Uri) -> io::Result<Stream> {
    let host = to.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_tls = to.scheme() != Some(&Scheme::HTTP);
    let port = to.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    let stream = if is_tls {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Either::Left(tls.connect(name, stream).await?)
    } else {
        Either::Right(stream)
    };
    Ok(Stream(TokioIo::new(stream)))
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
struct Stream(TokioIo<Either<tokio_rustls::client::TlsStream<TcpStream>, TcpStream>>);

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
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
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
