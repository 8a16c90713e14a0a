//! `metadata.managedFields` read and written: who owns which paths. Knows no schema and merges no objects.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::path::Set;
use crate::field::quote;

const UPDATE_MANAGERS_MAX: usize = 10;
const OLD_UPDATES: &str = "ancient-changes";

/// What tells entries apart. Appliers are one whatever their version.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) manager: String,
    pub(super) operation: Operation,
    /// Empty for appliers.
    pub(super) api_version: String,
    pub(super) subresource: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn wire(self) -> &'static str {
        match self {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        }
    }
}

/// What one entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owned {
    pub(super) api_version: String,
    pub(super) time: Option<String>,
    pub(super) set: Set,
}

pub(super) type Managers = BTreeMap<Id, Owned>;

impl std::fmt::Display for Id {
    /// As conflicts name a manager.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&quote(&self.manager))?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {}", quote(&self.subresource))?;
        }
        match self.operation {
            Operation::Apply => Ok(()),
            Operation::Update => write!(f, " using {}", self.api_version),
        }
    }
}

/// The managers an object starts a write with: those the writer sent, else those it had.
pub(super) fn starting(live: Option<&Value>, new: &Value, subresource: &str) -> Managers {
    let live = || live.and_then(entries).and_then(decode).unwrap_or_default();
    if !subresource.is_empty() {
        return live();
    }
    let sent = entries(new);
    if sent.is_some_and(is_reset) {
        return Managers::new();
    }
    match sent.and_then(decode) {
        Some(managers) if !managers.is_empty() => managers,
        _ => live(),
    }
}

/// The managers of a stored object; an unreadable entry makes all of them unknown.
pub(super) fn of(object: &Value) -> Managers {
    entries(object).and_then(decode).unwrap_or_default()
}

fn entries(object: &Value) -> Option<&[Value]> {
    let entries = object.get("metadata")?.get("managedFields")?;
    entries.as_array().map(Vec::as_slice)
}

/// `[]` and `[{}]` ask for all ownership to be forgotten.
fn is_reset(entries: &[Value]) -> bool {
    match entries {
        [] => true,
        [Value::Object(entry)] => entry.values().all(|v| v.as_str() == Some("")),
        _ => false,
    }
}

fn decode(entries: &[Value]) -> Option<Managers> {
    entries.iter().map(decode_entry).collect()
}

fn decode_entry(entry: &Value) -> Option<(Id, Owned)> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    let operation = match text("operation") {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    let api_version = text("apiVersion");
    if api_version.is_empty() || text("fieldsType") != "FieldsV1" {
        return None;
    }
    let set = match entry.get("fieldsV1") {
        None | Some(Value::Null) => Set::default(),
        Some(fields) => Set::decode(fields).ok()?,
    };
    let id = Id {
        manager: text("manager").to_owned(),
        operation,
        api_version: match operation {
            Operation::Apply => String::new(),
            Operation::Update => api_version.to_owned(),
        },
        subresource: text("subresource").to_owned(),
    };
    let owned = Owned {
        api_version: api_version.to_owned(),
        time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
        set,
    };
    Some((id, owned))
}

/// Writes the managers into an object, in the order readers expect.
pub(super) fn write(object: &mut Value, managers: &Managers) {
    let Some(metadata) = metadata(object) else {
        return;
    };
    if managers.is_empty() {
        metadata.remove("managedFields");
        return;
    }
    let mut sorted: Vec<(&Id, &Owned)> = managers.iter().collect();
    sorted.sort_by(|(a, own_a), (b, own_b)| {
        (
            a.operation,
            &own_a.time,
            &a.manager,
            &own_a.api_version,
            &a.subresource,
        )
            .cmp(&(
                b.operation,
                &own_b.time,
                &b.manager,
                &own_b.api_version,
                &b.subresource,
            ))
    });
    let entries = sorted.into_iter().map(|(id, owned)| encode(id, owned));
    metadata.insert("managedFields".into(), Value::Array(entries.collect()));
}

/// Takes the managers out of an object.
pub(super) fn strip(object: &mut Value) {
    if let Some(metadata) = metadata(object) {
        metadata.remove("managedFields");
    }
}

fn metadata(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.get_mut("metadata")?.as_object_mut()
}

fn encode(id: &Id, owned: &Owned) -> Value {
    let mut entry = json!({
        "apiVersion": owned.api_version,
        "fieldsType": "FieldsV1",
        "fieldsV1": owned.set.encode(),
        "operation": id.operation.wire(),
    });
    if let Value::Object(entry) = &mut entry {
        let optional = [
            ("manager", Some(&id.manager)),
            ("subresource", Some(&id.subresource)),
            ("time", owned.time.as_ref()),
        ];
        for (key, value) in optional {
            if let Some(value) = value.filter(|v| !v.is_empty()) {
                entry.insert(key.to_owned(), value.as_str().into());
            }
        }
    }
    entry
}

/// Merges the oldest entries of updates into one per version until few enough are left.
pub(super) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<(Option<String>, Id)> = managers
        .iter()
        .filter(|(id, _)| id.operation == Operation::Update)
        .map(|(id, owned)| (owned.time.clone(), id.clone()))
        .collect();
    let mut count = updaters.len();
    if count <= UPDATE_MANAGERS_MAX {
        return;
    }
    updaters.sort();
    let mut first_of_version: BTreeMap<String, Id> = BTreeMap::new();
    for (time, id) in updaters {
        if count <= UPDATE_MANAGERS_MAX {
            return;
        }
        let version = id.api_version.clone();
        let Some(first) = first_of_version.get(&version) else {
            first_of_version.insert(version, id);
            continue;
        };
        let bucket = Id {
            manager: OLD_UPDATES.to_owned(),
            operation: Operation::Update,
            api_version: version,
            subresource: String::new(),
        };
        if !managers.contains_key(&bucket)
            && let Some(owned) = managers.remove(first)
        {
            managers.insert(bucket.clone(), owned);
        }
        if let Some(owned) = managers.remove(&id)
            && let Some(old) = managers.get_mut(&bucket)
        {
            old.set = owned.set.union(&old.set);
            old.time = time;
            count -= 1;
        }
    }
}
