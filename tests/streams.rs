//! Streams through the API server to a pod's processes, as kubectl and kube-rs open them.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::{wait, world::World};

const TIME_MAX: Duration = Duration::from_secs(20);
const STDIN_BYTES: usize = 3 << 20;
const STDOUT_BYTES: usize = 50_000_000;

const PODS: &str = r#"
apiVersion: v1
kind: Pod
metadata: { name: echo }
spec:
  containers:
    - name: echo
      command: [python3, -c]
      args:
        - |
          import socketserver, sys
          class Echo(socketserver.BaseRequestHandler):
              def handle(self):
                  while data := self.request.recv(65536):
                      self.request.sendall(data)
          socketserver.ThreadingTCPServer.daemon_threads = True
          server = socketserver.ThreadingTCPServer(("127.0.0.1", 7000), Echo)
          print("listening", flush=True)
          server.serve_forever()
---
apiVersion: v1
kind: Pod
metadata: { name: sum }
spec:
  restartPolicy: Never
  containers:
    - { name: sum, stdin: true, stdinOnce: true, command: [sh, -c, "echo begin; sleep 0.5; sha256sum"] }
"#;

fn world() -> World {
    let world = World::running(1);
    world.apply(PODS);
    world.kubectl(&[
        "wait",
        "--for=condition=Ready",
        "pod/echo",
        "pod/sum",
        "--timeout=30s",
    ]);
    wait::until("the echo server listens", TIME_MAX, || {
        let log = world.kubectl(&["logs", "echo"]);
        if log == "listening\n" {
            Ok(())
        } else {
            Err(log)
        }
    });
    world
}

/// Bytes in which nothing repeats soon.
fn noise(length: usize) -> Vec<u8> {
    let step = |state: &mut u32| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        Some((*state >> 24) as u8)
    };
    std::iter::successors(Some(()), |()| Some(()))
        .scan(7_u32, |state, ()| step(state))
        .take(length)
        .collect()
}

fn kubectl_with_stdin(world: &World, args: &[&str], stdin: Vec<u8>) -> Output {
    run_with_stdin(world, world.kubectl_command(args), stdin)
}

fn run_with_stdin(world: &World, mut command: Command, stdin: Vec<u8>) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut process = world.nodes[0].netns.spawn(command);
    let mut pipe = process.stdin.take().expect("a pipe");
    let writer = std::thread::spawn(move || {
        let _kubectl_may_end_first = pipe.write_all(&stdin);
    });
    let output = process.wait_with_output().expect("kubectl ends");
    writer.join().expect("all is written");
    output
}

fn exec_is_byte_exact(world: &World) {
    let sent = noise(STDIN_BYTES);
    let answer = kubectl_with_stdin(world, &["exec", "-i", "echo", "--", "cat"], sent.clone());
    assert!(
        answer.stdout == sent,
        "{} bytes came back",
        answer.stdout.len()
    );
    let count = STDOUT_BYTES.to_string();
    let zeros = world.try_kubectl(&["exec", "echo", "--", "head", "-c", &count, "/dev/zero"]);
    assert_eq!(zeros.stdout.len(), STDOUT_BYTES);
    let script = "echo out; echo err >&2; exit 7";
    let failed = world.try_kubectl(&["exec", "echo", "--", "sh", "-c", script]);
    assert_eq!(failed.status.code(), Some(7));
    assert_eq!(failed.stdout, b"out\n");
    let stderr = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(stderr, "err\ncommand terminated with exit code 7\n");
}

fn an_exec_ends_with_its_client(world: &World) {
    let runs = |world: &World| {
        let found = world.try_kubectl(&["exec", "echo", "--", "pgrep", "-f", "^sleep 4321"]);
        found.status.success()
    };
    let command = world.kubectl_command(&["exec", "echo", "--", "sleep", "4321"]);
    let mut process = world.nodes[0].netns.spawn(command);
    wait::until("the process runs", TIME_MAX, || {
        runs(world).then_some(()).ok_or("it does not")
    });
    let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
    kill(pid, Signal::SIGKILL).expect("kubectl runs");
    process.wait().expect("kubectl is reaped");
    wait::until("the process is killed", TIME_MAX, || {
        (!runs(world)).then_some(()).ok_or("it runs")
    });
}

fn attach_reaches_stdin_and_a_followed_log_ends(world: &World) {
    let mut command = world.kubectl_command(&["logs", "-f", "sum"]);
    command.stdout(Stdio::piped());
    let follower = world.nodes[0].netns.spawn(command);
    let sent = noise(STDIN_BYTES);
    let local = kubectl_with_stdin(
        world,
        &["exec", "-i", "echo", "--", "sha256sum"],
        sent.clone(),
    );
    let sum = String::from_utf8_lossy(&local.stdout).into_owned();
    let attached = kubectl_with_stdin(world, &["attach", "-i", "sum"], sent);
    assert!(attached.status.success(), "{attached:?}");
    let followed = follower.wait_with_output().expect("the follower ends");
    let followed = String::from_utf8_lossy(&followed.stdout).into_owned();
    assert_eq!(followed, format!("begin\n{sum}"));
    assert_eq!(world.kubectl(&["logs", "sum", "--tail=1"]), sum);
}

/// Sends noise and takes it back at the same time.
fn echo_over_tcp(to: SocketAddr) {
    let sent = noise(STDIN_BYTES);
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(TIME_MAX)).expect("a limit");
    let mut writer = stream.try_clone().expect("a second handle");
    let to_send = sent.clone();
    let sending = std::thread::spawn(move || {
        writer.write_all(&to_send).expect("all is sent");
        writer
            .shutdown(std::net::Shutdown::Write)
            .expect("the end is sent");
    });
    let mut taken = Vec::new();
    stream.read_to_end(&mut taken).expect("all comes back");
    sending.join().expect("all is sent");
    assert!(taken == sent, "{} bytes came back", taken.len());
}

fn kubectl_forwards_many_connections(world: &World) {
    let command = world.kubectl_command(&["port-forward", "pod/echo", "17000:7000"]);
    forward_many_connections(world, command);
}

fn forward_many_connections(world: &World, mut command: Command) {
    command.stdout(Stdio::null());
    let mut forwarder = world.nodes[0].netns.spawn(command);
    let to: SocketAddr = ([127, 0, 0, 1], 17000).into();
    let netns = &world.nodes[0].netns;
    wait::until("the port is forwarded", TIME_MAX, || {
        netns.run(move || TcpStream::connect(to).map(drop))
    });
    netns.run(move || {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(move || echo_over_tcp(to));
            }
        });
    });
    forwarder.kill().expect("kubectl runs");
    forwarder.wait().expect("kubectl is reaped");
}

/// As kubectl does before 1.31, and when it is told to.
fn older_clients_speak_spdy(world: &World) {
    let command = |args: &[&str]| {
        let mut command = world.kubectl_command(args);
        command
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false")
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", "false");
        command
    };
    let sent = noise(STDIN_BYTES);
    let answer = run_with_stdin(
        world,
        command(&["exec", "-i", "echo", "--", "cat"]),
        sent.clone(),
    );
    assert!(
        answer.stdout == sent,
        "{} bytes came back",
        answer.stdout.len()
    );
    let script = "echo out; echo err >&2; exit 7";
    let failed = run_with_stdin(
        world,
        command(&["exec", "echo", "--", "sh", "-c", script]),
        Vec::new(),
    );
    assert_eq!(failed.status.code(), Some(7));
    assert_eq!(failed.stdout, b"out\n");
    let stderr = String::from_utf8_lossy(&failed.stderr);
    assert_eq!(stderr, "err\ncommand terminated with exit code 7\n");
    forward_many_connections(world, command(&["port-forward", "pod/echo", "17000:7000"]));
}

fn kube_rs_forwards_over_channels(kubeconfig: &Path, world: &World) {
    let kubeconfig = kubeconfig.to_owned();
    world.nodes[0].netns.run(move || {
        crate::lab::client::with_client(&kubeconfig, async |client| {
            let pods = Api::<Pod>::namespaced(client.clone(), "default");
            let mut forwarder = pods.portforward("echo", &[7000]).await.expect("a port");
            let mut stream = forwarder.take_stream(7000).expect("its stream");
            let sent = noise(100_000);
            stream.write_all(&sent).await.expect("it is sent");
            let mut taken = vec![0; sent.len()];
            stream.read_exact(&mut taken).await.expect("it comes back");
            assert!(taken == sent);
        });
    });
}

#[test]
fn streams_reach_pods_byte_for_byte() {
    let world = world();
    exec_is_byte_exact(&world);
    an_exec_ends_with_its_client(&world);
    attach_reaches_stdin_and_a_followed_log_ends(&world);
    kubectl_forwards_many_connections(&world);
    older_clients_speak_spdy(&world);
    kube_rs_forwards_over_channels(&world.nodes[0].data_dir().join("kubeconfig.yaml"), &world);
}
