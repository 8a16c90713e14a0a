//! Keeps what the API has of this node true: written whole at the start, and put right whenever it is otherwise.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::Client;
use tokio::sync::watch;

use super::nodes::internal_ips;
use crate::node::{self, Description};

/// What the API has of this node, as far as its agent answers for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    addresses: Vec<IpAddr>,
    readiness: Readiness,
}

/// Whether the API takes the node for ready; one that was silent for long is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    Ready,
    Doubted,
}

impl Said {
    pub(super) fn of(node: &Node) -> Self {
        let status = node.status.iter();
        let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
        let is_ready = conditions.any(|one| one.type_ == "Ready" && one.status == "True");
        Self {
            addresses: internal_ips(node),
            readiness: match is_ready {
                true => Readiness::Ready,
                false => Readiness::Doubted,
            },
        }
    }
}

/// What has to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Nothing,
    Addresses,
    Everything,
}

fn lack(said: Option<&Said>, addresses: &[IpAddr]) -> Lack {
    match said {
        Some(Said {
            readiness: Readiness::Doubted,
            ..
        }) => Lack::Everything,
        Some(said) if said.addresses != addresses => Lack::Addresses,
        Some(_) | None => Lack::Nothing,
    }
}

/// Keeps the node's status until dropped.
pub(super) async fn keep(
    client: Client,
    node: Description,
    mut addresses: watch::Receiver<Vec<IpAddr>>,
    mut said: watch::Receiver<Option<Said>>,
) {
    const RETRY: Duration = Duration::from_secs(1);
    /// What was written may not have been heard of yet; and nobody wins against another agent of the same name.
    const ECHO: Duration = Duration::from_millis(300);
    let mut written = None;
    loop {
        let wanted = addresses.borrow_and_update().clone();
        if written.as_ref() == Some(&wanted) {
            tokio::time::sleep(ECHO).await;
        }
        let lack = match &written {
            None => Lack::Everything,
            Some(_) => lack(said.borrow_and_update().as_ref(), &wanted),
        };
        let outcome = match lack {
            Lack::Nothing => Ok(()),
            Lack::Addresses => node::report_addresses(&client, &node.name, &wanted).await,
            Lack::Everything => node::report(&client, &node, &wanted).await,
        };
        if let Err(error) = outcome {
            tracing::warn!(%error, "writing the node's status");
            tokio::time::sleep(RETRY).await;
            continue;
        }
        written = Some(wanted);
        let heard = tokio::select! {
            heard = addresses.changed() => heard,
            heard = said.changed() => heard,
        };
        if heard.is_err() {
            return;
        }
    }
}

/// Hands on the addresses that were found, as the node's own in the families of its pods, until dropped.
pub(super) async fn follow_addresses(
    mut found: watch::Receiver<Vec<IpAddr>>,
    pod_cidrs: Vec<IpNet>,
    sender: watch::Sender<Vec<IpAddr>>,
) {
    loop {
        let addresses = node::addresses(&found.borrow_and_update(), &pod_cidrs);
        sender.send_if_modified(|known| {
            let changed = *known != addresses;
            *known = addresses;
            changed
        });
        if found.changed().await.is_err() {
            // Addresses that were given do not change.
            return std::future::pending().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_has_wrong_is_written_again() {
        let check = |ready: Option<&str>, said: &[&str], expected: Lack| {
            let conditions: Vec<_> = ready
                .map(|status| serde_json::json!({ "type": "Ready", "status": status }))
                .into_iter()
                .collect();
            let addresses: Vec<_> = said
                .iter()
                .map(|ip| serde_json::json!({ "type": "InternalIP", "address": ip }))
                .collect();
            let node = serde_json::json!({
                "metadata": { "name": "node-1" },
                "status": { "conditions": conditions, "addresses": addresses },
            });
            let said = Said::of(&serde_json::from_value(node).unwrap());
            let own: Vec<IpAddr> = vec!["192.0.2.7".parse().unwrap()];
            assert_eq!(lack(Some(&said), &own), expected, "{said:?}");
        };
        check(Some("True"), &["192.0.2.7"], Lack::Nothing);
        check(Some("True"), &["198.51.100.9"], Lack::Addresses);
        check(Some("True"), &["192.0.2.7", "2001:db8::7"], Lack::Addresses);
        check(Some("Unknown"), &["192.0.2.7"], Lack::Everything);
        check(None, &[], Lack::Everything);
    }
}
