//! Managed fields seen through `/scale`: who owns an object's replicas, told in the words of a Scale, and brought back.

use serde_json::Value;

use super::{
    managers::{self, Id, Managers, Operation, Owned},
    path::{Element, Set},
};
use crate::{kind::Kind, kinds::scale::SCALE};

/// Gives a Scale the entries of those who own the replicas of its object.
pub fn show_managers(object: &Value, scale: &mut Value) {
    let owners = managers::of(object)
        .into_iter()
        .filter(|(_, owned)| owns_replicas(owned))
        .map(|(id, owned)| (id, of_replicas(&SCALE, owned.time)));
    managers::write(scale, &owners.collect());
}

/// Brings back to an object who owns its replicas after a write of its Scale.
pub fn take_managers(kind: &Kind, object: &mut Value, scale: &Value) {
    let mut owners: Managers = managers::of(scale)
        .into_iter()
        .filter(|(_, owned)| owns_replicas(owned))
        .map(|(id, owned)| (in_version_of(kind, id), owned))
        .collect();
    let mut kept = managers::of(object);
    for (id, owned) in &mut kept {
        if owns_replicas(owned) && owners.remove(id).is_none() {
            owned.set = owned.set.difference(&replicas());
        }
    }
    kept.retain(|_, owned| !owned.set.is_empty());
    for (id, owned) in owners {
        let gained = of_replicas(kind, owned.time);
        match kept.get_mut(&id) {
            Some(owned) => owned.set = owned.set.clone().union(&gained.set),
            None => {
                kept.insert(id, gained);
            }
        }
    }
    managers::write(object, &kept);
}

/// Appliers are one whatever their version; others are told apart by that of the object.
fn in_version_of(kind: &Kind, mut id: Id) -> Id {
    if id.operation == Operation::Update {
        id.api_version = kind.api_version();
    }
    id
}

fn owns_replicas(owned: &Owned) -> bool {
    let path = ["spec", "replicas"].map(|name| Element::Field(name.to_owned()));
    owned.set.has(&path)
}

fn of_replicas(kind: &Kind, time: Option<String>) -> Owned {
    Owned {
        api_version: kind.api_version(),
        time,
        set: replicas(),
    }
}

fn replicas() -> Set {
    Set::from_paths(&[&["spec", "replicas"]])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        apply::{Force, Manager, apply},
        kinds::deployment::DEPLOYMENT,
    };

    fn deployment() -> Value {
        json!({"metadata": {"managedFields": [{
            "manager": "owner", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:replicas": {}, "f:paused": {}}}
        }]}})
    }

    fn scaled(force: Force) -> Result<Value, String> {
        let mut object = deployment();
        let mut scale = json!({
            "apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "d"}, "spec": {"replicas": 1}
        });
        let mut applied = scale.clone();
        applied["spec"]["replicas"] = 2.into();
        show_managers(&object, &mut scale);
        let manager = Manager {
            name: "scaler",
            subresource: "scale",
            time: "2026-01-01T00:00:00Z",
        };
        let scale = apply(&SCALE, Some(&scale), &applied, &manager, force)
            .map_err(|status| status.message)?;
        take_managers(&DEPLOYMENT, &mut object, &scale);
        Ok(object["metadata"]["managedFields"].take())
    }

    #[test]
    fn replicas_applied_by_somebody_are_contested_through_the_scale() {
        assert_eq!(
            scaled(Force::No).unwrap_err(),
            "Apply failed with 1 conflict: conflict with \"owner\": .spec.replicas"
        );
    }

    #[test]
    fn a_forced_scale_takes_the_replicas_and_nothing_else() {
        let entries = scaled(Force::Yes).unwrap();
        let fields = |manager: &str| {
            let entries = entries.as_array().unwrap().iter();
            let mut of = entries.filter(|entry| entry["manager"] == manager);
            of.next().map(|entry| entry["fieldsV1"].clone())
        };
        assert_eq!(fields("owner"), Some(json!({"f:spec": {"f:paused": {}}})));
        assert_eq!(
            fields("scaler"),
            Some(json!({"f:spec": {"f:replicas": {}}}))
        );
    }
}
