//! Reads `facts.txt`. The format is described in `schema/generate.py`; the text is ours, so a mistake in it panics in tests.

use std::collections::HashMap;

use super::{Definition, Field, Id, ListKind, Scalar, Strategy, Table, Type};

pub(super) fn table(text: &'static str) -> Table {
    let by_name = index(text);
    let mut table = Table {
        definitions: Vec::with_capacity(by_name.len()),
        by_gvk: HashMap::new(),
        enums: HashMap::new(),
        by_name,
    };
    for line in text.lines() {
        if let Some(line) = line.strip_prefix(' ') {
            let field = field(line, &table.by_name);
            if let Some(definition) = table.definitions.last_mut() {
                definition.fields.push(field);
            }
        } else if let Some(line) = line.strip_prefix("enum ") {
            let mut words = line.split(' ');
            let name = words.next().unwrap_or_default();
            table.enums.insert(name, words.collect());
        } else {
            let definition = head(line);
            if let Some(gvk) = definition.gvk {
                table.by_gvk.insert(gvk, id(table.definitions.len()));
            }
            table.definitions.push(definition);
        }
    }
    table
}

fn index(text: &'static str) -> HashMap<&'static str, Id> {
    text.lines()
        .filter(|line| !line.starts_with([' ']) && !line.starts_with("enum "))
        .enumerate()
        .map(|(at, line)| (line.split(' ').next().unwrap_or_default(), id(at)))
        .collect()
}

fn id(at: usize) -> Id {
    Id(u16::try_from(at).expect("fewer than 65,536 definitions"))
}

fn head(line: &'static str) -> Definition {
    let mut words = line.split(' ');
    let mut definition = Definition {
        name: words.next().unwrap_or_default(),
        atomic: false,
        gvk: None,
        fields: Vec::new(),
    };
    for word in words {
        if word == "atomic" {
            definition.atomic = true;
        } else if let Some(gvk) = word.strip_prefix("gvk=") {
            let mut parts = gvk.split('/');
            let mut part = || parts.next().unwrap_or_default();
            definition.gvk = Some((part(), part(), part()));
        }
    }
    definition
}

fn field(line: &'static str, by_name: &HashMap<&'static str, Id>) -> Field {
    let mut words = line.splitn(3, ' ');
    let name = words.next().unwrap_or_default();
    let kind = kind(words.next().unwrap_or_default(), by_name);
    let mut field = Field {
        name,
        kind,
        omit_empty: false,
        omit_zero: false,
        required: false,
        embedded: None,
        list: ListKind::Atomic,
        atomic: false,
        strategy: Strategy::Replace,
        merge_key: "",
        default: None,
    };
    let mut flags = words.next().unwrap_or_default();
    while !flags.is_empty() {
        let (flag, rest) = flags.split_once(' ').unwrap_or((flags, ""));
        match flag.split_once('=') {
            None => match flag {
                "e" => field.omit_empty = true,
                "z" => field.omit_zero = true,
                "r" => field.required = true,
                "a" => field.atomic = true,
                other => panic!("unknown flag {other}"),
            },
            // A default is the last flag and may hold spaces.
            Some(("d", _)) => {
                field.default = flags.strip_prefix("d=");
                break;
            }
            Some(("i", name)) => field.embedded = Some(name),
            Some(("l", list)) => field.list = list_kind(list),
            Some(("s", text)) => field.strategy = strategy(text),
            Some(("m", key)) => field.merge_key = key,
            Some((other, _)) => panic!("unknown flag {other}"),
        }
        flags = rest;
    }
    field
}

fn list_kind(text: &'static str) -> ListKind {
    match text.split_once(':') {
        Some(("map", keys)) => ListKind::Map(keys.split(',').collect()),
        _ if text == "set" => ListKind::Set,
        _ => ListKind::Atomic,
    }
}

fn strategy(text: &str) -> Strategy {
    match text {
        "merge" => Strategy::Merge,
        "retainKeys" => Strategy::RetainKeys,
        "merge,retainKeys" => Strategy::MergeRetainKeys,
        "replace" => Strategy::Replace,
        other => panic!("unknown patch strategy {other}"),
    }
}

fn kind(text: &'static str, by_name: &HashMap<&'static str, Id>) -> Type {
    if let Some(inner) = text.strip_prefix('*') {
        return Type::Pointer(Box::new(kind(inner, by_name)));
    }
    if let Some(inner) = text.strip_prefix("[]") {
        return Type::List(Box::new(kind(inner, by_name)));
    }
    if let Some((key, inner)) = text.strip_prefix("map[").and_then(|t| t.split_once(']')) {
        return Type::Map(key, Box::new(kind(inner, by_name)));
    }
    if let Some((name, inner)) = text.split_once('=') {
        return Type::Named(name, Box::new(kind(inner, by_name)));
    }
    scalar(text).map_or_else(|| Type::Ref(by_name[text]), Type::Scalar)
}

fn scalar(text: &str) -> Option<Scalar> {
    Some(match text {
        "string" => Scalar::String,
        "bool" => Scalar::Bool,
        "int32" => Scalar::Int32,
        "int" | "int64" => Scalar::Int64,
        "uint32" => Scalar::Uint32,
        "uint64" => Scalar::Uint64,
        "float64" => Scalar::Float64,
        "bytes" => Scalar::Bytes,
        "resource.Quantity" => Scalar::Quantity,
        "intstr.IntOrString" => Scalar::IntOrString,
        "meta.v1.Time" => Scalar::Time,
        "meta.v1.MicroTime" => Scalar::MicroTime,
        "runtime.RawExtension" => Scalar::Raw,
        "meta.v1.FieldsV1" => Scalar::FieldsV1,
        _ => return None,
    })
}
