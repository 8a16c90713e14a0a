//! `knarr echo`: a small HTTP and UDP server that says which pod it is, for examples and tests.
//!
//! Every request is answered with `You've hit NAME`; a path or datagram that contains `client` adds the address it came from.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use axum::{Router, extract::ConnectInfo, http::Uri};
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio_util::sync::CancellationToken;

/// A datagram is answered from a buffer of the largest size UDP allows.
const DATAGRAM_BYTES_MAX: usize = 65_507;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// Port to answer on, HTTP and UDP; may be given more than once
    #[arg(long, default_values_t = [8080])]
    port: Vec<u16>,
    /// Name to answer with [default: the host name, which in a pod is the pod's name]
    #[arg(long)]
    name: Option<String>,
    /// How long new connections are still served after SIGTERM
    #[arg(long, value_name = "MS", default_value_t = 500)]
    drain_ms: u64,
}

pub(crate) async fn run(args: Args, shutdown: CancellationToken) -> Result<()> {
    let Args {
        port: ports,
        name,
        drain_ms,
    } = args;
    let name = match name {
        Some(name) => name,
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    let mut sockets = Vec::new();
    for port in ports {
        let listener = listen(port).with_context(|| format!("cannot listen on port {port}"))?;
        let udp = bind_udp(port)
            .await
            .with_context(|| format!("cannot bind UDP port {port}"))?;
        sockets.push((listener, udp));
    }
    let drained = drain(shutdown, Duration::from_millis(drain_ms));
    let mut servers = tokio::task::JoinSet::new();
    for (listener, udp) in sockets {
        servers.spawn(serve_http(listener, name.clone(), drained.clone()));
        servers.spawn(serve_udp(udp, name.clone(), drained.clone()));
    }
    while let Some(result) = servers.join_next().await {
        result??;
    }
    Ok(())
}

/// A terminating endpoint still gets connections until every proxy has heard of it.
fn drain(shutdown: CancellationToken, delay: Duration) -> CancellationToken {
    let drained = CancellationToken::new();
    let token = drained.clone();
    tokio::spawn(async move {
        shutdown.cancelled().await;
        tokio::time::sleep(delay).await;
        token.cancel();
    });
    drained
}

fn listen(port: u16) -> Result<TcpListener> {
    let open = |address: SocketAddr| -> std::io::Result<TcpListener> {
        let socket = if address.is_ipv6() {
            TcpSocket::new_v6()?
        } else {
            TcpSocket::new_v4()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(4096)
    };
    // Hosts booted with ipv6.disable=1 have no IPv6 sockets at all.
    Ok(open(SocketAddr::from(([0u16; 8], port)))
        .or_else(|_| open(SocketAddr::from(([0u8; 4], port))))?)
}

async fn bind_udp(port: u16) -> Result<UdpSocket> {
    match UdpSocket::bind(SocketAddr::from(([0u16; 8], port))).await {
        Ok(socket) => Ok(socket),
        Err(_) => Ok(UdpSocket::bind(SocketAddr::from(([0u8; 4], port))).await?),
    }
}

async fn serve_http(
    listener: TcpListener,
    name: String,
    shutdown: CancellationToken,
) -> Result<()> {
    let answer = move |ConnectInfo(client): ConnectInfo<SocketAddr>, uri: Uri| async move {
        answer(&name, uri.path(), client)
    };
    let service = Router::new()
        .fallback(answer)
        .into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await?;
    Ok(())
}

async fn serve_udp(socket: UdpSocket, name: String, shutdown: CancellationToken) -> Result<()> {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let (length, client) = tokio::select! {
            received = socket.recv_from(&mut buffer) => match received {
                Ok(received) => received,
                // An ICMP error about an earlier answer says nothing of the next question.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error.into()),
            },
            () = shutdown.cancelled() => return Ok(()),
        };
        let question = String::from_utf8_lossy(&buffer[..length]);
        let _unreachable_client_is_not_our_fault = socket
            .send_to(answer(&name, &question, client).as_bytes(), client)
            .await;
    }
}

fn answer(name: &str, question: &str, client: SocketAddr) -> String {
    let mut text = format!("You've hit {name}\n");
    if question.contains("client") {
        let address = SocketAddr::new(client.ip().to_canonical(), client.port());
        text.push_str(&format!("client {address}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_address_is_told_only_on_request() {
        let client: SocketAddr = "[::ffff:10.42.0.5]:4000".parse().expect("an address");
        assert_eq!(answer("web-1", "/", client), "You've hit web-1\n");
        assert_eq!(
            answer("web-1", "/client", client),
            "You've hit web-1\nclient 10.42.0.5:4000\n"
        );
    }
}
