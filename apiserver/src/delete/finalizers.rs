//! Propagation policies as finalizers, which the garbage collector acts on.

use knarr_api::{kind::Kind, meta};
use serde_json::Value;

use crate::request::options::{DeleteOptions, Propagation};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// Sets the finalizers that the policy asks for, and takes off those it does not.
pub(super) fn adjust(kind: &Kind, object: &mut Value, options: &DeleteOptions) {
    let before: Vec<String> = meta::finalizers(object)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let has = |name: &str| before.iter().any(|finalizer| finalizer == name);
    let policy = match (options.orphan_dependents, options.propagation) {
        (Some(true), _) => Propagation::Orphan,
        (Some(false), _) => Propagation::Background,
        (None, Some(policy)) => policy,
        (None, None) if has(ORPHAN) => Propagation::Orphan,
        (None, None) if has(FOREGROUND) => Propagation::Foreground,
        (None, None) => default_policy(kind),
    };
    let wanted = match policy {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let others = before.iter().map(String::as_str);
    let after: Vec<&str> = others
        .filter(|finalizer| ![ORPHAN, FOREGROUND].contains(finalizer))
        .chain(wanted)
        .collect();
    if after.is_empty() {
        meta::set(object, "finalizers", Value::Null);
    } else if wanted.is_none_or(|wanted| !has(wanted)) || after.len() != before.len() {
        object["metadata"]["finalizers"] = after.into();
    }
}

/// Jobs kept their pods before policies existed, and still do.
fn default_policy(kind: &Kind) -> Propagation {
    match (kind.group, kind.kind) {
        ("batch", "Job") => Propagation::Orphan,
        _ => Propagation::Background,
    }
}

/// What a client that names no policy is told where the default may surprise.
pub(super) fn orphaning_warning(kind: &Kind, options: &DeleteOptions) -> Option<&'static str> {
    let unsaid = options.propagation.is_none() && options.orphan_dependents.is_none();
    (unsaid && default_policy(kind) == Propagation::Orphan).then_some(
        "child pods are preserved by default when jobs are deleted; set \
         propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning",
    )
}

#[cfg(test)]
mod tests {
    use knarr_api::kinds::configmap::CONFIG_MAP;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_policy_replaces_the_finalizers_of_another() {
        let check = |policy: Option<Propagation>, before: Value, expected: Value| {
            let mut object = json!({"metadata": {"finalizers": before}});
            let options = DeleteOptions {
                propagation: policy,
                ..DeleteOptions::default()
            };
            adjust(&CONFIG_MAP, &mut object, &options);
            assert_eq!(object["metadata"]["finalizers"], expected);
        };
        let orphan = Some(Propagation::Orphan);
        check(orphan, json!([]), json!(["orphan"]));
        check(orphan, json!(["foregroundDeletion"]), json!(["orphan"]));
        check(None, json!(["a/b", "orphan"]), json!(["a/b", "orphan"]));
        let background = Some(Propagation::Background);
        check(background, json!(["a/b", "orphan"]), json!(["a/b"]));
        check(background, json!(["orphan"]), Value::Null);
    }
}
