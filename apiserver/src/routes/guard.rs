//! Asks whether a user may do what a request is about to do, and refuses in Kubernetes' words.

use http::Method;
use knarr_api::status::{Details, Status};

use super::Call;
use crate::{
    State, User,
    authorize::{Action, Decision},
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
    let action = Action::Resource {
        verb,
        group: &info.group,
        resource: &info.resource,
        subresource: &info.subresource,
        namespace: &info.namespace,
        name: &info.name,
    };
    match call.state.authorizer.authorize(&call.user, &action) {
        Decision::Allowed => Ok(()),
        Decision::Denied => Err(forbidden(call, verb)),
    }
}

fn forbidden(call: &Call, verb: &str) -> Status {
    let info = &call.info;
    let qualified = match info.group.as_str() {
        "" => info.resource.clone(),
        group => format!("{}.{group}", info.resource),
    };
    let subject = match info.name.as_str() {
        "" => qualified,
        name => format!("{qualified} \"{name}\""),
    };
    let resource = match info.subresource.as_str() {
        "" => info.resource.clone(),
        subresource => format!("{}/{subresource}", info.resource),
    };
    let place = match info.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let message = format!(
        "{subject} is forbidden: User \"{}\" cannot {verb} resource \"{resource}\" \
         in API group \"{}\" {place}",
        call.user.name, info.group
    );
    Status::failure(403, "Forbidden", message).with_details(Details {
        name: info.name.clone(),
        group: info.group.clone(),
        kind: info.resource.clone(),
        ..Details::default()
    })
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
    match state.authorizer.authorize(user, &action) {
        Decision::Allowed => Ok(()),
        Decision::Denied => {
            let user = &user.name;
            let message = format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"");
            Err(Status::failure(403, "Forbidden", message).with_details(Details::default()))
        }
    }
}
