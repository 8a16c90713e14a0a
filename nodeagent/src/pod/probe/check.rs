//! One check of a probe or one run of a hook: exec, HTTP, TCP, gRPC health, sleep. Counts nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{
    Container, GRPCAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::pod::link;
use crate::protocol::{Exec, Process};

/// Where a container is looked for that has no address.
pub(crate) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where a check goes.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The pod's directory, where its init listens.
    pub(crate) directory: PathBuf,
    pub(crate) place: Place,
    pub(crate) container: Container,
    /// The rights and environment of the container's process.
    pub(crate) process: Process,
}

/// Where a container listens.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    Pod(IpAddr),
    /// In the host's network, whose address may be another one at the next check.
    Node(watch::Receiver<Vec<IpAddr>>),
}

impl Place {
    fn ip(&self) -> IpAddr {
        match self {
            Place::Pod(ip) => *ip,
            Place::Node(ips) => ips.borrow().first().copied().unwrap_or(LOOPBACK),
        }
    }
}

/// Why a check failed, in the words of an event.
pub(crate) type Complaint = String;

/// Runs a probe once.
pub(crate) async fn probe(target: &Target, probe: &Probe) -> Result<(), Complaint> {
    let timeout = super::timeout(probe);
    let check = async {
        if let Some(action) = &probe.exec {
            exec(target, action.command.clone().unwrap_or_default()).await
        } else if let Some(action) = &probe.http_get {
            http_get(target, action).await
        } else if let Some(action) = &probe.tcp_socket {
            tcp(target, action).await
        } else if let Some(action) = &probe.grpc {
            grpc(target, action).await
        } else {
            Ok(())
        }
    };
    match tokio::time::timeout(timeout, check).await {
        Ok(result) => result,
        Err(_) => Err(format!("context deadline exceeded after {timeout:?}")),
    }
}

/// Runs a lifecycle handler to its end.
pub(crate) async fn hook(target: &Target, handler: &LifecycleHandler) -> Result<(), Complaint> {
    if let Some(action) = &handler.exec {
        return exec(target, action.command.clone().unwrap_or_default()).await;
    }
    if let Some(action) = &handler.http_get {
        return http_get(target, action).await;
    }
    if let Some(action) = &handler.sleep {
        let seconds = u64::try_from(action.seconds).unwrap_or_default();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
    Ok(())
}

async fn exec(target: &Target, command: Vec<String>) -> Result<(), Complaint> {
    let process = Process {
        argv: command,
        ..target.process.clone()
    };
    let exec = Exec {
        container: target.container.name.clone(),
        process,
        tty: false,
    };
    match link::run(&target.directory, exec).await {
        Ok((0, _)) => Ok(()),
        Ok((code, output)) if output.is_empty() => {
            Err(format!("command exited with status {code}"))
        }
        Ok((_, output)) => Err(output),
        Err(error) => Err(error.to_string()),
    }
}

async fn http_get(target: &Target, action: &HTTPGetAction) -> Result<(), Complaint> {
    let port = port(&action.port, &target.container)?;
    let host = action.host.clone().filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| target.place.ip().to_string());
    let authority = if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    };
    let path = action
        .path
        .as_deref()
        .filter(|path| !path.is_empty())
        .unwrap_or("/");
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let is_tls = action.scheme.as_deref() == Some("HTTPS");
    let url = format!(
        "{}://{authority}{path}",
        if is_tls { "https" } else { "http" }
    );
    let mut request = http::Request::builder()
        .uri(&path)
        .header("user-agent", "kube-probe/1.37")
        .header("accept", "*/*");
    let mut has_host = false;
    for header in action.http_headers.iter().flatten() {
        has_host |= header.name.eq_ignore_ascii_case("host");
        request = request.header(&header.name, &header.value);
    }
    if !has_host {
        request = request.header("host", &authority);
    }
    let request = request
        .body(Full::<bytes::Bytes>::default())
        .map_err(|error| error.to_string())?;
    let failed = |error: &dyn std::fmt::Display| format!("Get {url:?}: {error}");
    let stream = TcpStream::connect((host.as_str(), port))
        .await
        .map_err(|error| {
            failed(&format!(
                "dial tcp {authority}: connect: {}",
                reason(&error)
            ))
        })?;
    let status = if is_tls {
        let name = ServerName::try_from(host).map_err(|error| failed(&error))?;
        let stream = connector()
            .connect(name, stream)
            .await
            .map_err(|error| failed(&error))?;
        send(stream, request).await
    } else {
        send(stream, request).await
    };
    match status.map_err(|error| failed(&error))? {
        200..400 => Ok(()),
        code => Err(format!("HTTP probe failed with statuscode: {code}")),
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::Request<Full<bytes::Bytes>>,
) -> Result<u16, hyper::Error> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await;
    connection.abort();
    Ok(answer?.status().as_u16())
}

async fn tcp(target: &Target, action: &TCPSocketAction) -> Result<(), Complaint> {
    let port = port(&action.port, &target.container)?;
    let host = action.host.clone().filter(|host| !host.is_empty());
    let host = host.unwrap_or_else(|| target.place.ip().to_string());
    match TcpStream::connect((host.as_str(), port)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(format!(
            "dial tcp {host}:{port}: connect: {}",
            reason(&error)
        )),
    }
}

/// Asks `grpc.health.v1.Health/Check`; the answer's field 1 is 1 for SERVING.
async fn grpc(target: &Target, action: &GRPCAction) -> Result<(), Complaint> {
    let port = u16::try_from(action.port).map_err(|error| error.to_string())?;
    let failed = |error: &dyn std::fmt::Display| format!("service unhealthy: {error}");
    let stream = TcpStream::connect((target.place.ip(), port))
        .await
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| failed(&error))?;
    let connection = tokio::spawn(connection);
    let service = action.service.clone().unwrap_or_default();
    let mut message = Vec::new();
    if !service.is_empty() {
        message.extend([0x0a, u8::try_from(service.len()).unwrap_or(u8::MAX)]);
        message.extend(service.bytes().take(usize::from(u8::MAX)));
    }
    let mut body = vec![0];
    body.extend(
        u32::try_from(message.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    body.extend(message);
    let request = http::Request::post(format!(
        "http://{}/grpc.health.v1.Health/Check",
        target.place.ip()
    ))
    .header("content-type", "application/grpc")
    .header("te", "trailers")
    .body(Full::new(bytes::Bytes::from(body)))
    .map_err(|error| failed(&error))?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        answer.into_body().collect().await
    };
    let answer = answer.await.map_err(|error| failed(&error))?.to_bytes();
    connection.abort();
    match answer.get(5..) {
        Some([0x08, 1, ..]) => Ok(()),
        _ => Err("service unhealthy (responded with \"NOT_SERVING\")".to_owned()),
    }
}

fn port(port: &IntOrString, container: &Container) -> Result<u16, Complaint> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container
                .ports
                .iter()
                .flatten()
                .find(|port| port.name.as_deref() == Some(name));
            named
                .map(|port| port.container_port)
                .or_else(|| name.parse().ok())
        }
    };
    number
        .and_then(|number| u16::try_from(number).ok())
        .ok_or_else(|| format!("invalid port: {port:?}"))
}

/// The operating system's words, without its number.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        _ => error.to_string(),
    }
}

/// Probes ask whether a server answers, not who it is: Kubernetes skips verification too.
fn connector() -> tokio_rustls::TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map(|builder| {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(knarr_client::AnyCertificate(provider)))
                .with_no_client_auth()
        });
    match config {
        Ok(config) => tokio_rustls::TlsConnector::from(Arc::new(config)),
        Err(error) => unreachable!("ring supports the default protocol versions: {error}"),
    }
}
