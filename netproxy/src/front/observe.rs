//! What the API says, as a front needs it. Asks nobody and decides nothing.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::{Stream, StreamExt, stream};
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::watch;
use knarr_netproxy_plan::{FrontNode, FrontSnapshot, ServiceKey};
use kube::{Client, runtime::watcher};

use super::health::Surroundings;
use crate::store::{Shelf, key, read_slice, trim};

/// One thing that a watch said.
#[expect(
    clippy::large_enum_variant,
    reason = "events are read once, one at a time"
)]
#[derive(Debug)]
pub(super) enum Event {
    Service(watcher::Event<Service>),
    Slice(watcher::Event<EndpointSlice>),
    Node(watcher::Event<Node>),
}

/// Everything the API says from now on.
pub(super) fn events(client: &Client) -> impl Stream<Item = Event> + Send + use<> {
    let all = watcher::Config::default;
    stream::select_all([
        watch(client.clone(), None, all())
            .map(Event::Service)
            .boxed(),
        watch(client.clone(), None, all()).map(Event::Slice).boxed(),
        watch(client.clone(), None, all()).map(Event::Node).boxed(),
    ])
}

/// What the API says.
#[derive(Debug, Default)]
pub(super) struct Observed {
    services: Shelf<ServiceKey, Arc<Service>>,
    slices: Shelf<(ServiceKey, String), Arc<EndpointSlice>>,
    nodes: Shelf<String, FrontNode>,
}

impl Observed {
    /// Takes one event.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Service(event) => self.services.take(
                event,
                |mut service: Service| {
                    trim(&mut service.metadata);
                    Some((key(&service.metadata)?, Arc::new(service)))
                },
                |_| {},
            ),
            Event::Slice(event) => self.slices.take(event, shared_slice, |_| {}),
            Event::Node(event) => self.nodes.take(
                event,
                |node: Node| Some((node.metadata.name.clone()?, FrontNode::read(&node))),
                |_| {},
            ),
        }
    }

    /// Whether everything has been listed once.
    pub(super) fn synced(&self) -> bool {
        let Self {
            services,
            slices,
            nodes,
        } = self;
        services.synced && slices.synced && nodes.synced
    }

    /// Everything that a plan needs; of Services, those that balance load.
    pub(super) fn snapshot(&self, surroundings: &Surroundings) -> FrontSnapshot {
        let balanced = |service: &Service| {
            let kind = service.spec.as_ref().and_then(|spec| spec.type_.as_deref());
            kind == Some("LoadBalancer")
        };
        let services = self
            .services
            .now
            .iter()
            .filter(|(_, service)| balanced(service));
        let services: BTreeMap<_, _> = services
            .map(|(key, service)| (key.clone(), (service.clone(), self.slices_of(key))))
            .collect();
        FrontSnapshot {
            services,
            nodes: self.nodes.now.clone(),
            passing: surroundings.passing.clone(),
            near: surroundings.near.clone(),
            returning: surroundings.returning.clone(),
        }
    }

    fn slices_of(&self, key: &ServiceKey) -> Vec<Arc<EndpointSlice>> {
        let first = (key.clone(), String::new());
        let own = self.slices.now.range(first..);
        own.take_while(|((service, _), _)| service == key)
            .map(|(_, slice)| slice.clone())
            .collect()
    }
}

fn shared_slice(slice: EndpointSlice) -> Option<((ServiceKey, String), Arc<EndpointSlice>)> {
    read_slice(slice).map(|(key, slice)| (key, Arc::new(slice)))
}
