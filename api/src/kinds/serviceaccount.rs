//! ServiceAccount: an identity for pods; its token subresource is the API server's.

use serde_json::Value;

use crate::{
    kind::{Kind, MetadataCheck, Strategy, Subresource},
    meta,
    value::{items_mut, of_object},
};

const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

pub static SERVICE_ACCOUNT: Kind = Kind {
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    subresources: &[Subresource {
        name: "token",
        body: Some(("authentication.k8s.io", "v1", "TokenRequest")),
        verbs: &["create"],
    }],
    strategy: Strategy {
        prepare_create: keep_secret_names,
        prepare_update: |new, _| keep_secret_names(new),
        metadata_checks: &[MetadataCheck::Update, MetadataCheck::Create],
        warnings,
        returns_deleted_object: true,
        ..Strategy::BASE
    },
    ..Kind::BASE
};

/// References to secrets are names; whatever else a client wrote into them is dropped.
fn keep_secret_names(account: &mut Value) {
    for secret in items_mut(account, "secrets") {
        of_object(secret).retain(|field, _| field == "name");
    }
}

fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let has = |account: &Value| {
        meta::annotations(account).is_some_and(|annotations| annotations.contains_key(MOUNTABLE))
    };
    if !has(new) || old.is_some_and(has) {
        return Vec::new();
    }
    vec![format!(
        "metadata.annotations[{MOUNTABLE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
    )]
}
