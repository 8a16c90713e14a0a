//! What a node agent may do beyond its roles: work on its own node, on the pods bound to it, and read what those refer to.

use std::sync::LazyLock;

use super::{Action, exact_field, graph::Graph, rule::Rule};
use crate::bootstrap;

const LEASE_NAMESPACE: &str = "kube-node-lease";

/// What every node agent does, if not to which objects.
static RULES: LazyLock<Vec<Rule>> =
    LazyLock::new(|| bootstrap::node_rules().iter().map(Rule::read).collect());

/// Refuses with a reason, or with an empty one where agents have nothing to do at all.
pub(super) fn decide(graph: &Graph, node: &str, action: &Action<'_>) -> Result<(), String> {
    let Action::Resource {
        verb,
        group,
        resource,
        subresource,
        namespace,
        name,
        field_selector,
    } = *action
    else {
        return Err(String::new());
    };
    if !RULES.iter().any(|rule| rule.allows(action)) {
        return Err(String::new());
    }
    let is_related = match (group, resource, subresource) {
        ("", "secrets", "") => graph.reads_secret(node, namespace, name),
        ("", "configmaps", "") => graph.reads_config_map(node, namespace, name),
        ("", "serviceaccounts", _) => graph.runs_as(node, namespace, name),
        ("", "pods", "") if matches!(verb, "list" | "watch") => {
            let own = exact_field(field_selector, "spec.nodeName") == Some(node);
            return holds(
                own,
                "can only list/watch pods with spec.nodeName field selector",
            );
        }
        ("", "pods", _) => graph.runs(node, namespace, name),
        ("", "nodes", _) => {
            let own = name == node || (verb == "create" && name.is_empty());
            return holds(
                own,
                &format!("node '{node}' can only access its own Node object"),
            );
        }
        ("coordination.k8s.io", "leases", _) => {
            let text = "can only access leases in the \"kube-node-lease\" system namespace";
            holds(namespace == LEASE_NAMESPACE, text)?;
            let text = "can only access node lease with the same name as the requesting node";
            return holds(verb == "create" || name == node, text);
        }
        _ => true,
    };
    let text = format!("no relationship found between node '{node}' and this object");
    holds(is_related, &text)
}

fn holds(fact: bool, otherwise: &str) -> Result<(), String> {
    if fact {
        Ok(())
    } else {
        Err(otherwise.to_owned())
    }
}
