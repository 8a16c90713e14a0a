//! The Lease that one front at a time holds: taken, renewed, given up. Leases live in the API server's memory.

use std::{future::Future, sync::Arc, time::Instant};

use k8s_openapi::{api::coordination::v1::Lease, jiff::Timestamp};
use knarr_client::Api;
use kube::{
    Client,
    api::{ObjectMeta, PostParams},
};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::election::{EXPIRY, Election, Held, Rivalry, Step, TICK, Tenure};
use crate::announce::{LEASE_NAME, LEASE_NAMESPACE, Rivals};

/// Takes part in the election until shutdown, and says whether this front leads; again when a rival has to hear it.
pub(super) async fn run(
    client: Client,
    name: String,
    elected: watch::Sender<bool>,
    rivals: Arc<Rivals>,
    shutdown: CancellationToken,
) {
    // Two machines of one name must not both think that the Lease is theirs.
    let identity = format!("{name}_{:x}", Timestamp::now().as_nanosecond());
    let mut candidate = Candidate {
        api: Api::namespaced(client, LEASE_NAMESPACE),
        election: Election::new(identity.clone()),
        identity,
        held: None,
        tenure: Tenure::since(Instant::now()),
    };
    let mut ticks = interval(TICK);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            _ = ticks.tick() => {
                candidate.tick().await;
                if candidate.wonders() {
                    rivals.wondered.notify_one();
                }
            }
            () = rivals.heard.notified() => if candidate.contested() == Rivalry::Defend {
                elected.send_modify(|_| {});
            },
        }
        let leads = candidate.leads();
        elected.send_if_modified(|led| {
            let differs = *led != leads;
            if differs && leads {
                tracing::info!("this front announces the load-balancer IPs");
            } else if differs {
                tracing::info!("another front announces the load-balancer IPs");
            }
            *led = leads;
            differs
        });
    }
    candidate.give_up().await;
}

struct Candidate {
    api: Api<Lease>,
    identity: String,
    election: Election,
    /// The Lease as this front last wrote it, while it leads.
    held: Option<Lease>,
    tenure: Tenure,
}

impl Candidate {
    /// Who cannot reach the API keeps what it has until somebody else announces it: the API may be gone for all.
    fn leads(&self) -> bool {
        self.held.is_some() && !self.tenure.has_yielded()
    }

    /// Whether to ask the link who else has what this front announces.
    fn wonders(&mut self) -> bool {
        self.leads() && self.tenure.wonders(Instant::now())
    }

    /// Another machine announces what this front does.
    fn contested(&mut self) -> Rivalry {
        let rivalry = self.tenure.contested(Instant::now());
        match rivalry {
            Rivalry::Defend => tracing::info!(
                "another machine announces load-balancer IPs: this front says again that it has them"
            ),
            Rivalry::Yield => tracing::info!(
                "another machine announces load-balancer IPs, and this front could not renew its Lease: it yields"
            ),
            Rivalry::Bear => {}
        }
        rivalry
    }

    /// Renews what is held, else looks whether there is something to take.
    async fn tick(&mut self) {
        let asked_at = Instant::now();
        if let Some(held) = self.held.clone() {
            match soon(self.write(Some(&held))).await {
                Some(Ok(renewed)) => {
                    self.held = Some(renewed);
                    self.tenure.renew(asked_at);
                }
                Some(Err(kube::Error::Api(status))) if status.code == 404 => self.take(None).await,
                Some(Err(kube::Error::Api(status))) if status.code == 409 => self.held = None,
                Some(Err(error)) => tracing::debug!("the Lease is not renewed: {error}"),
                None => tracing::debug!("the Lease is not renewed in time"),
            }
            return;
        }
        let Some(Ok(found)) = soon(self.api.get_opt(LEASE_NAME)).await else {
            return;
        };
        let held = found.as_ref().map(read);
        match self.election.step(held.as_ref(), Instant::now()) {
            Step::Wait => {}
            Step::Keep | Step::Take => self.take(found.as_ref()).await,
        }
    }

    async fn take(&mut self, found: Option<&Lease>) {
        self.tenure = Tenure::since(Instant::now());
        self.held = soon(self.write(found)).await.and_then(Result::ok);
    }

    /// Writes this front into the Lease, unless somebody else wrote meanwhile.
    async fn write(&self, before: Option<&Lease>) -> kube::Result<Lease> {
        let lease = self.claim(before, &self.identity);
        let params = PostParams::default();
        let written = match before {
            Some(_) => self.api.replace(LEASE_NAME, &params, &lease).await?,
            None => self.api.create(&params, &lease).await?,
        };
        serde_json::from_value(written).map_err(kube::Error::SerdeError)
    }

    /// Lets another front take over at once.
    async fn give_up(&mut self) {
        let Some(held) = self.held.take() else {
            return;
        };
        let given_up = self.claim(Some(&held), "");
        let params = PostParams::default();
        let written = soon(self.api.replace(LEASE_NAME, &params, &given_up)).await;
        if let Some(Err(error)) = written {
            tracing::debug!("the Lease runs out by itself: {error}");
        }
    }

    fn claim(&self, before: Option<&Lease>, holder: &str) -> Lease {
        let earlier = before
            .and_then(|lease| lease.spec.clone())
            .unwrap_or_default();
        let now = Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
            .to_string();
        let changes = earlier.holder_identity.as_deref() != Some(holder);
        let transitions = earlier.lease_transitions.unwrap_or_default();
        let spec = json!({
            "holderIdentity": Some(holder).filter(|holder| !holder.is_empty()),
            "leaseDurationSeconds": EXPIRY.as_secs().max(1),
            "renewTime": now,
            "acquireTime": if changes { json!(now) } else { json!(earlier.acquire_time) },
            "leaseTransitions": if changes { transitions + 1 } else { transitions },
        });
        let metadata = before.map(|lease| lease.metadata.clone());
        Lease {
            metadata: metadata.unwrap_or_else(|| ObjectMeta {
                name: Some(LEASE_NAME.to_owned()),
                namespace: Some(LEASE_NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            }),
            spec: serde_json::from_value(spec).ok(),
        }
    }
}

fn read(lease: &Lease) -> Held {
    let holder = lease
        .spec
        .as_ref()
        .and_then(|spec| spec.holder_identity.clone());
    Held {
        holder: holder.unwrap_or_default(),
        revision: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// An answer that comes too late is none: the server may be gone without a word.
async fn soon<T>(request: impl Future<Output = kube::Result<T>>) -> Option<kube::Result<T>> {
    timeout(TICK, request).await.ok()
}
