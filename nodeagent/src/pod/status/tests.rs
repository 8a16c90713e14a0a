//! Claims about what a pod's status says.

use std::collections::BTreeMap;

use knarr_clock::Now;
use serde_json::{Value, json};

use super::super::Identity;
use super::super::plan::{self, Health};
use super::*;
use crate::protocol::History;

const NOW_NS: i128 = 1_767_225_600_000_000_000;

fn status_of(pod: Value, memory: BTreeMap<String, Memory>) -> Value {
    let pod: Pod = serde_json::from_value(pod).unwrap();
    let spec = pod.spec.clone().unwrap();
    let identity = Identity {
        namespace: "n".into(),
        name: "p".into(),
        uid: "u".into(),
    };
    let snapshot = Snapshot {
        identity: &identity,
        spec: &spec,
        deletion_grace_seconds: None,
        started_wall_ns: NOW_NS,
        now: Now {
            wall_ns: NOW_NS,
            steady_ns: 0,
        },
        sandbox: SandboxState::Ready,
        final_phase: None,
        memory: &memory,
    };
    let around = Surroundings {
        pod: &pod,
        node_ips: &["192.168.7.1".into()],
        pod_ips: &["10.42.0.2".into()],
    };
    serde_json::to_value(status(&snapshot, &plan::plan(&snapshot), around)).unwrap()
}

fn ran(ended: Option<End>, ready: bool) -> BTreeMap<String, Memory> {
    let current = Run {
        attempt: 2,
        id: "abc".into(),
        pid: 9,
        started_ns: NOW_NS,
        ended,
    };
    let memory = Memory {
        history: Some(History {
            current,
            previous: None,
        }),
        health: Health {
            started: true,
            ready,
            failed: None,
        },
        ..Memory::default()
    };
    [("c".to_owned(), memory)].into()
}

fn pod(extra: Value) -> Value {
    let mut spec = json!({ "containers": [{ "name": "c" }], "restartPolicy": "Never" });
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    json!({ "metadata": { "generation": 4 }, "spec": spec })
}

#[track_caller]
fn check_condition(status: &Value, kind: &str, expected: (&str, Value, Value)) {
    let conditions = status["conditions"].as_array().unwrap();
    let found = conditions
        .iter()
        .find(|condition| condition["type"] == kind)
        .unwrap();
    let found = (
        found["status"].as_str().unwrap(),
        found["reason"].clone(),
        found["message"].clone(),
    );
    assert_eq!(found, expected, "{kind}");
}

#[test]
fn a_running_container_is_shown_with_its_run() {
    let status = status_of(pod(json!({})), ran(None, true));
    assert_eq!(status["phase"], "Running");
    assert_eq!(
        status["containerStatuses"],
        json!([{
            "name": "c", "image": "host", "imageID": "", "containerID": "knarr://abc",
            "ready": true, "started": true, "restartCount": 2, "lastState": {},
            "state": { "running": { "startedAt": "2026-01-01T00:00:00Z" } },
        }])
    );
    assert_eq!(status["podIPs"], json!([{ "ip": "10.42.0.2" }]));
    assert_eq!(status["hostIP"], "192.168.7.1");
    check_condition(&status, "Ready", ("True", Value::Null, Value::Null));
}

#[test]
fn an_unready_container_is_named() {
    let status = status_of(pod(json!({})), ran(None, false));
    let message = json!("containers with unready status: [c]");
    check_condition(
        &status,
        "Ready",
        ("False", json!("ContainersNotReady"), message),
    );
}

#[test]
fn ends_have_kubernetes_reasons() {
    let check = |cause, exit_code, reason: &str, phase: &str| {
        let end = End {
            at_ns: NOW_NS,
            exit_code,
            signal: None,
            cause,
            message: String::new(),
        };
        let status = status_of(pod(json!({})), ran(Some(end), false));
        let state = &status["containerStatuses"][0]["state"]["terminated"];
        assert_eq!(
            (&state["reason"], &state["exitCode"]),
            (&json!(reason), &json!(exit_code))
        );
        assert_eq!(status["phase"], phase);
    };
    check(EndCause::Exited, 0, "Completed", "Succeeded");
    check(EndCause::Exited, 3, "Error", "Failed");
    check(EndCause::OutOfMemory, 137, "OOMKilled", "Failed");
    check(EndCause::StartFailed, 128, "StartError", "Failed");
}

#[test]
fn a_readiness_gate_holds_the_pod_back_but_not_its_containers() {
    let gated = pod(json!({ "readinessGates": [{ "conditionType": "example.com/up" }] }));
    let status = status_of(gated.clone(), ran(None, true));
    check_condition(
        &status,
        "ContainersReady",
        ("True", Value::Null, Value::Null),
    );
    let missing =
        "corresponding condition of pod readiness gate \"example.com/up\" does not exist.";
    check_condition(
        &status,
        "Ready",
        ("False", json!("ReadinessGatesNotReady"), json!(missing)),
    );
    let mut open = gated;
    open["status"] = json!({ "conditions": [{ "type": "example.com/up", "status": "True" }] });
    check_condition(
        &status_of(open, ran(None, true)),
        "Ready",
        ("True", Value::Null, Value::Null),
    );
}

#[test]
fn a_condition_that_stays_keeps_its_time() {
    let mut known = pod(json!({}));
    known["status"] = json!({ "conditions": [
        { "type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z" },
        { "type": "ContainersReady", "status": "False", "lastTransitionTime": "2025-01-01T00:00:00Z" },
    ]});
    let status = status_of(known, ran(None, true));
    let since = |kind: &str| {
        let conditions = status["conditions"].as_array().unwrap();
        conditions.iter().find(|one| one["type"] == kind).unwrap()["lastTransitionTime"].clone()
    };
    assert_eq!(since("Ready"), "2025-01-01T00:00:00Z");
    assert_eq!(since("ContainersReady"), "2026-01-01T00:00:00Z");
}
