//! Runs the hooks and probes of a container's run, and takes what they find.

use k8s_openapi::api::core::v1::{Container, Probe};
use knarr_clock::{Now, steady_ns};

use super::{Message, Probed, Worker, pause_until};
use crate::events::Severity;
use crate::pod::plan::{Failure, Health};
use crate::pod::probe::check::{self, Place, Target};
use crate::pod::probe::{Kind, Schedule, Verdict};
use crate::pod::{self, security};
use crate::protocol::{Process, Run};

impl Worker {
    /// Begins to look after a running container; a fresh one also gets its postStart hook.
    pub(super) fn begin_health(&mut self, name: &str, run: &Run, is_fresh: bool) {
        let Some(container) = pod::container(&self.spec, name).cloned() else {
            return;
        };
        if let Some(memory) = self.memory.get_mut(name) {
            memory.health = Health::default();
            memory.stop = memory.stop.filter(|stop| stop.attempt == run.attempt);
        }
        let hook = container
            .lifecycle
            .as_ref()
            .and_then(|lifecycle| lifecycle.post_start.clone());
        let Some((handler, target)) = hook.filter(|_| is_fresh).zip(self.target(&container)) else {
            return self.begin_probes(&container, run.attempt, began_ns(run));
        };
        let (container, attempt, mailbox) = (name.to_owned(), run.attempt, self.tell());
        let task = tokio::spawn(async move {
            let result = check::hook(&target, &handler).await;
            let _ = mailbox.send(Message::PostStarted {
                container,
                attempt,
                result,
            });
        });
        drop(task);
    }

    /// Stops looking after a container that has ended.
    pub(super) fn end_health(&mut self, name: &str) {
        self.probes.retain(|(container, _), task| {
            let keeps = container != name;
            if !keeps {
                task.abort();
            }
            keeps
        });
        if let Some(memory) = self.memory.get_mut(name) {
            memory.health = Health::default();
            memory.stop = None;
        }
    }

    pub(super) fn take_post_start(&mut self, name: &str, attempt: u32, result: Result<(), String>) {
        if self.running_attempt(name) != Some(attempt) {
            return;
        }
        match result {
            Ok(()) => {
                if let Some(container) = pod::container(&self.spec, name).cloned() {
                    self.begin_probes(&container, attempt, steady_ns());
                }
            }
            Err(error) => {
                let message = format!("PostStartHook failed: {error}");
                self.happened(
                    Some(name),
                    Severity::Warning,
                    "FailedPostStartHook",
                    message,
                );
                if let Some(memory) = self.memory.get_mut(name) {
                    let reason = "FailedPostStartHook".to_owned();
                    memory.health.failed = Some(Failure {
                        reason,
                        grace_seconds: None,
                    });
                }
            }
        }
    }

    fn begin_probes(&mut self, container: &Container, attempt: u32, began_ns: i128) {
        if let Some(probe) = &container.startup_probe {
            return self.begin_probe(container, Kind::Startup, probe, attempt, began_ns);
        }
        self.container_started(container, attempt, began_ns);
    }

    fn container_started(&mut self, container: &Container, attempt: u32, began_ns: i128) {
        if let Some(memory) = self.memory.get_mut(&container.name) {
            memory.health.started = true;
            memory.health.ready = container.readiness_probe.is_none();
        }
        if let Some(probe) = &container.readiness_probe {
            self.begin_probe(container, Kind::Readiness, probe, attempt, began_ns);
        }
        if let Some(probe) = &container.liveness_probe {
            self.begin_probe(container, Kind::Liveness, probe, attempt, began_ns);
        }
    }

    fn begin_probe(
        &mut self,
        container: &Container,
        kind: Kind,
        probe: &Probe,
        attempt: u32,
        began_ns: i128,
    ) {
        let Some(target) = self.target(container) else {
            return;
        };
        let (name, probe, mailbox) = (container.name.clone(), probe.clone(), self.tell());
        let key = (name.clone(), kind);
        let task = tokio::spawn(async move {
            let mut schedule = Schedule::new(kind, &probe, began_ns);
            let mut due_ns = schedule.first_at_ns();
            loop {
                tokio::time::sleep(pause_until(due_ns)).await;
                let result = check::probe(&target, &probe).await;
                let (finding, next_ns) = schedule.observe(steady_ns(), result.is_ok());
                due_ns = next_ns;
                if finding.verdict.is_some() || finding.counted_failure {
                    let report = Probed {
                        finding,
                        complaint: result.err(),
                    };
                    let container = name.clone();
                    let _ = mailbox.send(Message::Probed {
                        container,
                        attempt,
                        kind,
                        report,
                    });
                }
                if kind == Kind::Startup && finding.verdict == Some(Verdict::Passing) {
                    return;
                }
            }
        });
        if let Some(before) = self.probes.insert(key, task.abort_handle()) {
            before.abort();
        }
    }

    pub(super) fn take_probe(&mut self, name: &str, attempt: u32, kind: Kind, report: Probed) {
        if self.running_attempt(name) != Some(attempt) {
            return;
        }
        if report.finding.counted_failure {
            let complaint = report.complaint.unwrap_or_default();
            let message = format!("{} probe failed: {complaint}", kind.word());
            self.happened(Some(name), Severity::Warning, "Unhealthy", message);
        }
        let Some(container) = pod::container(&self.spec, name).cloned() else {
            return;
        };
        match (kind, report.finding.verdict) {
            (_, None) => {}
            (Kind::Readiness, Some(verdict)) => {
                if let Some(memory) = self.memory.get_mut(name) {
                    memory.health.ready = verdict == Verdict::Passing;
                }
            }
            (Kind::Startup, Some(Verdict::Passing)) => {
                self.container_started(&container, attempt, steady_ns());
            }
            (Kind::Liveness, Some(Verdict::Passing)) => {}
            (Kind::Startup | Kind::Liveness, Some(Verdict::Failing)) => {
                let probe = match kind {
                    Kind::Startup => &container.startup_probe,
                    Kind::Liveness | Kind::Readiness => &container.liveness_probe,
                };
                let grace_seconds = probe
                    .as_ref()
                    .and_then(|probe| probe.termination_grace_period_seconds);
                let word = kind.word().to_lowercase();
                let reason = format!("Container {name} failed {word} probe, will be restarted");
                if let Some(memory) = self.memory.get_mut(name) {
                    memory.health.failed = Some(Failure {
                        reason,
                        grace_seconds,
                    });
                }
            }
        }
    }

    fn running_attempt(&self, name: &str) -> Option<u32> {
        let run = &self.memory.get(name)?.history.as_ref()?.current;
        run.ended.is_none().then_some(run.attempt)
    }

    /// Where checks of a container go, and with which rights its execs run.
    pub(super) fn target(&self, container: &Container) -> Option<Target> {
        let passwd = security::read_passwd();
        let rights = security::rights(&self.identity, &self.spec, container, &passwd).ok()?;
        let own = self.record.addresses.first().copied();
        let place = match self.spec.host_network {
            Some(true) => Place::Node(self.host.node_ips.clone()),
            _ => Place::Pod(own.unwrap_or(check::LOOPBACK)),
        };
        Some(Target {
            directory: self.host.paths.pod(&self.identity.uid),
            place,
            container: container.clone(),
            process: Process {
                argv: Vec::new(),
                // The init adds the environment of the running container.
                env: Vec::new(),
                working_dir: container.working_dir.clone(),
                uid: rights.uid,
                gid: rights.gid,
                groups: rights.groups,
                capabilities: rights.capabilities,
                no_new_privileges: rights.no_new_privileges,
            },
        })
    }
}

/// When a run began, on the clock that probes go by; a run that begins in the future begins at once.
fn began_ns(run: &Run) -> i128 {
    let Now { wall_ns, steady_ns } = Now::read();
    steady_ns - (wall_ns - run.started_ns).max(0)
}
