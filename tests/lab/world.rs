//! The lab: client, router and nodes out of network namespaces, with the real binary on every node.
//!
//! ```text
//!   client 10.78.0.2 ── 10.78.0.1 router 10.77.0.1 ─┬─ 10.77.0.11 node-1 (`knarr up`)
//!                                                   └─ 10.77.0.12 node-2 (`knarr agent`)
//! ```
//!
//! In IPv6 every machine has the same number in `fd64::/96`. With [`Layout::Apart`] the router stands between the nodes
//! too: node-2 is 10.79.0.12 then.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use nix::sys::signal::Signal;

use super::{
    family::{Family, Stack},
    machine::{Layout, Machine},
    netns::Netns,
    probe::{self, Outcome, Protocol},
    wait,
};

const START_TIME_MAX: Duration = Duration::from_secs(30);

/// Load-balancer addresses on the nodes' own link, so that the router has to ask for them by ARP.
pub(crate) const LB_POOL: &str = "10.77.0.200-10.77.0.219";
const LB_POOL_V6: &str = "fd64::10.77.0.200-fd64::10.77.0.219";
/// Addresses that somebody else routes to node-1.
const EXTERNAL_IPS: &str = "198.51.100.0";
const CLIENT_IP: &str = "10.78.0.2";

pub(crate) struct World {
    stack: Stack,
    pub(crate) nodes: Vec<Machine>,
    /// Machines on the nodes' link that are no nodes.
    pub(crate) fronts: Vec<Machine>,
    pub(crate) client: Netns,
    pub(crate) router: Netns,
    pub(super) scratch: PathBuf,
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
            let (ip, net) = (family.ip(), |address| family.net_text(address));
            let node = family.text("10.77.0.11");
            router.sh(&format!("{ip} addr add {} dev lan", net("10.77.0.1")));
            router.sh(&format!("{ip} addr add {} dev to-client", net("10.78.0.1")));
            router.sh(&format!(
                "{ip} route add {} via {node} onlink dev lan",
                net(EXTERNAL_IPS)
            ));
            client.sh(&format!("{ip} addr add {} dev eth0", net(CLIENT_IP)));
            let gateway = family.text("10.78.0.1");
            client.sh(&format!("{ip} route add default via {gateway}"));
        }
        let nodes = (1..=node_count)
            .map(|number| {
                Machine::new(
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
        family.text(CLIENT_IP)
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
        let front = Machine::new(
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
