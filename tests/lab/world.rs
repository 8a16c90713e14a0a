//! The lab: client, router and nodes out of network namespaces, with the real binary on every node.
//!
//! ```text
//!   client 10.78.0.2 ── 10.78.0.1 router 10.77.0.1 ─┬─ 10.77.0.11 node-1 (`knarr up`)
//!                                                   └─ 10.77.0.12 node-2 (`knarr agent`)
//! ```
//!
//! In IPv6 every machine has the same number in `fd64::/96`. With [`Layout::Apart`] the router stands between the nodes
//! too: node-2 is 10.79.0.12 then.

use std::{
    cell::RefCell,
    fs::File,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use http_body_util::BodyExt;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use super::{
    family::{Family, Stack},
    netns::Netns,
    probe::{self, Outcome, Protocol},
    wait,
};

const KNARR: &str = env!("CARGO_BIN_EXE_knarr");
const START_TIME_MAX: Duration = Duration::from_secs(30);
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// Load-balancer addresses on the nodes' own link, so that the router has to ask for them by ARP.
pub(crate) const LB_POOL: &str = "10.77.0.200-10.77.0.219";
const LB_POOL_V6: &str = "fd64::10.77.0.200-fd64::10.77.0.219";
/// Addresses that somebody else routes to node-1.
const EXTERNAL_IPS: &str = "198.51.100.0";
const CLIENT_IP: &str = "10.78.0.2";

/// The address of a machine or range of the lab, as `ip` reads it.
fn in_family(family: Family, address: &str) -> String {
    let address: IpAddr = address.parse().expect("an address");
    family.address(address).to_string()
}

fn net_in_family(family: Family, address: &str) -> String {
    let prefix = match family {
        Family::V4 => 24,
        Family::V6 => 120,
    };
    format!("{}/{prefix}", in_family(family, address))
}

/// `ip -4` or `ip -6`.
fn ip_of(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip -4",
        Family::V6 => "ip -6",
    }
}

/// How the nodes are cabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// On one link.
    OneLink,
    /// Each behind the router, on a link of its own.
    Apart,
}

pub(crate) struct World {
    stack: Stack,
    pub(crate) nodes: Vec<Node>,
    /// Machines on the nodes' link that are no nodes.
    pub(crate) fronts: Vec<Node>,
    pub(crate) client: Netns,
    pub(crate) router: Netns,
    scratch: PathBuf,
}

/// A machine that runs knarr.
pub(crate) struct Node {
    pub(crate) netns: Netns,
    /// In the first family that the machine has.
    pub(crate) ip: String,
    v4: String,
    dir: PathBuf,
    process: Option<Child>,
}

impl World {
    /// Machines and cables; nothing runs yet.
    pub(crate) fn new(node_count: usize) -> Self {
        World::with(Layout::OneLink, Stack::V4, node_count)
    }

    /// The same, with addresses of those families only.
    pub(crate) fn with(layout: Layout, stack: Stack, node_count: usize) -> Self {
        let scratch = scratch_dir();
        let router = Netns::new("router");
        let client = Netns::new("client");
        router.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        router.sh("ip link add lan type bridge");
        router.sh("ip link set lan up");
        router.cable("to-client", &client, "eth0");
        for family in stack.families() {
            let (ip, net) = (ip_of(*family), |address| net_in_family(*family, address));
            let node = in_family(*family, "10.77.0.11");
            router.sh(&format!("{ip} addr add {} dev lan", net("10.77.0.1")));
            router.sh(&format!("{ip} addr add {} dev to-client", net("10.78.0.1")));
            router.sh(&format!(
                "{ip} route add {} via {node} onlink dev lan",
                net(EXTERNAL_IPS)
            ));
            client.sh(&format!("{ip} addr add {} dev eth0", net(CLIENT_IP)));
            let gateway = in_family(*family, "10.78.0.1");
            client.sh(&format!("{ip} route add default via {gateway}"));
        }
        let nodes = (1..=node_count)
            .map(|number| {
                Node::new(
                    layout,
                    stack,
                    &format!("node-{number}"),
                    number,
                    &router,
                    &scratch,
                )
            })
            .collect();
        World {
            stack,
            nodes,
            fronts: Vec::new(),
            client,
            router,
            scratch,
        }
    }

    /// The same, with knarr running on every node and the cluster ready.
    pub(crate) fn running(node_count: usize) -> Self {
        World::running_with(Stack::V4, node_count)
    }

    /// The same, of those families only.
    pub(crate) fn running_with(stack: Stack, node_count: usize) -> Self {
        let mut world = World::with(Layout::OneLink, stack, node_count);
        world.start();
        world
    }

    /// Starts knarr on every node and waits until the cluster is ready.
    pub(crate) fn start(&mut self) {
        let pool = match self.stack {
            Stack::V4 => LB_POOL.to_owned(),
            Stack::V6 => LB_POOL_V6.to_owned(),
            Stack::Dual => format!("{LB_POOL},{LB_POOL_V6}"),
        };
        // Those of IPv4 are the defaults.
        let ranges: &[&str] = match self.stack {
            Stack::V4 => &[],
            Stack::V6 => &["--service-cidr", "fd64::10.0.128.0/113"],
            Stack::Dual => &["--service-cidr", "10.0.128.0/17,fd64::10.0.128.0/113"],
        };
        self.nodes[0].start(&[&["up", "--lb-pool", &pool], ranges].concat());
        self.wait_for_api();
        for index in 1..self.nodes.len() {
            self.start_agent(index);
        }
        self.wait_for_nodes();
    }

    /// The client's address in a family that the lab has.
    pub(crate) fn client_ip(family: Family) -> String {
        in_family(family, CLIENT_IP)
    }

    pub(crate) fn families(&self) -> &'static [Family] {
        self.stack.families()
    }

    /// A copy of the administrator's kubeconfig for machines beside the first.
    pub(crate) fn kubeconfig_for_others(&self) -> String {
        let own = self.nodes[0].data_dir().join("kubeconfig.yaml");
        let text = std::fs::read_to_string(own).expect("a kubeconfig");
        let server = SocketAddr::new(self.nodes[0].address(), 6443).to_string();
        let path = self.scratch.join("kubeconfig.yaml");
        std::fs::write(&path, text.replace("127.0.0.1:6443", &server)).expect("a file");
        path.to_string_lossy().into_owned()
    }

    /// Starts, or starts again, what a node beside the first runs.
    pub(crate) fn start_agent(&mut self, index: usize) {
        let [server, token] = self.server_and_token();
        self.nodes[index].start(&["agent", "--server", &server, "--token", &token]);
    }

    /// Adds a machine on the nodes' link; nothing runs on it yet.
    pub(crate) fn add_front(&mut self) {
        let number = self.fronts.len() + 1;
        let name = format!("front-{number}");
        let front = Node::new(
            Layout::OneLink,
            self.stack,
            &name,
            10 + number,
            &self.router,
            &self.scratch,
        );
        self.fronts.push(front);
    }

    pub(crate) fn start_front(&mut self, index: usize) {
        let [server, token] = self.server_and_token();
        self.fronts[index].start(&["front", "--server", &server, "--token", &token]);
    }

    fn server_and_token(&self) -> [String; 2] {
        let token = self.nodes[0].knarr(&["token"]);
        let server = format!("https://{}", SocketAddr::new(self.nodes[0].address(), 6443));
        [server, token.trim().to_owned()]
    }

    pub(crate) fn wait_for_api(&self) {
        wait::until("the API answers", START_TIME_MAX, || {
            let answer = self.try_kubectl(&["get", "--raw", "/readyz"]);
            if answer.status.success() {
                Ok(())
            } else {
                Err(self.nodes[0].log_tail())
            }
        });
    }

    pub(crate) fn wait_for_nodes(&self) {
        let wanted = vec!["True"; self.nodes.len()].join(" ");
        let path = r#"jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}"#;
        wait::until("every node is ready", START_TIME_MAX, || {
            let ready = self.try_kubectl(&["get", "nodes", "-o", path]);
            let ready = String::from_utf8_lossy(&ready.stdout).into_owned();
            if ready == wanted {
                Ok(())
            } else {
                Err((ready, self.logs()))
            }
        });
    }

    /// Runs the real kubectl on node-1 as administrator, and demands that it succeeds.
    pub(crate) fn kubectl(&self, args: &[&str]) -> String {
        let output = self.try_kubectl(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "kubectl {args:?}: {}\n{}",
            text(&output.stderr),
            self.logs()
        );
        text(&output.stdout)
    }

    pub(crate) fn try_kubectl(&self, args: &[&str]) -> Output {
        self.nodes[0].netns.output(self.kubectl_command(args))
    }

    pub(crate) fn kubectl_command(&self, args: &[&str]) -> Command {
        let node = &self.nodes[0];
        let mut command = Command::new("kubectl");
        command
            .args(args)
            .env("KUBECONFIG", node.data_dir().join("kubeconfig.yaml"))
            .env("HOME", &node.dir);
        command
    }

    /// The file that names a pod's network namespace, on whichever node it runs.
    pub(crate) fn pod_netns(&self, pod: &str) -> PathBuf {
        let uid = self.kubectl(&["get", "pod", pod, "-o", "jsonpath={.metadata.uid}"]);
        let mut candidates = self
            .nodes
            .iter()
            .map(|node| node.run_dir().join("netns").join(&uid));
        candidates
            .find(|path| path.exists())
            .unwrap_or_else(|| panic!("no node runs {pod} ({uid})"))
    }

    pub(crate) fn apply(&self, manifest: &str) {
        let file = self.scratch.join("manifest.yaml");
        std::fs::write(&file, manifest).expect("a manifest");
        self.kubectl(&["apply", "-f", &file.to_string_lossy()]);
    }

    /// One request to the API from node-1, without a kubectl to start.
    fn call(&self, method: &str, path: &str, content_type: &str, body: Vec<u8>) -> Value {
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content_type)
            .body(kube::client::Body::from(body))
            .expect("a request");
        let kubeconfig = self.nodes[0].data_dir().join("kubeconfig.yaml");
        let (status, bytes) = self.nodes[0].netns.run(move || {
            with_client(&kubeconfig, async |client| {
                let answer = client.send(request).await.expect("an answer");
                let status = answer.status();
                (
                    status,
                    answer
                        .into_body()
                        .collect()
                        .await
                        .expect("a whole answer")
                        .to_bytes(),
                )
            })
        });
        let text = String::from_utf8_lossy(&bytes);
        assert!(status.is_success(), "{method} {path}: {status} {text}");
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{method} {path}: {text}"))
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.call("GET", path, "application/json", Vec::new())
    }

    pub(crate) fn post(&self, path: &str, object: &Value) -> Value {
        self.call(
            "POST",
            path,
            "application/json",
            object.to_string().into_bytes(),
        )
    }

    pub(crate) fn merge(&self, path: &str, patch: &Value) -> Value {
        self.call(
            "PATCH",
            path,
            "application/merge-patch+json",
            patch.to_string().into_bytes(),
        )
    }

    pub(crate) fn delete(&self, path: &str) -> Value {
        self.call("DELETE", path, "application/json", Vec::new())
    }

    /// Waits until somebody answers TCP at `to`, asked from node-1.
    pub(crate) fn wait_for_answer(&self, to: &str) {
        let to: SocketAddr = to.parse().expect("an address");
        wait::until("an answer", START_TIME_MAX, || {
            match self.nodes[0]
                .netns
                .run(move || probe::ask(Protocol::Tcp, to))
            {
                Outcome::Answered { .. } => Ok(()),
                other => Err((other, self.logs())),
            }
        });
    }

    pub(crate) fn logs(&self) -> String {
        let machines = self.nodes.iter().chain(&self.fronts);
        machines
            .map(|node| format!("--- {}\n{}", node.netns.name, node.log_tail()))
            .collect()
    }
}

impl Node {
    fn new(
        layout: Layout,
        stack: Stack,
        name: &str,
        number: usize,
        router: &Netns,
        scratch: &Path,
    ) -> Self {
        let netns = Netns::new(name);
        let cable = format!("to-{name}");
        router.cable(&cable, &netns, "eth0");
        let link = match layout {
            Layout::OneLink => 77,
            Layout::Apart => 75 + 2 * number,
        };
        let (v4, gateway) = (
            format!("10.{link}.0.{}", 10 + number),
            format!("10.{link}.0.1"),
        );
        if link == 77 {
            router.sh(&format!("ip link set {cable} master lan"));
        }
        for family in stack.families() {
            let ip = ip_of(*family);
            if link != 77 {
                let own = net_in_family(*family, &gateway);
                router.sh(&format!("{ip} addr add {own} dev {cable}"));
            }
            let gateway = in_family(*family, &gateway);
            let own = net_in_family(*family, &v4);
            netns.sh(&format!("{ip} addr add {own} dev eth0"));
            netns.sh(&format!("{ip} route add default via {gateway}"));
        }
        let dir = scratch.join(&netns.name);
        std::fs::create_dir_all(&dir).expect("a folder for the node");
        Node {
            netns,
            ip: in_family(stack.families()[0], &v4),
            v4,
            dir,
            process: None,
        }
    }

    fn address(&self) -> IpAddr {
        self.ip.parse().expect("an address")
    }

    /// The address of its link, as neighbours see it.
    pub(crate) fn mac(&self) -> String {
        let link = self.netns.sh("ip -o link show dev eth0");
        let mut words = link
            .split_whitespace()
            .skip_while(|word| *word != "link/ether");
        words.nth(1).expect("an Ethernet link").to_owned()
    }

    /// Its address on the nodes' link, in a family that the lab has.
    pub(crate) fn ip_in(&self, family: Family) -> String {
        in_family(family, &self.v4)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The binary with this node's directories; output is the caller's to direct.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(KNARR);
        command
            .args(args)
            .env("KNARR_DATA_DIR", self.data_dir())
            .env("KNARR_RUN_DIR", self.run_dir());
        command
            .env("KNARR_NODE_NAME", &self.netns.name)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    /// Starts a long-running command; it talks into the node's log.
    pub(crate) fn start(&mut self, args: &[&str]) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("a log file");
        let mut command = self.command(args);
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        self.process = Some(self.netns.spawn(command));
    }

    /// Runs a short command to its end and gives its output.
    pub(crate) fn knarr(&self, args: &[&str]) -> String {
        let output = self.try_knarr(args);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "knarr {args:?}: {}",
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    pub(crate) fn try_knarr(&self, args: &[&str]) -> Output {
        self.netns.output(self.command(args))
    }

    /// Ends the running command with a signal and waits for it.
    pub(crate) fn stop(&mut self, signal: Signal) {
        let Some(mut process) = self.process.take() else {
            return;
        };
        let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
        kill(pid, signal).expect("it runs");
        let ended = wait::poll(STOP_TIME_MAX, || {
            process.try_wait().expect("our child").is_some()
        });
        if !ended {
            let _it_may_end_meanwhile = process.kill();
            let _reaped = process.wait();
            assert!(
                std::thread::panicking(),
                "{}: did not stop after {signal}: {}",
                self.netns.name,
                self.log_tail()
            );
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("knarr runs").id()
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process
            .as_mut()
            .is_some_and(|process| process.try_wait().expect("our child").is_none())
    }

    fn log_path(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let machines = self.nodes.iter_mut().chain(&mut self.fronts);
        for node in machines.rev() {
            node.stop(Signal::SIGTERM);
            let down = node.try_knarr(&["down"]);
            if !down.status.success() && !std::thread::panicking() {
                panic!(
                    "{}: knarr down: {}",
                    node.netns.name,
                    String::from_utf8_lossy(&down.stderr)
                );
            }
        }
        let _the_next_run_has_its_own = std::fs::remove_dir_all(&self.scratch);
    }
}

fn scratch_dir() -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "knarr-lab-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    std::fs::create_dir_all(&path).expect("a scratch folder");
    path
}

thread_local! {
    /// Of the machine whose thread this is; a connection is opened once and kept.
    static CLIENT: RefCell<Option<(PathBuf, tokio::runtime::Runtime, kube::Client)>> = const { RefCell::new(None) };
}

/// Runs `ask` with this machine's own client.
pub(crate) fn with_client<T>(kubeconfig: &Path, ask: impl AsyncFnOnce(&kube::Client) -> T) -> T {
    CLIENT.with_borrow_mut(|kept| {
        let fits = kept.as_ref().is_some_and(|(path, ..)| path == kubeconfig);
        if !fits {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            let client = runtime.block_on(client(kubeconfig));
            *kept = Some((kubeconfig.to_owned(), runtime, client));
        }
        let (_, runtime, client) = kept.as_ref().expect("just made");
        runtime.block_on(ask(client))
    })
}

/// A client of the administrator's; to be made inside the node's namespace.
pub(crate) async fn client(kubeconfig: &Path) -> kube::Client {
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("a kubeconfig");
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    kube::Client::try_from(config.expect("a usable kubeconfig")).expect("a client")
}

/// Ends a process in good order.
pub(crate) fn terminate(process: &mut Child) {
    let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("it runs");
    process.wait().expect("our child");
}
