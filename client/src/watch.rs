//! Everything that happens to objects of one kind, from now on.

use std::time::Duration;

use futures_util::{Stream, StreamExt, future, stream::BoxStream};
use kube::{
    Api, Client, Resource,
    core::ApiResource,
    runtime::{WatchStreamExt, utils::Backoff, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::document::Document;

/// Lists and watches a kind, in one namespace or in all; says what interrupts it, and takes it up again, later and later.
pub fn watch<K>(
    client: Client,
    namespace: Option<&str>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Event<K>> + Send + Unpin + use<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Send + 'static,
{
    documents::<K>(client, namespace, config).filter_map(|event| future::ready(typed(event)))
}

/// As [`watch`], for those who read little of each object.
pub fn watch_values<K>(
    client: Client,
    namespace: Option<&str>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Event<Value>> + Send + Unpin + use<K>
where
    K: Resource<DynamicType = ()>,
{
    documents::<K>(client, namespace, config).map(|event| match event {
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
        watcher::Event::InitApply(document) => watcher::Event::InitApply(document.object),
        watcher::Event::Apply(document) => watcher::Event::Apply(document.object),
        watcher::Event::Delete(document) => watcher::Event::Delete(document.object),
    })
}

fn documents<K: Resource<DynamicType = ()>>(
    client: Client,
    namespace: Option<&str>,
    config: watcher::Config,
) -> BoxStream<'static, watcher::Event<Document>> {
    followed(client, &ApiResource::erase::<K>(&()), namespace, config)
}

/// One stream type for all kinds: what drives it is large.
///
/// What there is comes as events too, each read as it arrives: a list would be held whole, once as text and once parsed.
fn followed(
    client: Client,
    resource: &ApiResource,
    namespace: Option<&str>,
    config: watcher::Config,
) -> BoxStream<'static, watcher::Event<Document>> {
    let plural = resource.plural.clone();
    let api: Api<Document> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, resource),
        None => Api::all_with(client, resource),
    };
    let heard = watcher(api, config.streaming_lists())
        .backoff(Pauses::default())
        .filter_map(move |event| {
            let event = event
                .inspect_err(|error| tracing::warn!("the watch of {plural} failed: {error:#}"));
            future::ready(event.ok())
        });
    heard.boxed()
}

/// The pauses between attempts: packets wait for what is heard, so a server that comes back is heard soon.
#[derive(Debug)]
struct Pauses {
    next: Duration,
}

const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);

impl Default for Pauses {
    fn default() -> Self {
        Pauses { next: PAUSE_FIRST }
    }
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        *self = Pauses::default();
    }
}

/// The event, unless its object is not what the kind's objects are: one such object must not keep the others away.
fn typed<K: DeserializeOwned>(event: watcher::Event<Document>) -> Option<watcher::Event<K>> {
    let object = |document: Document| {
        let Document { metadata, object } = document;
        serde_json::from_value(object)
            .inspect_err(
                |error| tracing::warn!(%error, name = metadata.name, "an object cannot be read"),
            )
            .ok()
    };
    Some(match event {
        watcher::Event::Init => watcher::Event::Init,
        watcher::Event::InitDone => watcher::Event::InitDone,
        watcher::Event::InitApply(document) => watcher::Event::InitApply(object(document)?),
        watcher::Event::Apply(document) => watcher::Event::Apply(object(document)?),
        watcher::Event::Delete(document) => watcher::Event::Delete(object(document)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_comes_back_is_heard_soon() {
        let mut pauses = Pauses::default();
        let first: Vec<u128> = pauses.by_ref().take(6).map(|one| one.as_millis()).collect();
        assert_eq!(first, [200, 400, 800, 1600, 2000, 2000]);
        pauses.reset();
        assert_eq!(pauses.next(), Some(PAUSE_FIRST));
    }
}
