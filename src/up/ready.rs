//! When what was applied is ready, kind by kind, and why it is not yet.

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::coordination::v1::Lease;
use knarr_client::Api;
use kube::Client;
use serde_json::Value;

use crate::{
    client::{self, Call},
    exit::{Code, Failure},
    verbs::apply::Item,
};

const ASK_AGAIN: Duration = Duration::from_millis(20);

/// Waits until the node's agent has looked at its pods: what an earlier run said of them holds no longer.
/// Leases live in memory, so one that exists was written in this run.
pub(crate) async fn wait_for_agent(client: &Client, node: &str) -> Result<()> {
    let leases = Api::<Lease>::namespaced(client.clone(), "kube-node-lease");
    while leases.get_opt(node).await?.is_none() {
        tokio::time::sleep(ASK_AGAIN).await;
    }
    Ok(())
}

/// Waits for every item in turn; all share the one deadline.
pub(crate) async fn wait(client: &Client, items: &[Item], limit: Duration) -> Result<()> {
    let deadline = Instant::now() + limit;
    for item in items {
        let path = client::object_path(item.kind, &item.namespace, &item.name);
        loop {
            let object = client::ask(client, Call::get(path.clone())).await?;
            let Err(why) = readiness(item.kind.kind, &object) else {
                break;
            };
            if Instant::now() > deadline {
                return Err(Failure::new(
                    Code::Failed,
                    format!("{} is not ready after {limit:?}: {why}", item.label()),
                )
                .hint(format!("kubectl describe {} tells more", item.label()))
                .into());
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }
    Ok(())
}

/// `Err` says what is missing.
fn readiness(kind: &str, object: &Value) -> Result<(), String> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let of = |ready: i64, wanted: i64| {
        if ready >= wanted {
            Ok(())
        } else {
            Err(format!("{ready} of {wanted} pods are ready"))
        }
    };
    let observed =
        number(&status["observedGeneration"]) >= number(&object["metadata"]["generation"]);
    match kind {
        "ReplicaSet" | "StatefulSet" | "Deployment" if !observed => {
            Err("no controller has seen it yet".into())
        }
        "ReplicaSet" | "StatefulSet" => {
            of(number(&status["readyReplicas"]), number(&spec["replicas"]))
        }
        "Deployment" => of(
            number(&status["updatedReplicas"]).min(number(&status["readyReplicas"])),
            number(&spec["replicas"]),
        ),
        "DaemonSet" if !observed => Err("no controller has seen it yet".into()),
        "DaemonSet" => of(
            number(&status["numberReady"]),
            number(&status["desiredNumberScheduled"]),
        ),
        "Pod" => pod_readiness(status),
        "Service"
            if spec["type"] == "LoadBalancer" && status["loadBalancer"]["ingress"][0].is_null() =>
        {
            Err("it has no load-balancer IP yet".into())
        }
        _ => Ok(()),
    }
}

fn pod_readiness(status: &Value) -> Result<(), String> {
    let conditions = status["conditions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|c| c["type"] == "Ready" && c["status"] == "True");
    if ready || status["phase"] == "Succeeded" {
        return Ok(());
    }
    let containers = status["containerStatuses"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let waiting = containers
        .iter()
        .filter_map(|c| c["state"]["waiting"]["message"].as_str())
        .next();
    let condition = conditions
        .iter()
        .filter(|c| c["status"] == "False")
        .filter_map(|c| c["message"].as_str())
        .next();
    Err(waiting
        .or(condition)
        .unwrap_or("it has not started yet")
        .to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn readiness_is_judged_kind_by_kind() {
        let check = |kind: &str, object: Value, expected: Result<(), &str>| {
            assert_eq!(
                readiness(kind, &object),
                expected.map_err(str::to_owned),
                "{kind} {object}"
            );
        };
        let meta = json!({"generation": 2});
        check(
            "ReplicaSet",
            json!({"metadata": meta, "status": {"observedGeneration": 1}}),
            Err("no controller has seen it yet"),
        );
        let status = json!({"observedGeneration": 2, "readyReplicas": 1});
        check(
            "ReplicaSet",
            json!({"metadata": meta, "spec": {"replicas": 3}, "status": status}),
            Err("1 of 3 pods are ready"),
        );
        check(
            "ReplicaSet",
            json!({"metadata": meta, "spec": {"replicas": 1}, "status": status}),
            Ok(()),
        );
        check(
            "Pod",
            json!({"status": {"phase": "Pending"}}),
            Err("it has not started yet"),
        );
        check(
            "Pod",
            json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            Ok(()),
        );
        check(
            "Service",
            json!({"spec": {"type": "LoadBalancer"}, "status": {}}),
            Err("it has no load-balancer IP yet"),
        );
        check("ConfigMap", json!({}), Ok(()));
    }
}
