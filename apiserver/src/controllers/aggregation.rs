//! Fills ClusterRoles that gather others with the rules of those they select.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::queue::{Next, Queue};
use super::selector;
use super::write::{Error, Write, perform};

/// A change of one role may change any that gathers it, so all are looked at together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Roles;

/// Adds the controller's observer and its loop.
pub(super) fn spawn(cluster: &Arc<Cluster>, shutdown: &CancellationToken, tasks: &mut JoinSet<()>) {
    let queue = Queue::new();
    let changed = Arc::clone(&queue);
    cluster
        .cluster_roles
        .observe(move |_, _| changed.add(Roles));
    cluster.reconcile("aggregation", queue, reconcile, shutdown, tasks);
}

async fn reconcile(cluster: Arc<Cluster>, _: Roles) -> Result<Next, Error> {
    for write in plan(&cluster.cluster_roles.all()) {
        match perform(&cluster.client, write).await {
            Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(Next::OnChange)
}

/// Roles that gather roles settle one layer a pass, since each write is a change again.
fn plan(roles: &[Arc<ClusterRole>]) -> Vec<Write<ClusterRole>> {
    let mut sorted: Vec<&ClusterRole> = roles.iter().map(AsRef::as_ref).collect();
    sorted.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let gathering = sorted.iter().filter(|role| role.aggregation_rule.is_some());
    let writes = gathering.filter_map(|role| {
        let rules = gathered(role, &sorted);
        let present = role.rules.as_deref().unwrap_or_default();
        (present != rules).then(|| Write::merge(*role, json!({ "rules": rules })))
    });
    writes.collect()
}

/// The rules of all that `role` selects, each once, in the order of the roles' names.
fn gathered(role: &ClusterRole, roles: &[&ClusterRole]) -> Vec<PolicyRule> {
    let rule = role.aggregation_rule.as_ref();
    let selectors = rule.and_then(|rule| rule.cluster_role_selectors.as_deref());
    let selectors = selectors.unwrap_or_default();
    let selected = roles.iter().filter(|other| {
        let labels = other.metadata.labels.as_ref();
        other.metadata.name != role.metadata.name
            && selectors.iter().any(|s| selector::matches(s, labels))
    });
    let mut seen = BTreeSet::new();
    let rules = selected.flat_map(|other| other.rules.iter().flatten());
    rules
        .filter(|rule| seen.insert(json!(rule).to_string()))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn role(name: &str, feeds: &str, gathers: &str, verbs: &[&str]) -> Arc<ClusterRole> {
        let rules: Vec<Value> = verbs
            .iter()
            .map(|verb| json!({ "apiGroups": [""], "resources": ["pods"], "verbs": [verb] }))
            .collect();
        let mut role = json!({
            "metadata": { "name": name, "uid": name, "labels": { "to": feeds } },
            "rules": rules,
        });
        if !gathers.is_empty() {
            let selector = json!({ "matchLabels": { "to": gathers } });
            role["aggregationRule"] = json!({ "clusterRoleSelectors": [selector] });
        }
        Arc::new(serde_json::from_value(role).expect("a role"))
    }

    fn verbs_written(roles: &[Arc<ClusterRole>]) -> Vec<(String, Vec<String>)> {
        plan(roles)
            .into_iter()
            .map(|write| match write {
                Write::Merge { key, patch } => {
                    let rules = patch["rules"].as_array().expect("rules").iter();
                    let verbs = rules.map(|rule| rule["verbs"][0].as_str().unwrap_or("").into());
                    (key.name, verbs.collect())
                }
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn a_role_holds_the_rules_of_those_it_selects_each_once() {
        let roles = [
            role("b", "view", "", &["list", "get"]),
            role("a", "view", "", &["get"]),
            role("other", "edit", "", &["delete"]),
            role("view", "edit", "view", &[]),
        ];
        let expected = vec![("view".to_owned(), vec!["get".to_owned(), "list".to_owned()])];
        assert_eq!(verbs_written(&roles), expected);
    }

    #[test]
    fn a_role_that_is_as_it_should_be_is_left_alone() {
        let roles = [
            role("a", "view", "", &["get"]),
            role("view", "", "view", &["get"]),
        ];
        assert_eq!(verbs_written(&roles), []);
    }

    #[test]
    fn a_role_that_selects_nothing_any_more_is_emptied() {
        let roles = [role("view", "", "view", &["get"])];
        assert_eq!(verbs_written(&roles), [("view".to_owned(), vec![])]);
    }
}
