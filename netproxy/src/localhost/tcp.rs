//! TCP at a doorstep: each connection gets one of its own to the node's address, and bytes go both ways until both ends are done.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const BACKLOG: u32 = 1024;
const CONNECT_TIME_MAX: Duration = Duration::from_secs(30);
/// Pause after an error of accept, which is most often that no file is left.
const PAUSE: Duration = Duration::from_millis(50);

/// Listens; the address may still have old connections of an earlier listener.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until closed; connections go on until shutdown.
pub(super) async fn serve(
    listener: TcpListener,
    to: watch::Receiver<SocketAddr>,
    close: CancellationToken,
    shutdown: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = close.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((client, _)) => {
                let (to, shutdown) = (*to.borrow(), shutdown.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = carry(client, to) => {}
                    }
                });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn carry(mut client: TcpStream, to: SocketAddr) {
    let connected = timeout(CONNECT_TIME_MAX, TcpStream::connect(to)).await;
    let Ok(Ok(mut backend)) = connected else {
        // Nobody answered: the client hears a reset, not an orderly end.
        let _it_ends_anyway = client.set_zero_linger();
        return;
    };
    let _slower_at_worst = (client.set_nodelay(true), backend.set_nodelay(true));
    if copy_bidirectional(&mut client, &mut backend).await.is_err() {
        let _they_end_anyway = (client.set_zero_linger(), backend.set_zero_linger());
    }
}
