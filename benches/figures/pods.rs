//! From a manifest to a running process and to the first answer.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::{
    Row, Samples,
    lab::{
        probe::{self, Outcome, Protocol},
        wait,
        world::World,
    },
    show,
};

const ROUNDS: usize = 25;
const SCALES: usize = 5;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(20);

pub(crate) fn measure() -> Vec<Row> {
    let world = World::running(1);
    let stamp = world.nodes[0].run_dir().with_file_name("stamp");
    let running = Samples::new(
        (0..ROUNDS)
            .map(|round| create_to_process(&world, &stamp, round))
            .collect(),
    );
    let floor = Samples::take(ROUNDS, || bare_process(&stamp));

    world.apply("{apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 10.0.128.77, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}}");
    let answer = Samples::new(
        (0..ROUNDS)
            .map(|round| create_to_answer(&world, round))
            .collect(),
    );
    let (up, many) = scale(&world);
    let crowd = Samples::take(SCALES, || bare_crowd(&stamp));
    let row = |what: &str, figure: String| Row {
        what: what.into(),
        figure,
        floor: show(floor.median()),
        floor_is: "the same namespaces, veth and exec without knarr",
    };
    vec![
        row("create → process running (p50 / p99)", running.show()),
        row(
            "create → first byte through the cluster IP (p50 / p99)",
            answer.show(),
        ),
        row(
            "scale 0 → 1 → first answer (median of 5)",
            show(up.median()),
        ),
        Row {
            floor: show(crowd.median()),
            floor_is: "20 times the same, two at a time",
            ..row("scale 1 → 21, all ready (median of 5)", show(many.median()))
        },
    ]
}

fn pod(name: &str, command: &[&str]) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "command": command}]}})
}

fn create_to_process(world: &World, stamp: &Path, round: usize) -> Duration {
    let _of_the_round_before = std::fs::remove_file(stamp);
    let script = format!(
        "date +%s%N > {0}.part; mv {0}.part {0}; exec sleep 1000",
        stamp.display()
    );
    let began = SystemTime::now();
    world.post(
        "/api/v1/namespaces/default/pods",
        &pod(&format!("stamp-{round}"), &["sh", "-c", &script]),
    );
    let took = stamped(stamp, began);
    world.delete(&format!("/api/v1/namespaces/default/pods/stamp-{round}"));
    took
}

fn stamped(stamp: &Path, began: SystemTime) -> Duration {
    let nanos: u64 = wait::until("the process runs", ANSWER_TIME_MAX, || {
        std::fs::read_to_string(stamp)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .ok_or("no stamp")
    });
    let began = began.duration_since(UNIX_EPOCH).expect("after 1970");
    Duration::from_nanos(nanos).saturating_sub(began)
}

/// The kernel's share: every namespace a pod has, a veth, and the exec.
fn bare_process(stamp: &Path) -> Duration {
    let _of_the_round_before = std::fs::remove_file(stamp);
    let stamp: PathBuf = stamp.to_owned();
    let began = SystemTime::now();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().expect("netlink");
            tokio::spawn(connection);
            let veth = rtnetlink::LinkVeth::new("knhost", "eth0").build();
            handle.link().add(veth).execute().await.expect("a veth");
        });
        let mut command = Command::new("sh");
        command.args([
            "-c",
            // The parentheses make the first child a shell: it is pid 1, and nothing can fork once that is gone.
            &format!(
                "(date +%s%N > {0}.part; mv {0}.part {0}); :",
                stamp.display()
            ),
        ]);
        // SAFETY: unshare is async-signal-safe and the closure touches nothing else.
        unsafe {
            command.pre_exec(|| {
                let all = CloneFlags::CLONE_NEWPID
                    | CloneFlags::CLONE_NEWNS
                    | CloneFlags::CLONE_NEWIPC
                    | CloneFlags::CLONE_NEWUTS;
                unshare(all).map_err(std::io::Error::from)
            });
        }
        assert!(command.status().expect("sh").success());
        stamped(&stamp, began)
    })
    .join()
    .expect("the floor was measured")
}

/// The floor of twenty pods: what one takes, on two threads.
fn bare_crowd(stamp: &Path) -> Duration {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for half in ["a", "b"] {
            let stamp = stamp.with_extension(half);
            scope.spawn(move || {
                for _ in 0..10 {
                    bare_process(&stamp);
                }
            });
        }
    });
    began.elapsed()
}

fn create_to_answer(world: &World, round: usize) -> Duration {
    let to: SocketAddr = "10.0.128.77:80".parse().expect("an address");
    let name = format!("web-{round}");
    let began = Instant::now();
    world.post(
        "/api/v1/namespaces/default/pods",
        &pod(&name, &["knarr", "echo", "--drain-ms", "0"]),
    );
    let took = first_answer(world, to, began);
    world.delete(&format!("/api/v1/namespaces/default/pods/{name}"));
    wait::until("nobody answers", ANSWER_TIME_MAX, || {
        match world.nodes[0]
            .netns
            .run(move || probe::ask(Protocol::Tcp, to))
        {
            Outcome::Answered { .. } => Err("still answered"),
            _ => Ok(()),
        }
    });
    took
}

/// Asks every millisecond: the kernel refuses no more often than that, and a refusal that is lost
/// would cost the second after which TCP tries again.
fn first_answer(world: &World, to: SocketAddr, began: Instant) -> Duration {
    world.nodes[0].netns.run(move || {
        while !is_answered(to) {
            assert!(began.elapsed() < ANSWER_TIME_MAX, "no answer from {to}");
            std::thread::sleep(Duration::from_millis(1));
        }
        began.elapsed()
    })
}

fn is_answered(to: SocketAddr) -> bool {
    let ask = || -> std::io::Result<usize> {
        let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(20))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")?;
        stream.read(&mut [0; 256])
    };
    ask().is_ok_and(|length| length > 0)
}

fn scale(world: &World) -> (Samples, Samples) {
    world.apply(
        "{apiVersion: apps/v1, kind: Deployment, metadata: {name: many}, spec: {replicas: 0, selector: {matchLabels: {app: web}}, \
         template: {metadata: {labels: {app: web}}, spec: {terminationGracePeriodSeconds: 0, containers: [{name: c, command: [knarr, echo, --drain-ms, '0']}]}}}}",
    );
    let deployment = "/apis/apps/v1/namespaces/default/deployments/many";
    let set = |count: u32| {
        world.merge(
            &format!("{deployment}/scale"),
            &json!({"spec": {"replicas": count}}),
        )
    };
    let ready = |count: u64| {
        wait::until("every replica is ready", ANSWER_TIME_MAX, || {
            let status = &world.get(deployment)["status"];
            let now = status["readyReplicas"].as_u64().unwrap_or(0);
            if now == count && status["replicas"].as_u64().unwrap_or(0) == count {
                Ok(())
            } else {
                Err(status.clone())
            }
        });
    };
    let (mut ups, mut manies) = (Vec::new(), Vec::new());
    for _ in 0..SCALES {
        let began = Instant::now();
        set(1);
        ups.push(first_answer(
            world,
            "10.0.128.77:80".parse().expect("an address"),
            began,
        ));
        ready(1);
        let began = Instant::now();
        set(21);
        ready(21);
        manies.push(began.elapsed());
        set(0);
        ready(0);
    }
    (Samples::new(ups), Samples::new(manies))
}
