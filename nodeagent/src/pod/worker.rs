//! One task a pod: takes what happened, plans, applies, reports. The only place that changes a pod's memory.

mod act;
mod health;
mod observe;
mod rotation;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use knarr_clock::Now;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle};

use super::plan::{self, Memory, Phase, SandboxState, Snapshot};
use super::report::Report;
use super::sandbox::Record;
use super::status::{self, Surroundings};
use super::{Identity, link, probe};
use crate::events::Severity;
use crate::host::Host;
use crate::process::Init;
use crate::protocol::{self, State};

/// What can happen to a pod.
pub(crate) enum Message {
    /// The API has a newer pod.
    Pod(Arc<Pod>),
    /// The API has the pod no longer.
    Gone,
    /// The node has other addresses.
    Moved,
    SandboxMade(Result<(), String>),
    SandboxEnded(Vec<String>),
    /// The init's connection, ready to command.
    Connected(link::Writer),
    State(State),
    /// The init, or the connection to it, is gone.
    Lost,
    Prepared {
        container: String,
        attempt: u32,
        result: Box<Result<protocol::Container, Refused>>,
    },
    Probed {
        container: String,
        attempt: u32,
        kind: probe::Kind,
        report: Probed,
    },
    PostStarted {
        container: String,
        attempt: u32,
        result: Result<(), String>,
    },
    PreStopped {
        container: String,
        attempt: u32,
        result: Result<(), String>,
    },
    Forgotten,
}

/// Why a container was not even tried.
pub(crate) struct Refused {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// What a check found.
pub(crate) struct Probed {
    pub(crate) finding: probe::Finding,
    pub(crate) complaint: Option<String>,
}

/// A container that is prepared while the sandbox is made.
type Early = JoinHandle<Result<protocol::Container, Refused>>;

/// The way to tell a pod's worker something.
pub(crate) type Mailbox = mpsc::UnboundedSender<Message>;

struct Worker {
    host: Arc<Host>,
    identity: Identity,
    pod: Arc<Pod>,
    spec: PodSpec,
    is_gone: bool,
    final_phase: Option<Phase>,
    sandbox: SandboxState,
    record: Record,
    memory: BTreeMap<String, Memory>,
    init: Option<link::Writer>,
    probes: BTreeMap<(String, probe::Kind), AbortHandle>,
    /// By container and attempt.
    early: BTreeMap<(String, u32), Early>,
    report: Report,
    mailbox: Mailbox,
    /// A sandbox that could not be made is tried again at this time.
    sandbox_retry_at_ns: i128,
    is_forgetting: bool,
    has_ended: bool,
    /// Containers whose back-off is already an event.
    backing_off: BTreeSet<String>,
    /// Ends with the worker.
    rotation: tokio::task::JoinSet<()>,
}

/// Starts a pod's worker. It ends once the pod is gone from the node and from the API.
pub(crate) fn start(host: Arc<Host>, pod: Arc<Pod>) -> Option<(Mailbox, JoinHandle<()>)> {
    let identity = Identity::of(&pod)?;
    let spec = pod.spec.clone()?;
    let (mailbox, inbox) = mpsc::unbounded_channel();
    let mut worker = Worker::new(host, identity, pod, spec, mailbox.clone());
    let task = tokio::spawn(async move {
        worker.adopt();
        worker.run(inbox).await;
    });
    Some((mailbox, task))
}

impl Worker {
    fn new(
        host: Arc<Host>,
        identity: Identity,
        pod: Arc<Pod>,
        spec: PodSpec,
        mailbox: Mailbox,
    ) -> Self {
        let report = Report::start(host.client.clone(), identity.clone());
        let status = pod.status.as_ref();
        let final_phase = match status.and_then(|status| status.phase.as_deref()) {
            Some("Succeeded") => Some(Phase::Succeeded),
            Some("Failed") => Some(Phase::Failed),
            _ => None,
        };
        let started_ns = status
            .and_then(|status| status.start_time.as_ref())
            .map_or_else(|| Now::read().wall_ns, |time| time.0.as_nanosecond());
        let record = Record {
            namespace: identity.namespace.clone(),
            name: identity.name.clone(),
            uid: identity.uid.clone(),
            addresses: Vec::new(),
            started_ns,
        };
        let memory = first_memory(&pod);
        Self {
            host,
            identity,
            pod,
            spec,
            is_gone: false,
            final_phase,
            sandbox: SandboxState::Absent,
            record,
            memory,
            init: None,
            probes: BTreeMap::new(),
            early: BTreeMap::new(),
            report,
            mailbox,
            sandbox_retry_at_ns: 0,
            is_forgetting: false,
            has_ended: false,
            backing_off: BTreeSet::new(),
            rotation: tokio::task::JoinSet::new(),
        }
    }

    async fn run(&mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let mut clock = self.host.clock.clone();
        loop {
            let wake_at_ns = self.step().await;
            if self.has_ended {
                return;
            }
            let message = tokio::select! {
                message = inbox.recv() => message,
                () = until(wake_at_ns) => continue,
                // A pod's deadline is a time of day, and may have come with it.
                Ok(()) = clock.changed(), if wake_at_ns.is_some() => continue,
            };
            let Some(message) = message else { return };
            self.take(message).await;
            while let Ok(message) = inbox.try_recv() {
                self.take(message).await;
            }
        }
    }

    /// Plans, applies and reports once; says when to look again without being told.
    async fn step(&mut self) -> Option<i128> {
        let now = Now::read();
        let plan = plan::plan(&self.snapshot(now));
        for action in plan.actions.clone() {
            self.apply(action, now).await;
        }
        let plan = plan::plan(&self.snapshot(now));
        self.announce_back_off(&plan);
        self.publish(&plan, now);
        let retry = (self.sandbox_retry_at_ns > now.steady_ns).then_some(self.sandbox_retry_at_ns);
        plan.wake_at_ns.into_iter().chain(retry).min()
    }

    fn announce_back_off(&mut self, plan: &plan::Plan) {
        let waits = plan
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.reason == "CrashLoopBackOff");
        let waits: BTreeSet<String> = waits.map(|(name, _)| name.clone()).collect();
        let Identity {
            namespace,
            name: pod,
            uid,
        } = &self.identity;
        for name in waits.difference(&self.backing_off) {
            let message = format!(
                "Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})"
            );
            self.happened(Some(name), Severity::Warning, "BackOff", message);
        }
        self.backing_off = waits;
    }

    fn snapshot(&self, now: Now) -> Snapshot<'_> {
        Snapshot {
            identity: &self.identity,
            spec: &self.spec,
            deletion_grace_seconds: self.deletion_grace_seconds(),
            started_wall_ns: self.record.started_ns,
            now,
            sandbox: self.sandbox,
            final_phase: self.final_phase,
            memory: &self.memory,
        }
    }

    fn deletion_grace_seconds(&self) -> Option<i64> {
        let metadata = &self.pod.metadata;
        match &metadata.deletion_timestamp {
            Some(_) => Some(metadata.deletion_grace_period_seconds.unwrap_or(30)),
            None => self.is_gone.then_some(0),
        }
    }

    fn publish(&mut self, plan: &plan::Plan, now: Now) {
        let is_old_news =
            self.final_phase.is_some() && self.memory.values().all(|one| one.history.is_none());
        if self.is_gone || is_old_news {
            return;
        }
        let node_ips = self.host.node_ip_texts();
        let pod_ips = self.pod_ips();
        let shown = if self.sandbox == SandboxState::Absent && self.final_phase.is_none() {
            &[]
        } else {
            pod_ips.as_slice()
        };
        let around = Surroundings {
            pod: &self.pod,
            node_ips: &node_ips,
            pod_ips: shown,
        };
        let status = status::status(&self.snapshot(now), plan, around);
        self.report.send(&status);
        if matches!(plan.phase, Phase::Succeeded | Phase::Failed) {
            self.final_phase = Some(plan.phase);
        }
    }

    /// The pod's addresses, which are the node's for a pod in the host's network.
    fn pod_ips(&self) -> Vec<String> {
        match self.spec.host_network {
            Some(true) => self.host.node_ip_texts(),
            _ => self
                .record
                .addresses
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    }

    fn tell(&self) -> Mailbox {
        self.mailbox.clone()
    }
}

/// Restart counts survive a lost run directory through the API.
fn first_memory(pod: &Pod) -> BTreeMap<String, Memory> {
    let status = pod.status.as_ref();
    let lists = status.into_iter().flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    });
    lists
        .filter(|status| status.container_id.is_some())
        .map(|status| {
            let attempt_first = u32::try_from(status.restart_count + 1).unwrap_or_default();
            (
                status.name.clone(),
                Memory {
                    attempt_first,
                    ..Memory::default()
                },
            )
        })
        .collect()
}

async fn until(steady_ns: Option<i128>) {
    match steady_ns {
        Some(at_ns) => tokio::time::sleep(pause_until(at_ns)).await,
        None => std::future::pending().await,
    }
}

fn pause_until(at_ns: i128) -> Duration {
    let left = u64::try_from(at_ns - knarr_clock::steady_ns());
    Duration::from_nanos(left.unwrap_or_default())
}

/// Watches an init: hands over its states until the connection ends.
fn follow_init(host: &Host, uid: &str, mailbox: Mailbox) {
    let directory = host.paths.pod(uid);
    tokio::spawn(async move {
        if let Err(error) = follow_until_lost(&directory, &mailbox).await {
            tracing::debug!(%error, "a pod's init");
        }
        let _ = mailbox.send(Message::Lost);
    });
}

async fn follow_until_lost(
    directory: &std::path::Path,
    mailbox: &Mailbox,
) -> Result<(), link::Error> {
    let (mut reader, mut writer) = link::connect(directory).await?;
    writer.send(&protocol::Request::Watch).await?;
    let _ = mailbox.send(Message::Connected(writer));
    loop {
        if let protocol::Event::State(state) = reader.event().await? {
            let _ = mailbox.send(Message::State(state));
        }
    }
}

/// Collects the exit of an init that is our child, so that it does not stay a zombie.
fn collect_later(init: Init) {
    let Ok(pidfd) = init.pidfd() else { return };
    tokio::spawn(async move {
        // SAFETY: the descriptor is owned by the registration and closed only after it.
        if let Ok(pidfd) = unsafe { tokio::io::unix::AsyncFd::register(pidfd) } {
            let _ = pidfd.readable().await;
        }
        init.collect();
    });
}
