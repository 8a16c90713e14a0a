//! Server-side apply and the bookkeeping of `metadata.managedFields`. Never stores and never asks for the time.
//!
//! A field belongs to whoever set it last: an Update entry for plain writes, an Apply entry for appliers,
//! who conflict with each other instead and take back what they no longer apply.

mod compare;
mod fieldset;
mod managers;
mod merge;
mod path;
mod scale;
mod typed;

use std::sync::OnceLock;

use serde_json::{Map, Value};

use crate::{
    decode,
    kind::Kind,
    schema,
    status::{Cause, Details, Status},
};

use compare::Comparison;
use managers::{Id, Managers, Operation, Owned};
use path::{Element, Set};
use typed::Place;

pub use scale::{show_managers, take_managers};

const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The one manager whose applies take over what client-side apply set.
pub const KUBECTL: &str = "kubectl";

/// Who writes, through which subresource (empty for none), and when (RFC 3339, seconds).
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    pub name: &'a str,
    pub subresource: &'a str,
    pub time: &'a str,
}

impl Manager<'_> {
    fn id(&self, kind: &Kind, operation: Operation) -> Id {
        Id {
            manager: if self.name.is_empty() {
                "unknown".to_owned()
            } else {
                self.name.to_owned()
            },
            operation,
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => kind.api_version(),
            },
            subresource: self.subresource.to_owned(),
        }
    }
}

/// Whether an apply takes fields over from other managers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Force {
    No,
    Yes,
}

/// Merges an applied configuration into the live object and returns the whole new object, managedFields included.
///
/// The outcome is not defaulted yet.
///
/// # Errors
/// 409 with one cause per contested field unless forced; 400 and 500 for configurations that cannot be applied.
pub fn apply(
    kind: &Kind,
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager<'_>,
    force: Force,
) -> Result<Value, Status> {
    check_type(kind, applied)?;
    if applied
        .pointer("/metadata/managedFields")
        .is_some_and(|v| !v.is_null())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let place = root(kind);
    let errors = fieldset::errors(place, applied);
    if !errors.is_empty() {
        return Err(Status::failure(500, "", untyped(kind, applied, &errors)));
    }
    let step = Apply {
        kind,
        place,
        config: applied,
        manager,
        id: manager.id(kind, Operation::Apply),
    };
    let mut live = live.cloned().unwrap_or_else(|| decode::empty(kind));
    let mut managers = managers::of(&live);
    managers::strip(&mut live);
    if managers.is_empty() {
        managers = step.adopt(&live);
    }
    let outcome = match (step.run(&live, managers.clone(), force), manager.name) {
        (Err(conflicts), KUBECTL) => step.after_client_side_apply(&live, managers, conflicts),
        (outcome, _) => outcome,
    };
    let (mut object, managers) = outcome.map_err(|conflicts| conflict(&conflicts))?;
    if manager.name == KUBECTL {
        renew_last_applied(&mut object, applied);
    }
    decode::check(kind, &mut object)?;
    managers::write(&mut object, &managers);
    Ok(object)
}

/// Brings `new`'s managedFields up to date for a write that is not an apply.
///
/// Both objects are as they are after defaulting and before allocation.
pub fn track_update(kind: &Kind, old: Option<&Value>, new: &mut Value, manager: &Manager<'_>) {
    let managers = managers::starting(old, new, manager.subresource);
    managers::strip(new);
    if managers.is_empty() && old.is_some() {
        return;
    }
    let managers = updated(kind, old, new, managers, manager);
    managers::write(new, &managers);
}

/// Takes back new times of managedFields if nothing but times has changed, so that a write without effect stays one.
pub fn settle_times(old: &Value, new: &mut Value) {
    let before = managers::of(old);
    let after = managers::of(new);
    let same_owners = before.len() == after.len()
        && before.iter().zip(&after).all(|((id, a), (other, b))| {
            id == other && a.set == b.set && a.api_version == b.api_version
        });
    if !same_owners || before == after || !same_besides_managers(old, new) {
        return;
    }
    managers::write(new, &before);
}

fn same_besides_managers(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return false;
    };
    let metadata = |object: &Map<String, Value>| {
        let fields = object.get("metadata").and_then(Value::as_object);
        fields.map(|fields| without(fields, "managedFields"))
    };
    without(old, "metadata") == without(new, "metadata") && metadata(old) == metadata(new)
}

fn without(fields: &Map<String, Value>, left_out: &str) -> Map<String, Value> {
    let kept = fields.iter().filter(|(name, _)| *name != left_out);
    kept.map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The managers after an update: whoever changed a field owns it, and nobody else does.
fn updated(
    kind: &Kind,
    old: Option<&Value>,
    new: &Value,
    mut managers: Managers,
    manager: &Manager<'_>,
) -> Managers {
    let empty;
    let old = match old {
        Some(old) => old,
        None => {
            empty = decode::empty(kind);
            &empty
        }
    };
    let ignored = reset_fields(kind, manager.subresource);
    let changes = Comparison::of(root(kind), old, new).without_below(&ignored);
    let changed = changes.added.union(&changes.modified);
    keep_known_versions(kind, &mut managers);
    for owned in managers.values_mut() {
        owned.set = owned.set.difference(&changed).difference(&changes.removed);
    }
    managers.retain(|_, owned| !owned.set.is_empty());
    let own = changed.without(never_owned());
    if !own.is_empty() {
        let owned = managers
            .entry(manager.id(kind, Operation::Update))
            .or_insert_with(|| Owned {
                api_version: kind.api_version(),
                time: None,
                set: Set::default(),
            });
        owned.set = own.union(&owned.set);
        owned.time = Some(manager.time.to_owned());
    }
    managers::cap(&mut managers);
    managers
}

/// Entries of versions that this kind never had are forgotten.
fn keep_known_versions(kind: &Kind, managers: &mut Managers) {
    let own = kind.api_version();
    managers.retain(|_, owned| {
        let (group, version) = owned
            .api_version
            .split_once('/')
            .unwrap_or(("", &owned.api_version));
        owned.api_version == own || schema::table().by_gvk(group, version, kind.kind).is_some()
    });
}

/// One apply under way.
struct Apply<'a> {
    kind: &'a Kind,
    place: Place,
    config: &'a Value,
    manager: &'a Manager<'a>,
    id: Id,
}

/// The contested paths of each manager.
type Conflicts = Vec<(Id, Vec<Vec<Element>>)>;

impl Apply<'_> {
    /// Gives everything an object holds to an entry of its own before its first apply.
    fn adopt(&self, live: &Value) -> Managers {
        let manager = Manager {
            name: BEFORE_FIRST_APPLY,
            ..*self.manager
        };
        updated(self.kind, None, live, Managers::new(), &manager)
    }

    fn run(
        &self,
        live: &Value,
        mut managers: Managers,
        force: Force,
    ) -> Result<(Value, Managers), Conflicts> {
        let ignored = reset_fields(self.kind, self.manager.subresource);
        keep_known_versions(self.kind, &mut managers);
        let merged = merge::merge(self.place, live, self.config);
        let last = managers.remove(&self.id);
        let mut own = Owned {
            api_version: self.kind.api_version(),
            time: last.as_ref().and_then(|l| l.time.clone()),
            set: fieldset::of(self.place, self.config).without_below(&ignored),
        };
        let object = match &last {
            Some(last) if !last.set.difference(&own.set).is_empty() => {
                self.prune(&merged, &managers, &own.set, &last.set)
            }
            _ => merged,
        };
        let changes = Comparison::of(self.place, live, &object).without_below(&ignored);
        let changed = changes.modified.union(&changes.added);
        let contested: Conflicts = managers
            .iter()
            .map(|(id, owned)| (id.clone(), owned.set.intersection(&changed).paths()))
            .filter(|(_, paths)| !paths.is_empty())
            .collect();
        if force == Force::No && !contested.is_empty() {
            return Err(contested);
        }
        for owned in managers.values_mut() {
            owned.set = owned.set.difference(&changed).difference(&changes.removed);
        }
        managers.retain(|_, owned| !owned.set.is_empty());
        if object != *live {
            own.time = Some(self.manager.time.to_owned());
        }
        own.set = own.set.without(never_owned());
        if !own.set.is_empty() {
            managers.insert(self.id.clone(), own);
        }
        Ok((object, managers))
    }

    /// Removes what this manager applied last time, not this time, and nobody else owns.
    fn prune(&self, merged: &Value, managers: &Managers, own: &Set, last: &Set) -> Value {
        let named = |set: &Set| merge::with_named_fields(self.place, merged, set);
        let last = named(last);
        let pruned = merge::remove(self.place, merged, &last);
        let owned = managers
            .values()
            .fold(own.clone(), |all, owned| all.union(&owned.set));
        let everything = named(&fieldset::of(self.place, merged));
        let kept = named(&fieldset::of(self.place, &pruned)).union(&named(&owned));
        let pruned = merge::remove(self.place, merged, &everything.difference(&kept));
        // Items that hold other managers' fields come back whole, except for what was applied last time.
        let left = named(&fieldset::of(self.place, &pruned));
        let doomed = everything.difference(&left).intersection(&last);
        merge::remove(self.place, merged, &doomed)
    }

    /// Fields that client-side apply set, and that still hold its values, are no conflicts for kubectl.
    fn after_client_side_apply(
        &self,
        live: &Value,
        managers: Managers,
        conflicts: Conflicts,
    ) -> Result<(Value, Managers), Conflicts> {
        let Some(allowed) = self.set_by_client_side_apply(live) else {
            return Err(conflicts);
        };
        let left: Conflicts = conflicts
            .into_iter()
            .map(|(id, paths)| {
                let paths = paths.into_iter().filter(|path| !allowed.has(path));
                (id, paths.collect::<Vec<_>>())
            })
            .filter(|(_, paths)| !paths.is_empty())
            .collect();
        if left.is_empty() {
            self.run(live, managers, Force::Yes)
        } else {
            Err(left)
        }
    }

    fn set_by_client_side_apply(&self, live: &Value) -> Option<Set> {
        let text = last_applied(live)?;
        let config: Value = serde_json::from_str(text).ok()?;
        let version = config.get("apiVersion").and_then(Value::as_str);
        if version != Some(self.kind.api_version().as_str())
            || !fieldset::errors(self.place, &config).is_empty()
        {
            return None;
        }
        let changes = Comparison::of(self.place, &config, live);
        Some(
            fieldset::of(self.place, &config)
                .difference(&changes.modified)
                .difference(&changes.added)
                .difference(&changes.removed),
        )
    }
}

fn last_applied(object: &Value) -> Option<&str> {
    let annotations = object.get("metadata")?.get("annotations")?;
    annotations
        .get(LAST_APPLIED)?
        .as_str()
        .filter(|text| !text.is_empty())
}

/// Keeps client-side apply's own record in step with what kubectl applies here.
pub fn renew_last_applied(object: &mut Value, applied: &Value) {
    if last_applied(object).is_none() {
        return;
    }
    let mut record = applied.clone();
    if let Some(Value::Object(annotations)) = record.pointer_mut("/metadata/annotations") {
        annotations.remove(LAST_APPLIED);
    }
    if let Some(Value::Object(annotations)) = object.pointer_mut("/metadata/annotations") {
        annotations.insert(LAST_APPLIED.to_owned(), format!("{record}\n").into());
    }
}

fn root(kind: &Kind) -> Place {
    schema::of(kind).map_or(Place::Free, Place::Root)
}

/// What a write does not own whatever it says: writes through the object no status, writes through `/status` no spec.
fn reset_fields(kind: &Kind, subresource: &str) -> Set {
    match subresource {
        "" | "finalize" if kind.has_subresource("status") => Set::from_paths(&[&["status"]]),
        "status" => Set::from_paths(kind.strategy.status_resets),
        _ => Set::default(),
    }
}

/// What only the server sets.
fn never_owned() -> &'static Set {
    static SET: OnceLock<Set> = OnceLock::new();
    SET.get_or_init(|| {
        Set::from_paths(&[
            &["apiVersion"],
            &["kind"],
            &["metadata"],
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "creationTimestamp"],
            &["metadata", "selfLink"],
            &["metadata", "uid"],
            &["metadata", "clusterName"],
            &["metadata", "generation"],
            &["metadata", "managedFields"],
            &["metadata", "resourceVersion"],
        ])
    })
}

fn check_type(kind: &Kind, applied: &Value) -> Result<(), Status> {
    let text = |key: &str| applied.get(key).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") == kind.api_version() && text("kind") == kind.kind {
        return Ok(());
    }
    let (group, version) = text("apiVersion")
        .split_once('/')
        .unwrap_or(("", text("apiVersion")));
    Err(Status::bad_request(format!(
        "invalid object type: {group}/{version}, Kind={}",
        text("kind")
    )))
}

fn untyped(kind: &Kind, applied: &Value, errors: &[String]) -> String {
    let meta = |key: &str| {
        let value = applied.get("metadata").and_then(|m| m.get(key));
        value.and_then(Value::as_str).unwrap_or_default()
    };
    let detail = match errors {
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    format!(
        "failed to create typed patch object ({}/{}; {}/{}, Kind={}): {detail}",
        meta("namespace"),
        meta("name"),
        kind.group,
        kind.version,
        kind.kind,
    )
}

/// 409 with one cause per contested field.
fn conflict(conflicts: &Conflicts) -> Status {
    let show = |path: &[Element]| path.iter().map(Element::to_string).collect::<String>();
    let causes: Vec<Cause> = conflicts
        .iter()
        .flat_map(|(id, paths)| {
            paths.iter().map(move |path| Cause {
                reason: "FieldManagerConflict".into(),
                message: format!("conflict with {id}"),
                field: show(path),
            })
        })
        .collect();
    let message = match causes.as_slice() {
        [one] => format!(
            "Apply failed with 1 conflict: {}: {}",
            one.message, one.field
        ),
        many => {
            let mut lines = Vec::new();
            for (id, paths) in conflicts {
                lines.push(format!("conflicts with {id}:"));
                lines.extend(paths.iter().map(|path| format!("- {}", show(path))));
            }
            format!(
                "Apply failed with {} conflicts: {}",
                many.len(),
                lines.join("\n")
            )
        }
    };
    Status::failure(409, "Conflict", message).with_details(Details {
        causes,
        ..Details::default()
    })
}

#[cfg(test)]
mod tests;
