//! Asks whether a user may do what a request is about to do, and refuses in Kubernetes' words.

use http::Method;
use knarr_api::status::{Details, Status};

use crate::{
    State, User,
    authorize::{Action, Decision, exact_field},
    call::Call,
    request::Verb,
};

/// Refuses a request for objects that its user may not make.
pub(super) fn check(call: &Call) -> Result<(), Status> {
    let info = &call.info;
    // Whoever opens a stream into a pod changes things, whatever the method.
    let streams = ["exec", "attach", "portforward"];
    let verb = if info.resource == "pods" && streams.contains(&info.subresource.as_str()) {
        Verb::Create.name()
    } else {
        call.verb.name()
    };
    let field_selector = match call.verb {
        Verb::List | Verb::Watch => call.query.text("fieldSelector").unwrap_or_default(),
        _ => "",
    };
    let name = match info.name.as_str() {
        "" => exact_field(field_selector, "metadata.name").unwrap_or_default(),
        name => name,
    };
    let action = Action::Resource {
        verb,
        group: &info.group,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name,
        field_selector,
    };
    check_action(&call.state, &call.user, &action)
}

/// Refuses what a user may not do.
pub(super) fn check_action(state: &State, user: &User, action: &Action<'_>) -> Result<(), Status> {
    match state.authorizer.authorize(user, action) {
        Decision::Allowed => Ok(()),
        Decision::Denied { reason } => Err(forbidden(user, action, &reason)),
    }
}

fn forbidden(user: &User, action: &Action<'_>, reason: &str) -> Status {
    let user = &user.name;
    let reason = match reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    let refused = |message| Status::failure(403, "Forbidden", message);
    match *action {
        Action::Path { verb, path } => {
            let message =
                format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"{reason}");
            refused(message).with_details(Details::default())
        }
        Action::Resource {
            verb,
            group,
            resource,
            subresource,
            namespace,
            name,
            field_selector: _,
        } => {
            let qualified = match group {
                "" => resource.to_owned(),
                group => format!("{resource}.{group}"),
            };
            let subject = match name {
                "" => qualified,
                name => format!("{qualified} \"{name}\""),
            };
            let below = match subresource {
                "" => resource.to_owned(),
                subresource => format!("{resource}/{subresource}"),
            };
            let place = match namespace {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace \"{namespace}\""),
            };
            let message = format!(
                "{subject} is forbidden: User \"{user}\" cannot {verb} resource \"{below}\" \
                 in API group \"{group}\" {place}{reason}"
            );
            refused(message).with_details(Details {
                name: name.to_owned(),
                group: group.to_owned(),
                kind: resource.to_owned(),
                ..Details::default()
            })
        }
    }
}

/// Refuses a request for another path that its user may not make.
pub(super) fn check_path(
    state: &State,
    user: &User,
    method: &Method,
    path: &str,
) -> Result<(), Status> {
    let verb = method.as_str().to_ascii_lowercase();
    let action = Action::Path { verb: &verb, path };
    check_action(state, user, &action)
}
