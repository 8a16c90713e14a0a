//! Elements of field paths, and sets of paths in the `FieldsV1` notation. Knows no schema.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::{Map, Number, Value, json};

use crate::field::quote;

/// One step of a path. The order is that of structured-merge-diff, in which messages list paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Element {
    Field(String),
    /// The key fields of an item of a list map, sorted by name.
    Key(Vec<(String, Scalar)>),
    /// An item of a set.
    Value(Scalar),
    Index(i64),
}

/// A JSON value that is no object and no list, with a total order.
#[derive(Clone, Debug)]
pub(super) enum Scalar {
    Number(Number),
    String(String),
    Bool(bool),
    Null,
}

impl Scalar {
    pub(super) fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Number(number) => Scalar::Number(number.clone()),
            Value::String(text) => Scalar::String(text.clone()),
            Value::Bool(value) => Scalar::Bool(*value),
            Value::Null => Scalar::Null,
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    fn to_value(&self) -> Value {
        match self {
            Scalar::Number(number) => number.clone().into(),
            Scalar::String(text) => text.as_str().into(),
            Scalar::Bool(value) => (*value).into(),
            Scalar::Null => Value::Null,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Scalar::Number(_) => 0,
            Scalar::String(_) => 1,
            Scalar::Bool(_) => 2,
            Scalar::Null => 3,
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Scalar::Number(a), Scalar::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a
                    .as_f64()
                    .unwrap_or_default()
                    .total_cmp(&b.as_f64().unwrap_or_default()),
            },
            (Scalar::String(a), Scalar::String(b)) => a.cmp(b),
            (Scalar::Bool(a), Scalar::Bool(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scalar {}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::String(text) => f.write_str(&quote(text)),
            other => write!(f, "{}", other.to_value()),
        }
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Element::Field(name) => write!(f, ".{name}"),
            Element::Key(fields) => {
                f.write_str("[")?;
                for (at, (name, value)) in fields.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    write!(f, "{comma}{name}={value}")?;
                }
                f.write_str("]")
            }
            Element::Value(value) => write!(f, "[={value}]"),
            Element::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl Element {
    /// `f:spec`, `k:{"port":80}`, `v:"x"`, `i:0`.
    fn encode(&self) -> String {
        match self {
            Element::Field(name) => format!("f:{name}"),
            Element::Key(fields) => {
                let fields: Map<String, Value> = fields
                    .iter()
                    .map(|(name, value)| (name.clone(), value.to_value()))
                    .collect();
                format!("k:{}", Value::Object(fields))
            }
            Element::Value(value) => format!("v:{}", value.to_value()),
            Element::Index(index) => format!("i:{index}"),
        }
    }

    /// `None` for notations of a later version, which readers leave out.
    fn decode(text: &str) -> Result<Option<Self>, Malformed> {
        let (notation, rest) = text.split_once(':').ok_or(Malformed)?;
        let parsed = || serde_json::from_str::<Value>(rest).map_err(|_| Malformed);
        Ok(Some(match notation {
            "f" => Element::Field(rest.to_owned()),
            "k" => {
                let Value::Object(fields) = parsed()? else {
                    return Err(Malformed);
                };
                let fields = fields
                    .iter()
                    .map(|(name, value)| Some((name.clone(), Scalar::of(value)?)));
                Element::Key(fields.collect::<Option<_>>().ok_or(Malformed)?)
            }
            "v" => Element::Value(Scalar::of(&parsed()?).ok_or(Malformed)?),
            "i" => Element::Index(rest.parse().map_err(|_| Malformed)?),
            _ if notation.len() == 1 => return Ok(None),
            _ => return Err(Malformed),
        }))
    }
}

/// A `fieldsV1` that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A set of paths: those that end here, and those that go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) members: BTreeSet<Element>,
    pub(super) children: BTreeMap<Element, Set>,
}

impl Set {
    pub(super) fn from_paths(paths: &[&[&str]]) -> Self {
        let mut set = Set::default();
        for path in paths {
            let path: Vec<Element> = path
                .iter()
                .map(|name| Element::Field((*name).to_owned()))
                .collect();
            set.insert(&path);
        }
        set
    }

    /// Adds a path; the empty path, the object itself, is never a member.
    pub(super) fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => {
                if !self.members.contains(last) {
                    self.members.insert(last.clone());
                }
            }
            [first, rest @ ..] => match self.children.get_mut(first) {
                Some(child) => child.insert(rest),
                None => self.children.entry(first.clone()).or_default().insert(rest),
            },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Set::is_empty)
    }

    pub(super) fn has(&self, path: &[Element]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self
                .children
                .get(first)
                .is_some_and(|child| child.has(rest)),
        }
    }

    pub(super) fn union(mut self, other: &Set) -> Set {
        self.members.extend(other.members.iter().cloned());
        for (element, child) in &other.children {
            let own = self.children.remove(element).unwrap_or_default();
            self.children.insert(element.clone(), own.union(child));
        }
        self
    }

    pub(super) fn intersection(&self, other: &Set) -> Set {
        Set {
            members: self.members.intersection(&other.members).cloned().collect(),
            children: self.filter_children(|element, child| {
                other
                    .children
                    .get(element)
                    .map(|theirs| child.intersection(theirs))
                    .unwrap_or_default()
            }),
        }
    }

    pub(super) fn difference(&self, other: &Set) -> Set {
        Set {
            members: self.members.difference(&other.members).cloned().collect(),
            children: self.filter_children(|element, child| match other.children.get(element) {
                Some(theirs) => child.difference(theirs),
                None => child.clone(),
            }),
        }
    }

    /// As `difference`, but a member of `other` takes everything below it away too.
    pub(super) fn without_below(mut self, other: &Set) -> Set {
        for member in &other.members {
            self.members.remove(member);
            self.children.remove(member);
        }
        for (element, theirs) in &other.children {
            if let Some(child) = self.children.remove(element) {
                let left = child.without_below(theirs);
                if !left.is_empty() {
                    self.children.insert(element.clone(), left);
                }
            }
        }
        self
    }

    /// As `difference`, of a set that is needed no more.
    pub(super) fn without(mut self, other: &Set) -> Set {
        for member in &other.members {
            self.members.remove(member);
        }
        for (element, theirs) in &other.children {
            if let Some(child) = self.children.remove(element) {
                let left = child.without(theirs);
                if !left.is_empty() {
                    self.children.insert(element.clone(), left);
                }
            }
        }
        self
    }

    fn filter_children(&self, child: impl Fn(&Element, &Set) -> Set) -> BTreeMap<Element, Set> {
        self.children
            .iter()
            .map(|(element, set)| (element, child(element, set)))
            .filter(|(_, set)| !set.is_empty())
            .map(|(element, set)| (element.clone(), set))
            .collect()
    }

    /// Every path, members of a level before what lies below it.
    pub(super) fn paths(&self) -> Vec<Vec<Element>> {
        let mut out = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut out);
        out
    }

    fn collect_paths(&self, prefix: &mut Vec<Element>, out: &mut Vec<Vec<Element>>) {
        for member in &self.members {
            let mut path = prefix.clone();
            path.push(member.clone());
            out.push(path);
        }
        for (element, child) in &self.children {
            prefix.push(element.clone());
            child.collect_paths(prefix, out);
            prefix.pop();
        }
    }

    /// As `fieldsV1`.
    pub(super) fn encode(&self) -> Value {
        let mut out = Map::new();
        for member in &self.members {
            out.insert(member.encode(), json!({}));
        }
        for (element, child) in &self.children {
            let mut below = child.encode();
            if self.members.contains(element)
                && let Value::Object(fields) = &mut below
            {
                fields.insert(".".into(), json!({}));
            }
            out.insert(element.encode(), below);
        }
        Value::Object(out)
    }

    /// Reads `fieldsV1`.
    pub(super) fn decode(fields: &Value) -> Result<Set, Malformed> {
        Ok(Set::decode_level(fields)?.0)
    }

    /// The paths below, and whether this level is itself a member.
    fn decode_level(fields: &Value) -> Result<(Set, bool), Malformed> {
        let Value::Object(fields) = fields else {
            return Err(Malformed);
        };
        let mut set = Set::default();
        let mut is_member = false;
        for (text, below) in fields {
            if text == "." {
                is_member = true;
                continue;
            }
            let Some(element) = Element::decode(text)? else {
                continue;
            };
            let (child, child_is_member) = Set::decode_level(below)?;
            if child_is_member {
                set.members.insert(element.clone());
            }
            if !child.is_empty() {
                set.children.insert(element, child);
            }
        }
        let is_member = is_member || set.is_empty();
        Ok((set, is_member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_survive_their_notation() {
        let check = |fields: Value| assert_eq!(Set::decode(&fields).unwrap().encode(), fields);
        check(json!({}));
        check(json!({"f:metadata": {"f:labels": {".": {}, "f:a": {}}}}));
        check(
            json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}}}),
        );
        check(json!({"f:metadata": {"f:finalizers": {"v:\"a.b/c\"": {}}}}));
    }

    #[test]
    fn unknown_notations_are_left_out_and_nonsense_is_refused() {
        let set = Set::decode(&json!({"x:new": {}, "f:a": {}})).unwrap();
        assert_eq!(set.encode(), json!({"f:a": {}}));
        for nonsense in [
            json!([]),
            json!({"a": {}}),
            json!({"k:[]": {}}),
            json!({"f:a": 1}),
        ] {
            assert_eq!(Set::decode(&nonsense), Err(Malformed), "{nonsense}");
        }
    }

    #[test]
    fn paths_print_as_in_conflicts() {
        let set = Set::decode(
            &json!({"f:spec": {"f:ports": {"k:{\"port\":80,\"protocol\":\"TCP\"}": {"f:port": {}}}, "f:type": {}}}),
        );
        let texts: Vec<String> = set
            .unwrap()
            .paths()
            .iter()
            .map(|path| path.iter().map(Element::to_string).collect())
            .collect();
        assert_eq!(
            texts,
            [".spec.type", ".spec.ports[port=80,protocol=\"TCP\"].port"]
        );
    }
}
