//! Writes a pod's status as the kubelet would. Pure: plan and snapshot in, status out.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, HostIP, Pod, PodCondition, PodIP, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::plan::{Memory, Phase, Plan, SandboxState, Snapshot};
use super::{Role, containers};
use crate::protocol::{End, EndCause, Run};

/// What the status needs beside plan and snapshot.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// The pod as the API has it, for conditions that others own and times that must not move.
    pub(crate) pod: &'a Pod,
    pub(crate) node_ips: &'a [String],
    pub(crate) pod_ips: &'a [String],
}

/// The whole status the agent answers for.
pub(crate) fn status(snapshot: &Snapshot<'_>, plan: &Plan, around: Surroundings<'_>) -> PodStatus {
    let statuses = |wanted: fn(Role) -> bool| -> Vec<ContainerStatus> {
        containers(snapshot.spec)
            .filter(|(role, _)| wanted(*role))
            .map(|(role, container)| container_status(snapshot, plan, role, container))
            .collect()
    };
    let init = statuses(|role| role != Role::Main);
    let main = statuses(|role| role == Role::Main);
    let conditions = conditions(snapshot, plan, around, &init, &main);
    let generation = around.pod.metadata.generation;
    let ips = |ips: &[String]| (!ips.is_empty()).then(|| ips.to_vec());
    PodStatus {
        observed_generation: generation,
        phase: Some(plan.phase.text().to_owned()),
        reason: plan.verdict.map(|(reason, _)| reason.to_owned()),
        message: plan.verdict.map(|(_, message)| message.to_owned()),
        conditions: Some(conditions),
        host_ip: around.node_ips.first().cloned(),
        host_ips: ips(around.node_ips).map(|ips| ips.into_iter().map(|ip| HostIP { ip }).collect()),
        pod_ip: around.pod_ips.first().cloned(),
        pod_ips: ips(around.pod_ips).map(|ips| ips.into_iter().map(|ip| PodIP { ip }).collect()),
        start_time: Some(time(snapshot.started_wall_ns)),
        init_container_statuses: (!init.is_empty()).then_some(init),
        container_statuses: Some(main),
        ..PodStatus::default()
    }
}

fn container_status(
    snapshot: &Snapshot<'_>,
    plan: &Plan,
    role: Role,
    container: &Container,
) -> ContainerStatus {
    let nothing = Memory::default();
    let memory = snapshot.memory.get(&container.name).unwrap_or(&nothing);
    let history = memory.history.as_ref();
    let run = history.map(|history| &history.current);
    let waiting = plan.waiting.get(&container.name);
    let is_running = run.is_some_and(|run| run.ended.is_none());
    let (state, last) = match (run, waiting) {
        (Some(run), _) if run.ended.is_none() => (
            running(run),
            history.and_then(|history| history.previous.as_ref()),
        ),
        (run, Some(waiting)) => {
            let waiting = ContainerStateWaiting {
                reason: Some(waiting.reason.to_owned()),
                message: waiting.message.clone(),
            };
            let state = ContainerState {
                waiting: Some(waiting),
                ..ContainerState::default()
            };
            (state, run)
        }
        (Some(run), None) => (
            terminated(run),
            history.and_then(|history| history.previous.as_ref()),
        ),
        (None, None) => {
            let waiting = ContainerStateWaiting {
                reason: Some("ContainerCreating".to_owned()),
                message: None,
            };
            (
                ContainerState {
                    waiting: Some(waiting),
                    ..ContainerState::default()
                },
                None,
            )
        }
    };
    let succeeded = run
        .and_then(|run| run.ended.as_ref())
        .is_some_and(|end| end.exit_code == 0);
    ContainerStatus {
        name: container.name.clone(),
        image: container.image.clone().unwrap_or_else(|| "host".to_owned()),
        image_id: String::new(),
        container_id: run.map(container_id),
        ready: match role {
            Role::Init => succeeded,
            Role::Sidecar | Role::Main => is_running && memory.health.ready,
        },
        started: Some(is_running && (role == Role::Init || memory.health.started)),
        restart_count: run
            .map_or(memory.attempt_first, |run| run.attempt)
            .try_into()
            .unwrap_or(i32::MAX),
        state: Some(state),
        last_state: Some(last.map(terminated).unwrap_or_default()),
        ..ContainerStatus::default()
    }
}

fn running(run: &Run) -> ContainerState {
    let running = ContainerStateRunning {
        started_at: Some(time(run.started_ns)),
    };
    ContainerState {
        running: Some(running),
        ..ContainerState::default()
    }
}

fn terminated(run: &Run) -> ContainerState {
    let Some(end) = &run.ended else {
        return ContainerState::default();
    };
    let terminated = ContainerStateTerminated {
        container_id: Some(container_id(run)),
        exit_code: end.exit_code,
        finished_at: Some(time(end.at_ns)),
        started_at: Some(time(run.started_ns)),
        reason: Some(end_reason(end).to_owned()),
        message: (!end.message.is_empty()).then(|| end.message.clone()),
        signal: None,
    };
    ContainerState {
        terminated: Some(terminated),
        ..ContainerState::default()
    }
}

fn end_reason(end: &End) -> &'static str {
    match (end.cause, end.exit_code) {
        (EndCause::OutOfMemory, _) => "OOMKilled",
        (EndCause::StartFailed, _) => "StartError",
        (EndCause::Exited, 0) => "Completed",
        (EndCause::Exited, _) => "Error",
    }
}

fn container_id(run: &Run) -> String {
    format!("knarr://{}", run.id)
}

/// A condition's truth and, if it is false, why.
struct Verdict {
    kind: &'static str,
    truth: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Verdict {
    fn yes(kind: &'static str) -> Self {
        Self {
            kind,
            truth: true,
            reason: None,
            message: None,
        }
    }

    fn no(kind: &'static str, reason: &'static str, message: Option<String>) -> Self {
        Self {
            kind,
            truth: false,
            reason: Some(reason),
            message,
        }
    }
}

fn conditions(
    snapshot: &Snapshot<'_>,
    plan: &Plan,
    around: Surroundings<'_>,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Vec<PodCondition> {
    let initialized = initialized(snapshot, plan, init);
    let containers_ready = containers_ready("ContainersReady", snapshot, plan, init, main);
    let ready = match readiness_gates(around.pod) {
        Some(message) if containers_ready.truth => {
            Verdict::no("Ready", "ReadinessGatesNotReady", Some(message))
        }
        _ => self::containers_ready("Ready", snapshot, plan, init, main),
    };
    let sandbox = match snapshot.sandbox {
        SandboxState::Ready => Verdict::yes("PodReadyToStartContainers"),
        SandboxState::Absent | SandboxState::Making | SandboxState::Lost | SandboxState::Ending => {
            Verdict {
                kind: "PodReadyToStartContainers",
                truth: false,
                reason: None,
                message: None,
            }
        }
    };
    let verdicts = [
        sandbox,
        initialized,
        ready,
        containers_ready,
        Verdict::yes("PodScheduled"),
    ];
    let existing = around
        .pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let find = |kind: &str| {
        existing
            .into_iter()
            .flatten()
            .find(|found| found.type_ == kind)
    };
    verdicts
        .into_iter()
        .map(|verdict| {
            let before = find(verdict.kind);
            condition(
                verdict,
                before,
                around.pod.metadata.generation,
                snapshot.now.wall_ns,
            )
        })
        .collect()
}

fn condition(
    verdict: Verdict,
    before: Option<&PodCondition>,
    generation: Option<i64>,
    now_ns: i128,
) -> PodCondition {
    let status = if verdict.truth { "True" } else { "False" };
    let since = before
        .filter(|before| before.status == status)
        .and_then(|before| before.last_transition_time.clone());
    PodCondition {
        type_: verdict.kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: Some(since.unwrap_or_else(|| time(now_ns))),
        last_probe_time: None,
        observed_generation: generation,
    }
}

fn initialized(snapshot: &Snapshot<'_>, plan: &Plan, init: &[ContainerStatus]) -> Verdict {
    if plan.phase == Phase::Succeeded {
        return Verdict {
            reason: Some("PodCompleted"),
            ..Verdict::yes("Initialized")
        };
    }
    let sidecar = |name: &str| {
        containers(snapshot.spec)
            .any(|(role, container)| role == Role::Sidecar && container.name == name)
    };
    let ran = |status: &&ContainerStatus| match sidecar(&status.name) {
        true => status.started != Some(true),
        false => !status.ready,
    };
    let main_ran = snapshot.spec.containers.iter().any(|container| {
        snapshot
            .memory
            .get(&container.name)
            .is_some_and(|memory| memory.history.is_some())
    });
    let missing = names(init.iter().filter(ran));
    if missing.is_empty() || main_ran {
        return Verdict::yes("Initialized");
    }
    let message = format!("containers with incomplete status: [{missing}]");
    Verdict::no("Initialized", "ContainersNotInitialized", Some(message))
}

fn containers_ready(
    kind: &'static str,
    snapshot: &Snapshot<'_>,
    plan: &Plan,
    init: &[ContainerStatus],
    main: &[ContainerStatus],
) -> Verdict {
    match plan.phase {
        Phase::Succeeded => return Verdict::no(kind, "PodCompleted", None),
        Phase::Failed => return Verdict::no(kind, "PodFailed", None),
        Phase::Pending | Phase::Running => {}
    }
    let sidecars = containers(snapshot.spec)
        .filter(|(role, _)| *role == Role::Sidecar)
        .filter_map(|(_, one)| init.iter().find(|status| status.name == one.name));
    let unready = names(sidecars.chain(main).filter(|status| !status.ready));
    if unready.is_empty() {
        return Verdict::yes(kind);
    }
    let message = format!("containers with unready status: [{unready}]");
    Verdict::no(kind, "ContainersNotReady", Some(message))
}

/// What is wrong with the pod's readiness gates, if anything is.
fn readiness_gates(pod: &Pod) -> Option<String> {
    let gates = pod.spec.as_ref()?.readiness_gates.as_ref()?;
    let existing = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    let complaint = |kind: &str| match existing
        .into_iter()
        .flatten()
        .find(|found| found.type_ == kind)
    {
        None => Some(format!(
            "corresponding condition of pod readiness gate {kind:?} does not exist."
        )),
        Some(found) if found.status == "True" => None,
        Some(found) => Some(format!(
            "the status of pod readiness gate {kind:?} is not \"True\", but {}",
            found.status
        )),
    };
    let complaints: Vec<String> = gates
        .iter()
        .filter_map(|gate| complaint(&gate.condition_type))
        .collect();
    (!complaints.is_empty()).then(|| complaints.join(", "))
}

fn names<'a>(statuses: impl Iterator<Item = &'a ContainerStatus>) -> String {
    statuses
        .map(|status| status.name.as_str())
        .collect::<Vec<_>>()
        .join(" ")
}

/// A moment as the API writes it: whole seconds.
pub(crate) fn time(ns: i128) -> Time {
    let seconds = i64::try_from(ns.div_euclid(1_000_000_000)).unwrap_or_default();
    Time(Timestamp::from_second(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests;
