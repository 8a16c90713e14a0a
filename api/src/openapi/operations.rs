//! Paths and their operations, from the registry. Knows what requests look like, not what they do.

use serde_json::{Map, Value, json};

use super::{Dialect, Gvk, Review, parameters, root_of, schemas::Schemas};
use crate::kind::{Kind, Scope, Subresource};

const COLLECTION: &[&str] = &["list", "create", "deletecollection"];
const ITEM: &[&str] = &["get", "update", "patch", "delete"];
const SUBRESOURCE: &[&str] = &["get", "create", "update", "patch", "delete"];

const EVERYWHERE: &str = "ForAllNamespaces";

const JSON: &[&str] = &["application/json"];
const BODIES: &[&str] = &["application/json", "application/yaml"];
const PATCHES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Adds every path of a kind.
pub(super) fn add(schemas: &mut Schemas, paths: &mut Map<String, Value>, kind: &'static Kind) {
    let root = root_of(kind.group, kind.version);
    let below = collection_path(kind.group, kind.version, kind.plural, kind.scope);
    let mut writer = Writer {
        schemas,
        own: (kind.group, kind.version, kind.kind),
        scope: kind.scope,
        gvk: (kind.group, kind.version, kind.kind),
        returns_deleted_object: kind.strategy.returns_deleted_object,
    };
    if kind.scope == Scope::Namespaced && kind.verbs.contains(&"list") {
        let everywhere = format!("/{root}/{}", kind.plural);
        let list = writer.operation("list", EVERYWHERE);
        let parameters = writer.shared(&[]);
        paths.insert(everywhere, json!({"get": list, "parameters": parameters}));
    }
    let collection = writer.path(&[], COLLECTION, kind.verbs, "");
    insert(paths, below.clone(), collection);
    let item = format!("{below}/{{name}}");
    let single = writer.path(&["name"], ITEM, kind.verbs, "");
    insert(paths, item.clone(), single);
    for subresource in kind.subresources {
        let single = writer.subresource(subresource);
        insert(paths, format!("{item}/{}", subresource.name), single);
    }
}

/// Adds the one path of a kind that is only ever posted.
pub(super) fn add_review(
    schemas: &mut Schemas,
    paths: &mut Map<String, Value>,
    review: &'static Review,
) {
    let (group, version, _) = review.gvk;
    let mut writer = Writer {
        schemas,
        own: review.gvk,
        scope: review.scope,
        gvk: review.gvk,
        returns_deleted_object: false,
    };
    let collection = writer.path(&[], COLLECTION, &["create"], "");
    let path = collection_path(group, version, review.plural, review.scope);
    insert(paths, path, collection);
}

fn collection_path(group: &str, version: &str, plural: &str, scope: Scope) -> String {
    let root = root_of(group, version);
    match scope {
        Scope::Namespaced => format!("/{root}/namespaces/{{namespace}}/{plural}"),
        Scope::Cluster => format!("/{root}/{plural}"),
    }
}

fn insert(paths: &mut Map<String, Value>, path: String, operations: Option<Value>) {
    if let Some(operations) = operations {
        paths.insert(path, operations);
    }
}

struct Writer<'s> {
    schemas: &'s mut Schemas,
    /// The kind whose paths these are.
    own: Gvk,
    scope: Scope,
    /// The kind of the bodies, which differs for some subresources.
    gvk: Gvk,
    returns_deleted_object: bool,
}

impl Writer<'_> {
    /// The operations of a path with these parts, or `None` if it has none.
    fn path(
        &mut self,
        parts: &[&str],
        verbs: &[&str],
        served: &[&str],
        suffix: &str,
    ) -> Option<Value> {
        let mut out = Map::new();
        for verb in verbs.iter().filter(|verb| served.contains(verb)) {
            out.insert(method(verb).to_owned(), self.operation(verb, suffix));
        }
        if out.is_empty() {
            return None;
        }
        let namespaced = (self.scope == Scope::Namespaced).then_some("namespace");
        let parts: Vec<&str> = parts.iter().copied().chain(namespaced).collect();
        out.insert("parameters".into(), self.shared(&parts).into());
        Some(Value::Object(out))
    }

    fn subresource(&mut self, subresource: &'static Subresource) -> Option<Value> {
        let own = self.gvk;
        self.gvk = subresource.body.unwrap_or(own);
        let suffix = capitalized(subresource.name);
        let path = self.path(&["name"], SUBRESOURCE, subresource.verbs, &suffix);
        self.gvk = own;
        path
    }

    fn shared(&self, names: &[&str]) -> Vec<Value> {
        let dialect = self.schemas.dialect;
        let mut out: Vec<Value> = names
            .iter()
            .map(|name| {
                let description = match *name {
                    "name" => format!("Name of the {}.", self.own.2),
                    _ => "Namespace of the object.".to_owned(),
                };
                parameters::in_path(dialect, name, &description)
            })
            .collect();
        out.extend(parameters::query(dialect, parameters::PRETTY));
        out
    }

    fn operation(&mut self, verb: &str, suffix: &str) -> Value {
        let (group, version, kind) = self.gvk;
        let tag = format!("{}_{}", tag_of(self.own.0), self.own.1);
        let mut out = Map::new();
        out.insert("tags".into(), json!([tag]));
        out.insert("operationId".into(), self.operation_id(verb, suffix).into());
        out.insert("description".into(), describe(verb, self.own.2).into());
        out.insert("x-kubernetes-action".into(), action(verb).into());
        out.insert(
            "x-kubernetes-group-version-kind".into(),
            json!({"group": group, "version": version, "kind": kind}),
        );
        let query = match verb {
            "create" | "update" => parameters::CREATE,
            "patch" => parameters::PATCH,
            "delete" => parameters::DELETE,
            "list" | "deletecollection" => parameters::LIST,
            _ => &[],
        };
        let mut parameters = parameters::query(self.schemas.dialect, query);
        if let Some(body) = self.body(verb) {
            match self.schemas.dialect {
                Dialect::V2 => {
                    out.insert("consumes".into(), media_types(verb).into());
                    parameters.push(
                        json!({"name": "body", "in": "body", "required": true, "schema": body}),
                    );
                }
                Dialect::V3 => {
                    out.insert(
                        "requestBody".into(),
                        json!({"content": content(media_types(verb), &body)}),
                    );
                }
            }
        }
        if !parameters.is_empty() {
            out.insert("parameters".into(), parameters.into());
        }
        let responses = self.responses(verb);
        out.insert("responses".into(), responses);
        if self.schemas.dialect == Dialect::V2 {
            out.insert("produces".into(), BODIES.into());
        }
        Value::Object(out)
    }

    fn body(&mut self, verb: &str) -> Option<Value> {
        let (group, version, kind) = self.gvk;
        Some(match verb {
            "create" | "update" => self.schemas.object(group, version, kind),
            "patch" => self.schemas.patch(),
            "delete" | "deletecollection" => self.schemas.object("", "v1", "DeleteOptions"),
            _ => return None,
        })
    }

    fn responses(&mut self, verb: &str) -> Value {
        let (group, version, kind) = self.gvk;
        let body = match verb {
            "list" => self.schemas.list(self.own),
            "delete" if self.returns_deleted_object => self.schemas.object(group, version, kind),
            "delete" | "deletecollection" => self.schemas.object("", "v1", "Status"),
            _ => self.schemas.object(group, version, kind),
        };
        let answer = |description: &str| match self.schemas.dialect {
            Dialect::V2 => json!({"description": description, "schema": body}),
            Dialect::V3 => json!({"description": description, "content": content(BODIES, &body)}),
        };
        let mut out = Map::new();
        out.insert("200".into(), answer("OK"));
        out.insert("401".into(), json!({"description": "Unauthorized"}));
        if matches!(verb, "create" | "update" | "patch") {
            out.insert("201".into(), answer("Created"));
        }
        if matches!(verb, "create" | "delete") {
            out.insert("202".into(), answer("Accepted"));
        }
        Value::Object(out)
    }

    /// `patchCoreV1NamespacedServiceStatus`.
    fn operation_id(&self, verb: &str, suffix: &str) -> String {
        let verb = match verb {
            "get" => "read",
            "update" => "replace",
            "deletecollection" => "deleteCollection",
            other => other,
        };
        let scope = match self.scope {
            Scope::Namespaced if suffix != EVERYWHERE => "Namespaced",
            _ => "",
        };
        let (group, version, kind) = self.own;
        let group = capitalized(tag_of(group));
        let version = capitalized(version);
        format!("{verb}{group}{version}{scope}{kind}{suffix}")
    }
}

fn content(media_types: &[&str], schema: &Value) -> Value {
    let content: Map<String, Value> = media_types
        .iter()
        .map(|media_type| ((*media_type).to_owned(), json!({"schema": schema})))
        .collect();
    Value::Object(content)
}

fn media_types(verb: &str) -> &'static [&'static str] {
    match verb {
        "patch" => PATCHES,
        "delete" | "deletecollection" => JSON,
        _ => BODIES,
    }
}

fn method(verb: &str) -> &'static str {
    match verb {
        "create" => "post",
        "update" => "put",
        "patch" => "patch",
        "delete" | "deletecollection" => "delete",
        _ => "get",
    }
}

fn action(verb: &str) -> &str {
    match verb {
        "create" => "post",
        "update" => "put",
        other => other,
    }
}

fn describe(verb: &str, kind: &str) -> String {
    match verb {
        "list" => format!("list or watch objects of kind {kind}"),
        "create" => format!("create a {kind}"),
        "deletecollection" => format!("delete a collection of {kind}"),
        "get" => format!("read the specified {kind}"),
        "update" => format!("replace the specified {kind}"),
        "patch" => format!("partially update the specified {kind}"),
        other => format!("{other} a {kind}"),
    }
}

/// `core`, `apps`, `rbac`: the first label of a group.
fn tag_of(group: &str) -> &str {
    match group {
        "" => "core",
        group => group.split('.').next().unwrap_or(group),
    }
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_uppercase().chain(chars).collect(),
        None => String::new(),
    }
}
