//! Pods as their owners see them: how they start, end, are adopted and are told of changes.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::lab::{wait, world::World};

const READY_TIME_MAX: Duration = Duration::from_secs(30);
const REFRESH_TIME_MAX: Duration = Duration::from_secs(60);

fn pod(world: &World, name: &str, path: &str) -> String {
    world.kubectl(&["get", "pod", name, "-o", &format!("jsonpath={{{path}}}")])
}

fn wait_for(world: &World, condition: &str, pods: &str) {
    world.kubectl(&["wait", &format!("--for={condition}"), pods, "--timeout=30s"]);
}

#[test]
fn init_containers_come_first_and_a_sidecar_outlives_the_others() {
    let world = World::running(1);
    world.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: ordered }
spec:
  restartPolicy: Never
  volumes: [{ name: notes, emptyDir: {} }]
  initContainers:
  - { name: first, command: [sh, -c, "echo first >> /notes/log"], volumeMounts: [{ name: notes, mountPath: /notes }] }
  - { name: side, restartPolicy: Always, command: [sh, -c, "echo side >> /notes/log; exec sleep infinity"], volumeMounts: [{ name: notes, mountPath: /notes }] }
  - { name: second, command: [sh, -c, "until grep -q side /notes/log; do sleep 0.1; done; echo second >> /notes/log"], volumeMounts: [{ name: notes, mountPath: /notes }] }
  containers:
  - { name: main, command: [sh, -c, "echo main >> /notes/log; cat /notes/log"], volumeMounts: [{ name: notes, mountPath: /notes }] }
"#,
    );
    wait_for(&world, "jsonpath={.status.phase}=Succeeded", "pod/ordered");
    assert_eq!(
        world.kubectl(&["logs", "ordered", "-c", "main"]),
        "first\nside\nsecond\nmain\n"
    );
}

#[test]
fn a_deleted_pod_gets_its_hook_and_its_grace_and_ends_with_its_own_exit_code() {
    let world = World::running(1);
    world.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: polite, finalizers: [lab.example/watch] }
spec:
  terminationGracePeriodSeconds: 20
  volumes: [{ name: notes, emptyDir: {} }]
  containers:
  - name: main
    command: [sh, -c, "trap 'test -e /notes/hook; exit $?' TERM; while :; do sleep 0.05; done"]
    volumeMounts: [{ name: notes, mountPath: /notes }]
    lifecycle: { preStop: { exec: { command: [touch, /notes/hook] } } }
"#,
    );
    wait_for(&world, "condition=Ready", "pod/polite");
    world.kubectl(&["delete", "pod", "polite", "--wait=false"]);
    wait_for(&world, "jsonpath={.status.phase}=Succeeded", "pod/polite");
    let code = pod(
        &world,
        "polite",
        ".status.containerStatuses[0].state.terminated.exitCode",
    );
    assert_eq!(code, "0");
    world.kubectl(&[
        "patch",
        "pod",
        "polite",
        "--type=merge",
        "-p",
        r#"{"metadata":{"finalizers":null}}"#,
    ]);
}

#[test]
fn many_pods_end_together_and_leave_nothing_behind() {
    let world = World::running(1);
    world.apply(
        r#"
apiVersion: apps/v1
kind: ReplicaSet
metadata: { name: crowd }
spec:
  replicas: 20
  selector: { matchLabels: { app: crowd } }
  template:
    metadata: { labels: { app: crowd } }
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{ name: main, command: [sleep, infinity] }]
"#,
    );
    wait_for(&world, "jsonpath={.status.readyReplicas}=20", "rs/crowd");
    let start = Instant::now();
    world.kubectl(&["delete", "rs", "crowd"]);
    wait::until("every pod is gone", READY_TIME_MAX, || {
        let left = world.kubectl(&["get", "pods", "-o", "name"]);
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    eprintln!("20 pods were gone after {:?}", start.elapsed());
    wait::until("every veth is gone", READY_TIME_MAX, || {
        let left = world.nodes[0].netns.sh("ip -o link show type veth");
        if left.contains(": kn") {
            Err(left)
        } else {
            Ok(())
        }
    });
}

#[test]
fn a_killed_agent_finds_its_pods_running() {
    let mut world = World::running(2);
    world.apply(
        r#"
apiVersion: v1
kind: Pod
metadata: { name: steady }
spec:
  nodeName: node-2
  containers: [{ name: main, command: [sh, -c, "echo up $$; while :; do sleep 0.1; done"] }]
"#,
    );
    wait_for(&world, "condition=Ready", "pod/steady");
    let before = pod(&world, "steady", ".status.containerStatuses[0].containerID");
    let token = world.nodes[0].knarr(&["token"]);
    let server = format!("https://{}:6443", world.nodes[0].ip);
    world.nodes[1].stop(Signal::SIGKILL);
    world.nodes[1].start(&["agent", "--server", &server, "--token", token.trim()]);
    wait::until(
        "the agent answers for its pod again",
        READY_TIME_MAX,
        || {
            let answer = world.try_kubectl(&["exec", "steady", "--", "true"]);
            if answer.status.success() {
                Ok(())
            } else {
                Err(String::from_utf8_lossy(&answer.stderr).into_owned())
            }
        },
    );
    assert_eq!(
        pod(&world, "steady", ".status.containerStatuses[0].containerID"),
        before
    );
    assert_eq!(
        pod(
            &world,
            "steady",
            ".status.containerStatuses[0].restartCount"
        ),
        "0"
    );
    world.kubectl(&["delete", "pod", "steady"]);
}

#[test]
fn a_mounted_config_map_follows_its_object() {
    let world = World::running(1);
    world.apply(
        r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: settings }
data: { colour: blue }
---
apiVersion: v1
kind: Pod
metadata: { name: reader }
spec:
  volumes: [{ name: settings, configMap: { name: settings } }]
  containers: [{ name: main, command: [sleep, infinity], volumeMounts: [{ name: settings, mountPath: /settings }] }]
"#,
    );
    wait_for(&world, "condition=Ready", "pod/reader");
    let read = || world.kubectl(&["exec", "reader", "--", "cat", "/settings/colour"]);
    assert_eq!(read(), "blue");
    world.kubectl(&[
        "patch",
        "configmap",
        "settings",
        "--type=merge",
        "-p",
        r#"{"data":{"colour":"green"}}"#,
    ]);
    wait::until("the file follows", REFRESH_TIME_MAX, || {
        match read().as_str() {
            "green" => Ok(()),
            other => Err(other.to_owned()),
        }
    });
}
