//! Labels that ask for a Pod Security level: whether they say something. Enforces nothing.

use serde_json::Value;

use crate::{
    field::{Error, Path},
    meta,
    value::str_of,
};

const LEVELS: [&str; 3] = ["privileged", "baseline", "restricted"];
const MODES: [&str; 3] = ["enforce", "audit", "warn"];

/// What is wrong with the labels; what was wrong in the same way before is let be.
pub(super) fn validate(new: &Value, old: Option<&Value>) -> Vec<Error> {
    let errors = complaints(new);
    let is_old = old.is_some_and(|old| complaints(old) == errors);
    if is_old { Vec::new() } else { errors }
}

fn complaints(namespace: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    let labels = Path::new("metadata").child("labels");
    let mut check = |label: String, is_known: fn(&str) -> bool, detail: &str| {
        let value = meta::labels(namespace).and_then(|labels| labels.get(&label));
        if let Some(value) = value.map(str_of).filter(|value| !is_known(value)) {
            errors.push(Error::invalid(&labels.key(&label), value, detail));
        }
    };
    let levels = format!("must be one of {}", LEVELS.join(", "));
    for mode in MODES {
        let label = format!("pod-security.kubernetes.io/{mode}");
        let version = format!("{label}-version");
        check(label, |level| LEVELS.contains(&level), &levels);
        check(version, is_version, r#"must be "latest" or "v1.x""#);
    }
    errors
}

fn is_version(text: &str) -> bool {
    let minor = text.strip_prefix("v1.").unwrap_or_default();
    let is_number = !minor.is_empty() && minor.bytes().all(|c| c.is_ascii_digit());
    text == "latest" || is_number && (minor == "0" || !minor.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(labels: &[(&str, &str)], expected: &[&str]) {
        let labels = labels
            .iter()
            .map(|(name, value)| (format!("pod-security.kubernetes.io/{name}"), *value));
        let labels: std::collections::BTreeMap<String, &str> = labels.collect();
        let namespace = json!({"metadata": {"labels": labels}});
        let seen: Vec<String> = validate(&namespace, None)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(seen, expected);
        assert_eq!(validate(&namespace, Some(&namespace)), []);
    }

    #[test]
    fn a_level_and_a_version_must_exist() {
        check(&[], &[]);
        check(&[("enforce", "restricted"), ("warn-version", "v1.36")], &[]);
        check(
            &[
                ("audit", ""),
                ("enforce", "strict"),
                ("enforce-version", "v1.07"),
                ("warn-version", "v2.1"),
            ],
            &[
                r#"metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted"#,
                r#"metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: "v1.07": must be "latest" or "v1.x""#,
                r#"metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: "": must be one of privileged, baseline, restricted"#,
                r#"metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "v2.1": must be "latest" or "v1.x""#,
            ],
        );
    }
}
