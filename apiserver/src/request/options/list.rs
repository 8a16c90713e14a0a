//! Options of get, list, watch and of the selection of deletecollection.

use knarr_api::{
    field::{Error, Path},
    status::Status,
};

use crate::request::Query;

/// What a client says about the age of what it wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResourceVersion {
    /// The most recent state.
    Unset,
    /// Any state.
    Any,
    At(u64),
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ListOptions {
    pub(crate) label_selector: String,
    pub(crate) field_selector: String,
    pub(crate) resource_version: ResourceVersion,
    /// `Exact`, `NotOlderThan` or empty.
    pub(crate) resource_version_match: String,
    pub(crate) limit: Option<usize>,
    pub(crate) continue_token: Option<String>,
    pub(crate) timeout_seconds: Option<u64>,
    pub(crate) bookmarks: bool,
    pub(crate) send_initial_events: Option<bool>,
}

impl ListOptions {
    pub(crate) fn for_list(query: &Query) -> Result<Self, Status> {
        super::check("ListOptions", &list_errors(query))?;
        Self::read(query)
    }

    pub(crate) fn for_watch(query: &Query) -> Result<Self, Status> {
        super::check("ListOptions", &watch_errors(query))?;
        Self::read(query)
    }

    fn read(query: &Query) -> Result<Self, Status> {
        let text = |name: &str| query.text(name).unwrap_or_default().to_owned();
        let positive = |name: &str| {
            let value = query.integer(name)?;
            Ok::<_, Status>(value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0))
        };
        Ok(ListOptions {
            label_selector: text("labelSelector"),
            field_selector: text("fieldSelector"),
            resource_version: resource_version(query)?,
            resource_version_match: text("resourceVersionMatch"),
            limit: positive("limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            continue_token: query.text("continue").map(str::to_owned),
            timeout_seconds: positive("timeoutSeconds")?,
            bookmarks: query.flag("allowWatchBookmarks") == Some(true),
            send_initial_events: query.flag("sendInitialEvents"),
        })
    }
}

/// Reads `resourceVersion`, which every read may carry.
pub(crate) fn resource_version(query: &Query) -> Result<ResourceVersion, Status> {
    let Some(text) = query.text("resourceVersion") else {
        return Ok(ResourceVersion::Unset);
    };
    match text.parse() {
        Ok(0) => Ok(ResourceVersion::Any),
        Ok(revision) => Ok(ResourceVersion::At(revision)),
        Err(_) => {
            let quoted = knarr_api::field::quote(text);
            Err(Status::bad_request(format!(
                "Invalid value: {quoted}: strconv.ParseUint: parsing {quoted}: invalid syntax"
            )))
        }
    }
}

fn version_match_path() -> Path {
    Path::new("resourceVersionMatch")
}

fn list_errors(query: &Query) -> Vec<Error> {
    let mut errors = Vec::new();
    let forbid = |errors: &mut Vec<Error>, detail: &str| {
        errors.push(Error::forbidden(&version_match_path(), detail));
    };
    if let Some(wanted) = query.text("resourceVersionMatch") {
        let version = query.text("resourceVersion");
        if version.is_none() {
            let detail = "resourceVersionMatch is forbidden unless resourceVersion is provided";
            forbid(&mut errors, detail);
        }
        if query.text("continue").is_some() {
            let detail = "resourceVersionMatch is forbidden when continue is provided";
            forbid(&mut errors, detail);
        }
        if !["Exact", "NotOlderThan"].contains(&wanted) {
            let supported = ["Exact", "NotOlderThan", ""];
            let path = version_match_path();
            errors.push(Error::not_supported(&path, wanted, &supported));
        }
        if wanted == "Exact" && version == Some("0") {
            let detail = r#"resourceVersionMatch "exact" is forbidden for resourceVersion "0""#;
            forbid(&mut errors, detail);
        }
    }
    if query.flag("sendInitialEvents").is_some() {
        let detail = "sendInitialEvents is forbidden for list";
        errors.push(Error::forbidden(&Path::new("sendInitialEvents"), detail));
    }
    errors
}

fn watch_errors(query: &Query) -> Vec<Error> {
    let mut errors = Vec::new();
    let path = version_match_path();
    let initial = query.flag("sendInitialEvents").is_some();
    let wanted = query.text("resourceVersionMatch");
    if initial && wanted != Some("NotOlderThan") {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(Error::forbidden(&path, detail));
    }
    let Some(wanted) = wanted else {
        return errors;
    };
    if !initial {
        let detail =
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.push(Error::forbidden(&path, detail));
    }
    if wanted != "NotOlderThan" {
        errors.push(Error::not_supported(&path, wanted, &["NotOlderThan"]));
    }
    if query.text("continue").is_some() {
        let detail = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(Error::forbidden(&path, detail));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_contradict_each_other_are_refused() {
        let list = |query: &str| ListOptions::for_list(&Query::parse(query)).map(drop);
        let watch = |query: &str| ListOptions::for_watch(&Query::parse(query)).map(drop);
        let check = |outcome: Result<(), Status>, expected: &str| {
            let message = outcome.err().map(|status| status.message);
            assert_eq!(message.unwrap_or_default(), expected);
        };
        check(list("limit=5&resourceVersion=0"), "");
        check(
            list("resourceVersion=0&resourceVersionMatch=Exact"),
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
             resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        );
        check(
            watch("resourceVersionMatch=NotOlderThan"),
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
             resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        );
        check(
            watch("sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
            "",
        );
    }

    #[test]
    fn a_resource_version_that_is_no_number_is_refused() {
        let status = ListOptions::for_list(&Query::parse("resourceVersion=abc")).unwrap_err();
        assert_eq!(status.code, 400);
    }
}
