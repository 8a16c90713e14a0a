//! The registry: one row a kind, holding everything that generic code needs to serve it.
//!
//! A kind's rows, defaults, validation and columns live in the file named after it; nothing outside this folder matches on kinds.

pub mod checks;
pub mod configmap;
pub mod controllerrevision;
pub mod cronjob;
pub mod daemonset;
pub mod deployment;
pub mod endpoints;
pub mod endpointslice;
pub mod event;
pub mod internal;
pub mod job;
pub mod lease;
pub mod namespace;
pub mod networking;
pub mod node;
pub mod pod;
pub mod rbac;
pub mod replicaset;
pub mod rollout;
pub mod scale;
pub mod secret;
pub mod service;
pub mod serviceaccount;
pub mod statefulset;
pub mod template;

use serde_json::Value;

use crate::{field, meta, names, table};

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
    pub selectable: &'static [Selectable],
    /// What is said of a field that is none of these, where a kind has words of its own for it.
    pub unknown_field: Option<fn(&str) -> String>,
    /// Set where objects are kept under another row and only shown through this one.
    pub view: Option<View>,
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
        default: |_| {},
        prepare_create: |_| {},
        validate_create: |_| Vec::new(),
        prepare_update: |_, _| {},
        validate_update: |_, _| Vec::new(),
        metadata_checks: &[MetadataCheck::Update],
        finalizer_names: FinalizerNames::StandardOrPrefixed,
        prepare_status: |_, _| {},
        validate_status: |_, _| Vec::new(),
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
    /// A namespaced kind of no group, without subresources, columns or rules; rows extend it with `..Kind::BASE`.
    pub const BASE: Kind = Kind {
        group: "",
        version: "v1",
        kind: "",
        plural: "",
        singular: "",
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        durability: Durability::Disk,
        verbs: Kind::VERBS,
        subresources: &[],
        strategy: Strategy::BASE,
        columns: &[Column::NAME, Column::AGE],
        cells: |object, now_seconds| {
            vec![meta::name(object).into(), table::age(object, now_seconds)]
        },
        selectable: &[],
        unknown_field: None,
        view: None,
        deprecation: None,
    };

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

    /// Readies a decoded and defaulted object for [`Kind::validate_create`].
    pub fn prepare_create(&self, object: &mut Value) {
        (self.strategy.prepare_create)(object);
        // Kinds without generations keep what a client makes up.
        if self.strategy.generation != Generation::None {
            meta::set(object, "generation", 1);
        }
    }

    /// Everything that is wrong with a new object, in Kubernetes' order.
    pub fn validate_create(&self, object: &Value) -> Vec<field::Error> {
        let mut errors = meta::validate_create(self, object);
        errors.extend((self.strategy.validate_create)(object));
        errors
    }

    /// Restores what a client may not change; raises the generation where something of weight changed.
    pub fn prepare_update(&self, new: &mut Value, old: &Value) {
        meta::keep_server_fields(new, old);
        (self.strategy.prepare_update)(new, old);
        if self.changes_generation(new, old) {
            meta::set(new, "generation", meta::generation(old) + 1);
        }
    }

    /// Everything that is wrong with an update; Kubernetes checks metadata more than once and lists its errors as often.
    pub fn validate_update(&self, new: &Value, old: &Value) -> Vec<field::Error> {
        let mut errors = self.validate_metadata_update(new, old);
        for check in self.strategy.metadata_checks {
            errors.extend(match check {
                MetadataCheck::Create => meta::validate_create(self, new),
                MetadataCheck::Update => meta::validate_update(new, old),
            });
        }
        errors.extend((self.strategy.validate_update)(new, old));
        errors
    }

    /// As [`Kind::prepare_update`] for writes through `/status`.
    pub fn prepare_status(&self, new: &mut Value, old: &Value) {
        meta::keep_server_fields(new, old);
        (self.strategy.prepare_status)(new, old);
    }

    /// As [`Kind::validate_update`] for writes through `/status`.
    pub fn validate_status(&self, new: &Value, old: &Value) -> Vec<field::Error> {
        let mut errors = self.validate_metadata_update(new, old);
        errors.extend(meta::validate_update(new, old));
        errors.extend((self.strategy.validate_status)(new, old));
        errors
    }

    /// What the update of any kind of object must keep, for subresources that are written in ways of their own.
    pub fn validate_metadata_update(&self, new: &Value, old: &Value) -> Vec<field::Error> {
        let mut errors = meta::validate_any_name(self, new);
        errors.extend(meta::validate_update(new, old));
        errors
    }

    fn changes_generation(&self, new: &Value, old: &Value) -> bool {
        let content = |object: &Value| {
            let mut content = object.clone();
            if let Some(fields) = content.as_object_mut() {
                fields.retain(|field, _| field != "metadata" && field != "status");
            }
            content
        };
        match self.strategy.generation {
            Generation::None => false,
            Generation::Spec => new["spec"] != old["spec"],
            Generation::SpecAndAnnotations => {
                new["spec"] != old["spec"] || meta::annotations(new) != meta::annotations(old)
            }
            Generation::Content => {
                content(new) != content(old) || meta::labels(new) != meta::labels(old)
            }
        }
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

/// Every kind served, in discovery order: groups as Kubernetes ranks them, within a group by plural.
pub static ALL: &[&Kind] = &[
    &configmap::CONFIG_MAP,
    &endpoints::ENDPOINTS,
    &event::EVENT,
    &namespace::NAMESPACE,
    &node::NODE,
    &pod::POD,
    &secret::SECRET,
    &serviceaccount::SERVICE_ACCOUNT,
    &service::SERVICE,
    &controllerrevision::CONTROLLER_REVISION,
    &daemonset::DAEMON_SET,
    &deployment::DEPLOYMENT,
    &replicaset::REPLICA_SET,
    &statefulset::STATEFUL_SET,
    &event::EVENTS_V1,
    &cronjob::CRON_JOB,
    &job::JOB,
    &networking::IP_ADDRESS,
    &networking::SERVICE_CIDR,
    &rbac::CLUSTER_ROLE_BINDING,
    &rbac::CLUSTER_ROLE,
    &rbac::ROLE_BINDING,
    &rbac::ROLE,
    &lease::LEASE,
    &endpointslice::ENDPOINT_SLICE,
];

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

#[cfg(test)]
mod tests;
