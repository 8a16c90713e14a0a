//! The registry: one row a kind, holding everything that generic code needs to serve it.
//!
//! A kind's rows, defaults, validation and columns live in the file named after it; nothing outside this folder matches on kinds.

use serde_json::Value;

use crate::field;

/// Everything the API server needs to know of a kind. Behaviour that differs between kinds is here or nowhere.
pub struct Kind {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    pub plural: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    pub durability: Durability,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    pub strategy: Strategy,
    pub columns: &'static [Column],
    /// One row of a Table; `now_seconds` is Unix time, for ages.
    pub cells: fn(object: &Value, now_seconds: i64) -> Vec<Value>,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`, with the value an object has there.
    pub selectable: &'static [(&'static str, fn(&Value) -> String)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// Where objects of a kind are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// SQLite; acknowledged after commit.
    Disk,
    /// Memory only, for what is re-made constantly: events and leases.
    Memory,
}

/// A subresource as discovery lists it.
#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    pub name: &'static str,
    /// Group, version and kind of its body where it is not the parent's, e.g. `autoscaling/v1 Scale`.
    pub body: Option<(&'static str, &'static str, &'static str)>,
    pub verbs: &'static [&'static str],
}

/// What happens to an object of this kind on its way into the store, as `rest.RESTCreateStrategy` and friends.
pub struct Strategy {
    /// Says what is wrong with a name, in Kubernetes' words.
    pub validate_name: fn(&str) -> Vec<String>,
    /// Fills in what the client left out (`pkg/apis/*/v1/defaults.go`).
    pub default: fn(&mut Value),
    /// Clears what a client may not set on create, such as status.
    pub prepare_create: fn(&mut Value),
    pub validate_create: fn(&Value) -> Vec<field::Error>,
    /// Restores what a client may not change through the main resource.
    pub prepare_update: fn(new: &mut Value, old: &Value),
    pub validate_update: fn(new: &Value, old: &Value) -> Vec<field::Error>,
    /// As `prepare_update`, for writes through `/status`.
    pub prepare_status: fn(new: &mut Value, old: &Value),
    pub validate_status: fn(new: &Value, old: &Value) -> Vec<field::Error>,
    /// Texts for `Warning: 299` headers.
    pub warnings: fn(new: &Value, old: Option<&Value>) -> Vec<String>,
    /// Which changes raise `metadata.generation`.
    pub generation: Generation,
    /// PUT of a missing object creates it.
    pub create_on_update: bool,
    /// PUT without a resourceVersion is taken as it is.
    pub unconditional_update: bool,
    /// DELETE answers with the object, not with a Status.
    pub returns_deleted_object: bool,
    /// Seconds of grace a DELETE without its own gives; `None`: objects of this kind go at once.
    pub grace_seconds: Option<fn(&Value) -> i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Never set.
    None,
    /// 1 on create, one more when `spec` changes.
    Spec,
    /// 1 on create, one more when anything but metadata and status, or the labels, change.
    Content,
}

/// A Table column; priority 0 is always shown, 1 only with `-o wide`.
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer` or `date`.
    pub kind: &'static str,
    /// `name` for the first column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    pub priority: i32,
}

impl Kind {
    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// `services` or `deployments.apps`, as messages name resources.
    pub fn group_resource(&self) -> String {
        qualified(self.plural, self.group)
    }

    /// `Service` or `Deployment.apps`, as messages name kinds.
    pub fn group_kind(&self) -> String {
        qualified(self.kind, self.group)
    }

    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    pub fn has_subresource(&self, name: &str) -> bool {
        self.subresources.iter().any(|s| s.name == name)
    }
}

fn qualified(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// Every kind served, in discovery order.
pub const ALL: &[&Kind] = &[];

/// Finds a kind by its path segments, e.g. `("apps", "v1", "deployments")`.
pub fn by_resource(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    ALL.iter()
        .copied()
        .find(|k| k.group == group && k.version == version && k.plural == plural)
}

/// Finds a kind by what an object says of itself, e.g. `("apps", "v1", "Deployment")`.
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Kind> {
    ALL.iter()
        .copied()
        .find(|k| k.group == group && k.version == version && k.kind == kind)
}
