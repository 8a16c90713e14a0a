//! Name, namespace and owners in a body against those of the request.

use knarr_api::{field::quote, meta, status::Status, value::str_of};
use serde_json::Value;

/// Fills in the namespace of the request; another one is refused. Cluster-scoped objects lose theirs.
pub(crate) fn check_namespace(object: &mut Value, namespace: &str) -> Result<(), Status> {
    let given = meta::namespace(object);
    if given == namespace {
        return Ok(());
    }
    if namespace.is_empty() {
        meta::set(object, "namespace", Value::Null);
        return Ok(());
    }
    if !given.is_empty() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    meta::set(object, "namespace", namespace);
    Ok(())
}

/// The body must name what the URL names.
pub(crate) fn check_name(object: &Value, name: &str) -> Result<(), Status> {
    let given = meta::name(object);
    if given.is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    if given != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({name})"
        )));
    }
    Ok(())
}

/// The number that a resourceVersion is, or what Go's parser says of it; none is 0.
pub(super) fn parse_version(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let is_number = text.bytes().all(|c| c.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).ok_or_else(|| {
        let problem = if is_number {
            "value out of range"
        } else {
            "invalid syntax"
        };
        format!("strconv.ParseUint: parsing {}: {problem}", quote(text))
    })
}

/// Keeps the first of several references to one owner, and says so.
pub(super) fn drop_duplicate_owners(object: &mut Value, warnings: &mut Vec<String>) {
    let references = object
        .pointer_mut("/metadata/ownerReferences")
        .and_then(Value::as_array_mut);
    let Some(references) = references else {
        return;
    };
    let mut seen: Vec<Value> = Vec::new();
    let mut repeated: Vec<String> = Vec::new();
    references.retain(|reference| {
        if !seen.contains(reference) {
            seen.push(reference.clone());
            return true;
        }
        repeated.push(str_of(&reference["uid"]).to_owned());
        false
    });
    if !repeated.is_empty() {
        warnings.push(format!(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references \
             in 1.20+, and may reject such requests as early as 1.24; please fix your requests; \
             duplicate UID(s) observed: {}",
            repeated.join(", ")
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_namespace_of_the_request_is_filled_in() {
        let mut object = json!({"metadata": {"name": "a"}});
        check_namespace(&mut object, "shop").unwrap();
        assert_eq!(object["metadata"]["namespace"], "shop");
        assert_eq!(check_namespace(&mut object, "other").unwrap_err().code, 400);
        check_namespace(&mut object, "").unwrap();
        assert_eq!(object["metadata"].get("namespace"), None);
    }

    #[test]
    fn the_name_must_be_that_of_the_url() {
        let check = |object: Value, expected: &str| {
            let message = check_name(&object, "u").map_err(|status| status.message);
            assert_eq!(message, Err(expected.to_owned()));
        };
        check(
            json!({"metadata": {"name": "other"}}),
            "the name of the object (other) does not match the name on the URL (u)",
        );
        check(
            json!({"metadata": {}}),
            "the name of the object (u based on URL) was undeterminable: name must be provided",
        );
    }

    #[test]
    fn a_version_is_a_number() {
        let check = |text: &str, expected: Result<u64, &str>| {
            let expected = expected
                .map_err(|problem| format!("strconv.ParseUint: parsing \"{text}\": {problem}"));
            assert_eq!(parse_version(text), expected);
        };
        check("", Ok(0));
        check("0", Ok(0));
        check("17", Ok(17));
        check("+17", Err("invalid syntax"));
        check("new", Err("invalid syntax"));
        check("99999999999999999999", Err("value out of range"));
    }

    #[test]
    fn a_repeated_owner_is_dropped_with_a_warning() {
        let owner = json!({"kind": "A", "name": "a", "uid": "1"});
        let other = json!({"kind": "A", "name": "b", "uid": "2"});
        let mut object = json!({"metadata": {"ownerReferences": [owner, other, owner]}});
        let mut warnings = Vec::new();
        drop_duplicate_owners(&mut object, &mut warnings);
        assert_eq!(object["metadata"]["ownerReferences"], json!([owner, other]));
        assert_eq!(warnings.len(), 1);
    }
}
