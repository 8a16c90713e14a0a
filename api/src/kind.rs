//! What generic code needs to know of a kind to serve it: the shape of a row, and no row.

mod base;
mod write;

use serde_json::Value;

pub use crate::meta::Scope;
use crate::{field, meta, names};

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
    /// Reason and message of the `Completed` condition a row has, where the object is over and done.
    pub completed: fn(object: &Value) -> Option<(&'static str, &'static str)>,
    /// Field selectors beyond `metadata.name` and `metadata.namespace`, with the value an object has there.
    pub selectable: &'static [Selectable],
    /// What is said of a field that is none of these, where a kind has words of its own for it.
    pub unknown_field: Option<fn(&str) -> String>,
    /// Set where objects are kept under another row and only shown through this one.
    pub view: Option<View>,
    /// What the store keeps of an object and no answer shows.
    pub hidden: Option<Hidden>,
    /// A text for a `Warning: 299` header of every answer about this kind, whatever was asked.
    pub deprecation: Option<&'static str>,
}

/// A field path usable in field selectors, and how to read it.
pub type Selectable = (&'static str, fn(&Value) -> String);

/// How a row shows objects kept under another row, as `events.k8s.io/v1` shows core events.
///
/// Decoding, defaults, validation and columns are this row's own; only what the store keeps is converted.
pub struct View {
    pub of: &'static Kind,
    pub to_stored: fn(&mut Value),
    pub from_stored: fn(&mut Value),
}

/// A field that some objects have and none shows; patches still start from it.
#[derive(Clone, Copy)]
pub struct Hidden {
    /// In the compact JSON of every object that has something to hide.
    pub marker: &'static str,
    pub hide: fn(&mut Value),
}

/// Where objects of a kind are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// SQLite; acknowledged after commit.
    Disk,
    /// Memory only, for what is re-made constantly: leases.
    Memory,
    /// Memory only, and gone that long after its last change: events.
    Expiring { seconds: u32 },
}

/// A subresource as discovery lists it.
#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    pub name: &'static str,
    /// Group, version and kind of its body where it is not the parent's, e.g. `autoscaling/v1 Scale`;
    /// group and version are both empty where they are the parent's, as for `ServiceProxyOptions`.
    pub body: Option<(&'static str, &'static str, &'static str)>,
    pub verbs: &'static [&'static str],
}

/// What happens to an object of this kind on its way into the store, as `rest.RESTCreateStrategy` and friends.
///
/// Metadata is seen to by [`Kind::prepare_create`], [`Kind::validate_create`] and their siblings, which generic code calls;
/// the functions here see to the rest.
pub struct Strategy {
    /// Says what is wrong with a name, in Kubernetes' words.
    pub validate_name: fn(&str) -> Vec<String>,
    /// Makes a name of a `generateName` and random bytes.
    pub generate_name: fn(base: &str, random: meta::Random) -> String,
    /// Fills in what the client left out (`pkg/apis/*/v1/defaults.go`).
    pub default: fn(&mut Value),
    /// Clears what a client may not set on create, such as status.
    pub prepare_create: fn(&mut Value),
    pub validate_create: fn(&Value) -> Vec<field::Error>,
    /// Restores what a client may not change through the main resource.
    pub prepare_update: fn(new: &mut Value, old: &Value),
    pub validate_update: fn(new: &Value, old: &Value) -> Vec<field::Error>,
    /// What this kind's own update validation checks of metadata, on top of what is checked for all kinds.
    pub metadata_checks: &'static [MetadataCheck],
    pub finalizer_names: FinalizerNames,
    /// As `prepare_update`, for writes through `/status`.
    pub prepare_status: fn(new: &mut Value, old: &Value),
    pub validate_status: fn(new: &Value, old: &Value) -> Vec<field::Error>,
    /// Paths that a write through `/status` can neither change nor own.
    pub status_resets: &'static [&'static [&'static str]],
    /// Texts for `Warning: 299` headers of creates and updates that are not refused.
    pub warnings: fn(new: &Value, old: Option<&Value>) -> Vec<String>,
    /// As `warnings`, for writes through `/status`.
    pub status_warnings: fn(new: &Value, old: &Value) -> Vec<String>,
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

impl Strategy {
    /// Nothing to default, prepare or refuse; rows extend it with `..Strategy::BASE`.
    pub const BASE: Strategy = Strategy {
        validate_name: names::dns1123_subdomain,
        generate_name: meta::generated_name,
        default: |_| {},
        prepare_create: |_| {},
        validate_create: |_| Vec::new(),
        prepare_update: |_, _| {},
        validate_update: |_, _| Vec::new(),
        metadata_checks: &[MetadataCheck::Update],
        finalizer_names: FinalizerNames::StandardOrPrefixed,
        prepare_status: |_, _| {},
        validate_status: |_, _| Vec::new(),
        status_resets: &[&["spec"]],
        warnings: |_, _| Vec::new(),
        status_warnings: |_, _| Vec::new(),
        generation: Generation::None,
        create_on_update: false,
        unconditional_update: true,
        returns_deleted_object: false,
        grace_seconds: None,
    };
}

/// Which names of finalizers a new object may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinalizerNames {
    /// `kubernetes`, `orphan`, `foregroundDeletion` and names with a prefix.
    StandardOrPrefixed,
    Any,
}

/// A part of metadata validation; each time it is run its errors are listed once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataCheck {
    /// What must hold for a new object.
    Create,
    /// What an update may not change.
    Update,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Never set.
    None,
    /// 1 on create, one more when `spec` changes.
    Spec,
    /// 1 on create, one more when `spec` or the annotations change.
    SpecAndAnnotations,
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

impl Column {
    pub const NAME: Column = Column {
        name: "Name",
        kind: "string",
        format: "name",
        description: "metadata.name: unique within the namespace, cannot be changed.",
        priority: 0,
    };
    pub const AGE: Column = Column::string("Age", "Time since metadata.creationTimestamp.");

    /// A text column that is always shown.
    pub const fn string(name: &'static str, description: &'static str) -> Column {
        Column {
            name,
            kind: "string",
            format: "",
            description,
            priority: 0,
        }
    }

    /// A whole-number column that is always shown.
    pub const fn integer(name: &'static str, description: &'static str) -> Column {
        Column {
            kind: "integer",
            ..Column::string(name, description)
        }
    }

    /// Shows the column only with `-o wide`.
    pub const fn wide(self) -> Column {
        Column {
            priority: 1,
            ..self
        }
    }
}

impl Subresource {
    /// The verbs of `/status` and `/scale`.
    pub const PART_VERBS: &'static [&'static str] = &["get", "patch", "update"];

    pub const STATUS: Subresource = Subresource {
        name: "status",
        body: None,
        verbs: Subresource::PART_VERBS,
    };

    /// Answers every HTTP method by forwarding it; `options` names the kind of its query.
    pub const fn proxy(options: &'static str) -> Subresource {
        Subresource {
            name: "proxy",
            body: Some(("", "", options)),
            verbs: &["create", "delete", "get", "patch", "update"],
        }
    }
}

impl Kind {
    /// What can be done with objects of nearly every kind, in discovery order.
    pub const VERBS: &'static [&'static str] = &[
        "create",
        "delete",
        "deletecollection",
        "get",
        "list",
        "patch",
        "update",
        "watch",
    ];

    /// The row under which objects of this kind are kept.
    pub fn stored(&'static self) -> &'static Kind {
        match &self.view {
            Some(view) => view.of,
            None => self,
        }
    }

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
