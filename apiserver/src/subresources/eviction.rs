//! Eviction (`policy/v1`): a deletion that says why. Disruption budgets are not kept, so none refuses.

use knarr_api::{decode::Target, kind::Kind, meta, status::Status, value::str_of};
use serde_json::json;

use super::binding::set_condition;
use crate::{
    call::Call,
    delete, read,
    request::options::{DeleteOptions, DryRun},
    respond::Reply,
    write::{self, Changed},
};

const EVICTION: Target<'_> = Target {
    group: "policy",
    version: "v1",
    kind: "Eviction",
};

pub(super) async fn serve(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    let (eviction, write_options) = super::posted(call, EVICTION).await?;
    if meta::name(&eviction) != call.info.name {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let mut options = match &eviction["deleteOptions"] {
        serde_json::Value::Null => DeleteOptions::default(),
        options => DeleteOptions::from_body(options)?,
    };
    if write_options.dry_run == DryRun::All {
        options.dry_run = DryRun::All;
    }
    let key = read::key(call, kind);
    if options.dry_run == DryRun::No {
        write::mutate(&call.state, &key, |pod| {
            delete::check_preconditions(kind, pod, &options)?;
            if ["Succeeded", "Failed"].contains(&str_of(&pod["status"]["phase"])) {
                return Ok(Changed::No);
            }
            let condition = json!({
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "EvictionByEvictionAPI",
                "message": "Eviction API: evicting",
            });
            set_condition(pod, condition);
            Ok(Changed::Yes)
        })
        .await?;
    }
    delete::delete(&call.state, kind, &key, &options).await?;
    Ok(super::created())
}
