//! Options of get, list, watch and of the selection of deletecollection.

use std::num::{IntErrorKind, ParseIntError};

use knarr_api::{
    field::{Error, Path},
    status::Status,
};

use crate::{request::Query, respond};

const NOT_OLDER_THAN: &str = "NotOlderThan";

/// What a client says about the age of what it wants to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ResourceVersion {
    /// The most recent state.
    Unset,
    /// Any state.
    Any,
    At(u64),
    /// A text that is none, and what is wrong with it.
    Unreadable(String),
}

impl ResourceVersion {
    pub(crate) fn read(query: &Query) -> Self {
        let Some(text) = query.text("resourceVersion") else {
            return ResourceVersion::Unset;
        };
        // Unlike Go, Rust reads a sign before the digits.
        let parsed = if text.starts_with('+') {
            "".parse()
        } else {
            text.parse()
        };
        match parsed.map_err(|error: ParseIntError| *error.kind()) {
            Ok(0) => ResourceVersion::Any,
            Ok(revision) => ResourceVersion::At(revision),
            Err(kind) => {
                let quoted = knarr_api::field::quote(text);
                let problem = match kind {
                    IntErrorKind::PosOverflow => "value out of range",
                    _ => "invalid syntax",
                };
                ResourceVersion::Unreadable(format!(
                    "resourceVersion: Invalid value: {quoted}: \
                     strconv.ParseUint: parsing {quoted}: {problem}"
                ))
            }
        }
    }

    /// # Errors
    /// 500 for a text that is no version, which Kubernetes has no class of errors for but in lists.
    pub(crate) fn check(&self) -> Result<(), Status> {
        match self {
            ResourceVersion::Unreadable(why) => Err(respond::unclassified(why)),
            ResourceVersion::Unset | ResourceVersion::Any | ResourceVersion::At(_) => Ok(()),
        }
    }
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
        let read = Self::read(query)?;
        super::check("ListOptions", &list_errors(query))?;
        Ok(read)
    }

    pub(crate) fn for_watch(query: &Query) -> Result<Self, Status> {
        let mut read = Self::read(query)?;
        let is_plain = read.send_initial_events.is_none() && read.resource_version_match.is_empty();
        let begins_anywhere = matches!(query.text("resourceVersion"), None | Some("0"));
        if is_plain && begins_anywhere {
            read.send_initial_events = Some(true);
            read.resource_version_match = NOT_OLDER_THAN.into();
        }
        super::check("ListOptions", &read.watch_errors())?;
        Ok(read)
    }

    fn watch_errors(&self) -> Vec<Error> {
        let mut errors = Vec::new();
        let path = version_match_path();
        let initial = self.send_initial_events.is_some();
        let wanted = self.resource_version_match.as_str();
        if initial && wanted != NOT_OLDER_THAN {
            let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(Error::forbidden(&path, detail));
        }
        if wanted.is_empty() {
            return errors;
        }
        if !initial {
            let detail =
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            errors.push(Error::forbidden(&path, detail));
        }
        if wanted != NOT_OLDER_THAN {
            errors.push(Error::not_supported(&path, wanted, &[NOT_OLDER_THAN]));
        }
        if self.continue_token.is_some() {
            let detail = "resourceVersionMatch is forbidden when continue is provided";
            errors.push(Error::forbidden(&path, detail));
        }
        errors
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
            resource_version: ResourceVersion::read(query),
            resource_version_match: text("resourceVersionMatch"),
            limit: positive("limit")?.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)),
            continue_token: query.text("continue").map(str::to_owned),
            timeout_seconds: positive("timeoutSeconds")?,
            bookmarks: query.flag("allowWatchBookmarks") == Some(true),
            send_initial_events: query.flag("sendInitialEvents"),
        })
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
        check(watch("continue=x&resourceVersion=5"), "");
        check(
            watch("continue=x"),
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: \
             resourceVersionMatch is forbidden when continue is provided",
        );
    }

    #[test]
    fn a_watch_from_anywhere_says_when_its_initial_events_end() {
        let check = |query: &str, expected: Option<bool>| {
            let options = ListOptions::for_watch(&Query::parse(query)).unwrap();
            assert_eq!(options.send_initial_events, expected, "{query}");
        };
        check("", Some(true));
        check("resourceVersion=0", Some(true));
        check("resourceVersion=7", None);
        check(
            "sendInitialEvents=false&resourceVersionMatch=NotOlderThan",
            Some(false),
        );
    }

    #[test]
    fn a_resource_version_that_is_no_number_is_told() {
        let check = |text: &str, expected: &str| {
            let query = Query::parse(&format!("resourceVersion={text}"));
            let outcome = ResourceVersion::read(&query).check();
            let message = outcome.err().map(|status| status.message);
            assert_eq!(message.unwrap_or_default(), expected);
        };
        let refused = |value: &str, problem: &str| {
            format!(
                "resourceVersion: Invalid value: \"{value}\": \
                 strconv.ParseUint: parsing \"{value}\": {problem}"
            )
        };
        check("7", "");
        check("abc", &refused("abc", "invalid syntax"));
        check("-1", &refused("-1", "invalid syntax"));
        check("%2B1", &refused("+1", "invalid syntax"));
        let large = "99999999999999999999";
        check(large, &refused(large, "value out of range"));
    }
}
