//! `Impersonate-…` headers: acting as somebody else, for those who may.

use std::collections::BTreeMap;

use http::HeaderMap;
use knarr_api::status::Status;

use super::guard;
use crate::{
    State, User,
    accounts::{self, split_user_name},
    authorize::Action,
    request::query::percent_decode,
    respond,
    user::{AUTHENTICATED, UNAUTHENTICATED},
};

const PREFIX: &str = "impersonate-";
const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user that a request by `user` is made as.
pub(super) fn effective(state: &State, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let wanted = Wanted::read(headers);
    if wanted == Wanted::default() {
        return Ok(user);
    }
    if wanted.user.is_empty() {
        return Err(respond::unclassified(
            "requested other attributes without impersonating a user",
        ));
    }
    for action in wanted.actions() {
        guard::check_action(state, &user, &action)?;
    }
    Ok(wanted.into_user())
}

/// Whom the headers name.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    user: String,
    groups: Vec<String>,
    uid: String,
    extra: BTreeMap<String, Vec<String>>,
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Wanted {
        let mut wanted = Wanted::default();
        let impersonating = headers
            .iter()
            .filter(|(name, _)| name.as_str().starts_with(PREFIX));
        for (name, value) in impersonating {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            match name.as_str() {
                USER => wanted.user = value,
                UID => wanted.uid = value,
                GROUP => wanted.groups.push(value),
                other => {
                    if let Some(key) = other.strip_prefix(EXTRA) {
                        let key = percent_decode(key).to_lowercase();
                        wanted.extra.entry(key).or_default().push(value);
                    }
                }
            }
        }
        wanted
    }

    /// What one must be allowed to do to become this user.
    fn actions(&self) -> Vec<Action<'_>> {
        let Wanted {
            user,
            groups,
            uid,
            extra,
        } = self;
        let mut actions = vec![match split_user_name(user) {
            Some((namespace, name)) => become_one("", "serviceaccounts", "", namespace, name),
            None => become_one("", "users", "", "", user),
        }];
        let groups = groups
            .iter()
            .map(|group| become_one("", "groups", "", "", group));
        actions.extend(groups);
        if !uid.is_empty() {
            actions.push(become_one(AUTHENTICATION, "uids", "", "", uid));
        }
        for (key, values) in extra {
            let with = |value| become_one(AUTHENTICATION, "userextras", key, "", value);
            actions.extend(values.iter().map(|value| with(value)));
        }
        actions
    }

    fn into_user(self) -> User {
        let Wanted {
            user: name,
            mut groups,
            uid,
            extra,
        } = self;
        if groups.is_empty()
            && let Some((namespace, _)) = split_user_name(&name)
        {
            groups.extend(accounts::groups(namespace));
        }
        let everybodys = if name == User::anonymous().name {
            UNAUTHENTICATED
        } else {
            AUTHENTICATED
        };
        let is_said = [AUTHENTICATED, UNAUTHENTICATED]
            .iter()
            .any(|group| groups.iter().any(|said| said == group));
        if !is_said {
            groups.push(everybodys.to_owned());
        }
        User {
            name,
            uid,
            groups,
            extra,
        }
    }
}

fn become_one<'a>(
    group: &'a str,
    resource: &'a str,
    subresource: &'a str,
    namespace: &'a str,
    name: &'a str,
) -> Action<'a> {
    Action::Resource {
        verb: "impersonate",
        group,
        resource,
        subresource,
        namespace,
        name,
        field_selector: "",
    }
}
