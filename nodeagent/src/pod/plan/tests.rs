//! Claims about a pod's next steps, as tables.

use serde_json::{Value, json};

use super::*;
use crate::protocol::EndCause;

const NOW_NS: i128 = 1_000 * SECOND_NS;
/// What the calendar is ahead of the steady clock.
const DAYS_NS: i128 = 20_000 * 86_400 * SECOND_NS;

/// A pod in the middle of something.
struct Case {
    spec: PodSpec,
    sandbox: SandboxState,
    deletion_grace_seconds: Option<i64>,
    memory: BTreeMap<String, Memory>,
}

impl Case {
    fn new(spec: Value) -> Self {
        Self {
            spec: serde_json::from_value(spec).unwrap(),
            sandbox: SandboxState::Ready,
            deletion_grace_seconds: None,
            memory: BTreeMap::new(),
        }
    }

    fn sandbox(mut self, sandbox: SandboxState) -> Self {
        self.sandbox = sandbox;
        self
    }

    fn deleted(mut self, grace_seconds: i64) -> Self {
        self.deletion_grace_seconds = Some(grace_seconds);
        self
    }

    fn with(mut self, name: &str, memory: Memory) -> Self {
        self.memory.insert(name.to_owned(), memory);
        self
    }

    fn plan(&self) -> Plan {
        self.plan_at(0)
    }

    /// The plan of a machine whose clock was set ahead by so much.
    fn plan_at(&self, ahead_ns: i128) -> Plan {
        let identity = Identity {
            namespace: "n".into(),
            name: "p".into(),
            uid: "u".into(),
        };
        plan(&Snapshot {
            identity: &identity,
            spec: &self.spec,
            deletion_grace_seconds: self.deletion_grace_seconds,
            started_wall_ns: DAYS_NS + 900 * SECOND_NS,
            now: Now {
                wall_ns: DAYS_NS + NOW_NS + ahead_ns,
                steady_ns: NOW_NS,
            },
            sandbox: self.sandbox,
            final_phase: None,
            memory: &self.memory,
        })
    }

    #[track_caller]
    fn check(&self, phase: Phase, actions: &[Action]) {
        let plan = self.plan();
        assert_eq!((plan.phase, plan.actions.as_slice()), (phase, actions));
    }
}

fn run(attempt: u32, ended: Option<i32>) -> Memory {
    let ended = ended.map(|exit_code| End {
        at_ns: DAYS_NS + NOW_NS - SECOND_NS,
        exit_code,
        signal: None,
        cause: EndCause::Exited,
        message: String::new(),
    });
    let current = Run {
        attempt,
        id: "id".into(),
        pid: 9,
        started_ns: DAYS_NS + 900 * SECOND_NS,
        ended,
    };
    Memory {
        history: Some(History {
            current,
            previous: None,
        }),
        health: Health {
            started: true,
            ready: true,
            failed: None,
        },
        ended_at_ns: NOW_NS - SECOND_NS,
        ..Memory::default()
    }
}

fn start(container: &str, attempt: u32) -> Action {
    Action::Start {
        container: container.into(),
        attempt,
    }
}

fn begin_stop(container: &str, grace_seconds: i128) -> Action {
    Action::BeginStop {
        container: container.into(),
        attempt: 0,
        grace_ns: grace_seconds * SECOND_NS,
        reason: format!("Stopping container {container}"),
    }
}

fn one(policy: &str) -> Value {
    json!({ "restartPolicy": policy, "containers": [{ "name": "c" }] })
}

#[test]
fn a_new_pod_gets_a_sandbox_then_its_containers() {
    let two = json!({ "containers": [{ "name": "c" }, { "name": "d", "image": "host" }] });
    Case::new(two.clone())
        .sandbox(SandboxState::Absent)
        .check(Phase::Pending, &[Action::MakeSandbox]);
    Case::new(two.clone())
        .sandbox(SandboxState::Making)
        .check(Phase::Pending, &[]);
    Case::new(two.clone()).check(Phase::Pending, &[start("c", 0), start("d", 0)]);
    Case::new(two)
        .with("c", run(0, None))
        .check(Phase::Pending, &[start("d", 0)]);
}

#[test]
fn a_lost_sandbox_is_made_again() {
    let case = Case::new(one("Always")).with("c", run(0, Some(137)));
    case.sandbox(SandboxState::Lost)
        .check(Phase::Running, &[Action::MakeSandbox]);
}

#[test]
fn an_image_is_refused_before_anything_is_made() {
    let case = Case::new(json!({ "containers": [{ "name": "c", "image": "nginx" }] }))
        .sandbox(SandboxState::Absent);
    case.check(Phase::Pending, &[]);
    assert_eq!(case.plan().waiting["c"].reason, "ErrImageNeverPull");
}

#[test]
fn init_containers_run_one_after_the_other() {
    let spec = json!({
        "initContainers": [{ "name": "i" }, { "name": "j" }],
        "containers": [{ "name": "c" }],
    });
    let case = || Case::new(spec.clone());
    case().check(Phase::Pending, &[start("i", 0)]);
    case().with("i", run(0, None)).check(Phase::Pending, &[]);
    case()
        .with("i", run(0, Some(0)))
        .check(Phase::Pending, &[start("j", 0)]);
    case()
        .with("i", run(0, Some(1)))
        .check(Phase::Pending, &[start("i", 1)]);
    let ready = case().with("i", run(0, Some(0))).with("j", run(0, Some(0)));
    ready.check(Phase::Pending, &[start("c", 0)]);
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "i" }],
        "containers": [{ "name": "c" }],
    });
    Case::new(spec)
        .with("i", run(0, Some(1)))
        .check(Phase::Failed, &[Action::EndSandbox]);
}

#[test]
fn a_sidecar_opens_the_gate_when_started_and_restarts_for_ever() {
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [{ "name": "s", "restartPolicy": "Always" }],
        "containers": [{ "name": "c" }],
    });
    let mut starting = run(0, None);
    starting.health.started = false;
    Case::new(spec.clone())
        .with("s", starting)
        .check(Phase::Pending, &[]);
    Case::new(spec.clone())
        .with("s", run(0, None))
        .check(Phase::Pending, &[start("c", 0)]);
    Case::new(spec.clone())
        .with("s", run(0, Some(0)))
        .with("c", run(0, None))
        .check(Phase::Running, &[start("s", 1)]);
    Case::new(spec)
        .with("s", run(0, None))
        .with("c", run(0, Some(0)))
        .check(Phase::Succeeded, &[begin_stop("s", 30)]);
}

#[test]
fn restart_policy_decides_what_an_end_means() {
    let ended = |policy, code| Case::new(one(policy)).with("c", run(0, Some(code)));
    ended("Always", 0).check(Phase::Running, &[start("c", 1)]);
    ended("OnFailure", 1).check(Phase::Running, &[start("c", 1)]);
    ended("OnFailure", 0).check(Phase::Succeeded, &[Action::EndSandbox]);
    ended("Never", 0).check(Phase::Succeeded, &[Action::EndSandbox]);
    ended("Never", 3).check(Phase::Failed, &[Action::EndSandbox]);
}

#[test]
fn a_crash_loop_waits_for_its_back_off() {
    let mut memory = run(1, Some(1));
    memory.back_off = memory.back_off.after_restart(SECOND_NS);
    let case = Case::new(one("Always")).with("c", memory);
    case.check(Phase::Running, &[]);
    let plan = case.plan();
    assert_eq!(plan.wake_at_ns, Some(NOW_NS + 9 * SECOND_NS));
    let waiting = &plan.waiting["c"];
    assert_eq!(waiting.reason, "CrashLoopBackOff");
    let message = "back-off 10s restarting failed container=c pod=p_n(u)";
    assert_eq!(waiting.message.as_deref(), Some(message));
}

#[test]
fn an_unhealthy_container_is_stopped_with_its_own_grace() {
    let mut memory = run(0, None);
    memory.health.failed = Some(Failure {
        reason: "sick".into(),
        grace_seconds: Some(5),
    });
    let (container, reason) = ("c".to_owned(), "sick".to_owned());
    let stop = Action::BeginStop {
        container,
        attempt: 0,
        grace_ns: 5 * SECOND_NS,
        reason,
    };
    Case::new(one("Always"))
        .with("c", memory)
        .check(Phase::Running, &[stop]);
}

fn stopping(step: StopStep, since_seconds: i128) -> Case {
    let mut memory = run(0, None);
    let since_ns = NOW_NS - since_seconds * SECOND_NS;
    memory.stop = Some(Stop {
        attempt: 0,
        since_ns,
        grace_ns: 10 * SECOND_NS,
        step,
    });
    Case::new(one("Always")).deleted(10).with("c", memory)
}

#[test]
fn a_stop_goes_from_hook_to_term_to_kill() {
    let kill = Action::Kill {
        container: "c".into(),
    };
    let terminate = Action::Terminate {
        container: "c".into(),
    };
    stopping(StopStep::HookRunning, 1).check(Phase::Running, &[]);
    stopping(StopStep::HookRunning, 11).check(Phase::Running, &[]);
    stopping(StopStep::HookRunning, 12).check(Phase::Running, std::slice::from_ref(&kill));
    stopping(StopStep::HookDone, 1).check(Phase::Running, &[terminate]);
    stopping(StopStep::Terminated, 9).check(Phase::Running, &[]);
    stopping(StopStep::Terminated, 10).check(Phase::Running, &[kill]);
    stopping(StopStep::Killed, 99).check(Phase::Running, &[]);
    let wake = stopping(StopStep::Terminated, 9).plan().wake_at_ns;
    assert_eq!(wake, Some(NOW_NS + SECOND_NS));
}

#[test]
fn a_deleted_pod_is_stopped_dismantled_and_forgotten() {
    let deleted = || Case::new(one("Always")).deleted(7);
    deleted()
        .with("c", run(0, None))
        .check(Phase::Running, &[begin_stop("c", 7)]);
    deleted()
        .with("c", run(0, Some(0)))
        .check(Phase::Succeeded, &[Action::EndSandbox]);
    let ending = deleted()
        .with("c", run(0, Some(0)))
        .sandbox(SandboxState::Ending);
    ending.check(Phase::Succeeded, &[]);
    let gone = deleted()
        .with("c", run(0, Some(0)))
        .sandbox(SandboxState::Absent);
    gone.check(Phase::Succeeded, &[Action::Forget]);
    deleted()
        .sandbox(SandboxState::Absent)
        .check(Phase::Pending, &[Action::Forget]);
    deleted()
        .sandbox(SandboxState::Lost)
        .check(Phase::Pending, &[Action::EndSandbox]);
}

#[test]
fn a_pod_past_its_deadline_fails() {
    let mut spec = one("Always");
    spec["activeDeadlineSeconds"] = json!(100);
    let case = Case::new(spec.clone()).with("c", run(0, None));
    case.check(Phase::Failed, &[begin_stop("c", 30)]);
    assert_eq!(
        case.plan().verdict.map(|(reason, _)| reason),
        Some("DeadlineExceeded")
    );
    spec["activeDeadlineSeconds"] = json!(101);
    let early = Case::new(spec).with("c", run(0, None));
    early.check(Phase::Running, &[]);
    assert_eq!(early.plan().wake_at_ns, Some(NOW_NS + SECOND_NS));
}

#[test]
fn a_clock_that_is_set_moves_deadlines_and_nothing_else() {
    let mut crashed = run(1, Some(1));
    crashed.back_off = crashed.back_off.after_restart(SECOND_NS);
    let back_off = Case::new(one("Always")).with("c", crashed);
    let mut spec = one("Always");
    spec["activeDeadlineSeconds"] = json!(3_600);
    let limited = Case::new(spec).with("c", run(0, None));
    let year_ns = 365 * 86_400 * SECOND_NS;
    for (ahead_ns, phase) in [
        (0, Phase::Running),
        (-year_ns, Phase::Running),
        (year_ns, Phase::Failed),
    ] {
        let wake = |case: &Case| case.plan_at(ahead_ns).wake_at_ns;
        let stop = stopping(StopStep::Terminated, 9);
        assert_eq!(wake(&back_off), Some(NOW_NS + 9 * SECOND_NS));
        assert_eq!(wake(&stop), stop.plan().wake_at_ns);
        assert_eq!(limited.plan_at(ahead_ns).phase, phase);
    }
}
