//! Applies a plan's actions. Slow ones run beside the worker and answer by message.

use std::sync::Arc;

use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use knarr_client::Api;
use knarr_clock::Now;
use kube::api::{DeleteParams, Preconditions};

use super::rotation::First;
use super::{Message, Refused, Worker, collect_later, follow_init};
use crate::events::{Happening, Severity};
use crate::host::Host;
use crate::pod::config::{self, Setting};
use crate::pod::env::Facts;
use crate::pod::plan::{self, Action, SandboxState, Snapshot, Stop, StopStep};
use crate::pod::probe::check;
use crate::pod::sandbox::{self, Order};
use crate::pod::{self, Identity, Role, files, sources, volume};
use crate::protocol::{self, Request, SignalScope};

impl Worker {
    pub(super) async fn apply(&mut self, action: Action, now: Now) {
        match action {
            Action::MakeSandbox => self.make_sandbox(now),
            Action::Start { container, attempt } => self.prepare(container, attempt),
            Action::BeginStop {
                container,
                attempt,
                grace_ns,
                reason,
            } => {
                self.happened(Some(&container), Severity::Normal, "Killing", reason);
                let step = self.begin_hook(&container, attempt);
                let stop = Stop {
                    attempt,
                    since_ns: now.steady_ns,
                    grace_ns,
                    step,
                };
                self.memory.entry(container.clone()).or_default().stop = Some(stop);
                if step == StopStep::HookDone {
                    self.terminate(&container, grace_ns).await;
                }
            }
            Action::Terminate { container } => self.terminate(&container, 1).await,
            Action::Kill { container } => {
                self.signal(
                    &container,
                    libc::SIGKILL,
                    StopStep::Killed,
                    SignalScope::All,
                )
                .await;
            }
            Action::EndSandbox => self.end_sandbox(),
            Action::Forget => self.forget(),
        }
    }

    async fn terminate(&mut self, container: &str, grace_ns: i128) {
        if grace_ns == 0 {
            self.signal(container, libc::SIGKILL, StopStep::Killed, SignalScope::All)
                .await;
        } else {
            let signal = self.stop_signal(container);
            self.signal(container, signal, StopStep::Terminated, SignalScope::Main)
                .await;
        }
    }

    fn stop_signal(&self, name: &str) -> i32 {
        let lifecycle = pod::container(&self.spec, name).and_then(|one| one.lifecycle.as_ref());
        lifecycle
            .and_then(|lifecycle| {
                lifecycle
                    .stop_signal
                    .as_ref()?
                    .parse::<nix::sys::signal::Signal>()
                    .ok()
            })
            .map_or(libc::SIGTERM, |signal| signal as i32)
    }

    async fn signal(&mut self, name: &str, signal: i32, step: StopStep, scope: SignalScope) {
        let Some(stop) = self
            .memory
            .get_mut(name)
            .and_then(|memory| memory.stop.as_mut())
        else {
            return;
        };
        stop.step = step;
        let attempt = stop.attempt;
        let request = Request::Signal {
            container: name.to_owned(),
            attempt,
            signal,
            scope,
        };
        if let Some(init) = &mut self.init
            && let Err(error) = init.send(&request).await
        {
            tracing::warn!(pod = self.identity.name, %error, "signalling a container");
        }
    }

    fn make_sandbox(&mut self, now: Now) {
        if self.sandbox_retry_at_ns > now.steady_ns {
            return;
        }
        if self.spec.host_network != Some(true) {
            let Some(addresses) = self.host.addresses_of(&self.identity.uid) else {
                const RETRY_NS: i128 = 1_000_000_000;
                self.sandbox_retry_at_ns = now.steady_ns + RETRY_NS;
                return;
            };
            self.record.addresses = addresses;
        }
        self.sandbox = SandboxState::Making;
        if let Some(link) = self.record.link(&self.host.paths) {
            self.host.want_link(&self.identity.uid, link);
        }
        self.prepare_early(now);
        let (host, identity, spec) = (self.host.clone(), self.identity.clone(), self.spec.clone());
        let (record, pod_ips, mailbox) = (self.record.clone(), self.pod_ips(), self.tell());
        tokio::task::spawn_blocking(move || {
            let order = Order {
                paths: &host.paths,
                cgroups: &host.cgroups,
                identity: &identity,
                spec: &spec,
                record: &record,
                resolver: &host.resolver(),
                pod_ips: &pod_ips,
                network_lock: &host.network.lock,
            };
            let result = sandbox::make(&order)
                .map(collect_later)
                .map_err(|error| format!("{:#}", anyhow::Error::from(error)));
            let _ = mailbox.send(Message::SandboxMade(result));
        });
    }

    /// Prepares the containers that will be started as soon as there is a sandbox.
    fn prepare_early(&mut self, now: Now) {
        let with_sandbox = Snapshot {
            sandbox: SandboxState::Ready,
            ..self.snapshot(now)
        };
        for action in plan::plan(&with_sandbox).actions {
            let Action::Start { container, attempt } = action else {
                continue;
            };
            let Some(wanted) = pod::container(&self.spec, &container).cloned() else {
                continue;
            };
            let preparation = self.preparation();
            let prepared = async move { preparation.run(&wanted, attempt).await };
            self.early
                .insert((container, attempt), tokio::spawn(prepared));
        }
    }

    pub(super) fn connect(&mut self) {
        follow_init(&self.host, &self.identity.uid, self.tell());
    }

    fn end_sandbox(&mut self) {
        self.sandbox = SandboxState::Ending;
        self.init = None;
        self.host.drop_link(&self.identity.uid);
        let (host, uid, mailbox) = (self.host.clone(), self.identity.uid.clone(), self.tell());
        let early = std::mem::take(&mut self.early);
        tokio::spawn(async move {
            // What is still being prepared would be left behind.
            join_all(early.into_values()).await;
            tokio::task::spawn_blocking(move || {
                let errors = sandbox::end(&host.paths, &host.cgroups, &uid);
                let _ = mailbox.send(Message::SandboxEnded(errors));
            });
        });
    }

    fn forget(&mut self) {
        if std::mem::replace(&mut self.is_forgetting, true) {
            return;
        }
        if self.is_gone {
            let _ = self.mailbox.send(Message::Forgotten);
            return;
        }
        let (client, identity, mailbox) =
            (self.host.client.clone(), self.identity.clone(), self.tell());
        let flushed = self.report.flushed();
        tokio::spawn(async move {
            flushed.await;
            delete_from_api(client, identity).await;
            let _ = mailbox.send(Message::Forgotten);
        });
    }

    /// Gathers everything a container needs beside the worker, since some of it comes from the API.
    fn prepare(&mut self, name: String, attempt: u32) {
        let Some(container) = pod::container(&self.spec, &name).cloned() else {
            return;
        };
        self.memory.entry(name.clone()).or_default().starting = Some(attempt);
        let early = self.early.remove(&(name.clone(), attempt));
        let preparation = self.preparation();
        self.keep_volumes(First::Later);
        let mailbox = self.tell();
        tokio::spawn(async move {
            let prepared = match early {
                Some(early) => early.await.ok().and_then(Result::ok),
                None => None,
            };
            let result = Box::new(match prepared {
                Some(prepared) => Ok(prepared),
                // What was not there early may be there by now.
                None => preparation.run(&container, attempt).await,
            });
            let _ = mailbox.send(Message::Prepared {
                container: name,
                attempt,
                result,
            });
        });
    }

    pub(super) fn preparation(&self) -> Preparation {
        Preparation {
            host: self.host.clone(),
            identity: self.identity.clone(),
            pod: self.pod.clone(),
            pod_ips: self.pod_ips(),
        }
    }

    fn begin_hook(&self, name: &str, attempt: u32) -> StopStep {
        let container = pod::container(&self.spec, name);
        let handler = container
            .and_then(|container| container.lifecycle.as_ref()?.pre_stop.clone())
            .zip(container.and_then(|container| self.target(container)));
        let Some((handler, target)) = handler else {
            return StopStep::HookDone;
        };
        let (container, mailbox) = (name.to_owned(), self.tell());
        tokio::spawn(async move {
            let result = check::hook(&target, &handler).await;
            let _ = mailbox.send(Message::PreStopped {
                container,
                attempt,
                result,
            });
        });
        StopStep::HookRunning
    }

    /// Records an event about the pod or one of its containers.
    pub(super) fn happened(
        &self,
        container: Option<&str>,
        severity: Severity,
        reason: &'static str,
        message: String,
    ) {
        let field_path = container.map(|name| {
            let role = pod::containers(&self.spec).find(|(_, one)| one.name == name);
            match role {
                Some((Role::Init | Role::Sidecar, _)) => format!("spec.initContainers{{{name}}}"),
                _ => format!("spec.containers{{{name}}}"),
            }
        });
        let pod = self.identity.clone();
        self.host.events.record(Happening {
            pod,
            field_path,
            severity,
            reason,
            message,
        });
    }
}

async fn delete_from_api(client: kube::Client, identity: Identity) {
    const RETRY: std::time::Duration = std::time::Duration::from_secs(1);
    let api = Api::<Pod>::namespaced(client, &identity.namespace);
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: Some(identity.uid.clone()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    loop {
        match api.delete(&identity.name, &parameters).await {
            Ok(_) => return,
            // A node has no business with a pod that is gone, not even to hear so.
            Err(kube::Error::Api(error)) if matches!(error.code, 403 | 404 | 409) => return,
            Err(error) => {
                tracing::warn!(pod = identity.name, %error, "deleting a pod from the API")
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Everything that turns an API container into one that an init can run.
#[derive(Clone)]
pub(super) struct Preparation {
    pub(super) host: Arc<Host>,
    pub(super) identity: Identity,
    pub(super) pod: Arc<Pod>,
    pub(super) pod_ips: Vec<String>,
}

impl Preparation {
    async fn run(
        self,
        container: &Container,
        attempt: u32,
    ) -> Result<protocol::Container, Refused> {
        let Some(spec) = self.pod.spec.clone() else {
            return Err(Refused {
                reason: "CreateContainerConfigError",
                message: String::new(),
            });
        };
        let fetched = sources::fetch(&self.host.client, &self.identity, &spec).await;
        let sources = fetched.map_err(|error| {
            let message = format!("{:#}", anyhow::Error::from(error));
            Refused {
                reason: "CreateContainerConfigError",
                message,
            }
        })?;
        let container = container.clone();
        let work = move || self.configure(&spec, &container, attempt, &sources);
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(Refused {
                reason: "CreateContainerError",
                message: error.to_string(),
            }),
        }
    }

    fn configure(
        &self,
        spec: &PodSpec,
        container: &Container,
        attempt: u32,
        sources: &sources::Sources,
    ) -> Result<protocol::Container, Refused> {
        self.with_facts(spec, sources, |facts| {
            self.configure_with(spec, container, attempt, facts)
        })
    }

    /// Fetches what `spec` refers to again and writes what its volumes show of that.
    pub(super) async fn refresh(self, spec: PodSpec) -> anyhow::Result<()> {
        let sources = sources::fetch(&self.host.client, &self.identity, &spec).await?;
        let write = move || {
            self.with_facts(&spec, &sources, |facts| {
                volume::prepare(&self.host.paths, &self.identity.uid, &spec, &facts)
            })
        };
        Ok(tokio::task::spawn_blocking(write).await??)
    }

    fn with_facts<T>(
        &self,
        spec: &PodSpec,
        sources: &sources::Sources,
        work: impl FnOnce(Facts<'_>) -> T,
    ) -> T {
        let Self {
            host,
            identity,
            pod,
            pod_ips,
        } = self;
        let links = spec.enable_service_links != Some(false);
        let services = host.services.visible_in(&identity.namespace, links);
        let node_ips = host.node_ip_texts();
        work(Facts {
            pod,
            node_name: &host.node_name,
            node_ips: &node_ips,
            pod_ips,
            sources,
            services: &services,
            node_capacity: host.capacity,
        })
    }

    fn configure_with(
        &self,
        spec: &PodSpec,
        container: &Container,
        attempt: u32,
        facts: Facts<'_>,
    ) -> Result<protocol::Container, Refused> {
        let Self { host, identity, .. } = self;
        volume::prepare(&host.paths, &identity.uid, spec, &facts)
            .map_err(|error| refused("ContainerCreating", error.into()))?;
        let hostname = files::hostname(identity, spec);
        let setting = Setting {
            paths: &host.paths,
            identity,
            spec,
            facts,
            hostname: &hostname,
        };
        let cgroups = host
            .cgroups
            .make(&identity.uid, &container.name, config::limits(container));
        let id = run_id(&identity.uid, &container.name, attempt);
        config::container(&setting, container, attempt, id, cgroups)
            .map_err(|error| refused("CreateContainerConfigError", error.into()))
    }
}

fn refused(reason: &'static str, error: anyhow::Error) -> Refused {
    Refused {
        reason,
        message: format!("{error:#}"),
    }
}

/// 64 hexadecimal digits, as container runtimes name theirs.
fn run_id(uid: &str, container: &str, attempt: u32) -> String {
    let seed = format!("{uid}/{container}/{attempt}/{}", Now::read().wall_ns);
    (0..4)
        .map(|part| {
            format!(
                "{:016x}",
                crate::network::fnv1a(format!("{part}{seed}").as_bytes())
            )
        })
        .collect()
}
