//! Takes what happened into a pod's memory. Starts nothing but what belongs to a fresh run: its hooks and probes.

use knarr_clock::{Now, steady_ns};

use super::rotation::First;
use super::{Message, Worker};
use crate::events::Severity;
use crate::pod::plan::{Health, Refusal, SandboxState, StopStep};
use crate::pod::sandbox;
use crate::process;
use crate::protocol::{End, EndCause, Request, Run, STATE, State};

const RETRY_NS: i128 = 2_000_000_000;

impl Worker {
    /// Takes over what an earlier agent left running, or the memory of what ran.
    pub(super) fn adopt(&mut self) {
        let uid = &self.identity.uid;
        let directory = self.host.paths.pod(uid);
        let Some(record) = sandbox::record(&self.host.paths, uid) else {
            return;
        };
        self.record = record;
        let text = std::fs::read(directory.join(STATE)).unwrap_or_default();
        let state: State = serde_json::from_slice(&text).unwrap_or_default();
        for (name, history) in state.containers {
            let memory = self.memory.entry(name).or_default();
            memory.attempt_first = 0;
            memory.history = Some(history);
        }
        if process::find_init(&directory).is_some() {
            self.sandbox = SandboxState::Making;
            self.connect();
            self.keep_volumes(First::Now);
        } else {
            self.sandbox = SandboxState::Lost;
            self.close_runs();
        }
    }

    #[expect(clippy::too_many_lines, reason = "one arm a message")]
    pub(super) async fn take(&mut self, message: Message) {
        match message {
            Message::Pod(pod) => {
                if let Some(spec) = pod.spec.clone() {
                    self.spec = spec;
                }
                self.pod = pod;
            }
            Message::Gone => {
                self.is_gone = true;
                if self.is_forgetting {
                    let _ = self.mailbox.send(Message::Forgotten);
                }
            }
            // The next report says where the node is.
            Message::Moved => {}
            Message::SandboxMade(Ok(())) => self.connect(),
            Message::SandboxMade(Err(error)) => {
                tracing::warn!(pod = self.identity.name, error, "making a pod's sandbox");
                let message = format!("Failed to create pod sandbox: {error}");
                self.happened(None, Severity::Warning, "FailedCreatePodSandBox", message);
                self.sandbox = SandboxState::Lost;
                self.sandbox_retry_at_ns = steady_ns() + RETRY_NS;
            }
            Message::SandboxEnded(errors) => {
                for error in errors {
                    tracing::warn!(pod = self.identity.name, error, "ending a pod's sandbox");
                }
                self.close_runs();
                self.sandbox = SandboxState::Absent;
            }
            Message::Connected(writer) => {
                self.init = Some(writer);
                self.sandbox = SandboxState::Ready;
            }
            Message::State(state) => self.take_state(state),
            Message::Lost => self.lose_init(),
            Message::Prepared {
                container,
                attempt,
                result,
            } => {
                self.take_prepared(container, attempt, *result).await;
            }
            Message::Probed {
                container,
                attempt,
                kind,
                report,
            } => {
                self.take_probe(&container, attempt, kind, report);
            }
            Message::PostStarted {
                container,
                attempt,
                result,
            } => {
                self.take_post_start(&container, attempt, result);
            }
            Message::PreStopped {
                container,
                attempt,
                result,
            } => {
                if let Err(error) = result {
                    let message = format!("PreStopHook failed: {error}");
                    self.happened(
                        Some(&container),
                        Severity::Warning,
                        "FailedPreStopHook",
                        message,
                    );
                }
                let stop = self
                    .memory
                    .get_mut(&container)
                    .and_then(|memory| memory.stop.as_mut());
                if let Some(stop) = stop.filter(|stop| stop.attempt == attempt) {
                    stop.step = stop.step.max(StopStep::HookDone);
                }
            }
            Message::Forgotten => {
                let (host, uid) = (self.host.clone(), self.identity.uid.clone());
                // A disk that is busy lets nobody delete, and other pods wait for this thread.
                let forgotten = move || {
                    sandbox::forget(&host.paths, &uid);
                    host.release_addresses(&uid);
                };
                let _ = tokio::task::spawn_blocking(forgotten).await;
                self.has_ended = true;
            }
        }
    }

    async fn take_prepared(
        &mut self,
        name: String,
        attempt: u32,
        result: Result<crate::protocol::Container, super::Refused>,
    ) {
        let memory = self.memory.entry(name.clone()).or_default();
        match result {
            Ok(container) => {
                memory.refusal = None;
                let previous = memory.history.as_ref().map(|history| &history.current);
                if let Some(run_ns) = previous.and_then(Run::length_ns) {
                    memory.back_off = memory.back_off.after_restart(run_ns);
                }
                let Some(init) = &mut self.init else {
                    memory.starting = None;
                    return;
                };
                let message = "Container created".to_owned();
                let sent = init.send(&Request::Start(Box::new(container))).await;
                if let Err(error) = sent {
                    tracing::warn!(pod = self.identity.name, attempt, %error, "starting a container");
                    if let Some(memory) = self.memory.get_mut(&name) {
                        memory.starting = None;
                    }
                    return;
                }
                self.happened(Some(&name), Severity::Normal, "Created", message);
            }
            Err(refused) => {
                memory.starting = None;
                let retry_at_ns = steady_ns() + RETRY_NS;
                let message = refused.message.clone();
                memory.refusal = Some(Refusal {
                    reason: refused.reason,
                    message: refused.message,
                    retry_at_ns,
                });
                let reason = match refused.reason {
                    "ContainerCreating" => "FailedMount",
                    _ => "Failed",
                };
                self.happened(
                    Some(&name),
                    Severity::Warning,
                    reason,
                    format!("Error: {message}"),
                );
            }
        }
    }

    fn take_state(&mut self, state: State) {
        for (name, history) in state.containers {
            let memory = self.memory.entry(name.clone()).or_default();
            let before = memory.history.as_ref().map(|before| before.current.clone());
            if memory
                .starting
                .is_some_and(|attempt| attempt <= history.current.attempt)
            {
                memory.starting = None;
            }
            memory.history = Some(history.clone());
            let run = history.current;
            let is_new = before
                .as_ref()
                .is_none_or(|before| before.attempt != run.attempt);
            let was_running = !is_new && before.is_some_and(|before| before.ended.is_none());
            let is_known = self.probes.keys().any(|(container, _)| *container == name)
                || self
                    .memory
                    .get(&name)
                    .is_some_and(|memory| memory.health != Health::default());
            if is_new {
                self.announce(&name, &run);
            }
            match &run.ended {
                None if is_new || !is_known => self.begin_health(&name, &run, is_new),
                None => {}
                Some(_) if is_new || was_running => {
                    self.end_health(&name);
                    self.memory.entry(name).or_default().ended_at_ns = steady_ns();
                }
                Some(_) => {}
            }
        }
    }

    fn announce(&self, name: &str, run: &Run) {
        match &run.ended {
            Some(End {
                cause: EndCause::StartFailed,
                message,
                ..
            }) => {
                self.happened(
                    Some(name),
                    Severity::Warning,
                    "Failed",
                    format!("Error: {message}"),
                );
            }
            _ => self.happened(
                Some(name),
                Severity::Normal,
                "Started",
                "Container started".into(),
            ),
        }
    }

    fn lose_init(&mut self) {
        self.init = None;
        if self.sandbox == SandboxState::Ending {
            return;
        }
        for memory in self.memory.values_mut() {
            memory.starting = None;
        }
        // A connection can also be lost to an init that lives on; then it is simply made again.
        if process::find_init(&self.host.paths.pod(&self.identity.uid)).is_some() {
            let (mailbox, host, uid) = (self.tell(), self.host.clone(), self.identity.uid.clone());
            tokio::spawn(async move {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                super::follow_init(&host, &uid, mailbox);
            });
            self.sandbox = SandboxState::Making;
            return;
        }
        self.close_runs();
        self.sandbox = SandboxState::Lost;
        self.sandbox_retry_at_ns = steady_ns() + RETRY_NS;
    }

    /// The kernel killed whatever the init had running.
    fn close_runs(&mut self) {
        let names: Vec<String> = self.memory.keys().cloned().collect();
        for name in names {
            let Some(memory) = self.memory.get_mut(&name) else {
                continue;
            };
            memory.starting = None;
            let Now { wall_ns, steady_ns } = Now::read();
            if let Some(history) = &mut memory.history
                && history.current.ended.is_none()
            {
                history.current.ended = Some(End {
                    at_ns: wall_ns,
                    exit_code: 128 + libc::SIGKILL,
                    signal: Some(libc::SIGKILL),
                    cause: EndCause::Exited,
                    message: String::new(),
                });
                memory.ended_at_ns = steady_ns;
            }
            self.end_health(&name);
        }
    }
}
