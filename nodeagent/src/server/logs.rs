//! `/containerLogs`: the log of a container's current or previous run, followed if asked.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

use super::query::Query;
use super::{Address, Refusal, find};
use crate::host::Host;
use crate::logs::{Filter, Reader, Wish};

/// Answers a request for a log.
pub(super) async fn answer(
    Shared(host): Shared<Arc<Host>>,
    axum::extract::Path((namespace, pod, container)): Address,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref());
    let found = find(&host.paths, &namespace, &pod)?;
    let history = found.state.containers.get(&container);
    let run = match query.says("previous") {
        true => history.and_then(|history| history.previous.as_ref()),
        false => history.map(|history| &history.current),
    };
    let Some(run) = run else {
        let which = if query.says("previous") {
            "previous terminated container"
        } else {
            "container"
        };
        let message = format!("{which} {container:?} in pod {pod:?} not found");
        return Err((StatusCode::BAD_REQUEST, message));
    };
    let path = host.paths.log(&found.record.uid, &container, run.attempt);
    let wish = wish(&query);
    let reader = match Reader::open(&path, wish.tail_lines) {
        Ok(reader) => reader,
        Err(error) => {
            return Err((
                StatusCode::NOT_FOUND,
                format!("{}: {error}", path.display()),
            ));
        }
    };
    let follow = query.says("follow").then(|| Follow {
        host: host.clone(),
        namespace,
        pod,
        container,
        attempt: run.attempt,
    });
    let stream = tokio_util::io::ReaderStream::new(pipe(reader, Filter::new(wish), follow));
    let content_type = [(header::CONTENT_TYPE, "text/plain")];
    Ok((content_type, Body::from_stream(stream)).into_response())
}

fn wish(query: &Query) -> Wish {
    let ago = query.number::<i64>("sinceSeconds").map(|seconds| {
        Timestamp::now()
            .saturating_sub(SignedDuration::from_secs(seconds))
            .unwrap_or(Timestamp::MIN)
    });
    let stream = query
        .get("stream")
        .filter(|stream| !stream.is_empty() && *stream != "All");
    Wish {
        tail_lines: query.number("tailLines"),
        since: query.number::<Timestamp>("sinceTime").or(ago),
        timestamps: query.says("timestamps"),
        limit_bytes: query.number("limitBytes"),
        stream: stream.map(str::to_lowercase),
    }
}

/// The run that a follower waits for.
struct Follow {
    host: Arc<Host>,
    namespace: String,
    pod: String,
    container: String,
    attempt: u32,
}

impl Follow {
    fn is_running(&self) -> bool {
        let found = find(&self.host.paths, &self.namespace, &self.pod);
        let history = found
            .ok()
            .and_then(|mut found| found.state.containers.remove(&self.container));
        history.is_some_and(|history| {
            history.current.attempt == self.attempt && history.current.ended.is_none()
        })
    }
}

/// Copies the log into a pipe whose reader's end is returned; the reader's absence ends the copy.
fn pipe(mut reader: Reader, mut filter: Filter, follow: Option<Follow>) -> tokio::io::DuplexStream {
    const BUFFER_BYTES: usize = 64 * 1024;
    const LOOK_EVERY: Duration = Duration::from_millis(100);
    let (mut writer, end) = tokio::io::duplex(BUFFER_BYTES);
    tokio::spawn(async move {
        let mut was_running = true;
        loop {
            let Ok(bytes) = reader.read() else { return };
            if !bytes.is_empty() {
                let text = Bytes::from(filter.push(&bytes));
                let sent = tokio::io::AsyncWriteExt::write_all(&mut writer, &text).await;
                if sent.is_err() || filter.is_done() {
                    return;
                }
                continue;
            }
            let Some(follow) = &follow else { return };
            // One more look after the end: the last lines may have come in between.
            if !std::mem::replace(&mut was_running, follow.is_running()) {
                return;
            }
            let closed = tokio::io::AsyncReadExt::read_u8(&mut writer);
            tokio::select! {
                _ = closed => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    });
    end
}
