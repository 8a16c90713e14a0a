//! Turns request bodies into objects as Kubernetes' strict decoders do, with their error texts. Never fills in defaults.
//!
//! What comes out is what a round trip through the Go struct would print: nulls and empty `omitempty` fields are gone,
//! fields without `omitempty` are there even if the body left them out.

mod scalar;
mod syntax;
mod unstructured;
mod untyped;
mod walk;
mod zero;

use serde::de::DeserializeSeed;
use serde_json::Value;

use crate::{
    field,
    kind::Kind,
    schema::{self, Definition},
    status::{Cause, Details, Status},
};

use walk::{Root, Walk};

/// An object as Kubernetes would hold it, and what a strict reader has to say about the body.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    pub object: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.type"`, in document order.
    pub problems: Vec<String>,
}

/// The type a body is read as.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    pub group: &'a str,
    pub version: &'a str,
    pub kind: &'a str,
}

impl Target<'_> {
    fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    pub(crate) fn definition(&self) -> Option<&'static Definition> {
        let table = schema::table();
        // DeleteOptions and its like belong to every group version.
        table
            .by_gvk(self.group, self.version, self.kind)
            .or_else(|| table.by_name(&format!("meta.v1.{}", self.kind)))
    }
}

impl From<&Kind> for Target<'static> {
    fn from(kind: &Kind) -> Self {
        Target {
            group: kind.group,
            version: kind.version,
            kind: kind.kind,
        }
    }
}

/// Decodes a JSON body.
///
/// # Errors
/// 400 when the body is not JSON or a value has the wrong type.
pub fn json(kind: &Kind, body: &[u8]) -> Result<Decoded, Status> {
    json_as(kind.into(), body)
}

/// Decodes a JSON body of a type that need not be in the registry, such as `policy/v1 Eviction`.
///
/// # Errors
/// As [`json`].
pub fn json_as(target: Target<'_>, body: &[u8]) -> Result<Decoded, Status> {
    // Go reads what is not UTF-8 as the replacement character.
    let text = String::from_utf8_lossy(body);
    let said = syntax::type_meta(&text).map_err(|text| unrecognized(target, &text, body))?;
    let said = agree(target, said).map_err(|disagreement| disagreement.status(target))?;
    let Some(definition) = target.definition() else {
        let object = serde_json::from_str(&text).map_err(|e| cannot(target, &said, &e))?;
        return Ok(Decoded {
            object,
            problems: Vec::new(),
        });
    };
    let mut reader = serde_json::Deserializer::from_str(&text);
    let mut walk = Walk::default();
    let object = Root {
        walk: &mut walk,
        definition,
    }
    .deserialize(&mut reader);
    finish(walk, object, target).map_err(|text| cannot(target, &said, &text))
}

/// Decodes a YAML body.
///
/// # Errors
/// 400 when the body is not YAML or a value has the wrong type.
pub fn yaml(kind: &Kind, body: &[u8]) -> Result<Decoded, Status> {
    yaml_as(kind.into(), body)
}

/// Decodes a YAML body of a type that need not be in the registry.
///
/// # Errors
/// As [`yaml`].
pub fn yaml_as(target: Target<'_>, body: &[u8]) -> Result<Decoded, Status> {
    let (value, duplicates) = crate::yaml::lenient_document(body).map_err(|e| {
        unrecognized(
            target,
            &format!("error converting YAML to JSON: yaml: {e}"),
            body,
        )
    })?;
    let said = TypeMeta::of(&value).map_err(|text| unrecognized(target, &text, body))?;
    let said = agree(target, said).map_err(|disagreement| disagreement.status(target))?;
    let mut decoded = over(target, &value).map_err(|text| cannot(target, &said, &text))?;
    decoded.problems.splice(0..0, duplicates);
    Ok(decoded)
}

/// Decodes JSON of any shape, with the duplicate fields found in it.
///
/// # Errors
/// What Go says of text that is not JSON.
pub fn untyped(body: &[u8]) -> Result<(Value, Vec<String>), String> {
    let text = String::from_utf8_lossy(body);
    untyped::read(&text).map_err(|e| syntax::error(&text).unwrap_or_else(|| e.to_string()))
}

/// Applies the rules of decoding to an object that is already parsed, such as the outcome of a patch: prunes unknown fields and returns them as problems.
///
/// # Errors
/// 422 in the words of a patch whose outcome cannot be decoded.
pub fn check(kind: &Kind, object: &mut Value) -> Result<Vec<String>, Status> {
    let decoded =
        over(kind.into(), object).map_err(|text| undecodable(&object.to_string(), &text))?;
    *object = decoded.object;
    Ok(decoded.problems)
}

/// As [`check`], of what a strategic merge made: in the words, and with the order, of Go's converter of unstructured objects.
///
/// # Errors
/// What the converter says of a value of the wrong type.
pub fn check_unstructured(kind: &Kind, object: &mut Value) -> Result<Vec<String>, String> {
    let target = Target::from(kind);
    let mismatch = target
        .definition()
        .and_then(|definition| unstructured::mismatch(definition, object));
    if let Some(text) = mismatch {
        return Err(text);
    }
    let mut decoded = over(target, object)?;
    decoded.problems.sort();
    *object = decoded.object;
    Ok(decoded.problems)
}

/// Refuses an object that says it is of another type; one that says nothing is of the kind.
///
/// # Errors
/// What the decoder of Kubernetes says of it.
pub fn check_type(kind: &Kind, object: &Value) -> Result<(), String> {
    match agree(kind.into(), TypeMeta::of(object)?) {
        Ok(_) => Ok(()),
        Err(Disagreement { text, .. }) => Err(text),
    }
}

/// 422 for a patch whose outcome is not an object of the kind.
pub fn undecodable(shown: &str, reason: &str) -> Status {
    let error = field::Error::invalid(&field::Path::new("patch"), shown, reason);
    let cause = Cause {
        reason: error.reason.wire().into(),
        message: error.message.clone(),
        field: error.field.clone(),
    };
    Status::failure(422, "Invalid", format!(" \"\" is invalid: {error}")).with_details(Details {
        causes: vec![cause],
        ..Details::default()
    })
}

/// `strict decoding error: unknown field "spec.foo", …`: what `fieldValidation=Strict` answers to problems.
pub fn strict_error(target: Target<'_>, problems: &[String]) -> Status {
    let said = TypeMeta {
        version: target.version.to_owned(),
        kind: target.kind.to_owned(),
        ..TypeMeta::default()
    };
    cannot(
        target,
        &said,
        &format!("strict decoding error: {}", problems.join(", ")),
    )
}

/// The object a kind starts from: what Go's `new(T)` prints.
pub fn empty(kind: &Kind) -> Value {
    let target = Target::from(kind);
    over(target, &Value::Object(serde_json::Map::new()))
        .map(|decoded| decoded.object)
        .unwrap_or_default()
}

fn over(target: Target<'_>, value: &Value) -> Result<Decoded, String> {
    let Some(definition) = target.definition() else {
        return Ok(Decoded {
            object: value.clone(),
            problems: Vec::new(),
        });
    };
    let mut walk = Walk::default();
    let object = Root {
        walk: &mut walk,
        definition,
    }
    .deserialize(value);
    finish(walk, object, target)
}

fn finish<E: std::fmt::Display>(
    walk: Walk,
    object: Result<Value, E>,
    target: Target<'_>,
) -> Result<Decoded, String> {
    let (problems, error) = walk.into_outcome();
    let mut object = match object {
        Ok(object) => object,
        Err(e) => return Err(error.unwrap_or_else(|| e.to_string())),
    };
    if let Some(error) = error {
        return Err(error);
    }
    if let Value::Object(fields) = &mut object {
        fields.insert("apiVersion".into(), target.api_version().into());
        fields.insert("kind".into(), target.kind.into());
    }
    Ok(Decoded { object, problems })
}

/// What a body says of itself.
#[derive(Debug, Default, PartialEq)]
struct TypeMeta {
    group: String,
    version: String,
    kind: String,
}

impl TypeMeta {
    fn of(value: &Value) -> Result<Self, String> {
        let text = |key: &str| match value.get(key) {
            None | Some(Value::Null) => Ok(""),
            Some(Value::String(text)) => Ok(text.as_str()),
            Some(other) => Err(syntax::type_meta_mismatch(other, key)),
        };
        match value {
            Value::Null | Value::Object(_) => TypeMeta::parse(text("apiVersion")?, text("kind")?),
            other => Err(syntax::type_meta_mismatch(other, "")),
        }
    }

    fn parse(api_version: &str, kind: &str) -> Result<Self, String> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        if version.contains('/') {
            return Err(format!("unexpected GroupVersion string: {api_version}"));
        }
        Ok(TypeMeta {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        })
    }

    fn api_version(&self) -> String {
        Target {
            group: &self.group,
            version: &self.version,
            kind: &self.kind,
        }
        .api_version()
    }
}

/// A body of another type than the URL's.
struct Disagreement {
    said: TypeMeta,
    text: String,
}

impl Disagreement {
    fn status(self, target: Target<'_>) -> Status {
        let Disagreement { said, text } = self;
        if said.kind == target.kind && is_known(&said) {
            return Status::bad_request(format!(
                "the API version in the data ({}) does not match the expected API version ({})",
                said.api_version(),
                target.api_version(),
            ));
        }
        cannot(target, &said, &text)
    }
}

fn is_known(said: &TypeMeta) -> bool {
    let table = schema::table();
    table
        .by_gvk(&said.group, &said.version, &said.kind)
        .is_some()
}

/// Completes what the body says by what the URL says, and refuses bodies of another type.
fn agree(target: Target<'_>, mut said: TypeMeta) -> Result<TypeMeta, Disagreement> {
    if said.kind.is_empty() {
        said.kind = target.kind.to_owned();
    }
    if said.version.is_empty() && said.group.is_empty() {
        said.group = target.group.to_owned();
        said.version = target.version.to_owned();
    }
    if said.kind == target.kind
        && said.group == target.group
        && (said.version == target.version || said.version.is_empty())
    {
        return Ok(said);
    }
    if said.kind == "DeleteOptions" && target.kind == said.kind {
        return Ok(said);
    }
    let text = if is_known(&said) {
        format!(
            "converting ({}.{}) to ({}.{}): unknown conversion",
            said.version,
            said.kind,
            internal_package(target.group),
            target.kind,
        )
    } else {
        format!(
            "no kind \"{}\" is registered for version \"{}\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
            said.kind,
            said.api_version(),
        )
    };
    Err(Disagreement { said, text })
}

/// The Go package of Kubernetes' internal types of a group; core events and `events.k8s.io` share one.
fn internal_package(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        group => group.split('.').next().unwrap_or(group),
    }
}

fn cannot(target: Target<'_>, said: &TypeMeta, reason: &dyn std::fmt::Display) -> Status {
    Status::bad_request(format!(
        "{} in version {} cannot be handled as a {}: {reason}",
        said.kind,
        field::quote(&said.version),
        target.kind,
    ))
}

fn unrecognized(target: Target<'_>, reason: &str, body: &[u8]) -> Status {
    Status::bad_request(format!(
        "the object provided is unrecognized (must be of type {}): {reason} ({})",
        target.kind,
        summary(body),
    ))
}

/// The start of a body, as text if it looks like JSON, else in hexadecimal.
fn summary(body: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 30;
    let Some(first) = body.first() else {
        return "<empty>".to_owned();
    };
    let shown = body.get(..SHOWN_BYTES_MAX).unwrap_or(body);
    let mut text = if *first == b'{' {
        String::from_utf8_lossy(shown).into_owned()
    } else {
        shown.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    if body.len() > SHOWN_BYTES_MAX {
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests;
