//! Get and list: answers from the store's memory, mostly the stored bytes as they are. Changes nothing.

mod page;
mod pieces;
mod select;
mod show;
mod stitch;
mod token;
mod view;

use std::sync::Arc;

use axum::response::Response;
use bytes::BytesMut;
use http::StatusCode;
use knarr_api::{
    kind::Kind,
    status::{Cause, Details, Status},
};
use serde_json::{Map, Value, json};

pub(crate) use select::Selection;
pub(crate) use show::{Shown, document_in};
pub(crate) use view::{hide, object, whole};

use self::{pieces::Layout, token::Moment};
use crate::{
    call::Call,
    negotiate::{Accepted, Encoding, Form},
    request::options::{ListOptions, ResourceVersion},
    respond::Reply,
    storage::{Key, Listing, Revision, Store, Stored},
};

/// Documents up to which a list is put together before it is sent.
const WHOLE_BYTES_MAX: usize = 256 << 10;

/// Where the object of a call is kept.
pub(crate) fn key(call: &Call, kind: &'static Kind) -> Key {
    let namespace = if kind.is_namespaced() {
        call.info.namespace.as_str()
    } else {
        ""
    };
    Key::new(kind.stored(), namespace, call.info.name.as_str())
}

/// The stored object of a call.
pub(crate) fn stored(call: &Call, kind: &'static Kind) -> Result<Arc<Stored>, Status> {
    let found = call.state.store.get(&key(call, kind));
    found.ok_or_else(|| Status::not_found(kind, &call.info.name))
}

pub(crate) fn get(call: &Call, kind: &'static Kind) -> Result<Reply, Status> {
    if call.query.flag("export") == Some(true) {
        let text = "the export parameter, deprecated since v1.14, is no longer supported";
        return Err(Status::bad_request(text));
    }
    let version = ResourceVersion::read(&call.query);
    version.check()?;
    check_not_ahead(&call.state.store, &version)?;
    let stored = stored(call, kind)?;
    reply(call, kind, &stored, StatusCode::OK)
}

/// One object in the form the client asked for.
pub(crate) fn reply(
    call: &Call,
    kind: &'static Kind,
    stored: &Stored,
    code: StatusCode,
) -> Result<Reply, Status> {
    match document_in(call.accepted()?.form, kind, stored) {
        Some(document) => Ok(Reply::document(document).with_code(code)),
        None => shown(call, kind, object(kind, stored), code),
    }
}

/// As [`reply`] for an object that is not stored, such as the outcome of a dry run.
pub(crate) fn shown(
    call: &Call,
    kind: &'static Kind,
    mut object: Value,
    code: StatusCode,
) -> Result<Reply, Status> {
    let shown = Shown::new(call, kind)?;
    hide(kind, &mut object);
    Ok(Reply::ok(shown.single(object)).with_code(code))
}

pub(crate) fn list(call: &Call, kind: &'static Kind) -> Result<Reply, Status> {
    let options = ListOptions::for_list(&call.query)?;
    let (objects, metadata) = page(call, kind, &options)?;
    let Accepted { form, encoding } = call.accepted()?;
    let shown = Shown::new(call, kind)?;
    let bytes: usize = objects.iter().map(|stored| stored.document.len()).sum();
    if bytes > WHOLE_BYTES_MAX {
        return Ok(Reply::raw(long(kind, shown, encoding, metadata, objects)));
    }
    match form {
        Form::Object if kind.view.is_none() => {
            Ok(Reply::document(stitch::list(kind, &metadata, &objects)))
        }
        Form::Object | Form::Table(_) | Form::Metadata(_) | Form::MetadataList(_) => {
            let objects = objects.iter().map(|stored| object(kind, stored)).collect();
            Ok(Reply::ok(shown.many(objects, metadata)))
        }
    }
}

/// The objects that options choose, as many as they allow, and the metadata of a list of them.
pub(crate) fn page(
    call: &Call,
    kind: &'static Kind,
    options: &ListOptions,
) -> Result<(Vec<Arc<Stored>>, Value), Status> {
    let selection = Selection::new(kind, &call.info, options)?;
    let (listing, from) = snapshot(call, kind, options)?;
    let chosen = selection.choose(&listing, from);
    Ok(page::cut(chosen, &listing, &selection, options.limit))
}

/// A list that is put together while the client reads it.
fn long(
    kind: &'static Kind,
    shown: Shown,
    encoding: Encoding,
    metadata: Value,
    objects: Vec<Arc<Stored>>,
) -> Response {
    let is_stored_form = shown.form() == Form::Object && kind.view.is_none();
    // Indenting would take all of it at once.
    let is_json = [Encoding::Json, Encoding::IndentedJson].contains(&encoding);
    if is_stored_form && is_json {
        let layout = Layout::stitched(stitch::opening(kind, &metadata));
        return pieces::response(layout, objects, stitch::items);
    }
    let shell = shown.many(Vec::new(), metadata);
    let field = shown.items_field();
    let (layout, write): (_, fn(&mut BytesMut, &Value, &str)) = match encoding {
        Encoding::Json | Encoding::IndentedJson => (Layout::json(shell, field), pieces::write_json),
        Encoding::Yaml => (Layout::yaml(shell, field), pieces::write_yaml),
    };
    pieces::response(layout, objects, move |out, batch| {
        let objects = batch.iter().map(|stored| object(kind, stored)).collect();
        write(out, &shown.many(objects, Value::Null), field);
    })
}

/// The objects a list is cut from, and the place where it goes on.
fn snapshot(
    call: &Call,
    kind: &'static Kind,
    options: &ListOptions,
) -> Result<(Listing, Option<token::Place>), Status> {
    let store = &call.state.store;
    let namespace = Some(call.info.namespace.as_str()).filter(|n| !n.is_empty());
    let namespace = namespace.filter(|_| kind.is_namespaced());
    if let Some(token) = &options.continue_token {
        let (moment, place) = token::decode(token, namespace.unwrap_or_default())?;
        if !matches!(
            options.resource_version,
            ResourceVersion::Unset | ResourceVersion::Any
        ) {
            let text = "specifying resource version is not allowed when using continue";
            return Err(Status::bad_request(text));
        }
        let listing = match moment {
            Moment::Latest => store.list(kind.stored(), namespace),
            Moment::At(revision) => store
                .list_at(kind.stored(), namespace, revision)
                .map_err(|_| forgotten(token))?,
        };
        return Ok((listing, Some(place)));
    }
    if let ResourceVersion::Unreadable(why) = &options.resource_version {
        let text = format!("invalid resource version: {why}");
        return Err(Status::bad_request(text));
    }
    check_not_ahead(store, &options.resource_version)?;
    let wanted = options.resource_version_match.as_str();
    let exact = wanted == "Exact" || (wanted.is_empty() && options.limit.is_some());
    match options.resource_version {
        ResourceVersion::At(revision) if exact => store
            .list_at(kind.stored(), namespace, Revision(revision))
            .map(|listing| (listing, None))
            .map_err(|_| expired("The resourceVersion for the provided list is too old.")),
        _ => Ok((store.list(kind.stored(), namespace), None)),
    }
}

/// 410 for a list that was begun too long ago, with a token for its rest as it is now.
fn forgotten(token: &str) -> Status {
    let mut status = expired(
        "The provided continue parameter is too old to display a consistent list result. \
         You can start a new list without the continue parameter, or use the continue token in \
         this response to retrieve the remainder of the results. Continuing with the provided \
         token results in an inconsistent list - objects that were created, modified, or deleted \
         between the time the first chunk was returned and now may show up in the list.",
    );
    status.metadata.continue_token = token::without_moment(token).unwrap_or_default();
    status
}

/// 410 for a revision that is no longer remembered.
pub(crate) fn expired(message: impl Into<String>) -> Status {
    Status::failure(410, "Expired", message)
}

/// 504 for a revision that is still to come.
pub(crate) fn check_not_ahead(store: &Store, version: &ResourceVersion) -> Result<(), Status> {
    let current = store.revision().0;
    let ResourceVersion::At(wanted) = *version else {
        return Ok(());
    };
    if wanted <= current {
        return Ok(());
    }
    let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
    let cause = Cause {
        reason: "ResourceVersionTooLarge".into(),
        message: "Too large resource version".into(),
        ..Cause::default()
    };
    Err(
        Status::failure(504, "Timeout", message).with_details(Details {
            causes: vec![cause],
            retry_after_seconds: Some(1),
            ..Details::default()
        }),
    )
}

/// `metadata` of a list.
fn list_metadata(revision: Revision) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".into(), json!(revision.to_string()));
    metadata
}
