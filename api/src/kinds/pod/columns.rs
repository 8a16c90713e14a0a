//! How pods show in a Table: READY, STATUS and RESTARTS as `kubectl get pods` has them.

use serde_json::{Value, json};

use crate::{kind::Column, table::age, walk};

pub const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string(
        "Ready",
        "Containers that are ready, of all that keep running.",
    ),
    Column::string("Status", "What the containers are doing, in one word."),
    Column::string(
        "Restarts",
        "How often containers were restarted, and when last.",
    ),
    Column::AGE,
    Column::string("IP", "status.podIPs: the first address of the pod.").wide(),
    Column::string("Node", "spec.nodeName: the node the pod runs on.").wide(),
    Column::string(
        "Nominated Node",
        "status.nominatedNodeName: the node being cleared for the pod.",
    )
    .wide(),
    Column::string(
        "Readiness Gates",
        "Conditions beyond the containers' that are met, of all asked for.",
    )
    .wide(),
];

pub fn cells(pod: &Value, now_seconds: i64) -> Vec<Value> {
    let state = State::of(pod);
    let ip = walk::list(pod, "status.podIPs")
        .first()
        .map_or("", |ip| walk::text(ip, "ip"));
    vec![
        json!(walk::text(pod, "metadata.name")),
        json!(format!("{}/{}", state.ready_count, state.container_count)),
        json!(state.reason),
        json!(state.restarts.show(now_seconds)),
        age(pod, now_seconds),
        or_none(ip),
        or_none(walk::text(pod, "spec.nodeName")),
        or_none(walk::text(pod, "status.nominatedNodeName")),
        readiness_gates(pod),
    ]
}

/// Reason and message of a pod that has run its course.
pub fn completed(pod: &Value) -> Option<(&'static str, &'static str)> {
    match walk::text(pod, "status.phase") {
        "Succeeded" => Some(("Succeeded", "The pod has completed successfully.")),
        "Failed" => Some(("Failed", "The pod failed.")),
        _ => None,
    }
}

fn or_none(text: &str) -> Value {
    json!(if text.is_empty() { "<none>" } else { text })
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = walk::list(pod, "spec.readinessGates");
    if gates.is_empty() {
        return json!("<none>");
    }
    let is_met = |gate: &&Value| condition(pod, walk::text(gate, "conditionType")) == Some("True");
    let met_count = gates.iter().filter(is_met).count();
    json!(format!("{met_count}/{}", gates.len()))
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a str> {
    walk::list(pod, "status.conditions")
        .iter()
        .find(|condition| walk::text(condition, "type") == kind)
        .map(|condition| walk::text(condition, "status"))
}

#[derive(Clone, Default)]
struct Restarts {
    count: i64,
    /// RFC 3339, so that text order is time order.
    last: String,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += walk::count(status, "restartCount");
        let finished = walk::text(status, "lastState.terminated.finishedAt");
        if finished > self.last.as_str() {
            self.last = finished.to_owned();
        }
    }

    fn show(&self, now_seconds: i64) -> String {
        if self.count == 0 || self.last.is_empty() {
            return self.count.to_string();
        }
        format!(
            "{} ({} ago)",
            self.count,
            age::since(&self.last, now_seconds)
        )
    }
}

struct State {
    reason: String,
    ready_count: usize,
    container_count: usize,
    restarts: Restarts,
}

impl State {
    fn of(pod: &Value) -> State {
        let sidecars = walk::list(pod, "spec.initContainers")
            .iter()
            .filter(|c| is_sidecar(c));
        let mut state = State {
            reason: phase_or_reason(pod),
            ready_count: 0,
            container_count: walk::list(pod, "spec.containers").len() + sidecars.count(),
            restarts: Restarts::default(),
        };
        let sidecar_restarts = Restarts::default();
        let (is_initializing, sidecar_restarts) = state.init_containers(pod, sidecar_restarts);
        if !is_initializing || condition(pod, "Initialized") == Some("True") {
            state.restarts = sidecar_restarts;
            state.containers(pod);
        }
        if walk::has(pod, "metadata.deletionTimestamp") {
            let phase = walk::text(pod, "status.phase");
            if walk::text(pod, "status.reason") == "NodeLost" {
                state.reason = "Unknown".into();
            } else if !["Succeeded", "Failed"].contains(&phase) {
                state.reason = "Terminating".into();
            }
        }
        state
    }

    fn init_containers(&mut self, pod: &Value, mut sidecar_restarts: Restarts) -> (bool, Restarts) {
        let init_containers = walk::list(pod, "spec.initContainers");
        let statuses = walk::list(pod, "status.initContainerStatuses");
        for (index, status) in statuses.iter().enumerate() {
            self.restarts.add(status);
            let name = walk::text(status, "name");
            let sidecar = init_containers
                .iter()
                .any(|container| walk::text(container, "name") == name && is_sidecar(container));
            if sidecar {
                sidecar_restarts.add(status);
            }
            let terminated = walk::at(status, "state.terminated");
            if !terminated.is_null() && walk::count(terminated, "exitCode") == 0 {
                continue;
            }
            if sidecar && walk::is_true(status, "started") {
                self.ready_count += usize::from(walk::is_true(status, "ready"));
                continue;
            }
            let waiting = walk::text(status, "state.waiting.reason");
            self.reason = if !terminated.is_null() {
                format!("Init:{}", termination(terminated))
            } else if !waiting.is_empty() && waiting != "PodInitializing" {
                format!("Init:{waiting}")
            } else {
                format!("Init:{index}/{}", init_containers.len())
            };
            return (true, sidecar_restarts);
        }
        (false, sidecar_restarts)
    }

    fn containers(&mut self, pod: &Value) {
        let mut has_running = false;
        let mut failure = None;
        for status in walk::list(pod, "status.containerStatuses").iter().rev() {
            self.restarts.add(status);
            let waiting = walk::text(status, "state.waiting.reason");
            let terminated = walk::at(status, "state.terminated");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if !terminated.is_null() {
                self.reason = termination(terminated);
                if walk::count(terminated, "exitCode") != 0 {
                    failure = Some(self.reason.clone());
                }
            } else if walk::is_true(status, "ready") && walk::has(status, "state.running") {
                has_running = true;
                self.ready_count += 1;
            }
        }
        if self.reason != "Completed" {
            return;
        }
        if has_running && condition(pod, "Ready") == Some("True") {
            self.reason = "Running".into();
        } else if let Some(failure) = failure {
            self.reason = failure;
        } else if has_running {
            self.reason = "NotReady".into();
        }
    }
}

fn phase_or_reason(pod: &Value) -> String {
    let gated = walk::list(pod, "status.conditions")
        .iter()
        .any(|condition| {
            walk::text(condition, "type") == "PodScheduled"
                && walk::text(condition, "reason") == "SchedulingGated"
        });
    if gated {
        return "SchedulingGated".into();
    }
    match walk::text(pod, "status.reason") {
        "" => walk::text(pod, "status.phase").to_owned(),
        reason => reason.to_owned(),
    }
}

fn is_sidecar(container: &Value) -> bool {
    walk::text(container, "restartPolicy") == "Always"
}

fn termination(terminated: &Value) -> String {
    let reason = walk::text(terminated, "reason");
    let signal = walk::count(terminated, "signal");
    if !reason.is_empty() {
        reason.to_owned()
    } else if signal != 0 {
        format!("Signal:{signal}")
    } else {
        format!("ExitCode:{}", walk::count(terminated, "exitCode"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: Value, status: Value, expected: [&str; 3]) {
        let pod = json!({"metadata": {"name": "p"}, "spec": spec, "status": status});
        let cells = cells(&pod, 1_700_000_600);
        assert_eq!(cells[1..4], expected.map(Value::from), "{pod}");
    }

    #[test]
    fn status_says_what_the_containers_do() {
        let one = || json!({"containers": [{"name": "a"}]});
        let status = |phase: &str, state: Value, ready: bool| json!({"phase": phase, "containerStatuses": [{"name": "a", "state": state, "ready": ready}]});
        check(one(), json!({"phase": "Pending"}), ["0/1", "Pending", "0"]);
        check(
            one(),
            status("Running", json!({"running": {}}), true),
            ["1/1", "Running", "0"],
        );
        let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        check(
            one(),
            status("Running", waiting, false),
            ["0/1", "CrashLoopBackOff", "0"],
        );
        let done = json!({"terminated": {"exitCode": 0, "reason": "Completed"}});
        check(
            one(),
            status("Succeeded", done, false),
            ["0/1", "Completed", "0"],
        );
        let killed = json!({"terminated": {"exitCode": 137, "signal": 9}});
        check(
            one(),
            status("Failed", killed, false),
            ["0/1", "Signal:9", "0"],
        );
        check(
            one(),
            json!({"phase": "Failed", "reason": "Evicted"}),
            ["0/1", "Evicted", "0"],
        );
    }

    #[test]
    fn one_finished_container_of_two_does_not_make_a_pod_completed() {
        let spec = json!({"containers": [{"name": "a"}, {"name": "b"}]});
        let statuses = json!([
            {"name": "a", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
            {"name": "b", "ready": true, "state": {"running": {}}},
        ]);
        let with = |conditions: Value| json!({"phase": "Running", "containerStatuses": statuses, "conditions": conditions});
        check(spec.clone(), with(json!([])), ["1/2", "NotReady", "0"]);
        let ready = json!([{"type": "Ready", "status": "True"}]);
        check(spec, with(ready), ["1/2", "Running", "0"]);
    }

    #[test]
    fn init_containers_show_while_they_run() {
        let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}, {"name": "j"}]});
        let with = |second: Value| {
            json!({"phase": "Pending", "initContainerStatuses": [
                {"name": "i", "restartCount": 1, "state": {"terminated": {"exitCode": 0}}},
                {"name": "j", "restartCount": 2, "state": second},
            ]})
        };
        check(
            spec.clone(),
            with(json!({"running": {}})),
            ["0/1", "Init:1/2", "3"],
        );
        let failed = json!({"terminated": {"exitCode": 3}});
        check(spec.clone(), with(failed), ["0/1", "Init:ExitCode:3", "3"]);
        let waiting = json!({"waiting": {"reason": "ErrImagePull"}});
        check(spec, with(waiting), ["0/1", "Init:ErrImagePull", "3"]);
    }

    #[test]
    fn sidecars_count_as_containers() {
        let spec = json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]});
        let status = json!({
            "phase": "Running",
            "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 4, "state": {"running": {}}}],
            "containerStatuses": [{"name": "a", "ready": true, "restartCount": 1, "state": {"running": {}}}],
        });
        check(spec, status, ["2/2", "Running", "5"]);
    }

    #[test]
    fn restarts_say_when_the_last_one_was() {
        let spec = json!({"containers": [{"name": "a"}]});
        let status = json!({"phase": "Running", "containerStatuses": [{
            "name": "a", "ready": true, "restartCount": 2, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2023-11-14T22:18:20Z"}},
        }]});
        check(spec, status, ["1/1", "Running", "2 (5m ago)"]);
    }

    #[test]
    fn deleted_pods_are_terminating_until_they_have_ended() {
        let status = |phase: &str, reason: &str| {
            let pod = json!({
                "metadata": {"deletionTimestamp": "2023-11-14T22:18:20Z"},
                "status": {"phase": phase, "reason": reason},
            });
            cells(&pod, 0)[2].clone()
        };
        assert_eq!(status("Running", ""), "Terminating");
        assert_eq!(status("Succeeded", ""), "Succeeded");
        assert_eq!(status("Running", "NodeLost"), "Unknown");
    }

    #[test]
    fn a_pod_that_has_run_its_course_says_so_beside_its_cells() {
        let reason = |phase: &str| completed(&json!({"status": {"phase": phase}})).map(|c| c.0);
        assert_eq!(reason("Succeeded"), Some("Succeeded"));
        assert_eq!(reason("Failed"), Some("Failed"));
        assert_eq!(reason("Running"), None);
    }
}
