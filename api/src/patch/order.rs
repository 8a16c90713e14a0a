//! The order of merged lists: items of the patch as it asks, the others where they were. Merges nothing itself.

use serde_json::Value;

use super::error::Error;
use crate::go;

const DIRECTIVE: &str = "$patch";

/// The value of an item's merge key.
pub(super) fn merge_key_of<'v>(item: &'v Value, merge_key: &str) -> Result<&'v Value, Error> {
    let Value::Object(fields) = item else {
        return Err(Error::WrongType(
            "map[string]interface {}",
            go::type_name(item),
        ));
    };
    fields
        .get(merge_key)
        .ok_or_else(|| Error::NoMergeKey(go::value(item), merge_key.to_owned()))
}

/// The place of the first item with a value of the merge key.
pub(super) fn find(list: &[Value], merge_key: &str, key: &Value) -> Result<Option<usize>, Error> {
    for (at, item) in list.iter().enumerate() {
        let Value::Object(fields) = item else {
            return Err(Error::Other(format!("value for key {at} is not a map")));
        };
        if fields.get(merge_key) == Some(key) {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Orders `merged`: what is in `wanted` as there, the rest as in `server_order`, interleaved as in `server_order`.
///
/// Lists of scalars have an empty merge key.
pub(super) fn enforce(
    merged: Vec<Value>,
    wanted: &[Value],
    server_order: &[Value],
    merge_key: &str,
) -> Result<Vec<Value>, Error> {
    let keys = Keys { merge_key };
    keys.check(wanted)?;
    keys.check(&merged)?;
    keys.check(server_order)?;
    let (mut asked, mut others): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| keys.place(wanted, item).is_some());
    asked.sort_by_key(|item| keys.place(wanted, item));
    others.sort_by_key(|item| keys.place(server_order, item));
    let mut out = Vec::with_capacity(asked.len() + others.len());
    let mut others = others.into_iter().peekable();
    for item in asked {
        let place = keys.place(server_order, &item);
        while let Some(other) =
            others.next_if(|other| match (keys.place(server_order, other), place) {
                (Some(other), Some(place)) => other < place,
                _ => false,
            })
        {
            out.push(other);
        }
        out.push(item);
    }
    out.extend(others);
    Ok(out)
}

/// Refuses a patch list whose items are in another order than `$setElementOrder` says, or missing there.
pub(super) fn check_against_patch(
    patch: &[Value],
    wanted: &[Value],
    merge_key: &str,
) -> Result<(), Error> {
    if patch.is_empty() || wanted.is_empty() {
        return Ok(());
    }
    let mut left = wanted.iter();
    let listed = patch.iter().filter(|item| item.get(DIRECTIVE).is_none());
    for item in listed {
        let mut is_found = false;
        for place in left.by_ref() {
            if same(item, place, merge_key)? {
                is_found = true;
                break;
            }
        }
        if !is_found {
            return Err(Error::Other(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                go::list(patch),
                go::list(wanted)
            )));
        }
    }
    Ok(())
}

fn same(a: &Value, b: &Value, merge_key: &str) -> Result<bool, Error> {
    if merge_key.is_empty() {
        return Ok(a == b);
    }
    Ok(merge_key_of(a, merge_key)? == merge_key_of(b, merge_key)?)
}

/// How items of a list are told apart.
struct Keys<'a> {
    merge_key: &'a str,
}

impl Keys<'_> {
    fn check(&self, list: &[Value]) -> Result<(), Error> {
        if self.merge_key.is_empty() {
            return Ok(());
        }
        list.iter()
            .try_for_each(|item| merge_key_of(item, self.merge_key).map(|_| ()))
    }

    fn place(&self, list: &[Value], item: &Value) -> Option<usize> {
        list.iter().position(|other| {
            if self.merge_key.is_empty() {
                other == item
            } else {
                other.get(self.merge_key) == item.get(self.merge_key)
            }
        })
    }
}
