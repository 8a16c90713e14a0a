//! One machine of the lab: its cable, its folders, and the real binary that runs on it. Knows no cluster.

use std::{
    fs::File,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    family::{Family, Stack},
    netns::Netns,
    wait,
};

const KNARR: &str = env!("CARGO_BIN_EXE_knarr");
const STOP_TIME_MAX: Duration = Duration::from_secs(30);

/// How the nodes are cabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// On one link.
    OneLink,
    /// Each behind the router, on a link of its own.
    Apart,
}

/// A machine that runs knarr.
pub(crate) struct Machine {
    pub(crate) netns: Netns,
    /// In the first family that the machine has.
    pub(crate) ip: String,
    v4: String,
    pub(crate) dir: PathBuf,
    process: Option<Child>,
}

impl Machine {
    pub(crate) fn new(
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
            let ip = family.ip();
            if link != 77 {
                let own = family.net_text(&gateway);
                router.sh(&format!("{ip} addr add {own} dev {cable}"));
            }
            let gateway = family.text(&gateway);
            let own = family.net_text(&v4);
            netns.sh(&format!("{ip} addr add {own} dev eth0"));
            netns.sh(&format!("{ip} route add default via {gateway}"));
        }
        let dir = scratch.join(&netns.name);
        std::fs::create_dir_all(&dir).expect("a folder for the machine");
        Machine {
            netns,
            ip: stack.families()[0].text(&v4),
            v4,
            dir,
            process: None,
        }
    }

    pub(crate) fn address(&self) -> IpAddr {
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
        family.text(&self.v4)
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// The binary with this machine's folders; output is the caller's to direct.
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

    /// Starts a long-running command; it talks into the machine's log.
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

/// Ends a process in good order.
pub(crate) fn terminate(process: &mut Child) {
    let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("it runs");
    process.wait().expect("our child");
}

/// A server on a machine where knarr does not run it; it ends with this value.
pub(crate) struct Outsider(Child);

impl Outsider {
    /// Answers to a name on the port of the lab's pods, TCP and UDP.
    pub(crate) fn answers(netns: &Netns, name: &str) -> Self {
        let mut command = Command::new(KNARR);
        command.args(["echo", "--drain-ms", "0", "--name", name]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(netns.spawn(command))
    }
}

impl Drop for Outsider {
    fn drop(&mut self) {
        terminate(&mut self.0);
    }
}
