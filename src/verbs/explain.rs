//! `knarr explain svc/NAME`: why a Service does or does not route, as this node sees it.

use std::{collections::BTreeSet, net::SocketAddr, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Result;
use clap::ValueEnum;
use futures_util::{StreamExt, stream};
use ipnet::IpNet;
use k8s_openapi::api::{
    core::v1::{ConfigMap, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};
use knarr_client::Api;
use knarr_netproxy::explain::{Facts, Kernel, explain};
use knarr_netproxy_plan::Settings as Place;
use kube::{Client, api::ListParams};
use tokio::net::TcpStream;

use super::Scope;
use crate::{
    client,
    exit::{Code, Failure},
    settings::Settings,
};

/// A refusal comes at once; who stays silent this long is not asked again.
const ANSWER_TIME_MAX: Duration = Duration::from_millis(500);
const CONNECTIONS_MAX: usize = 32;

#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    /// `svc/NAME`
    service: String,
    #[command(flatten)]
    scope: Scope,
    /// How to print
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
}

pub(crate) async fn run(args: Args, settings: &Settings) -> Result<ExitCode> {
    let name = match args.service.split_once('/') {
        None => args.service.as_str(),
        Some(("svc" | "service" | "services", name)) => name,
        Some((kind, _)) => {
            let failure = Failure::new(Code::Unreadable, format!("cannot explain a {kind}"));
            return Err(failure.hint("name a Service, as in svc/web").into());
        }
    };
    let client = client::connect(settings)?;
    let facts = gather(&client, &args.scope.namespace, name, &settings.node_name).await?;
    let explanation = explain(&facts);
    match args.output {
        Some(Output::Json) => println!("{}", serde_json::to_string_pretty(&explanation)?),
        None => print!("{explanation}"),
    }
    Ok(if explanation.routes {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn gather(client: &Client, namespace: &str, name: &str, node_name: &str) -> Result<Facts> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let service = services.get(name).await?;
    let own = ListParams::default().labels(&format!("kubernetes.io/service-name={name}"));
    let slices = slices.list(&own).await?;
    let pods = pods.list(&ListParams::default()).await?;
    let place = place(client, node_name).await?;
    let kernel = if place.node_ips.is_empty() {
        Kernel::Unread(format!("this machine is not a node named {node_name}"))
    } else {
        tokio::task::spawn_blocking(Kernel::observe).await?
    };
    let refusing = refusing(&slices).await;
    Ok(Facts {
        service: Arc::new(service),
        pods,
        slices: slices.into_iter().map(Arc::new).collect(),
        settings: place,
        kernel,
        refusing,
    })
}

/// The cluster's ranges, and the node that this machine is.
async fn place(client: &Client, node_name: &str) -> Result<Place> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = maps.get("knarr").await?.data.unwrap_or_default();
    let ranges = |key: &str| -> BTreeSet<IpNet> {
        let parts = map
            .get(key)
            .map(String::as_str)
            .unwrap_or_default()
            .split(',');
        parts.filter_map(|part| part.trim().parse().ok()).collect()
    };
    let mut place = Place {
        node_name: node_name.to_owned(),
        cluster_cidrs: ranges("cluster-cidr"),
        service_cidrs: ranges("service-cidr"),
        ..Place::default()
    };
    if let Some(node) = Api::<Node>::all(client.clone()).get_opt(node_name).await? {
        place.learn_node(&node);
    }
    Ok(place)
}

/// Endpoints whose TCP ports are closed, asked from here.
async fn refusing(slices: &[EndpointSlice]) -> BTreeSet<SocketAddr> {
    let mut endpoints = BTreeSet::new();
    for slice in slices {
        let tcp = slice.ports.iter().flatten();
        let tcp = tcp.filter(|port| matches!(port.protocol.as_deref(), None | Some("TCP")));
        let ports: Vec<u16> = tcp.filter_map(|port| port.port?.try_into().ok()).collect();
        let addresses = slice.endpoints.iter().flatten();
        let addresses = addresses.filter_map(|endpoint| endpoint.addresses.first()?.parse().ok());
        for address in addresses {
            endpoints.extend(ports.iter().map(|port| SocketAddr::new(address, *port)));
        }
    }
    stream::iter(endpoints)
        .map(|endpoint| async move { refuses(endpoint).await.then_some(endpoint) })
        .buffer_unordered(CONNECTIONS_MAX)
        .filter_map(std::future::ready)
        .collect()
        .await
}

async fn refuses(endpoint: SocketAddr) -> bool {
    let connected = tokio::time::timeout(ANSWER_TIME_MAX, TcpStream::connect(endpoint)).await;
    matches!(connected, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}
