//! The Services of the cluster with addresses to try.

use anyhow::Result;
use k8s_openapi::api::core::v1::{Node, Service, ServicePort};
use knarr_client::Api;
use kube::{Client, api::ListParams};

use crate::verbs::get::align;

pub(crate) async fn of_services(client: &Client) -> Result<String> {
    let services = Api::<Service>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let nodes = Api::<Node>::all(client.clone())
        .list(&ListParams::default())
        .await?;
    let node_address = nodes.iter().find_map(internal_ip);
    let lines: Vec<Vec<String>> = services
        .iter()
        .filter_map(|s| line(s, node_address.as_deref()))
        .collect();
    if lines.is_empty() {
        return Ok(String::new());
    }
    let heading = ["NAMESPACE", "SERVICE", "TYPE", "TRY"]
        .map(str::to_owned)
        .to_vec();
    Ok(align(
        &std::iter::once(heading).chain(lines).collect::<Vec<_>>(),
    ))
}

fn internal_ip(node: &Node) -> Option<String> {
    let addresses = node.status.as_ref()?.addresses.as_deref()?;
    addresses
        .iter()
        .find(|a| a.type_ == "InternalIP")
        .map(|a| a.address.clone())
}

/// What knarr itself needs is no news.
fn line(service: &Service, node_address: Option<&str>) -> Option<Vec<String>> {
    let name = service.metadata.name.clone()?;
    let namespace = service.metadata.namespace.clone()?;
    let spec = service.spec.as_ref()?;
    let addresses = tries(service, node_address);
    let own = namespace == "kube-system" || (namespace == "default" && name == "kubernetes");
    if own || addresses.is_empty() {
        return None;
    }
    Some(vec![
        namespace,
        name,
        spec.type_.clone().unwrap_or_default(),
        addresses.join("  "),
    ])
}

fn tries(service: &Service, node_address: Option<&str>) -> Vec<String> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let cluster_ips = spec
        .cluster_ips
        .iter()
        .flatten()
        .filter(|ip| *ip != "None")
        .map(String::as_str);
    let ingress = service
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.as_ref())
        .and_then(|l| l.ingress.as_deref());
    let load_balancer_ips = ingress
        .unwrap_or_default()
        .iter()
        .filter_map(|i| i.ip.as_deref());
    let virtual_ips: Vec<&str> = cluster_ips.chain(load_balancer_ips).collect();
    let mut out = Vec::new();
    for port in spec.ports.iter().flatten() {
        out.extend(virtual_ips.iter().map(|ip| address(port, ip, port.port)));
        if let (Some(node), Some(node_port)) = (node_address, port.node_port) {
            out.push(address(port, node, node_port));
        }
    }
    out
}

fn address(port: &ServicePort, ip: &str, number: i32) -> String {
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    match port.protocol.as_deref() {
        None | Some("TCP") if number == 80 => format!("http://{host}"),
        None | Some("TCP") => format!("http://{host}:{number}"),
        Some(protocol) => format!("{}://{host}:{number}", protocol.to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_address_of_a_service_is_offered() {
        let service = json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.0.128.7", "fd01::7"], "ports": [
                {"port": 80, "nodePort": 30007, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "10.0.127.1"}]}},
        });
        let service: Service = serde_json::from_value(service).expect("a Service");
        let expected = [
            "http://10.0.128.7",
            "http://[fd01::7]",
            "http://10.0.127.1",
            "http://192.0.2.5:30007",
            "udp://10.0.128.7:53",
            "udp://[fd01::7]:53",
            "udp://10.0.127.1:53",
        ];
        assert_eq!(tries(&service, Some("192.0.2.5")), expected);
    }
}
