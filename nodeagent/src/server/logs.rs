//! `/containerLogs`: the log of a container's current or previous run, followed if asked.

mod changes;

use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::query::Query;
use super::{Address, Refusal, find};
use crate::host::Host;
use crate::logs::{Filter, Reader, Wish};
use crate::pod;
use crate::protocol::Run;
use changes::Changes;

/// Bytes on their way between the file and the client.
const BUFFER_BYTES: usize = 64 * 1024;

/// Answers a request for a log.
pub(super) async fn answer(
    Shared(host): Shared<Arc<Host>>,
    axum::extract::Path((namespace, pod, container)): Address,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    let query = Query::parse(query.as_deref());
    let Some((uid, run)) = run(&host, &namespace, &pod, &container, &query) else {
        return Err(missing(&host, &namespace, &pod, &container, &query).await);
    };
    let failed = |error: std::io::Error| {
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("reading the log: {error}"),
        )
    };
    let path = host.paths.log(&uid, &container, run.attempt);
    let follow = match query.says("follow") {
        true => Some(Follow::begin(&host, uid, container, run.attempt).map_err(failed)?),
        false => None,
    };
    let body = match Reader::open(&path, query.number("tailLines")) {
        Ok(reader) => Body::from_stream(stream(reader, Filter::new(wish(&query)), follow)),
        // A container that could not be started has none.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Body::empty(),
        Err(error) => return Err(failed(error)),
    };
    let content_type = [(header::CONTENT_TYPE, "text/plain")];
    Ok((content_type, body).into_response())
}

/// The run that is asked for, and the uid of its pod.
fn run(
    host: &Host,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Option<(String, Run)> {
    let mut found = find(&host.paths, namespace, pod).ok()?;
    let history = found.state.containers.remove(container)?;
    let run = match query.says("previous") {
        true => history.previous?,
        false => history.current,
    };
    Some((found.record.uid, run))
}

/// Why there is no log, in the kubelet's words.
async fn missing(
    host: &Host,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Refusal {
    let api = knarr_client::Api::<Pod>::namespaced(host.client.clone(), namespace);
    let Ok(Some(object)) = api.get_opt(pod).await else {
        return (StatusCode::NOT_FOUND, format!("pod {pod:?} does not exist"));
    };
    let spec = object.spec.unwrap_or_default();
    if pod::container(&spec, container).is_none() {
        let message = format!("container {container:?} not found in pod {pod:?}");
        return (StatusCode::NOT_FOUND, message);
    }
    if query.says("previous") {
        let message =
            format!("previous terminated container {container:?} in pod {pod:?} not found");
        return (StatusCode::BAD_REQUEST, message);
    }
    let status = object.status.unwrap_or_default();
    let lists = [status.container_statuses, status.init_container_statuses];
    let waiting = lists
        .into_iter()
        .flatten()
        .flatten()
        .find(|status| status.name == container)
        .and_then(|status| status.state?.waiting?.reason);
    let message = match waiting {
        Some(reason) => {
            format!("container {container:?} in pod {pod:?} is waiting to start: {reason}")
        }
        None => format!("container {container:?} in pod {pod:?} is not available"),
    };
    (StatusCode::BAD_REQUEST, message)
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
        since: query.number::<Timestamp>("sinceTime").or(ago),
        timestamps: query.says("timestamps"),
        limit_bytes: query.number("limitBytes"),
        stream: stream.map(str::to_lowercase),
    }
}

/// The run that a follower waits for.
struct Follow {
    host: Arc<Host>,
    pod_uid: String,
    container: String,
    attempt: u32,
    changes: Changes,
}

impl Follow {
    fn begin(
        host: &Arc<Host>,
        pod_uid: String,
        container: String,
        attempt: u32,
    ) -> std::io::Result<Self> {
        let logs: PathBuf = host.paths.logs(&pod_uid, &container);
        // The state is kept in the pod's own directory, and a run ends there.
        let changes = Changes::watch(&[&logs, &host.paths.pod(&pod_uid)])?;
        Ok(Self {
            host: host.clone(),
            pod_uid,
            container,
            attempt,
            changes,
        })
    }

    fn is_running(&self) -> bool {
        let state = super::state(&self.host.paths, &self.pod_uid);
        let history = state.containers.get(&self.container);
        history.is_some_and(|history| {
            history.current.attempt == self.attempt && history.current.ended.is_none()
        })
    }
}

/// What the client reads; its absence ends the reading.
fn stream(
    reader: Reader,
    filter: Filter,
    follow: Option<Follow>,
) -> tokio_util::io::ReaderStream<DuplexStream> {
    let (writer, end) = tokio::io::duplex(BUFFER_BYTES);
    tokio::spawn(copy(reader, filter, follow, writer));
    tokio_util::io::ReaderStream::with_capacity(end, BUFFER_BYTES)
}

async fn copy(
    mut reader: Reader,
    mut filter: Filter,
    mut follow: Option<Follow>,
    mut writer: DuplexStream,
) {
    let mut has_ended = false;
    loop {
        let Ok(bytes) = reader.read() else { return };
        if !bytes.is_empty() {
            let sent = writer.write_all(&filter.push(&bytes)).await;
            if sent.is_err() || filter.is_done() {
                return;
            }
            continue;
        }
        let Some(follow) = follow.as_mut().filter(|_| !has_ended) else {
            return;
        };
        // One more look after the end: the last lines may have come in between.
        if !follow.is_running() {
            has_ended = true;
            continue;
        }
        tokio::select! {
            _ = writer.read_u8() => return,
            changed = follow.changes.next() => if changed.is_err() { return },
        }
    }
}
