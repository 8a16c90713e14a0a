//! Strategic merge: patches whose lists are merged by key, and their directives. Fails as the Go library does.

use serde_json::{Map, Value};

use super::{error::Error, expect_mapping, order};
use crate::{
    go,
    kind::Kind,
    schema::{self, Definition, Field, Strategy, Type},
    status::Status,
};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

type Fields = Map<String, Value>;

/// Applies a strategic merge patch.
///
/// # Errors
/// 400, 422 or 500 when the patch or one of its directives is malformed.
pub fn strategic(kind: &Kind, target: &mut Value, patch: &Value) -> Result<(), Status> {
    expect_mapping(patch).map_err(Status::bad_request)?;
    if patch.is_null() {
        return Ok(());
    }
    let (Value::Object(original), Value::Object(patch)) = (std::mem::take(target), patch) else {
        return Err(Status::bad_request("invalid JSON document"));
    };
    let level = schema::of(kind).map_or(Level::Unknown, Level::Struct);
    *target = Value::Object(merge_map(original, patch.clone(), level)?);
    Ok(())
}

/// What is known of the fields of a map.
#[derive(Clone, Copy)]
enum Level {
    Struct(&'static Definition),
    MapOf(&'static Type),
    Unknown,
}

/// What is known of one field: how it merges, and what lies below it.
struct Meta {
    strategy: Strategy,
    merge_key: &'static str,
    below: Level,
    /// The Go type of a list's items, for messages.
    item_name: &'static str,
}

impl Level {
    fn of(kind: &'static Type) -> Self {
        match kind.bare() {
            Type::Ref(id) => Level::Struct(id.get()),
            Type::Map(_, element) => Level::MapOf(element),
            Type::List(element) => Level::of(element),
            _ => Level::Unknown,
        }
    }

    fn meta(self, name: &str) -> Result<Meta, Error> {
        match self {
            Level::Struct(definition) => {
                let field = definition.field(name).ok_or_else(|| {
                    Error::Other(format!(
                        "unable to find api field in struct {} for the json field \"{name}\"",
                        definition.short_name()
                    ))
                })?;
                Ok(Meta::of(field))
            }
            Level::MapOf(element) => Ok(Meta::plain(Level::of(element))),
            Level::Unknown => Ok(Meta::plain(Level::Unknown)),
        }
    }
}

impl Meta {
    fn of(field: &'static Field) -> Self {
        Meta {
            strategy: field.strategy,
            merge_key: field.merge_key,
            below: Level::of(&field.kind),
            item_name: field
                .kind
                .element()
                .and_then(Type::definition)
                .map_or("", Definition::short_name),
        }
    }

    fn plain(below: Level) -> Self {
        Meta {
            strategy: Strategy::Replace,
            merge_key: "",
            below,
            item_name: "",
        }
    }
}

fn merge_map(mut original: Fields, mut patch: Fields, level: Level) -> Result<Fields, Error> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Fields::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(&mut original, &mut patch, level)?;
    for (key, value) in patch {
        let (key, is_delete_list) = match delete_list_key(&key)? {
            Some(list) => (list, true),
            None => (key, false),
        };
        if value.is_null() {
            original.remove(&key);
            continue;
        }
        let own = match original.remove(&key) {
            Some(own) if same_type(&own, &value) => own,
            other => {
                let kept = if is_delete_list { other } else { added(value) };
                original.extend(kept.map(|kept| (key, kept)));
                continue;
            }
        };
        if let Some(merged) = merge_value(own, value, level, &key, is_delete_list)? {
            original.insert(key, merged);
        }
    }
    Ok(original)
}

fn merge_value(
    own: Value,
    value: Value,
    level: Level,
    key: &str,
    is_delete_list: bool,
) -> Result<Option<Value>, Error> {
    Ok(match (own, value) {
        (Value::Object(own), Value::Object(patch)) => {
            let meta = level.meta(key)?;
            Some(Value::Object(merge_map(own, patch, meta.below)?))
        }
        (Value::Array(own), Value::Array(patch)) => {
            let meta = level.meta(key)?;
            Some(Value::Array(if is_delete_list {
                subtract(own, &patch, &meta)?
            } else if meta.strategy.merges() {
                merge_list(own, patch, &meta)?
            } else {
                patch
            }))
        }
        (_, value) => without_directives(value),
    })
}

/// The list that a `$deleteFromPrimitiveList/…` key speaks of.
fn delete_list_key(key: &str) -> Result<Option<String>, Error> {
    if !key.starts_with(DELETE_FROM_LIST) {
        return Ok(None);
    }
    match key.split_once('/') {
        Some((DELETE_FROM_LIST, list)) => Ok(Some(list.to_owned())),
        _ => Err(Error::PrimitiveListFormat),
    }
}

/// A value that was not there before: nulls mean nothing in it, and directives are no content.
fn added(mut value: Value) -> Option<Value> {
    drop_nulls(&mut value);
    without_directives(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, inner| !inner.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(fields) if fields.contains_key(DIRECTIVE) => None,
        Value::Object(fields) => {
            let kept = fields
                .into_iter()
                .filter_map(|(name, inner)| Some((name, without_directives(inner)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(
            items.into_iter().filter_map(without_directives).collect(),
        )),
        other => Some(other),
    }
}

fn same_type(a: &Value, b: &Value) -> bool {
    go::type_name(a) == go::type_name(b)
}

/// `$retainKeys`: every other key of the original goes.
fn retain_keys(original: &mut Fields, patch: &mut Fields) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let Value::Array(keys) = keys else {
        return Err(Error::RetainKeysFormat);
    };
    let retained = |name: &str| keys.iter().any(|key| key.as_str() == Some(name));
    let is_covered = |(name, value): (&String, &Value)| {
        value.is_null()
            || name.starts_with(DELETE_FROM_LIST)
            || name.starts_with(SET_ORDER)
            || retained(name)
    };
    if !patch.iter().all(is_covered) {
        return Err(Error::RetainKeysFormat);
    }
    original.retain(|name, _| retained(name));
    Ok(())
}

/// `$setElementOrder/…`: lists are merged and then put in the order the patch asks for.
fn merge_ordered_lists(
    original: &mut Fields,
    patch: &mut Fields,
    level: Level,
) -> Result<(), Error> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let wanted = match patch.remove(&directive) {
            Some(Value::Array(wanted)) => wanted,
            other => return Err(wrong_list(&other.unwrap_or_default())),
        };
        let Some((SET_ORDER, key)) = directive.split_once('/') else {
            return Err(Error::SetOrderFormat);
        };
        let own = original.get(key).map(as_list).transpose()?;
        let new = patch.get(key).map(as_list).transpose()?;
        let meta = level.meta(key)?;
        order::check_against_patch(new.as_deref().unwrap_or_default(), &wanted, meta.merge_key)?;
        let server_order = own.clone().unwrap_or_default();
        let is_map = if own.is_some() || new.is_some() {
            holds_maps(&server_order, new.as_deref().unwrap_or_default())
        } else {
            continue;
        };
        let merged = match (own, new) {
            (Some(own), None) => own,
            (own, Some(new)) => match own {
                None => new.into_iter().filter_map(without_directives).collect(),
                Some(own) if meta.strategy.merges() => merge_list(own, new, &meta)?,
                Some(_) => new,
            },
            (None, None) => continue,
        };
        let merge_key = if is_map? { meta.merge_key } else { "" };
        let ordered = order::enforce(merged, &wanted, &server_order, merge_key)?;
        original.insert(key.to_owned(), Value::Array(ordered));
        patch.remove(key);
    }
    Ok(())
}

fn as_list(value: &Value) -> Result<Vec<Value>, Error> {
    value.as_array().cloned().ok_or_else(|| wrong_list(value))
}

fn wrong_list(value: &Value) -> Error {
    Error::WrongType("[]interface {}", go::type_name(value))
}

/// Merges two lists by their merge key, or as sets of scalars.
fn merge_list(own: Vec<Value>, patch: Vec<Value>, meta: &Meta) -> Result<Vec<Value>, Error> {
    if own.is_empty() && patch.is_empty() {
        return Ok(own);
    }
    if !holds_maps(&own, &patch)? {
        let merged = own.iter().chain(&patch).fold(Vec::new(), |mut all, item| {
            if !all.contains(item) {
                all.push(item.clone());
            }
            all
        });
        return order::enforce(merged, &patch, &own, "");
    }
    if meta.merge_key.is_empty() {
        return Err(Error::Other(format!(
            "cannot merge lists without merge key for {}",
            meta.item_name
        )));
    }
    let (own, patch) = apply_item_directives(own, patch, meta.merge_key)?;
    let mut merged = own.clone();
    for item in &patch {
        let key = order::merge_key_of(item, meta.merge_key)?;
        match order::find(&merged, meta.merge_key, key)? {
            Some(at) => {
                let own = merged.get_mut(at).map(std::mem::take);
                if let (Some(Value::Object(own)), Value::Object(item)) = (own, item)
                    && let Some(slot) = merged.get_mut(at)
                {
                    *slot = Value::Object(merge_map(own, item.clone(), meta.below)?);
                }
            }
            None => merged.push(item.clone()),
        }
    }
    order::enforce(merged, &patch, &own, meta.merge_key)
}

/// Removes from a list of scalars.
fn subtract(own: Vec<Value>, patch: &[Value], meta: &Meta) -> Result<Vec<Value>, Error> {
    if own.is_empty() && patch.is_empty() {
        return Ok(own);
    }
    if holds_maps(&own, patch)? {
        return merge_list(own, patch.to_vec(), meta);
    }
    Ok(own
        .into_iter()
        .filter(|item| !patch.contains(item))
        .collect())
}

/// `$patch` in items: `delete` takes the item with the same key out, `replace` drops everything the list held.
fn apply_item_directives(
    mut own: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut plain = Vec::new();
    let mut is_replaced = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let key = order::merge_key_of(&item, merge_key)?;
                while let Some(at) = order::find(&own, merge_key, key)? {
                    own.remove(at);
                }
            }
            Some("replace") => is_replaced = true,
            Some("merge") => {
                return Err(Error::Other(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            _ => {
                let fields = item.as_object().cloned().unwrap_or_default();
                return Err(unknown_directive(directive, &fields));
            }
        }
    }
    Ok(if is_replaced {
        (plain, Vec::new())
    } else {
        (own, plain)
    })
}

fn unknown_directive(directive: &Value, fields: &Fields) -> Error {
    Error::Directive(
        go::value(directive),
        go::value(&Value::Object(fields.clone())),
    )
}

/// Whether two lists hold maps; all items must have one type, and none may be a list.
fn holds_maps(own: &[Value], patch: &[Value]) -> Result<bool, Error> {
    let mut items = own.iter().chain(patch);
    let Some(first) = items.next() else {
        return Err(Error::Other(
            "no elements in any of the given slices".to_owned(),
        ));
    };
    if first.is_array() {
        return Err(Error::ListOfLists);
    }
    if items.any(|item| !same_type(first, item)) {
        return Err(Error::Other(format!(
            "list element types are not identical: [{} {}]",
            go::list(own),
            go::list(patch)
        )));
    }
    Ok(first.is_object())
}
