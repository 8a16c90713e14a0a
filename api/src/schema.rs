//! What every type of the served kinds is made of: fields, Go types, list kinds, merge keys. Facts only; reads no objects.
//!
//! The table is `schema/facts.txt`, written by `schema/generate.py` and parsed on first use.

mod parse;

use std::{collections::HashMap, sync::OnceLock};

use crate::kind::Kind;

/// A struct, or a type with an encoding of its own such as `resource.Quantity`.
#[derive(Debug)]
pub struct Definition {
    /// `core.v1.ServicePort`.
    pub name: &'static str,
    /// Server-side apply owns it as a whole.
    pub atomic: bool,
    /// Group, version and kind, if it is an object.
    pub gvk: Option<(&'static str, &'static str, &'static str)>,
    /// Sorted by name.
    pub fields: Vec<Field>,
}

#[derive(Debug)]
pub struct Field {
    pub name: &'static str,
    pub kind: Type,
    /// Left out of JSON when it holds its type's zero value.
    pub omit_empty: bool,
    /// Left out of JSON when it is a struct with nothing set.
    pub omit_zero: bool,
    pub required: bool,
    /// The Go struct, embedded in this one, that the field stands in.
    pub embedded: Option<&'static str>,
    pub list: ListKind,
    /// Server-side apply owns the map as a whole.
    pub atomic: bool,
    pub strategy: Strategy,
    /// Empty for lists of scalars.
    pub merge_key: &'static str,
    /// JSON text of the published default.
    pub default: Option<&'static str>,
}

/// How a field is written in Go, and so how it is decoded and named in errors.
#[derive(Debug)]
pub enum Type {
    Scalar(Scalar),
    /// A named type that is no struct, e.g. `core.v1.Protocol` over `string`.
    Named(&'static str, Box<Type>),
    Pointer(Box<Type>),
    List(Box<Type>),
    /// Keys are strings; the first part is the key's Go type.
    Map(&'static str, Box<Type>),
    Ref(Id),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    String,
    Bool,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Float64,
    Bytes,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    /// Any JSON object, kept as it is.
    Raw,
    /// As `Raw`, the notation of managed fields.
    FieldsV1,
}

/// Index of a definition in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id(u16);

/// How server-side apply sees a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListKind {
    Atomic,
    Set,
    Map(Vec<&'static str>),
}

/// How strategic merge treats a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strategy {
    Replace,
    Merge,
    RetainKeys,
    MergeRetainKeys,
}

impl Strategy {
    pub fn merges(self) -> bool {
        matches!(self, Strategy::Merge | Strategy::MergeRetainKeys)
    }

    pub fn retains_keys(self) -> bool {
        matches!(self, Strategy::RetainKeys | Strategy::MergeRetainKeys)
    }
}

/// All definitions.
pub struct Table {
    definitions: Vec<Definition>,
    by_name: HashMap<&'static str, Id>,
    by_gvk: HashMap<(&'static str, &'static str, &'static str), Id>,
    enums: HashMap<&'static str, Vec<&'static str>>,
}

/// The table, parsed by the first caller.
pub fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| parse::table(include_str!("../schema/facts.txt")))
}

impl Table {
    pub fn by_name(&self, name: &str) -> Option<&Definition> {
        self.by_name.get(name).map(|id| self.get(*id))
    }

    pub fn by_gvk(&self, group: &str, version: &str, kind: &str) -> Option<&Definition> {
        self.by_gvk
            .get(&(group, version, kind))
            .map(|id| self.get(*id))
    }

    /// The values a named string type may have, if they are declared.
    pub fn enumeration(&self, name: &str) -> Option<&[&'static str]> {
        self.enums.get(name).map(Vec::as_slice)
    }

    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    fn get(&self, id: Id) -> &Definition {
        &self.definitions[usize::from(id.0)]
    }
}

impl Id {
    pub fn get(self) -> &'static Definition {
        table().get(self)
    }
}

/// The definition of a kind's objects.
///
/// `None` means that the kind is in the registry but not in the facts; objects of it are taken as they come.
pub fn of(kind: &Kind) -> Option<&'static Definition> {
    table().by_gvk(kind.group, kind.version, kind.kind)
}

impl Definition {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .binary_search_by(|f| f.name.cmp(name))
            .ok()
            .and_then(|at| self.fields.get(at))
    }

    /// `v1.ServicePort`, as Go prints the type.
    pub fn go_name(&self) -> &'static str {
        go_name(self.name)
    }

    /// `ServicePort`.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    /// `io.k8s.api.core.v1.ServicePort`.
    pub fn published_name(&self) -> String {
        let (package, name) = self.name.rsplit_once('.').unwrap_or(("", self.name));
        let package = match package {
            "meta.v1" => "io.k8s.apimachinery.pkg.apis.meta.v1".to_owned(),
            "resource" => "io.k8s.apimachinery.pkg.api.resource".to_owned(),
            "intstr" => "io.k8s.apimachinery.pkg.util.intstr".to_owned(),
            "runtime" => "io.k8s.apimachinery.pkg.runtime".to_owned(),
            api => format!("io.k8s.api.{api}"),
        };
        format!("{package}.{name}")
    }
}

impl Type {
    /// The type behind names and pointers.
    pub fn bare(&self) -> &Type {
        match self {
            Type::Named(_, inner) | Type::Pointer(inner) => inner.bare(),
            other => other,
        }
    }

    /// The struct this is or points to.
    pub fn definition(&self) -> Option<&'static Definition> {
        match self.bare() {
            Type::Ref(id) => Some(id.get()),
            _ => None,
        }
    }

    /// The element of a list or the value of a map.
    pub fn element(&self) -> Option<&Type> {
        match self.bare() {
            Type::List(inner) | Type::Map(_, inner) => Some(inner),
            _ => None,
        }
    }

    /// As Go prints the type: `int32`, `v1.Protocol`, `[]v1.ServicePort`.
    pub fn go_name(&self) -> String {
        match self {
            Type::Scalar(scalar) => scalar.go_name().to_owned(),
            Type::Named(name, _) => go_name(name).to_owned(),
            Type::Pointer(inner) => inner.go_name(),
            Type::List(inner) => format!("[]{}", inner.go_element_name()),
            Type::Map(key, inner) => format!("map[{}]{}", go_name(key), inner.go_element_name()),
            Type::Ref(id) => id.get().go_name().to_owned(),
        }
    }

    fn go_element_name(&self) -> String {
        match self {
            Type::Pointer(inner) => format!("*{}", inner.go_element_name()),
            other => other.go_name(),
        }
    }
}

impl Scalar {
    pub(crate) fn go_name(self) -> &'static str {
        match self {
            Scalar::String => "string",
            Scalar::Bool => "bool",
            Scalar::Int32 => "int32",
            Scalar::Int64 => "int64",
            Scalar::Uint32 => "uint32",
            Scalar::Uint64 => "uint64",
            Scalar::Float64 => "float64",
            Scalar::Bytes => "[]uint8",
            Scalar::Quantity => "resource.Quantity",
            Scalar::IntOrString => "intstr.IntOrString",
            Scalar::Time => "v1.Time",
            Scalar::MicroTime => "v1.MicroTime",
            Scalar::Raw => "runtime.RawExtension",
            Scalar::FieldsV1 => "v1.FieldsV1",
        }
    }
}

/// The last two parts of a qualified name, `v1.Protocol` of `core.v1.Protocol`.
fn go_name(name: &'static str) -> &'static str {
    match name.rmatch_indices('.').nth(1) {
        Some((dot, _)) => name.get(dot + 1..).unwrap_or(name),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_of_a_service_are_known() {
        let service = table().by_gvk("", "v1", "Service").unwrap();
        assert_eq!(service.name, "core.v1.Service");
        let spec = service.field("spec").unwrap().kind.definition().unwrap();
        let ports = spec.field("ports").unwrap();
        assert_eq!(ports.list, ListKind::Map(vec!["port", "protocol"]));
        assert_eq!((ports.merge_key, ports.strategy), ("port", Strategy::Merge));
        assert_eq!(ports.kind.go_name(), "[]v1.ServicePort");
        assert!(spec.field("selector").unwrap().atomic);
        let port = ports.kind.element().unwrap().definition().unwrap();
        let protocol = port.field("protocol").unwrap();
        assert_eq!(protocol.default, Some("\"TCP\""));
        assert_eq!(protocol.kind.go_name(), "v1.Protocol");
        assert_eq!(
            table().enumeration("core.v1.Protocol"),
            Some(&["SCTP", "TCP", "UDP"][..])
        );
    }

    #[test]
    fn fields_are_sorted_and_references_resolve() {
        for definition in table().definitions() {
            assert!(
                definition.fields.is_sorted_by_key(|f| f.name),
                "{definition:?}"
            );
            for field in &definition.fields {
                field.kind.go_name();
            }
        }
    }

    #[test]
    fn every_kind_served_has_facts() {
        for kind in crate::kinds::ALL {
            assert!(of(kind).is_some(), "{}", kind.group_kind());
        }
    }
}
