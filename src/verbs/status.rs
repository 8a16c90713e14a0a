//! `knarr status`: the health of each part, as its own endpoints tell it.

mod firewall;

use std::{net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Result;
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use knarr_client::Api;
use kube::{Client, api::ListParams};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::get::align;
use crate::{client, settings::Settings};

/// kube-proxy's health port, which the netproxy answers too.
const NETPROXY_HEALTH_PORT: u16 = 10256;
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

pub(crate) async fn run(settings: &Settings) -> Result<ExitCode> {
    let client = client::connect(settings)?;
    let mut rows = vec![api_server(&client).await?];
    let mut is_node = false;
    for node in Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?
    {
        is_node |= name(&node) == settings.node_name;
        rows.push(agent(&node));
        rows.push(netproxy(&node).await);
    }
    let own_node = is_node.then_some(settings.node_name.as_str());
    rows.extend(firewall::rows(&client, own_node).await?);
    let services = kube::Api::<Service>::all(client.clone())
        .list_metadata(&ListParams::default())
        .await?
        .items
        .len();
    let pods = Api::<Pod>::all(client).list(&ListParams::default()).await?;
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();

    let heading = ["PART", "NODE", "HEALTH", "DETAIL"]
        .map(str::to_owned)
        .to_vec();
    let lines: Vec<Vec<String>> = std::iter::once(heading)
        .chain(rows.iter().map(Row::cells))
        .collect();
    print!("{}", align(&lines));
    println!(
        "\n{} of {} pods ready, {services} Services",
        ready,
        pods.len()
    );
    let failing = rows.iter().any(|row| row.health == Health::Failing);
    Ok(if failing {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

struct Row {
    part: &'static str,
    node: String,
    health: Health,
    detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Ok,
    /// Something that may be meant.
    Warning,
    Failing,
}

impl From<bool> for Health {
    fn from(healthy: bool) -> Self {
        if healthy { Self::Ok } else { Self::Failing }
    }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let health = match self.health {
            Health::Ok => "ok",
            Health::Warning => "warning",
            Health::Failing => "failing",
        };
        vec![
            self.part.to_owned(),
            self.node.clone(),
            health.to_owned(),
            self.detail.clone(),
        ]
    }
}

async fn api_server(client: &Client) -> Result<Row> {
    let version = client.apiserver_version().await?;
    let request = http::Request::get("/readyz").body(kube::client::Body::empty())?;
    let response = client.send(request).await?;
    let healthy = response.status().is_success();
    let answer = response.into_body().collect().await?.to_bytes();
    let detail = if healthy {
        version.git_version
    } else {
        String::from_utf8_lossy(&answer).replace('\n', " ")
    };
    Ok(Row {
        part: "apiserver",
        node: "-".into(),
        health: healthy.into(),
        detail,
    })
}

fn agent(node: &Node) -> Row {
    let conditions = node
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    let ready = conditions.iter().find(|c| c.type_ == "Ready");
    let detail = ready
        .and_then(|c| c.message.clone())
        .unwrap_or_else(|| "has not reported yet".into());
    let healthy = ready.is_some_and(|c| c.status == "True");
    Row {
        part: "nodeagent",
        node: name(node),
        health: healthy.into(),
        detail,
    }
}

async fn netproxy(node: &Node) -> Row {
    let row = |healthy: bool, detail: String| Row {
        part: "netproxy",
        node: name(node),
        health: healthy.into(),
        detail,
    };
    let addresses = node
        .status
        .as_ref()
        .and_then(|s| s.addresses.as_deref())
        .unwrap_or_default();
    let Some(address) = addresses
        .iter()
        .find(|a| a.type_ == "InternalIP")
        .and_then(|a| a.address.parse().ok())
    else {
        return row(false, "the node has no address".into());
    };
    let address = SocketAddr::new(address, NETPROXY_HEALTH_PORT);
    match tokio::time::timeout(ANSWER_TIME_MAX, healthz(address)).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => {
            row(true, "rules in step with the API".into())
        }
        Ok(Ok(answer)) => row(
            false,
            answer.lines().next().unwrap_or("no answer").to_owned(),
        ),
        Ok(Err(error)) => row(false, format!("{address}: {error}")),
        Err(_) => row(false, format!("{address} does not answer")),
    }
}

async fn healthz(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: netproxy\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

fn name(node: &Node) -> String {
    node.metadata.name.clone().unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_deref())
        .unwrap_or_default();
    conditions
        .iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}
