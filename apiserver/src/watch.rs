//! Watches: a stream of JSON lines, one for each change a client selected. Changes nothing.

mod feed;
mod lines;
mod socket;

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use futures_util::stream;
use http::{HeaderValue, Response, StatusCode, header};
use knarr_api::{kind::Kind, status::Status};

use self::feed::Feed;
use crate::{
    call::Call,
    negotiate::{self, Encoding},
    read::{self, Selection, Shown},
    request::options::{ListOptions, ResourceVersion},
    respond::Reply,
    storage::Revision,
};

/// A watch that names no end gets one between this and twice this, so that not all clients come back at once.
const TIMEOUT_SECONDS_MIN: u64 = 1800;

/// Begins a watch.
pub(crate) async fn open(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    let feed = feed(call, kind)?;
    if socket::is_wanted(&call.headers) {
        return Ok(Reply::raw(socket::open(call, feed).await?));
    }
    Ok(Reply::raw(response(feed)))
}

/// What the client asked to be told.
fn feed(call: &Call, kind: &'static Kind) -> Result<Feed, Status> {
    // A path of the old form says nothing of the query, which is judged as a list's.
    let options = match call.query.flag("watch") {
        Some(true) => ListOptions::for_watch(&call.query)?,
        _ => ListOptions::for_list(&call.query)?,
    };
    options.resource_version.check()?;
    let selection = Selection::new(kind, &call.info, &options)?;
    if call.accepted()?.encoding == Encoding::Yaml {
        return Err(negotiate::not_streamable());
    }
    let shown = Shown::new(call, kind)?;
    let timeout = options
        .timeout_seconds
        .unwrap_or_else(|| TIMEOUT_SECONDS_MIN + rand::random_range(0..TIMEOUT_SECONDS_MIN));
    let lines = lines::Lines::new(kind, shown);
    let mut feed = Feed::new(selection, lines, Duration::from_secs(timeout));
    if options.bookmarks {
        feed = feed.with_bookmarks();
    }
    let store = &call.state.store;
    let current = store.revision();
    let from_now = match options.resource_version {
        ResourceVersion::Unset | ResourceVersion::Any | ResourceVersion::Unreadable(_) => true,
        ResourceVersion::At(_) => options.send_initial_events == Some(true),
    };
    let skips_initial = options.send_initial_events == Some(false);
    let from = match options.resource_version {
        ResourceVersion::At(revision) if !from_now => Revision(revision),
        _ => current,
    };
    if options.send_initial_events == Some(true)
        && let Err(status) = read::check_not_ahead(store, &options.resource_version)
    {
        feed.refuse(status);
        return Ok(feed);
    }
    // A revision that is still to come is waited for: nothing before it is told.
    let outcome = if from_now && !skips_initial {
        let namespace = Some(call.info.namespace.as_str()).filter(|n| !n.is_empty());
        let listing = store.list(kind.stored(), namespace.filter(|_| kind.is_namespaced()));
        let revision = listing.revision;
        feed.start_with(listing);
        if options.send_initial_events == Some(true) && options.bookmarks {
            feed.end_initial_events(revision);
        }
        store.watch(kind.stored(), revision)
    } else {
        store.watch(kind.stored(), from)
    };
    match outcome {
        Ok(watch) => feed.follow(watch),
        Err(_) => feed.expire(from, current),
    }
    Ok(feed)
}

fn response(feed: Feed) -> Response<Body> {
    let frames = stream::unfold(Box::new(feed), |mut feed| async {
        let frame = feed.next().await?;
        Some((Ok::<_, Infallible>(frame), feed))
    });
    let mut response = Response::new(Body::from_stream(frames));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("no-cache, private"),
    );
    response
}
