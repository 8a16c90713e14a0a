//! Plans a pod's next steps from what it should be and what its init says. Pure: time comes in with the snapshot.
//!
//! Times that end in `_at_ns` or begin with `since` are of the steady clock; only a pod's deadline is one of the calendar.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use knarr_clock::Now;

use super::backoff::BackOff;
use super::{Identity, Role, containers, is_host_process};
use crate::protocol::{End, History, Run};

const SECOND_NS: i128 = 1_000_000_000;
/// What a hook that outlives the grace period still leaves to SIGTERM.
const GRACE_AFTER_HOOK_NS: i128 = 2 * SECOND_NS;

/// Everything the plan depends on, at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot<'a> {
    pub(crate) identity: &'a Identity,
    pub(crate) spec: &'a PodSpec,
    /// The grace period, once the pod is being deleted.
    pub(crate) deletion_grace_seconds: Option<i64>,
    /// By the calendar, as the pod's status says it.
    pub(crate) started_wall_ns: i128,
    pub(crate) now: Now,
    pub(crate) sandbox: SandboxState,
    /// The phase a finished pod already reported, which nothing changes any more.
    pub(crate) final_phase: Option<Phase>,
    pub(crate) memory: &'a BTreeMap<String, Memory>,
}

/// Where the pod's namespaces and init are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SandboxState {
    Absent,
    Making,
    Ready,
    /// The init died; netns, veth and cgroups are still there.
    Lost,
    Ending,
}

/// What the worker knows about one container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Memory {
    pub(crate) history: Option<History>,
    /// The attempt that is being started.
    pub(crate) starting: Option<u32>,
    pub(crate) refusal: Option<Refusal>,
    pub(crate) health: Health,
    pub(crate) back_off: BackOff,
    /// When the agent heard that the current run had ended.
    pub(crate) ended_at_ns: i128,
    pub(crate) stop: Option<Stop>,
    /// Restarts that the API knows of from before this node's state began.
    pub(crate) attempt_first: u32,
}

/// A container that could not even be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
    pub(crate) retry_at_ns: i128,
}

/// What probes and hooks say about a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) started: bool,
    pub(crate) ready: bool,
    /// Why it has to be restarted, and the probe's own grace period.
    pub(crate) failed: Option<Failure>,
}

/// A probe's or a hook's verdict that a container must go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) grace_seconds: Option<i64>,
}

/// A stop under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) attempt: u32,
    pub(crate) since_ns: i128,
    pub(crate) grace_ns: i128,
    pub(crate) step: StopStep,
}

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StopStep {
    HookRunning,
    HookDone,
    Terminated,
    Killed,
}

/// One step of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    MakeSandbox,
    Start {
        container: String,
        attempt: u32,
    },
    /// Begins a stop: the preStop hook runs, if there is one.
    BeginStop {
        container: String,
        attempt: u32,
        grace_ns: i128,
        reason: String,
    },
    Terminate {
        container: String,
    },
    Kill {
        container: String,
    },
    EndSandbox,
    /// The pod is gone from the node: delete it from the API.
    Forget,
}

/// Why a container is not running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: &'static str,
    pub(crate) message: Option<String>,
}

/// A pod's phase, in Kubernetes' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
}

impl Phase {
    /// The phase as the API spells it.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }
}

/// A pod's next steps, and what its status should say meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    pub(crate) wake_at_ns: Option<i128>,
    pub(crate) waiting: BTreeMap<String, Waiting>,
    pub(crate) phase: Phase,
    /// `status.reason` and `status.message` of a pod that was ended.
    pub(crate) verdict: Option<(&'static str, &'static str)>,
}

/// Plans the next steps.
pub(crate) fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let mut planner = Planner {
        snapshot,
        plan: Plan::idle(),
    };
    planner.plan_pod();
    planner.plan
}

impl Plan {
    fn idle() -> Self {
        Self {
            actions: Vec::new(),
            wake_at_ns: None,
            waiting: BTreeMap::new(),
            phase: Phase::Pending,
            verdict: None,
        }
    }
}

struct Planner<'a> {
    snapshot: &'a Snapshot<'a>,
    plan: Plan,
}

/// Whether the containers before this one let the next ones start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    Shut,
    /// An init container failed for good.
    Failed,
}

impl Planner<'_> {
    fn plan_pod(&mut self) {
        let finished = self.finished_phase();
        self.plan.phase = self.phase();
        if let Some(phase) = self.snapshot.final_phase {
            self.plan.phase = phase;
        }
        if let Some(grace) = self.snapshot.deletion_grace_seconds {
            self.plan_end(grace, "Stopping container");
            let gone = self.snapshot.sandbox == SandboxState::Absent;
            if gone && self.plan.actions.is_empty() {
                self.plan.actions.push(Action::Forget);
            }
            self.plan.phase = self
                .snapshot
                .final_phase
                .or(finished)
                .or_else(|| self.stopped_phase())
                .unwrap_or(self.phase());
        } else if self.snapshot.final_phase.is_some() {
            self.plan_end(self.grace_seconds(), "Stopping container");
        } else if self.is_overdue() {
            self.plan.phase = Phase::Failed;
            self.plan.verdict = Some((
                "DeadlineExceeded",
                "Pod was active on the node longer than the specified deadline",
            ));
            self.plan_end(self.grace_seconds(), "Stopping container");
        } else if let Some(phase) = finished {
            self.plan.phase = phase;
            self.plan_end(self.grace_seconds(), "Stopping container");
        } else {
            self.plan_run();
        }
    }

    fn plan_run(&mut self) {
        let spec = self.snapshot.spec;
        let foreign: Vec<_> = containers(spec)
            .filter(|(_, container)| !is_host_process(container))
            .collect();
        if !foreign.is_empty() {
            for (_, container) in containers(spec) {
                self.plan
                    .waiting
                    .insert(container.name.clone(), image_verdict(container));
            }
            return;
        }
        let creating = match spec
            .init_containers
            .as_ref()
            .is_some_and(|list| !list.is_empty())
        {
            true => "PodInitializing",
            false => "ContainerCreating",
        };
        for (_, container) in containers(spec) {
            let waiting = Waiting {
                reason: creating,
                message: None,
            };
            self.plan.waiting.insert(container.name.clone(), waiting);
        }
        match self.snapshot.sandbox {
            SandboxState::Absent | SandboxState::Lost => {
                return self.plan.actions.push(Action::MakeSandbox);
            }
            SandboxState::Making | SandboxState::Ending => return,
            SandboxState::Ready => {}
        }
        if self.plan_init() == Gate::Open {
            for container in &spec.containers {
                self.supervise(container, self.restarts(Role::Main, container));
            }
        }
        self.wake_for_deadline();
    }

    /// Plans the init containers in order; sidecars go on being supervised after the others are done.
    fn plan_init(&mut self) -> Gate {
        let spec = self.snapshot.spec;
        let initialized = self.is_initialized();
        for (role, container) in containers(spec) {
            match role {
                Role::Main => break,
                Role::Sidecar => {
                    self.supervise(container, Restarts::Always);
                    let started = self.run(container).is_some_and(|run| run.ended.is_none())
                        && self
                            .memory(container)
                            .is_some_and(|memory| memory.health.started);
                    if !started && !initialized {
                        return Gate::Shut;
                    }
                }
                Role::Init if initialized => {}
                Role::Init => match self.run(container).map(|run| &run.ended) {
                    Some(Some(End { exit_code: 0, .. })) => {}
                    _ => {
                        self.supervise(container, self.restarts(Role::Init, container));
                        return Gate::Shut;
                    }
                },
            }
        }
        Gate::Open
    }

    /// Starts, restarts or stops one container, or says why it waits.
    fn supervise(&mut self, container: &Container, restarts: Restarts) {
        let name = &container.name;
        let memory = self.memory(container).cloned().unwrap_or_default();
        if memory.starting.is_some() {
            return;
        }
        if let Some(refusal) = &memory.refusal {
            self.waits(name, refusal.reason, Some(refusal.message.clone()));
            if refusal.retry_at_ns > self.snapshot.now.steady_ns {
                return self.wake_at(refusal.retry_at_ns);
            }
        }
        let Some(run) = memory.history.as_ref().map(|history| &history.current) else {
            let attempt = memory.attempt_first;
            return self.act(Action::Start {
                container: name.clone(),
                attempt,
            });
        };
        let Some(end) = &run.ended else {
            self.plan.waiting.remove(name);
            if let Some(failure) = &memory.health.failed {
                let grace = failure
                    .grace_seconds
                    .unwrap_or_else(|| self.grace_seconds());
                self.stop(container, run, grace, &failure.reason.clone());
            }
            return;
        };
        if !restarts.after(end) {
            self.plan.waiting.remove(name);
            return;
        }
        let retry_at_ns = memory.back_off.retry_at_ns(memory.ended_at_ns);
        if retry_at_ns > self.snapshot.now.steady_ns {
            let Identity {
                namespace,
                name: pod,
                uid,
            } = self.snapshot.identity;
            let message = format!(
                "back-off {} restarting failed container={name} pod={pod}_{namespace}({uid})",
                memory.back_off.text()
            );
            self.waits(name, "CrashLoopBackOff", Some(message));
            return self.wake_at(retry_at_ns);
        }
        self.act(Action::Start {
            container: name.clone(),
            attempt: run.attempt + 1,
        });
    }

    /// Stops everything: main and init containers together, then the sidecars from the last to the first.
    fn plan_end(&mut self, grace_seconds: i64, reason: &str) {
        let spec = self.snapshot.spec;
        let mut running = Vec::new();
        for (role, container) in containers(spec) {
            let memory = self.memory(container);
            if memory.is_some_and(|memory| memory.starting.is_some()) {
                return;
            }
            if let Some(run) = self.run(container).filter(|run| run.ended.is_none()) {
                running.push((role, container, run.clone()));
            }
        }
        let (sidecars, others): (Vec<_>, Vec<_>) = running
            .into_iter()
            .partition(|(role, ..)| *role == Role::Sidecar);
        let now = if others.is_empty() {
            sidecars.into_iter().rev().take(1).collect()
        } else {
            others
        };
        let all_ended = now.is_empty();
        for (_, container, run) in now {
            self.stop(
                container,
                &run,
                grace_seconds,
                &format!("{reason} {}", container.name),
            );
        }
        let is_there = matches!(
            self.snapshot.sandbox,
            SandboxState::Ready | SandboxState::Lost
        );
        if all_ended && is_there {
            self.act(Action::EndSandbox);
        }
    }

    /// The next step of a container's stop.
    fn stop(&mut self, container: &Container, run: &Run, grace_seconds: i64, reason: &str) {
        let name = container.name.clone();
        let grace_ns = i128::from(grace_seconds.max(0)) * SECOND_NS;
        let stop = self.memory(container).and_then(|memory| memory.stop);
        let Some(stop) = stop.filter(|stop| stop.attempt == run.attempt) else {
            let (attempt, reason) = (run.attempt, reason.to_owned());
            return self.act(Action::BeginStop {
                container: name,
                attempt,
                grace_ns,
                reason,
            });
        };
        let mut deadline_ns = stop.since_ns + stop.grace_ns.min(grace_ns);
        if stop.step == StopStep::HookRunning && grace_ns > 0 {
            deadline_ns += GRACE_AFTER_HOOK_NS;
        }
        let is_over = deadline_ns <= self.snapshot.now.steady_ns;
        match stop.step {
            StopStep::Killed => {}
            StopStep::HookRunning | StopStep::HookDone | StopStep::Terminated if is_over => {
                self.act(Action::Kill { container: name });
            }
            StopStep::HookDone => {
                self.act(Action::Terminate { container: name });
                self.wake_at(deadline_ns);
            }
            StopStep::HookRunning | StopStep::Terminated => self.wake_at(deadline_ns),
        }
    }

    /// The final phase, once every main container has ended for good or an init container has failed for good.
    fn finished_phase(&self) -> Option<Phase> {
        let spec = self.snapshot.spec;
        if self.init_gate() == Gate::Failed {
            return Some(Phase::Failed);
        }
        let mut phase = Phase::Succeeded;
        for container in &spec.containers {
            let end = self.run(container)?.ended.as_ref()?;
            if self.restarts(Role::Main, container).after(end) {
                return None;
            }
            if end.exit_code != 0 {
                phase = Phase::Failed;
            }
        }
        Some(phase)
    }

    /// The final phase of a pod under deletion: no container starts again, whatever its policy says.
    fn stopped_phase(&self) -> Option<Phase> {
        let mut phase = Phase::Succeeded;
        for container in &self.snapshot.spec.containers {
            if self.run(container)?.ended.as_ref()?.exit_code != 0 {
                phase = Phase::Failed;
            }
        }
        Some(phase)
    }

    fn init_gate(&self) -> Gate {
        for (role, container) in containers(self.snapshot.spec) {
            if role != Role::Init || self.is_initialized() {
                continue;
            }
            match self.run(container).and_then(|run| run.ended.as_ref()) {
                Some(end) if end.exit_code == 0 => {}
                Some(end) if !self.restarts(role, container).after(end) => return Gate::Failed,
                Some(_) | None => return Gate::Shut,
            }
        }
        Gate::Open
    }

    fn phase(&self) -> Phase {
        let all_ran = self
            .snapshot
            .spec
            .containers
            .iter()
            .all(|one| self.run(one).is_some());
        if all_ran {
            Phase::Running
        } else {
            Phase::Pending
        }
    }

    fn is_initialized(&self) -> bool {
        self.snapshot
            .spec
            .containers
            .iter()
            .any(|container| self.run(container).is_some())
    }

    fn is_overdue(&self) -> bool {
        self.time_left_ns().is_some_and(|left| left <= 0)
    }

    fn wake_for_deadline(&mut self) {
        if let Some(left) = self.time_left_ns() {
            self.wake_at(self.snapshot.now.steady_ns + left);
        }
    }

    /// Until the pod's deadline, which is one of the calendar: its beginning is in the API.
    fn time_left_ns(&self) -> Option<i128> {
        let seconds = self.snapshot.spec.active_deadline_seconds?;
        let deadline_ns = self.snapshot.started_wall_ns + i128::from(seconds) * SECOND_NS;
        Some(deadline_ns - self.snapshot.now.wall_ns)
    }

    fn grace_seconds(&self) -> i64 {
        self.snapshot
            .spec
            .termination_grace_period_seconds
            .unwrap_or(30)
    }

    fn restarts(&self, role: Role, container: &Container) -> Restarts {
        let own = container.restart_policy.as_deref();
        let policy = own
            .or(self.snapshot.spec.restart_policy.as_deref())
            .unwrap_or("Always");
        match (role, policy) {
            (_, "Never") => Restarts::Never,
            (Role::Init, _) | (_, "OnFailure") => Restarts::OnFailure,
            _ => Restarts::Always,
        }
    }

    fn memory(&self, container: &Container) -> Option<&Memory> {
        self.snapshot.memory.get(&container.name)
    }

    fn run(&self, container: &Container) -> Option<&Run> {
        Some(&self.memory(container)?.history.as_ref()?.current)
    }

    fn act(&mut self, action: Action) {
        self.plan.actions.push(action);
    }

    fn waits(&mut self, name: &str, reason: &'static str, message: Option<String>) {
        self.plan
            .waiting
            .insert(name.to_owned(), Waiting { reason, message });
    }

    fn wake_at(&mut self, at_ns: i128) {
        self.plan.wake_at_ns = Some(self.plan.wake_at_ns.map_or(at_ns, |set| set.min(at_ns)));
    }
}

/// When a container that ended starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Restarts {
    Always,
    OnFailure,
    Never,
}

impl Restarts {
    fn after(self, end: &End) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => end.exit_code != 0,
            Self::Never => false,
        }
    }
}

fn image_verdict(container: &Container) -> Waiting {
    if is_host_process(container) {
        return Waiting {
            reason: "ContainerCreating",
            message: None,
        };
    }
    let image = container.image.as_deref().unwrap_or_default();
    let message = format!(
        "container image {image:?} is not present and cannot be pulled: this node runs host processes; \
         leave image out (or say \"host\") and give a command"
    );
    Waiting {
        reason: "ErrImageNeverPull",
        message: Some(message),
    }
}

#[cfg(test)]
mod tests;
