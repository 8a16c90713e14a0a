//! Node ports on 127.0.0.1 and ::1: listens there, and hands what comes on to the node's own address, where the rules take over.
//!
//! Decides nothing about who answers, and changes nothing about what the kernel lets in: see `docs/decisions`.

mod tcp;
mod udp;

use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};

use knarr_netproxy_plan::{
    Protocol,
    localhost::{Doorstep, Doorsteps},
};
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::state::Published;

/// A port that somebody else holds is tried again this often, and whenever doorsteps change.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// An open doorstep, closed when it is dropped.
struct Open {
    to: watch::Sender<SocketAddr>,
    close: CancellationToken,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.close.cancel();
    }
}

/// Keeps a listener at every doorstep until shutdown. Connections end with this process, not with their doorstep.
pub(crate) async fn run(mut states: watch::Receiver<Arc<Published>>, shutdown: CancellationToken) {
    let mut open: BTreeMap<Doorstep, Open> = BTreeMap::new();
    let mut known: Arc<Doorsteps> = Arc::default();
    let mut refused: Doorsteps = Doorsteps::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = states.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY_INTERVAL), if !refused.is_empty() => {}
        }
        let wanted = states.borrow_and_update().doorsteps.clone();
        if Arc::ptr_eq(&wanted, &known) && refused.is_empty() {
            continue;
        }
        known = wanted;
        refused = follow(&mut open, &known, &refused, &shutdown);
    }
}

/// Closes and opens what differs; gives what could not be opened.
fn follow(
    open: &mut BTreeMap<Doorstep, Open>,
    wanted: &Doorsteps,
    refused_before: &Doorsteps,
    shutdown: &CancellationToken,
) -> Doorsteps {
    open.retain(|step, _| wanted.contains_key(step));
    let mut refused = Doorsteps::new();
    let limit = count_max();
    for (step, to) in wanted {
        if let Some(open) = open.get(step) {
            open.to.send_if_modified(|known| {
                let differs = known != to;
                *known = *to;
                differs
            });
            continue;
        }
        let opened = if open.len() < limit {
            listen(*step, *to, shutdown)
        } else {
            Err(io::Error::from_raw_os_error(libc::EMFILE))
        };
        match opened {
            Ok(opened) => {
                open.insert(*step, opened);
            }
            Err(error) => {
                let Doorstep { protocol, address } = step;
                if !refused_before.contains_key(step) {
                    tracing::warn!("node port {address}/{protocol} is not served: {error}");
                }
                refused.insert(*step, *to);
            }
        }
    }
    refused
}

/// A quarter of the files this process may open: the rest are for connections and for others.
fn count_max() -> usize {
    let (files, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024));
    usize::try_from(files / 4).unwrap_or(usize::MAX)
}

fn listen(step: Doorstep, to: SocketAddr, shutdown: &CancellationToken) -> io::Result<Open> {
    let (sender, target) = watch::channel(to);
    let close = shutdown.child_token();
    match step.protocol {
        Protocol::Tcp => {
            let listener = tcp::listen(step.address)?;
            tokio::spawn(tcp::serve(
                listener,
                target,
                close.clone(),
                shutdown.clone(),
            ));
        }
        Protocol::Udp => {
            let socket = udp::listen(step.address)?;
            tokio::spawn(udp::serve(socket, target, close.clone()));
        }
        Protocol::Sctp => return Err(io::ErrorKind::Unsupported.into()),
    }
    Ok(Open { to: sender, close })
}
