//! Walls in the status: chains of others that drop what passes through a node. This machine's are read, others' are told by Events.

use std::collections::BTreeMap;

use anyhow::Result;
use k8s_openapi::api::core::v1::Event;
use knarr_client::Api;
use kube::{Client, api::ListParams};

use super::{Health, Row};

/// What netproxies call it.
const REASON: &str = "ForwardingBlocked";

/// One row for each wall; `own_node` is the node that this machine is, if it is one.
pub(super) async fn rows(client: &Client, own_node: Option<&str>) -> Result<Vec<Row>> {
    let read = tokio::task::spawn_blocking(knarr_netproxy::walls).await?;
    // Who may not look at this machine's rules hears what its netproxy last said of them.
    let own = own_node.zip(read.ok());
    let about_nodes = ListParams::default().fields("involvedObject.kind=Node");
    let events = Api::<Event>::all(client.clone()).list(&about_nodes).await?;
    let told = last_words(&events).into_iter();
    let is_read = |node: &str| own.as_ref().is_some_and(|(own, _)| *own == node);
    let told = told.filter(|(node, _)| !is_read(node));
    let mut rows: Vec<Row> = told
        .map(|(node, text)| row(node, Health::Warning, format!("said: {text}")))
        .collect();
    if let Some((node, walls)) = own {
        rows.extend(walls.into_iter().map(|wall| {
            let health = if wall.has_gate {
                Health::Warning
            } else {
                Health::Failing
            };
            row(node, health, wall.text)
        }));
    }
    Ok(rows)
}

fn row(node: &str, health: Health, detail: String) -> Row {
    Row {
        part: "firewall",
        node: node.to_owned(),
        health,
        detail,
    }
}

/// The last word on each node.
fn last_words(events: &[Event]) -> BTreeMap<&str, &str> {
    let walls = events
        .iter()
        .filter(|event| event.reason.as_deref() == Some(REASON));
    let mut walls: Vec<&Event> = walls.collect();
    walls.sort_by(|one, other| one.last_timestamp.cmp(&other.last_timestamp));
    let texts = walls.into_iter().filter_map(|event| {
        let node = event.involved_object.name.as_deref()?;
        Some((node, event.message.as_deref()?))
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_event_of_each_node_counts() {
        let event = |node: &str, reason: &str, second: u8, message: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {}, "reason": reason, "message": message,
                "involvedObject": { "kind": "Node", "name": node },
                "lastTimestamp": format!("2026-01-01T00:00:0{second}Z"),
            }))
            .expect("an Event")
        };
        let events = [
            event("node-1", REASON, 2, "a newer wall"),
            event("node-1", REASON, 1, "an older wall"),
            event("node-2", "NodeReady", 3, "no wall"),
        ];
        assert_eq!(last_words(&events), [("node-1", "a newer wall")].into());
    }
}
