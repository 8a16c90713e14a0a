//! `/metrics`: how many requests there were and how long they took.

use std::{sync::LazyLock, time::Duration};

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{
    State,
    request::{RequestInfo, Verb},
    respond,
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Answered {
    verb: &'static str,
    group: String,
    resource: String,
    subresource: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Timed {
    verb: &'static str,
    resource: String,
}

struct Metrics {
    registry: Registry,
    requests: Family<Answered, Counter>,
    durations: Family<Timed, Histogram>,
    revision: Gauge,
}

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

impl Metrics {
    fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::<Answered, Counter>::default();
        let durations = Family::<Timed, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.000_5, 2.0, 14))
        });
        let revision = Gauge::default();
        registry.register("apiserver_request", "Requests answered", requests.clone());
        registry.register(
            "apiserver_request_duration_seconds",
            "Time until the head of the answer",
            durations.clone(),
        );
        registry.register(
            "apiserver_storage_revision",
            "Revision of the latest change",
            revision.clone(),
        );
        Metrics {
            registry,
            requests,
            durations,
            revision,
        }
    }
}

/// Counts an answer to a request for objects that are served; other paths must not make new series.
pub(super) fn observe(verb: Verb, info: &RequestInfo, code: StatusCode, took: Duration) {
    if code == StatusCode::NOT_FOUND && !is_served(info) {
        return;
    }
    let verb = verb.name();
    let resource = info.resource.clone();
    METRICS
        .durations
        .get_or_create(&Timed {
            verb,
            resource: resource.clone(),
        })
        .observe(took.as_secs_f64());
    METRICS
        .requests
        .get_or_create(&Answered {
            verb,
            group: info.group.clone(),
            resource,
            subresource: info.subresource.clone(),
            code: code.as_u16(),
        })
        .inc();
}

fn is_served(info: &RequestInfo) -> bool {
    let kind = knarr_api::kinds::by_resource(&info.group, &info.version, &info.resource);
    kind.is_some_and(|kind| info.subresource.is_empty() || kind.has_subresource(&info.subresource))
}

pub(super) fn serve(state: &State) -> Response {
    let Metrics {
        registry, revision, ..
    } = &*METRICS;
    revision.set(state.store.revision().0.cast_signed());
    let mut text = String::new();
    if encode(&mut text, registry).is_err() {
        return respond::text(StatusCode::INTERNAL_SERVER_ERROR, "encoding the metrics");
    }
    respond::typed(
        StatusCode::OK,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
        Bytes::from(text),
    )
}
