//! One network namespace = one OS thread that never leaves it; closures are sent in, answers come out.

use std::{
    path::PathBuf,
    process::{Child, Command, Output},
    sync::mpsc,
    thread::JoinHandle,
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::gettid,
};

type Job = Box<dyn FnOnce() + Send>;

/// A machine of the lab. The kernel removes it, and every link in it, when the last process and this value are gone.
pub(crate) struct Netns {
    pub(crate) name: String,
    thread_id: i32,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Netns {
    pub(crate) fn new(name: &str) -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (ready, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                unshare(CloneFlags::CLONE_NEWNET)
                    .expect("the lab needs root to make network namespaces");
                ready
                    .send(gettid().as_raw())
                    .expect("the lab waits for its namespaces");
                for job in inbox {
                    job();
                }
            })
            .expect("a thread");
        let thread_id = started.recv().expect("a namespace");
        let netns = Netns {
            name: name.to_owned(),
            thread_id,
            jobs: Some(jobs),
            thread: Some(thread),
        };
        netns.sh("ip link set lo up");
        // Addresses that are still being checked for duplicates would appear later, by themselves.
        netns.sh("sysctl -qw net.ipv6.conf.default.accept_dad=0");
        netns
    }

    /// The file that names this namespace for as long as the value lives.
    pub(crate) fn path(&self) -> PathBuf {
        format!("/proc/self/task/{}/ns/net", self.thread_id).into()
    }

    /// Runs a closure inside and gives what it returns.
    pub(crate) fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        let job: Job = Box::new(move || {
            let _nobody_waits_after_a_panic = answer.send(job());
        });
        self.jobs
            .as_ref()
            .expect("not dropped")
            .send(job)
            .expect("the namespace's thread runs");
        answered
            .recv()
            .unwrap_or_else(|_| panic!("a closure panicked in {}", self.name))
    }

    /// Runs one command line, split at blanks, and demands that it succeeds.
    pub(crate) fn sh(&self, line: &str) -> String {
        let output = self.try_sh(line);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(
            output.status.success(),
            "{}: {line}: {}",
            self.name,
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    pub(crate) fn try_sh(&self, line: &str) -> Output {
        let mut words = line.split_whitespace().map(str::to_owned);
        let mut command = Command::new(words.next().expect("a command"));
        command.args(words);
        self.output(command)
    }

    /// Runs a prepared command inside, to its end.
    pub(crate) fn output(&self, mut command: Command) -> Output {
        self.run(move || {
            command
                .output()
                .unwrap_or_else(|error| panic!("{command:?}: {error}"))
        })
    }

    /// Starts a process inside.
    pub(crate) fn spawn(&self, mut command: Command) -> Child {
        self.run(move || {
            command
                .spawn()
                .unwrap_or_else(|error| panic!("{command:?}: {error}"))
        })
    }

    /// Lays a cable: `here` in this namespace, `there` in the other.
    pub(crate) fn cable(&self, here: &str, other: &Netns, there: &str) {
        self.sh(&format!(
            "ip link add {here} type veth peer name {there} netns {}",
            other.thread_id
        ));
        self.sh(&format!("ip link set {here} up"));
        other.sh(&format!("ip link set {there} up"));
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _its_panic_was_reported = thread.join();
        }
    }
}
