//! Continue tokens, byte for byte as kube-apiserver makes them, and its words for those that are none.

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{GeneralPurpose, GeneralPurposeConfig, general_purpose::NO_PAD},
};
use knarr_api::{decode, go, status::Status};
use serde_json::{Value, json};

use crate::storage::{Revision, Stored};

const VERSION: &str = "meta.k8s.io/v1";
/// Go leaves the last bits of the last byte alone.
const LENIENT: GeneralPurposeConfig = NO_PAD.with_decode_allow_trailing_bits(true);
const BASE64: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Where a list goes on: at the first object not before this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// Which state of the collection a list goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    At(Revision),
    /// For those whose own moment is forgotten.
    Latest,
}

/// A token for what comes after `last` in a list of `namespace`, or of all if that is empty.
pub(super) fn encode(revision: Revision, namespace: &str, last: &Stored) -> String {
    let key = &last.key;
    // The name that comes right after this one.
    let start = match key.namespace.as_str() {
        "" => format!("{}\0", key.name),
        own if own == namespace => format!("{}\0", key.name),
        other => format!("{other}/{}\0", key.name),
    };
    token(json!(revision.0), &start)
}

/// The token of a list whose moment is forgotten, for the rest of what there is now.
pub(super) fn without_moment(token_given: &str) -> Option<String> {
    let (_, start) = read(token_given).ok()?;
    Some(token(json!(-1), &start))
}

fn token(revision: Value, start: &str) -> String {
    let version = Value::from(VERSION);
    let start = Value::from(start);
    BASE64.encode(format!(
        r#"{{"v":{version},"rv":{revision},"start":{start}}}"#
    ))
}

/// Where and when the list of `namespace`, or of all, goes on.
///
/// # Errors
/// 400 for what is no token.
pub(super) fn decode(token: &str, namespace: &str) -> Result<(Moment, Place), Status> {
    let (moment, start) = read(token).map_err(|why| {
        Status::bad_request(format!(
            "invalid continue token: continue key is not valid{why}"
        ))
    })?;
    let key = start.trim_start_matches('/');
    let place = match (namespace, key.split_once('/')) {
        ("", Some((namespace, name))) => (namespace, name),
        (namespace, _) => (namespace, key),
    };
    let (namespace, name) = (place.0.to_owned(), place.1.to_owned());
    Ok((moment, Place { namespace, name }))
}

fn read(token: &str) -> Result<(Moment, String), String> {
    let bytes = BASE64
        .decode(token)
        .map_err(|_| format!(": illegal base64 data at input byte {}", corrupt_at(token)))?;
    let (value, _) = decode::untyped(&bytes).map_err(|error| format!(": {error}"))?;
    let (version, revision, start) = fields(&value).map_err(|error| format!(": {error}"))?;
    if version != VERSION {
        return Err(format!(
            ": server does not recognize this encoded version {version}"
        ));
    }
    let moment = match revision {
        0 => {
            return Err(format!(
                ": incorrect encoded start resourceVersion (version {VERSION})"
            ));
        }
        revision => u64::try_from(revision).map_or(Moment::Latest, |r| Moment::At(Revision(r))),
    };
    if start.is_empty() {
        return Err(format!(": encoded start key empty (version {VERSION})"));
    }
    if !is_clean(start) {
        return Err(format!(": {start}"));
    }
    Ok((moment, start.to_owned()))
}

/// Version, revision and start; what is not said is nothing, as in Go.
fn fields(value: &Value) -> Result<(&str, i64, &str), String> {
    if !value.is_object() && !value.is_null() {
        let found = go::json_name(value);
        return Err(format!(
            "json: cannot unmarshal {found} into Go value of type storage.continueToken"
        ));
    }
    let mismatch = |name: &str, wanted: &str| {
        let found = match &value[name] {
            Value::Number(number) if wanted == "int64" => format!("number {number}"),
            other => go::json_name(other).to_owned(),
        };
        format!(
            "json: cannot unmarshal {found} into Go struct field continueToken.{name} of type {wanted}"
        )
    };
    let text = |name: &str| match &value[name] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text.as_str()),
        _ => Err(mismatch(name, "string")),
    };
    let revision = match &value["rv"] {
        Value::Null => 0,
        number => number.as_i64().ok_or_else(|| mismatch("rv", "int64"))?,
    };
    Ok((text("v")?, revision, text("start")?))
}

/// Whether a key stays below its prefix.
fn is_clean(start: &str) -> bool {
    let below = start.strip_prefix('/').unwrap_or(start);
    let mut parts = below.split('/');
    below.is_empty() || parts.all(|part| !matches!(part, "" | "." | ".."))
}

/// The offset that Go's decoder complains about.
fn corrupt_at(token: &str) -> usize {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let unknown = token.bytes().position(|byte| !is_known(byte));
    unknown.unwrap_or(token.len().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_token_is_refused_in_gos_words() {
        let check = |token: &str, why: &str| {
            let status = decode(token, "").unwrap_err();
            let expected = format!("invalid continue token: continue key is not valid{why}");
            assert_eq!(status.message, expected, "{token}");
            assert_eq!((status.code, status.reason.as_str()), (400, "BadRequest"));
        };
        check("!", ": illegal base64 data at input byte 0");
        check("abcd=", ": illegal base64 data at input byte 4");
        check("abcde", ": illegal base64 data at input byte 4");
        let check_json = |text: &str, why: &str| check(&BASE64.encode(text), why);
        check_json("", ": unexpected end of JSON input");
        check_json(
            "nonsense",
            ": invalid character 'o' in literal null (expecting 'u')",
        );
        check_json(
            "[]",
            ": json: cannot unmarshal array into Go value of type storage.continueToken",
        );
        check_json(
            r#"{"rv":"1"}"#,
            ": json: cannot unmarshal string into Go struct field continueToken.rv of type int64",
        );
        let unknown = ": server does not recognize this encoded version ";
        check_json("{}", unknown);
        check_json("null", unknown);
        check_json(r#"{"v":"v9"}"#, &format!("{unknown}v9"));
        let with = |rest: &str| format!(r#"{{"v":"{VERSION}"{rest}}}"#);
        check_json(
            &with(""),
            ": incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        );
        check_json(
            &with(r#","rv":1"#),
            ": encoded start key empty (version meta.k8s.io/v1)",
        );
        for start in ["../a", "a/../b", "a//b", "a/"] {
            let text = with(&format!(r#","rv":1,"start":"{start}""#));
            check_json(&text, &format!(": {start}"));
        }
    }

    #[test]
    fn a_token_names_the_next_place_and_its_moment() {
        let check = |start: &str, rv: i64, namespace: &str, expected: (Moment, [&str; 2])| {
            let (moment, [namespace_at, name]) = expected;
            let place = Place {
                namespace: namespace_at.into(),
                name: name.into(),
            };
            let token = token(rv.into(), start);
            assert_eq!(decode(&token, namespace).unwrap(), (moment, place));
        };
        let at = Moment::At(Revision(7));
        check("shop/a\0", 7, "", (at, ["shop", "a\0"]));
        check("a\0", 7, "shop", (at, ["shop", "a\0"]));
        check("a\0", 7, "", (at, ["", "a\0"]));
        check("a\0", -1, "shop", (Moment::Latest, ["shop", "a\0"]));
    }
}
