//! How this host itself looks up the names of Services: by itself where systemd-resolved runs, else by a hint.

use anyhow::Result;
use k8s_openapi::api::core::v1::ConfigMap;
use knarr_client::Api;
use kube::Client;

/// What to do so that programs on this host find Services by name; nothing where cluster DNS has no address.
pub(crate) async fn hint(client: &Client) -> Result<Option<String>> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    let map = maps.get("knarr").await?.data.unwrap_or_default();
    let text = |key: &str| map.get(key).map(String::as_str).unwrap_or_default();
    let servers: Vec<&str> = text("cluster-dns")
        .split(',')
        .map(str::trim)
        .filter(|server| !server.is_empty())
        .collect();
    let domain = text("cluster-domain");
    let resolver = if knarr_nodeagent::resolved::is_in_charge() {
        Resolver::Resolved
    } else {
        Resolver::File
    };
    Ok((!servers.is_empty()).then(|| advice(&servers, domain, resolver)))
}

/// Who resolves names for programs of this host.
#[derive(Clone, Copy)]
enum Resolver {
    Resolved,
    File,
}

fn advice(servers: &[&str], domain: &str, resolver: Resolver) -> String {
    match resolver {
        Resolver::Resolved => format!(
            "this host finds names such as web.default.svc.{domain} too: systemd-resolved asks cluster DNS for them"
        ),
        Resolver::File => format!(
            "for names such as web.default.svc.{domain} on this host: put nameserver {} before the others in /etc/resolv.conf; \
             it asks those for every other name",
            servers.first().copied().unwrap_or_default()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hint_fits_the_hosts_resolver() {
        let servers = ["10.0.128.10", "fd64::10.0.128.10"];
        let resolved = advice(&servers, "cluster.local", Resolver::Resolved);
        assert!(resolved.contains("systemd-resolved asks"), "{resolved}");
        let file = advice(&servers, "cluster.local", Resolver::File);
        assert!(file.contains("nameserver 10.0.128.10 before"), "{file}");
    }
}
