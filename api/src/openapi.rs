//! OpenAPI documents of everything in the registry, made on request. Serves and caches nothing itself.
//!
//! Shapes come from the schema facts, words from the descriptions that k8s-openapi carries.

mod operations;
mod parameters;
mod prose;
mod protobuf;
mod schemas;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::{
    kind::{Kind, Scope},
    kinds,
};

use schemas::Schemas;

/// Group, version and kind.
type Gvk = (&'static str, &'static str, &'static str);

/// A kind that is posted and answered, but never kept, and so is not in the registry.
struct Review {
    gvk: Gvk,
    plural: &'static str,
    scope: Scope,
}

const fn review(gvk: Gvk, plural: &'static str, scope: Scope) -> Review {
    Review { gvk, plural, scope }
}

const REVIEWS: &[Review] = &[
    review(("", "v1", "Binding"), "bindings", Scope::Namespaced),
    review(
        (AUTHENTICATION, "v1", "SelfSubjectReview"),
        "selfsubjectreviews",
        Scope::Cluster,
    ),
    review(
        (AUTHENTICATION, "v1", "TokenReview"),
        "tokenreviews",
        Scope::Cluster,
    ),
    review(
        (AUTHORIZATION, "v1", "LocalSubjectAccessReview"),
        "localsubjectaccessreviews",
        Scope::Namespaced,
    ),
    review(
        (AUTHORIZATION, "v1", "SelfSubjectAccessReview"),
        "selfsubjectaccessreviews",
        Scope::Cluster,
    ),
    review(
        (AUTHORIZATION, "v1", "SelfSubjectRulesReview"),
        "selfsubjectrulesreviews",
        Scope::Cluster,
    ),
    review(
        (AUTHORIZATION, "v1", "SubjectAccessReview"),
        "subjectaccessreviews",
        Scope::Cluster,
    ),
];
const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Which version of OpenAPI a document is written in; they differ in references, bodies and alternatives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    V2,
    V3,
}

/// The index of `/openapi/v3`; whoever serves the documents adds `?hash=` of what is served.
pub fn v3_index() -> Value {
    let paths: Map<String, Value> = group_versions()
        .into_iter()
        .map(|(group, version)| {
            let path = root_of(group, version);
            let url = format!("/openapi/v3/{path}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The document of one group version.
pub fn v3_document(group: &str, version: &str) -> Option<Value> {
    let (group, version) = group_versions()
        .into_iter()
        .find(|gv| *gv == (group, version))?;
    let mut schemas = Schemas::new(Dialect::V3);
    let mut paths = Map::new();
    add_group_version(&mut schemas, &mut paths, group, version);
    Some(json!({
        "openapi": "3.0.0",
        "info": info(),
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "securitySchemes": {"BearerToken": bearer()},
        },
    }))
}

/// The document of `/openapi/v2`: every group version in one.
pub fn v2_document() -> Value {
    let mut schemas = Schemas::new(Dialect::V2);
    let mut paths = Map::new();
    for (group, version) in group_versions() {
        add_group_version(&mut schemas, &mut paths, group, version);
    }
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": schemas.finish(),
        "securityDefinitions": {"BearerToken": bearer()},
        "security": [{"BearerToken": []}],
    })
}

/// The types of `/openapi/v2` as protobuf, the only form in which kubectl reads version 2, as it does for a `kind: List`.
pub fn v2_protobuf() -> Vec<u8> {
    protobuf::document(&v2_document())
}

fn info() -> Value {
    json!({"title": "Kubernetes", "version": crate::version::RELEASE})
}

fn bearer() -> Value {
    json!({"type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"})
}

fn add_group_version(
    schemas: &mut Schemas,
    paths: &mut Map<String, Value>,
    group: &'static str,
    version: &'static str,
) {
    for kind in kinds_of(group, version) {
        operations::add(schemas, paths, kind);
    }
    for review in REVIEWS {
        if (review.gvk.0, review.gvk.1) == (group, version) {
            operations::add_review(schemas, paths, review);
        }
    }
}

fn kinds_of(group: &str, version: &str) -> impl Iterator<Item = &'static Kind> {
    kinds::ALL
        .iter()
        .copied()
        .filter(move |kind| kind.group == group && kind.version == version)
}

fn group_versions() -> BTreeSet<(&'static str, &'static str)> {
    let kept = kinds::ALL.iter().map(|kind| (kind.group, kind.version));
    let reviews = REVIEWS.iter().map(|review| (review.gvk.0, review.gvk.1));
    kept.chain(reviews).collect()
}

/// `api/v1` or `apis/apps/v1`.
fn root_of(group: &str, version: &str) -> String {
    if group.is_empty() {
        format!("api/{version}")
    } else {
        format!("apis/{group}/{version}")
    }
}

#[cfg(test)]
mod tests;
