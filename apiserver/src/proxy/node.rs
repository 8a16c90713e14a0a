//! Node agents: where a Node says that its agent listens.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use knarr_api::{
    kinds::node::NODE,
    status::Status,
    value::{items, str_of},
};
use rustls::pki_types::ServerName;
use serde_json::Value;

use super::Backend;
use crate::{State, storage::Key};

/// The agent of a node.
///
/// # Errors
/// 404 for a node that is not there, 500 for one whose agent has not said where it is.
pub(crate) fn agent(state: &State, node: &str) -> Result<Backend, Status> {
    let key = Key::new(&NODE, "", node);
    let Some(stored) = state.store.get(&key) else {
        return Err(Status::not_found(&NODE, node));
    };
    let address = agent_address(&stored.object()).ok_or_else(|| {
        Status::internal(format!(
            "no preferred addresses found; known addresses: none of node {node}"
        ))
    })?;
    let tls = state.pki.agent_tls().map_err(Status::internal)?;
    let name = ServerName::try_from(node.to_owned()).map_err(Status::internal)?;
    Ok(Backend::Tls(address, name, Arc::new(tls)))
}

fn agent_address(node: &Value) -> Option<SocketAddr> {
    let address = items(&node["status"]["addresses"])
        .iter()
        .find(|address| address["type"] == "InternalIP")?;
    let ip: IpAddr = str_of(&address["address"]).parse().ok()?;
    let port = &node["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"];
    let port = u16::try_from(port.as_u64()?)
        .ok()
        .filter(|port| *port > 0)?;
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_agent_is_at_its_nodes_internal_address() {
        let check = |node: Value, expected: Option<&str>| {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(agent_address(&node), expected);
        };
        let endpoints = json!({"kubeletEndpoint": {"Port": 10250}});
        let addresses = json!([
            {"type": "Hostname", "address": "a"},
            {"type": "InternalIP", "address": "fd00::1"},
        ]);
        check(
            json!({"status": {"addresses": addresses, "daemonEndpoints": endpoints}}),
            Some("[fd00::1]:10250"),
        );
        check(json!({"status": {"addresses": addresses}}), None);
        check(json!({"status": {"daemonEndpoints": endpoints}}), None);
    }
}
