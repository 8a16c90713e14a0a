//! Load-balancer IPs on a link: one elected node says "that is me" by ARP (RFC 826, RFC 5227) and NDP (RFC 4861).
//!
//! No address is added to any link and no interface is made promiscuous: a filtered packet socket hears only the
//! questions that this node answers.

mod election;
mod filter;
mod fronts;
mod links;
mod socket;
mod vigil;
mod wire;

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

pub use self::{
    election::rank,
    fronts::{LEASE_NAME, LEASE_NAMESPACE},
    socket::Error,
};
pub(crate) use self::{fronts::run as follow_fronts, vigil::run as keep_vigil};
use self::{
    links::Link,
    socket::Ears,
    wire::{Announcement, Heard, Mac},
};

/// Neighbours may miss a frame, or heed none within a second of the last that they heeded (Linux' `locktime`): they are
/// told again after each of these pauses.
const REPEAT_PAUSES: [Duration; 3] = [
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// What passes between the announcer and whoever judges by whom an IP is to be announced.
#[derive(Debug, Default)]
pub struct Rivals {
    /// Another machine claims one of the IPs.
    pub(crate) heard: Notify,
    /// The link is to be asked whether any other machine has them.
    pub(crate) wondered: Notify,
}

/// Answers for the IPs in `mine`, tells the neighbours at each word of them, and says when another machine claims one.
///
/// # Errors
/// When packet sockets cannot be had.
pub async fn run(
    mut mine: watch::Receiver<BTreeSet<IpAddr>>,
    rivals: Arc<Rivals>,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let ears = Ears::open()?;
    let mut links = links::Changes::open().map_err(Error::Netlink)?;
    let mut announced = BTreeSet::new();
    let mut pauses = [].iter();
    let mut announce_at = None;
    loop {
        let wanted = mine.borrow_and_update().clone();
        if wanted != announced {
            ears.listen_for(&wanted, &links.uplinks())?;
            announced = wanted;
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            changed = mine.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                (announce_at, pauses) = (Some(Instant::now()), REPEAT_PAUSES.iter());
            }
            () = links.changed() => {
                // A link that came up has neighbours who know nothing yet.
                ears.listen_for(&announced, &links.uplinks())?;
                (announce_at, pauses) = (Some(Instant::now()), REPEAT_PAUSES.iter());
            }
            () = reached(announce_at) => {
                tell(&ears, &announced, &links.uplinks(), wire::unsolicited);
                announce_at = pauses.next().map(|pause| Instant::now() + *pause);
            }
            () = rivals.wondered.notified() => {
                tell(&ears, &announced, &links.uplinks(), wire::probe);
            }
            heard = ears.next() => match heard {
                Some((link, Heard::Asked(question))) => {
                    answer(&ears, &announced, &links, link, &question);
                }
                Some((_, Heard::Claimed(claim)))
                    if is_rival(&claim, &announced, &links.uplinks()) =>
                {
                    tracing::debug!("{:02x?} announces {}, too", claim.mac, claim.ip);
                    rivals.heard.notify_one();
                }
                Some((_, Heard::Claimed(_))) | None => {}
            },
        }
    }
}

/// Returns at that time, or never.
async fn reached(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn answer(
    ears: &Ears,
    mine: &BTreeSet<IpAddr>,
    links: &links::Changes,
    link_index: u32,
    question: &wire::Question,
) {
    let Some(link) = links.uplink(link_index) else {
        return;
    };
    if mine.contains(&question.target()) {
        ears.send(link_index, &wire::answer(link.mac, question));
    }
}

/// A frame of this machine's own may come back on another of its links.
fn is_rival(claim: &Announcement, mine: &BTreeSet<IpAddr>, uplinks: &[Link]) -> bool {
    mine.contains(&claim.ip) && uplinks.iter().all(|link| link.mac != claim.mac)
}

/// Sends one frame for each IP on each link.
fn tell(ears: &Ears, mine: &BTreeSet<IpAddr>, uplinks: &[Link], frame: fn(Mac, IpAddr) -> Vec<u8>) {
    for link in uplinks {
        for ip in mine {
            ears.send(link.index, &frame(link.mac, *ip));
        }
    }
}
