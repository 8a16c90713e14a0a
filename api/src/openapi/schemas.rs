//! Schemas of types, from facts and prose. Knows no paths.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{Dialect, Gvk, group_versions, prose::Prose};
use crate::schema::{self, Definition, Field, ListKind, Scalar, Strategy, Type};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The schemas of one document; whatever a schema refers to is added with it.
pub(super) struct Schemas {
    pub(super) dialect: Dialect,
    prose: Prose,
    done: Map<String, Value>,
    pending: BTreeSet<&'static str>,
}

impl Schemas {
    pub(super) fn new(dialect: Dialect) -> Self {
        Schemas {
            dialect,
            prose: Prose::unpack(),
            done: Map::new(),
            pending: BTreeSet::new(),
        }
    }

    /// A reference to an object's schema.
    pub(super) fn object(&mut self, group: &str, version: &str, kind: &str) -> Value {
        let table = schema::table();
        let definition = table
            .by_gvk(group, version, kind)
            .or_else(|| table.by_name(&format!("meta.v1.{kind}")));
        match definition {
            Some(definition) => self.definition(definition),
            None => json!({"type": "object"}),
        }
    }

    /// A reference to the schema of a kind's lists.
    pub(super) fn list(&mut self, gvk: Gvk) -> Value {
        let (group, version, kind) = gvk;
        let Some(item) = schema::table().by_gvk(group, version, kind) else {
            return json!({"type": "object"});
        };
        let name = format!("{}List", item.published_name());
        if !self.done.contains_key(&name) {
            let schema = self.list_schema(gvk, item);
            self.done.insert(name.clone(), schema);
        }
        self.reference(&name)
    }

    /// A reference to the schema of patch bodies.
    pub(super) fn patch(&mut self) -> Value {
        let name = format!("{META}.Patch");
        let description = self.description(&name, None);
        let schema = described(json!({"type": "object"}), description);
        self.done.insert(name.clone(), schema);
        self.reference(&name)
    }

    /// All schemas asked for, and all they refer to.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        while let Some(name) = self.pending.pop_first() {
            if let Some(definition) = schema::table().by_name(name) {
                let schema = self.definition_schema(definition);
                self.done.insert(definition.published_name(), schema);
            }
        }
        self.done
    }

    fn reference(&self, name: &str) -> Value {
        let place = match self.dialect {
            Dialect::V2 => "#/definitions/",
            Dialect::V3 => "#/components/schemas/",
        };
        json!({"$ref": format!("{place}{name}")})
    }

    fn definition(&mut self, definition: &'static Definition) -> Value {
        let name = definition.published_name();
        if !self.done.contains_key(&name) {
            self.pending.insert(definition.name);
        }
        self.reference(&name)
    }

    fn description(&self, definition: &str, field: Option<&str>) -> Option<Value> {
        self.prose.of(definition, field).map(Value::from)
    }

    fn definition_schema(&mut self, definition: &'static Definition) -> Value {
        let name = definition.published_name();
        let mut out = Map::new();
        let mut properties = Map::new();
        for field in &definition.fields {
            let schema = self.field(&name, field);
            properties.insert(field.name.to_owned(), schema);
        }
        let required: Vec<&str> = definition
            .fields
            .iter()
            .filter(|field| field.required)
            .map(|field| field.name)
            .collect();
        out.insert("type".into(), "object".into());
        if !properties.is_empty() {
            out.insert("properties".into(), properties.into());
        }
        if !required.is_empty() {
            out.insert("required".into(), required.into());
        }
        if definition.atomic {
            out.insert("x-kubernetes-map-type".into(), "atomic".into());
        }
        if let Some(gvks) = gvks(definition) {
            out.insert("x-kubernetes-group-version-kind".into(), gvks);
        }
        described(Value::Object(out), self.description(&name, None))
    }

    fn field(&mut self, definition: &str, field: &'static Field) -> Value {
        let mut schema = self.typed(&field.kind, default_of(field));
        if let Value::Object(out) = &mut schema {
            annotate(out, field);
        }
        described(schema, self.description(definition, Some(field.name)))
    }

    /// The schema of a type; a default stands beside it.
    fn typed(&mut self, kind: &'static Type, default: Option<Value>) -> Value {
        let mut schema = match kind {
            Type::Pointer(inner) => return self.typed(inner, default),
            Type::Named(name, inner) => {
                let mut schema = self.typed(inner, None);
                if let (Some(values), Value::Object(out)) =
                    (schema::table().enumeration(name), &mut schema)
                {
                    out.insert("enum".into(), values.into());
                }
                schema
            }
            Type::List(inner) => {
                let items = self.typed(inner, zero(inner));
                json!({"type": "array", "items": items})
            }
            Type::Map(_, inner) => {
                let values = self.typed(inner, zero(inner));
                json!({"type": "object", "additionalProperties": values})
            }
            Type::Ref(id) => {
                let reference = self.definition(id.get());
                self.alternative(reference)
            }
            Type::Scalar(scalar) => self.scalar(*scalar),
        };
        if let (Some(default), Value::Object(out)) = (default, &mut schema) {
            out.insert("default".into(), default);
        }
        schema
    }

    /// A reference that something may stand beside.
    fn alternative(&self, reference: Value) -> Value {
        match self.dialect {
            Dialect::V2 => reference,
            Dialect::V3 => json!({"allOf": [reference]}),
        }
    }

    fn scalar(&mut self, scalar: Scalar) -> Value {
        let published = |name: &str| Some(name.to_owned());
        let (name, schema) = match scalar {
            Scalar::String => (None, json!({"type": "string"})),
            Scalar::Bool => (None, json!({"type": "boolean"})),
            Scalar::Int32 | Scalar::Uint32 => (None, json!({"type": "integer", "format": "int32"})),
            Scalar::Int64 | Scalar::Uint64 => (None, json!({"type": "integer", "format": "int64"})),
            Scalar::Float64 => (None, json!({"type": "number", "format": "double"})),
            Scalar::Bytes => (None, json!({"type": "string", "format": "byte"})),
            Scalar::Time => (
                Some(format!("{META}.Time")),
                json!({"type": "string", "format": "date-time"}),
            ),
            Scalar::MicroTime => (
                Some(format!("{META}.MicroTime")),
                json!({"type": "string", "format": "date-time"}),
            ),
            Scalar::FieldsV1 => (Some(format!("{META}.FieldsV1")), json!({"type": "object"})),
            Scalar::Raw => (
                published("io.k8s.apimachinery.pkg.runtime.RawExtension"),
                json!({"type": "object"}),
            ),
            Scalar::Quantity => (
                published("io.k8s.apimachinery.pkg.api.resource.Quantity"),
                self.either("number", None),
            ),
            Scalar::IntOrString => (
                published("io.k8s.apimachinery.pkg.util.intstr.IntOrString"),
                self.either("integer", Some("int-or-string")),
            ),
        };
        let Some(name) = name else {
            return schema;
        };
        if !self.done.contains_key(&name) {
            let schema = described(schema, self.description(&name, None));
            self.done.insert(name.clone(), schema);
        }
        let reference = self.reference(&name);
        self.alternative(reference)
    }

    /// A string or something else, which version 2 can only call a string.
    fn either(&self, other: &str, format: Option<&str>) -> Value {
        let mut schema = match self.dialect {
            Dialect::V2 => json!({"type": "string"}),
            Dialect::V3 => json!({"oneOf": [{"type": other}, {"type": "string"}]}),
        };
        if let (Some(format), Value::Object(out)) = (format, &mut schema) {
            out.insert("format".into(), format.into());
        }
        schema
    }

    fn list_schema(&mut self, (group, version, kind): Gvk, item: &'static Definition) -> Value {
        let name = item.published_name();
        let items = self.definition(item);
        let items = self.alternative(items);
        let metadata = self.object("", "v1", "ListMeta");
        let metadata = self.alternative(metadata);
        let property =
            |schema: Value, field: &str| described(schema, self.description(&name, Some(field)));
        json!({
            "description": format!("{kind}List is a list of {kind} objects."),
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": property(json!({"type": "string"}), "apiVersion"),
                "kind": property(json!({"type": "string"}), "kind"),
                "metadata": described(metadata, Some("Standard list metadata.".into())),
                "items": {
                    "description": format!("The {kind} objects."),
                    "type": "array",
                    "items": items,
                },
            },
            "x-kubernetes-group-version-kind": [
                {"group": group, "version": version, "kind": format!("{kind}List")},
            ],
        })
    }
}

fn described(mut schema: Value, description: Option<Value>) -> Value {
    if let (Some(description), Value::Object(out)) = (description, &mut schema) {
        out.insert("description".into(), description);
    }
    schema
}

/// The kinds a schema is of; DeleteOptions belongs to every group version.
fn gvks(definition: &Definition) -> Option<Value> {
    if let Some((group, version, kind)) = definition.gvk {
        return Some(json!([{"group": group, "version": version, "kind": kind}]));
    }
    (definition.name == "meta.v1.DeleteOptions").then(|| {
        group_versions()
            .into_iter()
            .map(|(group, version)| {
                json!({"group": group, "version": version, "kind": "DeleteOptions"})
            })
            .collect()
    })
}

fn annotate(out: &mut Map<String, Value>, field: &Field) {
    if field.atomic {
        out.insert("x-kubernetes-map-type".into(), "atomic".into());
    }
    if matches!(field.kind.bare(), Type::List(_)) {
        let list = match &field.list {
            ListKind::Atomic => "atomic",
            ListKind::Set => "set",
            ListKind::Map(keys) => {
                out.insert("x-kubernetes-list-map-keys".into(), keys.as_slice().into());
                "map"
            }
        };
        out.insert("x-kubernetes-list-type".into(), list.into());
    }
    let strategy = match field.strategy {
        Strategy::Replace => return,
        Strategy::Merge => "merge",
        Strategy::RetainKeys => "retainKeys",
        Strategy::MergeRetainKeys => "merge,retainKeys",
    };
    out.insert("x-kubernetes-patch-strategy".into(), strategy.into());
    if !field.merge_key.is_empty() {
        out.insert(
            "x-kubernetes-patch-merge-key".into(),
            field.merge_key.into(),
        );
    }
}

fn default_of(field: &Field) -> Option<Value> {
    if let Some(default) = field.default {
        return serde_json::from_str(default).ok();
    }
    match field.kind.bare() {
        _ if matches!(field.kind, Type::Pointer(_)) => None,
        Type::Ref(_) => Some(json!({})),
        _ if field.omit_empty => None,
        _ => zero(&field.kind),
    }
}

/// The zero value of types that are never null.
fn zero(kind: &Type) -> Option<Value> {
    match kind {
        Type::Named(_, inner) => zero(inner),
        Type::Ref(_) => Some(json!({})),
        Type::Scalar(Scalar::String) => Some("".into()),
        Type::Scalar(Scalar::Bool) => Some(false.into()),
        Type::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Uint32 | Scalar::Uint64) => {
            Some(0.into())
        }
        _ => None,
    }
}
