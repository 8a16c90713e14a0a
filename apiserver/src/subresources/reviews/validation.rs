//! What an access review may ask. Answers nothing itself.

use knarr_api::{
    field::{Error, Path},
    status::Status,
    value::{items, str_of},
};
use serde_json::{Value, json};

/// Refuses a review that asks for nothing, or for two things at once.
///
/// # Errors
/// 422 with a cause for each field.
pub(super) fn check(kind: &str, review: &Value) -> Result<(), Status> {
    let errors = match kind {
        "SelfSubjectAccessReview" | "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            errors(kind, review)
        }
        _ => return Ok(()),
    };
    if errors.is_empty() {
        return Ok(());
    }
    // The kind is lost in Kubernetes' conversion, and so it is missing here.
    Err(Status::invalid_kind(".authorization.k8s.io", "", &errors))
}

fn errors(kind: &str, review: &Value) -> Vec<Error> {
    let spec = &review["spec"];
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let path = Path::new("spec");
    let mut errors = Vec::new();
    match (resource.is_null(), other.is_null()) {
        (false, false) => errors.push(Error::invalid(
            &path.child("nonResourceAttributes"),
            shown(other),
            "cannot be specified in combination with resourceAttributes",
        )),
        (true, true) => errors.push(Error::invalid(
            &path.child("resourceAttributes"),
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )),
        _ => {}
    }
    let nobody = str_of(&spec["user"]).is_empty() && items(&spec["groups"]).is_empty();
    if nobody && kind != "SelfSubjectAccessReview" {
        let detail = "at least one of user or group must be specified";
        errors.push(Error::invalid(&path.child("user"), "", detail));
    }
    let path = path.child("resourceAttributes");
    for selector in ["fieldSelector", "labelSelector"] {
        selector_errors(&mut errors, &path.child(selector), &resource[selector]);
    }
    metadata_errors(&mut errors, kind, review);
    errors
}

fn selector_errors(errors: &mut Vec<Error>, path: &Path, selector: &Value) {
    if selector.is_null() {
        return;
    }
    let raw = str_of(&selector["rawSelector"]);
    match (raw.is_empty(), items(&selector["requirements"]).is_empty()) {
        (false, false) => errors.push(Error::invalid(
            &path.child("rawSelector"),
            raw,
            "may not specified at the same time as requirements",
        )),
        (true, true) => {
            let detail =
                format!("when {path} is specified, requirements or rawSelector is required");
            errors.push(Error::required(&path.child("requirements"), &detail));
        }
        _ => {}
    }
}

fn metadata_errors(errors: &mut Vec<Error>, kind: &str, review: &Value) {
    let mut metadata = review["metadata"].clone();
    let is_local = kind == "LocalSubjectAccessReview";
    if let Some(fields) = metadata.as_object_mut() {
        fields.remove("managedFields");
        fields.retain(|name, _| !is_local || name != "namespace");
    }
    if metadata
        .as_object()
        .is_some_and(|fields| !fields.is_empty())
    {
        let detail = if is_local {
            "must be empty except for namespace"
        } else {
            "must be empty"
        };
        let path = Path::new("metadata");
        errors.push(Error::invalid(&path, review["metadata"].clone(), detail));
    }
    if !is_local {
        return;
    }
    let (resource, other) = (
        &review["spec"]["resourceAttributes"],
        &review["spec"]["nonResourceAttributes"],
    );
    let namespace = str_of(&resource["namespace"]);
    if !resource.is_null() && namespace != str_of(&review["metadata"]["namespace"]) {
        let path = Path::new("spec.resourceAttributes.namespace");
        errors.push(Error::invalid(
            &path,
            namespace,
            "must match metadata.namespace",
        ));
    }
    if !other.is_null() {
        let path = Path::new("spec.nonResourceAttributes");
        let detail = "disallowed on this kind of request";
        errors.push(Error::invalid(&path, shown(other), detail));
    }
}

/// As Kubernetes' internal type prints.
fn shown(attributes: &Value) -> Value {
    json!({"Path": str_of(&attributes["path"]), "Verb": str_of(&attributes["verb"])})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_review_asks_for_one_thing_of_somebody() {
        let check = |kind: &str, review: Value, expected: &str| {
            let message = check(kind, &review).err().map(|status| status.message);
            let prefix = ".authorization.k8s.io \"\" is invalid: ";
            let expected = match expected {
                "" => None,
                expected => Some(format!("{prefix}{expected}")),
            };
            assert_eq!(message, expected);
        };
        let pods = || json!({"verb": "get", "resource": "pods"});
        check(
            "SelfSubjectAccessReview",
            json!({"spec": {"resourceAttributes": pods()}}),
            "",
        );
        check(
            "SelfSubjectAccessReview",
            json!({"spec": {}}),
            "spec.resourceAttributes: Invalid value: null: \
             exactly one of nonResourceAttributes or resourceAttributes must be specified",
        );
        check(
            "SubjectAccessReview",
            json!({"spec": {"resourceAttributes": pods()}}),
            "spec.user: Invalid value: \"\": at least one of user or group must be specified",
        );
        check(
            "LocalSubjectAccessReview",
            json!({"metadata": {"namespace": "a"}, "spec": {
                "user": "bob", "resourceAttributes": {"namespace": "b"}
            }}),
            "spec.resourceAttributes.namespace: Invalid value: \"b\": must match metadata.namespace",
        );
        check(
            "SubjectAccessReview",
            json!({"spec": {"user": "bob", "resourceAttributes": pods(),
                "nonResourceAttributes": {"path": "/x", "verb": "get"}}}),
            "spec.nonResourceAttributes: Invalid value: {\"Path\":\"/x\",\"Verb\":\"get\"}: \
             cannot be specified in combination with resourceAttributes",
        );
    }
}
