//! DELETE of a collection: every object that the selectors choose.

use http::StatusCode;
use knarr_api::{kind::Kind, status::Status};
use serde_json::Value;

use super::{delete, options};
use crate::{
    call::Call,
    read::{self, Selection, Shown},
    request::options::ListOptions,
    respond::Reply,
};

/// Deletes what is selected and answers with the list of it, as it was.
pub(crate) async fn collection(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    call.check_writable_place(kind)?;
    let list_options = ListOptions::for_list(&call.query)?;
    // A selector that cannot be read outranks options that cannot.
    Selection::new(kind, &call.info, &list_options)?;
    let options = options(call).await?;
    let (chosen, metadata) = read::page(call, kind, &list_options)?;
    let mut deleted: Vec<Value> = Vec::new();
    for stored in &chosen {
        match delete(&call.state, kind, &stored.key, &options).await {
            Ok(_) => deleted.push(read::object(kind, stored)),
            // Someone else was faster.
            Err(status) if status.code == 404 => {}
            Err(status) => return Err(status),
        }
    }
    let list = Shown::new(call, kind)?.many(deleted, metadata);
    Ok(Reply::ok(list).with_code(StatusCode::OK))
}
