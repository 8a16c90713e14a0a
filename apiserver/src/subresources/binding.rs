//! Binding: gives a pod its node, once.

use knarr_api::{
    decode::Target,
    field::{Error, Path},
    kinds::{
        self,
        node::{self, NODE},
    },
    meta,
    status::{Details, Status},
    value::{fields_mut, items, str_of},
};
use serde_json::{Map, Value, json};

use crate::{
    State,
    call::Call,
    clock,
    request::options::DryRun,
    respond::{self, Reply},
    storage::Key,
    write::{self, Changed},
};

const BINDING: Target<'_> = Target {
    group: "",
    version: "v1",
    kind: "Binding",
};

/// POST to `pods/NAME/binding`, or to `bindings` with the name in the body.
pub(super) async fn serve(call: &mut Call) -> Result<Reply, Status> {
    let (mut binding, options) = super::posted(call, BINDING).await?;
    let pods = kinds::by_resource("", "v1", "pods").ok_or_else(respond::no_such_resource)?;
    let given = meta::name(&binding).to_owned();
    let name = match call.info.name.as_str() {
        "" => given,
        name if given == name => given,
        _ => {
            return Err(Status::bad_request(
                "name in URL does not match name in Binding object",
            ));
        }
    };
    check(&binding)?;
    add_topology(&call.state, &mut binding);
    let key = Key::new(pods, call.info.namespace.as_str(), name.as_str());
    write::mutate(&call.state, &key, |pod| {
        bind(pod, &binding).map_err(|detail| conflict(&name, &detail))?;
        Ok(match options.dry_run {
            DryRun::No => Changed::Yes,
            DryRun::All => Changed::No,
        })
    })
    .await?;
    Ok(super::created())
}

/// A pod is told where in the world its node is, by the labels of its binding.
fn add_topology(state: &State, binding: &mut Value) {
    if str_of(&binding["target"]["kind"]) != "Node" {
        return;
    }
    let name = str_of(&binding["target"]["name"]);
    let node = state.store.get(&Key::new(&NODE, "", name));
    for (key, value) in node::topology(&node.map(|node| node.object()).unwrap_or_default()) {
        fields_mut(&mut binding["metadata"], "labels").insert(key.to_owned(), value.clone());
    }
}

fn check(binding: &Value) -> Result<(), Status> {
    let target = Path::new("target");
    let mut errors = Vec::new();
    let kind = str_of(&binding["target"]["kind"]);
    if !["", "Node"].contains(&kind) {
        let path = target.child("kind");
        errors.push(Error::not_supported(&path, kind, &["Node", "<empty>"]));
    }
    if str_of(&binding["target"]["name"]).is_empty() {
        errors.push(Error::required(&target.child("name"), ""));
    }
    let texts: Vec<String> = errors.iter().map(Error::to_string).collect();
    match texts.as_slice() {
        [] => Ok(()),
        [one] => Err(respond::unclassified(one)),
        several => Err(respond::unclassified(format!("[{}]", several.join(", ")))),
    }
}

fn conflict(name: &str, detail: &str) -> Status {
    let message = format!("Operation cannot be fulfilled on pods/binding \"{name}\": {detail}");
    Status::failure(409, "Conflict", message).with_details(Details {
        name: name.into(),
        kind: "pods/binding".into(),
        ..Details::default()
    })
}

fn bind(pod: &mut Value, binding: &Value) -> Result<(), String> {
    let name = meta::name(pod).to_owned();
    let wanted = meta::uid(binding);
    if !wanted.is_empty() && wanted != meta::uid(pod) {
        let uid = meta::uid(pod);
        return Err(format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        ));
    }
    if meta::deletion_timestamp(pod).is_some() {
        return Err(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        ));
    }
    let node = str_of(&pod["spec"]["nodeName"]);
    if !node.is_empty() {
        return Err(format!("pod {name} is already assigned to node \"{node}\""));
    }
    if !items(&pod["spec"]["schedulingGates"]).is_empty() {
        return Err(format!("pod {name} has non-empty .spec.schedulingGates"));
    }
    pod["spec"]["nodeName"] = binding["target"]["name"].clone();
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    for field in ["annotations", "labels"] {
        let additions = binding["metadata"][field].as_object();
        for (key, value) in additions.into_iter().flatten() {
            let entries = &mut pod["metadata"][field];
            if !entries.is_object() {
                *entries = Value::Object(Map::new());
            }
            entries[key] = value.clone();
        }
    }
    set_condition(pod, json!({"type": "PodScheduled", "status": "True"}));
    Ok(())
}

/// Adds a condition to a pod, or replaces the one of its type; the time changes with the status.
pub(super) fn set_condition(pod: &mut Value, mut condition: Value) {
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    let Some(conditions) = conditions.as_array_mut() else {
        return;
    };
    let found = conditions
        .iter_mut()
        .find(|other| other["type"] == condition["type"]);
    let time = match &found {
        Some(other) if other["status"] == condition["status"] => {
            other["lastTransitionTime"].clone()
        }
        _ => clock::now().into(),
    };
    condition["lastTransitionTime"] = time;
    if condition.get("lastProbeTime").is_none() {
        condition["lastProbeTime"] = Value::Null;
    }
    match found {
        Some(other) => *other = condition,
        None => conditions.push(condition),
    }
}
