//! Observe, plan, apply, run: follows the API and keeps the kernel's tables true.

use std::{
    io, mem,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures_util::{FutureExt, Stream, StreamExt, stream};
use knarr_client::watch as watch_kind;
use knarr_netproxy_plan::{
    Address, Changes, Family, FrontendKey, Plan, Planner, Protocol, Warning, diff,
    localhost::{Doorsteps, concerns_doorsteps, doorsteps},
};
use kube::{Client, runtime::watcher};
use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::{Notify, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    announce,
    census::{Census, Questions},
    claims::Claims,
    conntrack::{self, Question},
    dns::resident::Resident,
    events::{Happening, Recorder, Regarding},
    health::Vitals,
    metrics::SyncKind,
    nftables::{Applied, Error, Nftables},
    state::{NodePorts, Published},
    store::{Event, Store},
};

/// Wait after a failure before the next attempt.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Others may edit in many steps; after the first, this long passes before a second repair.
const REPAIR_INTERVAL: Duration = Duration::from_millis(500);

/// Keeps the kernel's tables true to what the API says.
pub(crate) struct Proxy {
    pub(crate) store: Store,
    planner: Planner,
    dataplane: Nftables,
    /// What the kernel is believed to have; nothing after trouble.
    believed: Belief,
    /// UDP flows to look at once the kernel has the plan.
    question: Question,
    warnings: Vec<Warning>,
    resident: Resident,
    node_ports: Arc<NodePorts>,
    doorsteps: Arc<Doorsteps>,
}

/// Who is told of each sync.
pub(crate) struct Reports {
    pub(crate) published: watch::Sender<Arc<Published>>,
    pub(crate) vitals: Arc<Vitals>,
    pub(crate) recorder: Recorder,
    /// Told when others have changed chains of theirs.
    pub(crate) walls: Arc<Notify>,
}

/// What is known of the kernel's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Belief {
    /// They are as the plan was when its changes were last taken.
    Known,
    /// They must be read.
    Unknown,
}

/// What a sync came to.
pub(crate) struct Outcome {
    pub(crate) applied: Result<Applied, Error>,
    pub(crate) kind: SyncKind,
    pub(crate) took: Duration,
    /// UDP flows that led to nobody, and how long it took to find them; nothing when none were in question.
    pub(crate) reconciled: Option<(usize, Duration)>,
    /// What the plan has to leave out that it did not before.
    pub(crate) new_warnings: Vec<Warning>,
}

impl Outcome {
    /// When to try again what failed.
    fn retry_at(&self, now: Instant) -> Option<Instant> {
        self.applied.is_err().then(|| now + RETRY_INTERVAL)
    }
}

impl Proxy {
    pub(crate) fn new(store: Store, dataplane: Nftables, resident: Resident) -> Self {
        let believed = Belief::Unknown;
        Self {
            store,
            planner: Planner::default(),
            dataplane,
            believed,
            question: Question::default(),
            warnings: Vec::new(),
            resident,
            node_ports: Arc::default(),
            doorsteps: Arc::default(),
        }
    }

    pub(crate) fn plan(&self) -> &Plan {
        self.planner.plan()
    }

    /// Forgets what the kernel is believed to have.
    pub(crate) fn doubt(&mut self) {
        self.believed = Belief::Unknown;
    }

    /// Plans what changed, and brings the kernel to it.
    pub(crate) fn sync(&mut self) -> Outcome {
        let start = Instant::now();
        self.serve_names();
        let changes = self.replan();
        if self.believed == Belief::Unknown {
            self.question.add_plan(self.planner.plan());
        }
        self.question.add_changes(&changes, self.planner.plan());
        self.learn_node_ports(&changes);
        let kind = match self.believed {
            Belief::Unknown => SyncKind::Full,
            Belief::Known => SyncKind::Partial,
        };
        self.learn_doorsteps(&changes);
        let applied = match self.believed {
            Belief::Unknown => self.dataplane.sync(self.planner.plan()),
            Belief::Known if changes.is_empty() => Ok(Applied::default()),
            Belief::Known => self.dataplane.sync_changes(&changes),
        };
        self.believed = if applied.is_ok() {
            Belief::Known
        } else {
            Belief::Unknown
        };
        let took = start.elapsed();
        let departed = self.dataplane.take_departed();
        self.question.add_departed(departed, self.planner.plan());
        let reconciled = applied.as_ref().ok().and_then(|_| self.reconcile());
        let warnings = self.planner.warnings();
        let new_warnings = warnings
            .iter()
            .filter(|warning| !self.warnings.contains(warning));
        let new_warnings = new_warnings.cloned().collect();
        self.warnings = warnings;
        Outcome {
            applied,
            kind,
            took,
            reconciled,
            new_warnings,
        }
    }

    /// Plans what changed, and says how the plan differs from what it was.
    fn replan(&mut self) -> Changes {
        let Err(settings) = self.planner.relearn(self.store.settings()) else {
            self.store.plan_changed(&mut self.planner);
            return self.planner.take_changes();
        };
        let mut planner = Planner::new(settings);
        self.store.plan_all(&mut planner);
        planner.settle();
        let changes = match self.believed {
            // A whole plan is about to be synced; what led to nothing before has nothing to forget.
            Belief::Unknown if self.plan().frontends.is_empty() => Changes::default(),
            Belief::Unknown | Belief::Known => diff(self.planner.plan(), planner.plan()),
        };
        self.planner = planner;
        changes
    }

    /// Deletes flows that lead to nobody who serves; what cannot be read is asked again after the next change.
    fn reconcile(&mut self) -> Option<(usize, Duration)> {
        if self.question.is_empty() {
            return None;
        }
        let start = Instant::now();
        let question = mem::take(&mut self.question);
        match conntrack::reconcile(&question) {
            Ok(count) => Some((count, start.elapsed())),
            Err(error) => {
                tracing::warn!("UDP flows: {}: {}", error, error.cause);
                self.question = question;
                None
            }
        }
    }

    /// Collects the plan's node ports anew where any may differ.
    fn learn_node_ports(&mut self, changes: &Changes) {
        let touched = |key: &FrontendKey| matches!(key.address, Address::Node(_));
        if changes.ranges.is_none() && !changes.frontends.keys().any(touched) {
            return;
        }
        let first = FrontendKey {
            address: Address::Node(Family::V4),
            protocol: Protocol::Tcp,
            port: 0,
        };
        let plan = self.planner.plan();
        let services = plan.frontends.range(first..).map(|(key, frontend)| {
            let service = frontend.service_port.service.clone();
            (*key, service)
        });
        let node_ports = NodePorts {
            services: services.collect(),
            addresses: plan.ranges.node_port_addresses.clone(),
        };
        if node_ports != *self.node_ports {
            self.node_ports = Arc::new(node_ports);
        }
    }

    fn census(&self) -> Census {
        Census::of(self.plan(), self.dataplane.element_counts())
    }

    /// Collects the node ports on localhost anew where any may differ.
    fn learn_doorsteps(&mut self, changes: &Changes) {
        if concerns_doorsteps(changes) {
            let node_ips = &self.planner.settings().node_ips;
            self.doorsteps = Arc::new(doorsteps(self.planner.plan(), node_ips));
        }
    }

    /// Names follow before packets do, so that a name never leads where no packet goes for longer than a sync.
    fn serve_names(&mut self) {
        let addresses = self.store.resident_addresses();
        let slices = self.resident.open(addresses, &self.store.dns_addresses());
        if let Some(slices) = slices {
            self.store.set_resident(slices);
        }
        if let Ok(mut zone) = self.resident.zone.write() {
            self.store.teach(&mut zone);
        }
    }

    /// What others learn of the last sync.
    pub(crate) fn published(&self) -> Published {
        Published {
            claims: self.claims(),
            health_checks: self.plan().health_checks.clone(),
            node_ports: self.node_ports.clone(),
            node_eligible: self.store.node_is_eligible(),
            doorsteps: self.doorsteps.clone(),
        }
    }

    /// The load-balancer IPs that this node may have to announce.
    fn claims(&self) -> Claims {
        let ready: Vec<&str> = self.store.ready_nodes().collect();
        let ips = self.plan().load_balancer_ips.iter();
        let ranked = ips.map(|(ip, announced)| {
            let nodes = announce::rank(*ip, announced, ready.iter().copied());
            (*ip, nodes)
        });
        let own = self.planner.settings().node_name.as_str();
        Claims::new(own, ranked, |node| self.store.node_address(node))
    }
}

/// Everything the API says from now on.
fn events(client: &Client) -> impl Stream<Item = Event> + Send + use<> {
    let all = watcher::Config::default;
    let settings = all().fields("metadata.name=knarr");
    let settings = watch_kind(client.clone(), Some("kube-system"), settings);
    stream::select_all([
        watch_kind(client.clone(), None, all())
            .map(Event::Service)
            .boxed(),
        watch_kind(client.clone(), None, all())
            .map(Event::Slice)
            .boxed(),
        watch_kind(client.clone(), None, all())
            .map(Event::Namespace)
            .boxed(),
        watch_kind(client.clone(), None, all())
            .map(Event::Node)
            .boxed(),
        settings.map(Event::Settings).boxed(),
    ])
}

/// Follows the API until shutdown; packets stay as they are then.
///
/// # Errors
/// When the kernel's notifications cannot be heard, or a sync panicked.
pub(crate) async fn run(
    client: Client,
    proxy: Proxy,
    reports: Reports,
    mut questions: Questions,
    shutdown: CancellationToken,
) -> Result<(), crate::Error> {
    let heard = proxy.dataplane.watch().try_clone()?;
    // SAFETY: the watch owns its open socket, and keeps it for as long as it lives.
    let heard = unsafe { AsyncFd::register_with_interest(heard, Interest::READABLE) }
        .map_err(io::Error::from)?;
    let mut events = events(&client);
    let mut proxy = Some(proxy);
    let mut retry = None;
    let mut repaired = None;
    loop {
        let Some(mut current) = proxy.take() else {
            return Ok(());
        };
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            Some(question) = questions.recv() => {
                let _asked_no_longer = question.send(current.census());
                proxy = Some(current);
                continue;
            }
            event = events.next() => {
                let Some(event) = event else { return Ok(()) };
                current.store.take(event);
                while let Some(Some(event)) = events.next().now_or_never() {
                    current.store.take(event);
                }
            }
            () = wake_at(retry), if retry.is_some() => {}
            readable = heard.readable() => {
                readable?.clear_ready();
                let touched = heard.get_ref().touched()?;
                if touched.chains_of_others {
                    reports.walls.notify_one();
                }
                if touched.ours {
                    tracing::info!("others changed the table knarr");
                    current.doubt();
                    let pause = repaired.map(|last: Instant| last + REPAIR_INTERVAL);
                    retry = pause.filter(|at| *at > Instant::now());
                    repaired = Some(Instant::now());
                    if retry.is_some() {
                        proxy = Some(current);
                        continue;
                    }
                }
            }
        }
        let heard = current.store.take_heard();
        reports.vitals.metrics.heard(heard, SystemTime::now());
        if !current.store.synced() {
            proxy = Some(current);
            continue;
        }
        reports.vitals.pulse.queued(Instant::now());
        let (mut current, outcome) = sync_aside(current).await?;
        retry = outcome.retry_at(Instant::now());
        report(&outcome, &mut current.store, &reports);
        reports
            .published
            .send_replace(Arc::new(current.published()));
        proxy = Some(current);
    }
}

/// One sync, on a thread that may wait for the kernel.
async fn sync_aside(mut proxy: Proxy) -> Result<(Proxy, Outcome), crate::Error> {
    let synced = tokio::task::spawn_blocking(move || {
        let outcome = proxy.sync();
        if outcome.applied.is_ok() {
            proxy.store.pack();
        }
        (proxy, outcome)
    });
    Ok(synced.await?)
}

async fn wake_at(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at.into()).await;
    }
}

fn report(outcome: &Outcome, store: &mut Store, reports: &Reports) {
    let Reports {
        published: _,
        vitals,
        recorder,
        walls: _,
    } = reports;
    let now = SystemTime::now();
    match &outcome.applied {
        Ok(applied) => {
            vitals.pulse.updated(now);
            let triggers = store.take_triggers();
            vitals
                .metrics
                .synced(outcome.kind, outcome.took, now, &triggers);
            let Applied {
                edit_count,
                byte_count,
            } = applied;
            if *edit_count > 0 {
                tracing::debug!(edit_count, byte_count, took = ?outcome.took, "synced");
            }
        }
        Err(error) => {
            vitals.metrics.refused();
            tracing::warn!("the kernel's tables could not be synced: {error:?}");
        }
    }
    if let Some((deleted, took)) = outcome.reconciled {
        vitals.metrics.reconciled(deleted, took);
    }
    for warning in &outcome.new_warnings {
        recorder.record(Happening {
            regarding: Regarding::Service(warning.service().clone()),
            reason: warning.reason(),
            message: warning.to_string(),
        });
    }
}
