//! UDP at a doorstep: each client has a socket of its own towards the node's address, so that answers find their way back.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

const DATAGRAM_BYTES_MAX: usize = 65_535;
/// A client that neither asks nor is answered for so long is forgotten, as conntrack forgets unanswered flows.
const IDLE_TIME_MAX: Duration = Duration::from_secs(30);
/// Clients known at once at one doorstep; the longest known gives way.
const CLIENT_COUNT_MAX: usize = 256;
/// Datagrams of one client that wait to be sent on.
const QUEUE_COUNT_MAX: usize = 64;

/// Takes the port.
pub(super) fn listen(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}

/// The clients of one doorstep, each with the way to its own task.
#[derive(Default)]
struct Clients {
    known: HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>,
    oldest_first: VecDeque<SocketAddr>,
}

/// Hands datagrams on until closed.
pub(super) async fn serve(
    socket: UdpSocket,
    to: watch::Receiver<SocketAddr>,
    close: CancellationToken,
) {
    let socket = Arc::new(socket);
    let mut clients = Clients::default();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let received = tokio::select! {
            () = close.cancelled() => return,
            received = socket.recv_from(&mut buffer) => received,
        };
        // An error is about an answer that its client no longer waited for.
        let Ok((length, client)) = received else {
            continue;
        };
        let datagram = buffer.get(..length).unwrap_or_default().to_vec();
        let Err(datagram) = clients.hand_on(client, datagram) else {
            continue;
        };
        let (sender, inbox) = mpsc::channel(QUEUE_COUNT_MAX);
        let _room_for_the_first = sender.try_send(datagram);
        clients.add(client, sender);
        tokio::spawn(carry(socket.clone(), client, *to.borrow(), inbox));
    }
}

impl Clients {
    /// Gives the datagram back if nobody carries for this client.
    fn hand_on(&mut self, client: SocketAddr, datagram: Vec<u8>) -> Result<(), Vec<u8>> {
        let Some(sender) = self.known.get(&client) else {
            return Err(datagram);
        };
        match sender.try_send(datagram) {
            Ok(()) => Ok(()),
            // A full queue loses datagrams, as any other on the way would.
            Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(datagram)) => Err(datagram),
        }
    }

    fn add(&mut self, client: SocketAddr, sender: mpsc::Sender<Vec<u8>>) {
        if self.known.insert(client, sender).is_none() {
            self.oldest_first.push_back(client);
        }
        if self.oldest_first.len() > CLIENT_COUNT_MAX {
            let oldest = self.oldest_first.pop_front();
            oldest.and_then(|oldest| self.known.remove(&oldest));
        }
    }
}

/// Carries one client's datagrams and their answers, until both are silent or the client is forgotten.
async fn carry(
    doorstep: Arc<UdpSocket>,
    client: SocketAddr,
    to: SocketAddr,
    mut inbox: mpsc::Receiver<Vec<u8>>,
) {
    let any = match to {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let Ok(backend) = UdpSocket::bind(any).await else {
        return;
    };
    if backend.connect(to).await.is_err() {
        return;
    }
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        let step = timeout(IDLE_TIME_MAX, async {
            tokio::select! {
                datagram = inbox.recv() => match datagram {
                    Some(datagram) => backend.send(&datagram).await.map(drop),
                    None => Err(io::ErrorKind::BrokenPipe.into()),
                },
                answered = backend.recv(&mut buffer) => {
                    let answer = buffer.get(..answered?).unwrap_or_default();
                    doorstep.send_to(answer, client).await.map(drop)
                }
            }
        });
        // Whatever went wrong, the client's next datagram starts anew.
        let Ok(Ok(())) = step.await else {
            return;
        };
    }
}
