//! Observe, plan, apply, run: follows the API and the nodes' health, and keeps the kernel's tables true.

use std::{
    collections::BTreeSet,
    io, mem,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt};
use knarr_netproxy_plan::{FrontNotice, FrontPlan, FrontSnapshot, diff, front_checks, plan_front};
use kube::Client;
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
};
use tokio_util::sync::CancellationToken;

use super::{
    health::Surroundings,
    observe::{self, Observed},
};
use crate::{
    conntrack::{self, Question},
    events::{Happening, Recorder, Regarding},
    nftables::{Applied, Error, Nftables},
};

/// Wait after a failure, and between two repairs of what others edit in many steps.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// The kernel's tables, and what they were last brought to.
pub(super) struct Front {
    dataplane: Nftables,
    plan: FrontPlan,
    believed: Belief,
    /// UDP flows to look at once the kernel has the plan.
    question: Question,
}

/// What is known of the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    Known,
    Unknown,
}

/// Where a front hears of its surroundings, and who hears of its plans.
pub(super) struct Channels {
    pub(super) surroundings: watch::Receiver<Surroundings>,
    pub(super) asked: watch::Sender<BTreeSet<SocketAddr>>,
    pub(super) owned: watch::Sender<BTreeSet<IpAddr>>,
    pub(super) recorder: Recorder,
}

impl Front {
    pub(super) fn new(dataplane: Nftables) -> Self {
        Self {
            dataplane,
            plan: FrontPlan::default(),
            believed: Belief::Unknown,
            question: Question::default(),
        }
    }

    /// Brings the kernel to what a snapshot asks for.
    fn sync(&mut self, snapshot: &FrontSnapshot) -> Result<Applied, Error> {
        let old = mem::replace(&mut self.plan, plan_front(snapshot));
        let packets = &self.plan.packets;
        let changes = diff(&old.packets, packets);
        if self.believed == Belief::Unknown {
            self.question.add_plan(packets);
        }
        self.question.add_changes(&changes, packets);
        let applied = match self.believed {
            Belief::Unknown => self.dataplane.sync(packets),
            Belief::Known if changes.is_empty() => Ok(Applied::default()),
            Belief::Known => self.dataplane.sync_changes(&changes),
        };
        self.believed = match applied {
            Ok(_) => Belief::Known,
            Err(_) => Belief::Unknown,
        };
        let departed = self.dataplane.take_departed();
        self.question.add_departed(departed, &self.plan.packets);
        if applied.is_ok() && !self.question.is_empty() {
            match conntrack::reconcile(&mem::take(&mut self.question)) {
                Ok(0) => {}
                Ok(count) => tracing::debug!("{count} UDP flows led to nobody"),
                Err(error) => tracing::warn!("UDP flows: {}: {}", error, error.cause),
            }
        }
        applied
    }
}

/// Follows the API until shutdown; packets stay as they are then.
pub(super) async fn run(
    client: Client,
    front: Front,
    mut channels: Channels,
    shutdown: CancellationToken,
) -> Result<(), crate::Error> {
    let heard = front.dataplane.watch().try_clone()?;
    // SAFETY: the watch owns its open socket, and keeps it for as long as it lives.
    let heard = unsafe { AsyncFd::register_with_interest(heard, Interest::READABLE) }
        .map_err(io::Error::from)?;
    let mut events = observe::events(&client);
    let mut observed = Observed::default();
    let mut front = Some(front);
    let mut retry: Option<Instant> = None;
    let mut told = BTreeSet::new();
    loop {
        let Some(mut current) = front.take() else {
            return Ok(());
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            event = events.next() => {
                let Some(event) = event else { return Ok(()) };
                observed.take(event);
                while let Some(Some(event)) = events.next().now_or_never() {
                    observed.take(event);
                }
            }
            changed = channels.surroundings.changed() => if changed.is_err() { return Ok(()) },
            () = wake_at(retry), if retry.is_some() => {}
            readable = heard.readable() => {
                readable?.clear_ready();
                if heard.get_ref().touched()?.ours {
                    tracing::info!("others changed the table knarr");
                    current.believed = Belief::Unknown;
                }
            }
        }
        let surroundings = channels.surroundings.borrow_and_update().clone();
        let snapshot = observed.snapshot(&surroundings);
        channels.ask(&snapshot, &observed);
        // Before every node has answered once or been given up, a plan would take nodes for ill.
        if !observed.synced() || surroundings.asked != *channels.asked.borrow() {
            front = Some(current);
            continue;
        }
        let (current, applied) = tokio::task::spawn_blocking(move || {
            let applied = current.sync(&snapshot);
            (current, applied)
        })
        .await?;
        retry = applied.is_err().then(|| Instant::now() + RETRY_INTERVAL);
        channels.report(&current.plan, &applied, &mut told);
        front = Some(current);
    }
}

impl Channels {
    fn ask(&self, snapshot: &FrontSnapshot, observed: &Observed) {
        if !observed.synced() {
            return;
        }
        let checks = front_checks(snapshot);
        self.asked.send_if_modified(|asked| {
            let differs = *asked != checks;
            *asked = checks;
            differs
        });
    }

    fn report(
        &self,
        plan: &FrontPlan,
        applied: &Result<Applied, Error>,
        told: &mut BTreeSet<FrontNotice>,
    ) {
        match applied {
            Ok(Applied { edit_count: 0, .. }) => {}
            Ok(Applied { edit_count, .. }) => tracing::debug!(edit_count, "synced"),
            Err(error) => tracing::warn!("the kernel's tables could not be synced: {error:?}"),
        }
        let owned: BTreeSet<IpAddr> = plan.packets.load_balancer_ips.keys().copied().collect();
        self.owned.send_if_modified(|known| {
            let differs = *known != owned;
            *known = owned;
            differs
        });
        for notice in plan.notices.difference(told) {
            self.recorder.record(Happening {
                regarding: Regarding::Service(notice.service().clone()),
                reason: notice.reason(),
                message: notice.to_string(),
            });
        }
        *told = plan.notices.clone();
    }
}

async fn wake_at(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}
