//! Label and field selectors: parsing them as Kubernetes does, and matching objects against them.

mod lexer;
mod parser;

use std::fmt;

use serde_json::{Map, Value};

use crate::{
    field::{Error, Path, quote},
    kind::Kind,
    meta, names,
    status::Status,
    value::{items, str_of, texts},
};

/// What a label selector asks of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// A parsed label selector: every requirement must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labels {
    All(Vec<Requirement>),
    /// What a missing `LabelSelector` selects.
    Nothing,
}

/// Parses the text of a `labelSelector` parameter.
///
/// # Errors
/// 400 with the words of Kubernetes' parser.
pub fn labels(text: &str) -> Result<Labels, Status> {
    parser::parse(text)
        .map(Labels::All)
        .map_err(Status::bad_request)
}

impl Labels {
    pub const EVERYTHING: Labels = Labels::All(Vec::new());

    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        matches!(self, Labels::All(requirements) if requirements.is_empty())
    }

    /// Whether an object with these labels is selected; no labels are as good as an empty map.
    pub fn matches(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.matches_by(|key| labels?.get(key)?.as_str())
    }

    /// As [`Labels::matches`] for labels that are kept elsewhere, and found there by key.
    pub fn matches_by<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Labels::All(requirements) => requirements.iter().all(|r| r.holds(label(&r.key))),
            Labels::Nothing => false,
        }
    }
}

/// As `labels` parses it: `app=web,tier in (back,front)`.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Labels::All(requirements) = self else {
            return Ok(());
        };
        for (index, requirement) in requirements.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            requirement.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Requirement {
            key,
            operator,
            values,
        } = self;
        let listed = values.join(",");
        match operator {
            Operator::In if values.len() == 1 => write!(f, "{key}={listed}"),
            Operator::In => write!(f, "{key} in ({listed})"),
            Operator::NotIn if values.len() == 1 => write!(f, "{key}!={listed}"),
            Operator::NotIn => write!(f, "{key} notin ({listed})"),
            Operator::Exists => write!(f, "{key}"),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::GreaterThan => write!(f, "{key}>{listed}"),
            Operator::LessThan => write!(f, "{key}<{listed}"),
        }
    }
}

impl Requirement {
    /// Checks the key and the values as for any label.
    fn new(key: &str, operator: Operator, values: Vec<String>) -> Result<Self, String> {
        let mut errors = Vec::new();
        let path = Path::new("key");
        errors.extend(joined(&path, key, &names::qualified_name(key)));
        let path = Path::new("values");
        if let Operator::GreaterThan | Operator::LessThan = operator {
            for (index, value) in values.iter().enumerate() {
                if value.parse::<i64>().is_err() {
                    errors.push(Error::invalid(
                        &path.index(index),
                        value.as_str(),
                        "for 'Gt', 'Lt' operators, the value must be an integer",
                    ));
                }
            }
        }
        if let (Operator::In | Operator::NotIn, true) = (operator, values.is_empty()) {
            let detail = "for 'in', 'notin' operators, values set can't be empty";
            errors.push(Error::invalid(&path, Vec::<Value>::new(), detail));
        }
        if let (Operator::Exists | Operator::DoesNotExist, false) = (operator, values.is_empty()) {
            let detail = "values set must be empty for exists and does not exist";
            errors.push(Error::invalid(&path, values.clone(), detail));
        }
        for (index, value) in values.iter().enumerate() {
            let path = path.index(index).key(key);
            errors.extend(joined(&path, value, &names::label_value(value)));
        }
        let texts: Vec<String> = errors.iter().map(Error::to_string).collect();
        match texts.as_slice() {
            [] => Ok(Requirement {
                key: key.to_owned(),
                operator,
                values,
            }),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }

    fn holds(&self, label: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|v| v == value);
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = self.values.first().and_then(|v| number(v));
        match (self.operator, label) {
            (Operator::In, Some(value)) => listed(value),
            (Operator::NotIn, Some(value)) => !listed(value),
            (Operator::Exists, label) => label.is_some(),
            (Operator::DoesNotExist, label) => label.is_none(),
            (Operator::GreaterThan, Some(value)) => number(value) > bound && bound.is_some(),
            (Operator::LessThan, Some(value)) => number(value).is_some_and(|n| Some(n) < bound),
            (Operator::NotIn, None) => true,
            (Operator::In | Operator::GreaterThan | Operator::LessThan, None) => false,
        }
    }
}

/// Reads a `LabelSelector` object (`matchLabels`, `matchExpressions`); null selects nothing, an empty one everything.
///
/// # Errors
/// The first problem, in Kubernetes' words.
pub fn from_label_selector(selector: &Value) -> Result<Labels, String> {
    if selector.is_null() {
        return Ok(Labels::Nothing);
    }
    let mut requirements = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        let values = vec![str_of(value).to_owned()];
        requirements.push(Requirement::new(key, Operator::In, values)?);
    }
    for expression in items(&selector["matchExpressions"]) {
        let operator = match str_of(&expression["operator"]) {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                let other = quote(other);
                return Err(format!("{other} is not a valid label selector operator"));
            }
        };
        let values = texts(&expression["values"]);
        let values = values.into_iter().map(str::to_owned).collect();
        requirements.push(Requirement::new(
            str_of(&expression["key"]),
            operator,
            values,
        )?);
    }
    Ok(Labels::All(requirements))
}

/// Reads a plain map of labels, as in `Service.spec.selector`; null and empty select nothing.
pub fn from_map(labels: &Value) -> Labels {
    let labels = labels.as_object().filter(|map| !map.is_empty());
    let Some(labels) = labels else {
        return Labels::Nothing;
    };
    let requirement = |(key, value): (&String, &Value)| Requirement {
        key: key.clone(),
        operator: Operator::In,
        values: vec![str_of(value).to_owned()],
    };
    Labels::All(labels.iter().map(requirement).collect())
}

/// Complaints about a `LabelSelector` object as part of another object.
pub fn validate_label_selector(selector: &Value, path: &Path) -> Vec<Error> {
    let mut errors = meta::validate_labels(&selector["matchLabels"], &path.child("matchLabels"));
    for (index, expression) in items(&selector["matchExpressions"]).iter().enumerate() {
        let path = path.child("matchExpressions").index(index);
        let values = texts(&expression["values"]);
        let operator = str_of(&expression["operator"]);
        match (operator, values.is_empty()) {
            ("In" | "NotIn", true) => errors.push(Error::required(
                &path.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            )),
            ("Exists" | "DoesNotExist", false) => errors.push(Error::forbidden(
                &path.child("values"),
                "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
            )),
            ("In" | "NotIn" | "Exists" | "DoesNotExist", _) => {}
            _ => errors.push(Error::invalid(
                &path.child("operator"),
                operator,
                "not a valid selector operator",
            )),
        }
        errors.extend(meta::validate_label_key(
            str_of(&expression["key"]),
            &path.child("key"),
        ));
        for (index, value) in values.into_iter().enumerate() {
            let path = path.child("values").index(index);
            errors.extend(meta::complaints(&path, value, names::label_value(value)));
        }
    }
    errors
}

/// A parsed field selector: every term must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    field: String,
    comparison: Comparison,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
}

/// Parses the text of a `fieldSelector` parameter.
///
/// # Errors
/// 400 where the text cannot be understood or names a field that objects of this kind are not selected by.
pub fn fields(kind: &Kind, text: &str) -> Result<Fields, Status> {
    let mut terms: Vec<&str> = split_terms(text);
    terms.sort_unstable();
    let mut parsed = Vec::new();
    for term in terms.into_iter().filter(|term| !term.is_empty()) {
        let (field, comparison, value) = split_term(term).ok_or_else(|| {
            Status::bad_request(format!(
                "invalid selector: '{text}'; can't understand '{term}'"
            ))
        })?;
        parsed.push(Term {
            field: field.to_owned(),
            comparison,
            value: unescape(value).map_err(Status::bad_request)?,
        });
    }
    for term in &parsed {
        check_field(kind, &term.field)?;
    }
    Ok(Fields(parsed))
}

impl Fields {
    /// Whether every object is selected.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    pub fn matches(&self, kind: &Kind, object: &Value) -> bool {
        self.0.iter().all(|term| {
            let equal = field_value(kind, object, &term.field) == term.value;
            equal == (term.comparison == Comparison::Equal)
        })
    }

    /// The value that `field` must have, where the selector demands one.
    pub fn required(&self, field: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|term| term.field == field && term.comparison == Comparison::Equal)
            .map(|term| term.value.as_str())
    }
}

fn field_value(kind: &Kind, object: &Value, field: &str) -> String {
    match field {
        "metadata.name" => meta::name(object).to_owned(),
        "metadata.namespace" => meta::namespace(object).to_owned(),
        _ => kind
            .selectable
            .iter()
            .find(|(name, _)| *name == field)
            .map(|(_, value)| value(object))
            .unwrap_or_default(),
    }
}

fn check_field(kind: &Kind, field: &str) -> Result<(), Status> {
    let known = match field {
        "metadata.name" => true,
        // Cluster-scoped kinds with fields of their own never learned this one.
        "metadata.namespace" => kind.is_namespaced() || kind.selectable.is_empty(),
        _ => kind.selectable.iter().any(|(name, _)| *name == field),
    };
    if known {
        return Ok(());
    }
    Err(Status::bad_request(match kind.unknown_field {
        Some(text) => text(field),
        None if kind.selectable.is_empty() => format!(
            "{} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
            quote(field)
        ),
        None => format!("field label not supported: {field}"),
    }))
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut terms = Vec::new();
    let mut start = 0;
    let mut escaped = false;
    for (position, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_term(term: &str) -> Option<(&str, Comparison, &str)> {
    let (position, _) = term.char_indices().find(|(position, _)| {
        let rest = &term[*position..];
        rest.starts_with("!=") || rest.starts_with('=')
    })?;
    let (field, rest) = term.split_at(position);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, Comparison::NotEqual, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, Comparison::Equal, value))
}

fn unescape(text: &str) -> Result<String, String> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => value.push(escaped),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(format!(
                        "invalid field selector: invalid escape sequence: {sequence}"
                    ));
                }
            },
            ',' | '=' => {
                return Err(format!(
                    "invalid field selector: unescaped character in value: {}",
                    u32::from(c)
                ));
            }
            c => value.push(c),
        }
    }
    Ok(value)
}

fn joined(path: &Path, value: &str, details: &[String]) -> Option<Error> {
    (!details.is_empty()).then(|| Error::invalid(path, value, &details.join("; ")))
}

#[cfg(test)]
mod tests;
