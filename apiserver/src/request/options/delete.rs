//! Options of delete and deletecollection, from the body or, without one, from the query.

use knarr_api::{
    field::{Error, Path},
    status::Status,
};
use serde::Deserialize;

use super::{DryRun, check};
use crate::request::Query;

/// What happens to the dependents of a deleted object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Propagation {
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    #[serde(rename = "resourceVersion")]
    pub(crate) resource_version: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct DeleteOptions {
    pub(crate) dry_run: DryRun,
    /// Negative values count as one second.
    pub(crate) grace_seconds: Option<i64>,
    pub(crate) propagation: Option<Propagation>,
    /// The predecessor of `propagation`; at most one of them is set.
    pub(crate) orphan_dependents: Option<bool>,
    pub(crate) preconditions: Preconditions,
}

/// The wire form, in the body and in the query alike.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    #[serde(rename = "apiVersion")]
    api_version: Option<String>,
    kind: Option<String>,
    grace_period_seconds: Option<i64>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<Preconditions>,
    dry_run: Option<Vec<String>>,
}

impl DeleteOptions {
    pub(crate) fn from_query(query: &Query) -> Result<Self, Status> {
        Self::validated(Wire {
            grace_period_seconds: query.integer("gracePeriodSeconds")?,
            propagation_policy: query.text("propagationPolicy").map(str::to_owned),
            orphan_dependents: query.flag("orphanDependents"),
            dry_run: Some(query.all("dryRun").map(str::to_owned).collect()),
            ..Wire::default()
        })
    }

    pub(crate) fn from_body(body: &serde_json::Value) -> Result<Self, Status> {
        let wire: Wire = Wire::deserialize(body).map_err(|error| {
            Status::bad_request(format!(
                "unable to decode the body as DeleteOptions: {error}"
            ))
        })?;
        if wire
            .kind
            .as_deref()
            .is_some_and(|kind| kind != "DeleteOptions")
        {
            return Err(Status::bad_request(format!(
                "decoded object cannot be converted to DeleteOptions: {}, Kind={}",
                wire.api_version.unwrap_or_default(),
                wire.kind.unwrap_or_default()
            )));
        }
        Self::validated(wire)
    }

    fn validated(wire: Wire) -> Result<Self, Status> {
        let mut errors = Vec::new();
        let path = Path::new("propagationPolicy");
        let policy = wire.propagation_policy.as_deref();
        if let (Some(policy), Some(_)) = (policy, wire.orphan_dependents) {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(Error::invalid(&path, policy, detail));
        }
        let propagation = match policy {
            None => None,
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Orphan") => Some(Propagation::Orphan),
            Some(other) => {
                let supported = ["Foreground", "Background", "Orphan", "nil"];
                errors.push(Error::not_supported(&path, other, &supported));
                None
            }
        };
        let dry_run = DryRun::read(&wire.dry_run.unwrap_or_default(), &mut errors);
        check("DeleteOptions", &errors)?;
        Ok(DeleteOptions {
            dry_run,
            grace_seconds: wire.grace_period_seconds.map(|s| if s < 0 { 1 } else { s }),
            propagation,
            orphan_dependents: wire.orphan_dependents,
            preconditions: wire.preconditions.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_and_a_query_say_the_same() {
        let body = json!({
            "kind": "DeleteOptions", "apiVersion": "v1",
            "gracePeriodSeconds": -1, "propagationPolicy": "Orphan", "dryRun": ["All"]
        });
        let query = "gracePeriodSeconds=-1&propagationPolicy=Orphan&dryRun=All";
        let from_query = DeleteOptions::from_query(&Query::parse(query)).unwrap();
        assert_eq!(DeleteOptions::from_body(&body).unwrap(), from_query);
        assert_eq!(from_query.grace_seconds, Some(1));
    }

    #[test]
    fn wrong_policies_are_refused() {
        let check = |query: &str, expected: &str| {
            let status = DeleteOptions::from_query(&Query::parse(query)).unwrap_err();
            let prefix = "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: ";
            assert_eq!(status.message, format!("{prefix}{expected}"));
        };
        check(
            "propagationPolicy=Sideways",
            "Unsupported value: \"Sideways\": supported values: \
             \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        );
        check(
            "propagationPolicy=Background&orphanDependents=true",
            "Invalid value: \"Background\": \
             orphanDependents and deletionPropagation cannot be both set",
        );
    }

    #[test]
    fn another_kind_of_body_is_refused() {
        let status = DeleteOptions::from_body(&json!({"kind": "Pod"})).unwrap_err();
        assert_eq!(status.code, 400);
    }
}
