//! The proxy subresource: any HTTP request passed on to a pod, a Service's endpoint or a node agent.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderValue, Method, StatusCode, header};
use knarr_api::{
    kind::Kind,
    kinds::{endpoints::ENDPOINTS, pod::POD},
    status::Status,
    value::{items, str_of},
};
use rand::seq::IndexedRandom;
use serde_json::Value;

use crate::{
    State,
    call::Call,
    proxy::{self, Backend, Upstream},
    request::query::{path_encode, percent_decode},
    respond::{self, Reply},
    storage::Key,
};

/// `[scheme:]NAME[:port]` taken apart.
#[derive(Debug, PartialEq)]
struct Target<'a> {
    text: &'a str,
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

pub(super) async fn serve(call: &mut Call, kind: &'static Kind) -> Result<Reply, Status> {
    let name = call.info.name.clone();
    let target = parse(&name).ok_or_else(|| {
        Status::bad_request(format!("invalid {} request \"{name}\"", kind.singular))
    })?;
    let namespace = call.info.namespace.as_str();
    let backend = match kind.kind {
        "Pod" => backend(&target, pod_address(&call.state, namespace, &target)?),
        "Service" => backend(
            &target,
            service_address(&call.state, kind, namespace, &target)?,
        ),
        _ => proxy::node::agent(&call.state, target.name)?,
    };
    let mut path_and_query = call.info.tail.clone();
    if path_and_query.is_empty() {
        if matches!(call.method, Method::GET | Method::HEAD) {
            return Ok(Reply::raw(with_final_slash(call)));
        }
        path_and_query.push('/');
    }
    if let Some(query) = call.uri.query() {
        path_and_query = format!("{path_and_query}?{query}");
    }
    let prefix = prefix(call);
    let upstream = Upstream {
        backend,
        method: call.method.clone(),
        path_and_query,
    };
    let uri = call.uri.path().to_owned();
    proxy::want_plain_page(&mut call.headers, &uri);
    let response = proxy::forward(call, upstream)
        .await
        .map_err(|error| unavailable(&format!("error trying to reach service: {error}")))?;
    Ok(Reply::raw(proxy::keep_inside(response, &prefix)))
}

fn backend(target: &Target<'_>, address: SocketAddr) -> Backend {
    match target.scheme {
        "https" => Backend::Tls(address, address.ip().into(), proxy::trusting::client()),
        _ => Backend::Plain(address),
    }
}

fn parse(text: &str) -> Option<Target<'_>> {
    let parts: Vec<&str> = text.split(':').collect();
    let (scheme, name, port) = match parts.as_slice() {
        [name] => ("", *name, ""),
        [name, port] => ("", *name, *port),
        [scheme, name, port] => (*scheme, *name, *port),
        _ => return None,
    };
    let known = ["", "http", "https"].contains(&scheme);
    (known && !name.is_empty()).then_some(Target {
        text,
        scheme,
        name,
        port,
    })
}

fn pod_address(state: &State, namespace: &str, target: &Target<'_>) -> Result<SocketAddr, Status> {
    let key = Key::new(&POD, namespace, target.name);
    let stored = state.store.get(&key);
    let pod = stored
        .ok_or_else(|| Status::not_found(&POD, target.name))?
        .object();
    let port = match target.port {
        "" => first_port(&pod).unwrap_or(80),
        port => port_number(port)?,
    };
    let ip: Option<IpAddr> = str_of(&pod["status"]["podIP"]).parse().ok();
    let ip = ip.filter(|ip| is_global_unicast(*ip));
    let ip = ip.ok_or_else(|| Status::bad_request("address not allowed"))?;
    Ok(SocketAddr::new(ip, port))
}

/// A pod's status must not lead to what only this machine or link can reach.
fn is_global_unicast(ip: IpAddr) -> bool {
    let is_of_link = match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let ip = ip.to_canonical();
    !(is_of_link || ip.is_unspecified() || ip.is_loopback() || ip.is_multicast())
}

fn first_port(pod: &Value) -> Option<u16> {
    let containers = items(&pod["spec"]["containers"]).iter();
    let mut ports = containers.flat_map(|container| items(&container["ports"]));
    let port = ports.next()?["containerPort"].as_u64()?;
    u16::try_from(port).ok()
}

fn port_number(text: &str) -> Result<u16, Status> {
    text.parse()
        .map_err(|_| Status::bad_request(format!("invalid port \"{text}\"")))
}

/// A ready endpoint of the Service's port, drawn at random, that is a pod with that address.
///
/// The Service itself is only looked at to turn the number of a port into its name; the name may be empty.
fn service_address(
    state: &State,
    kind: &'static Kind,
    namespace: &str,
    target: &Target<'_>,
) -> Result<SocketAddr, Status> {
    let name = target.name;
    let port_name = match target.port.parse::<i64>() {
        Ok(number) => {
            let service = state.store.get(&Key::new(kind, namespace, name));
            let service = service.ok_or_else(|| Status::not_found(kind, name))?;
            port_name(&service.object(), number).ok_or_else(|| {
                unavailable(&format!(
                    "no service port {number} found for service \"{name}\""
                ))
            })?
        }
        Err(_) => target.port.to_owned(),
    };
    let endpoints = state.store.get(&Key::new(&ENDPOINTS, namespace, name));
    let endpoints = endpoints.ok_or_else(|| Status::not_found(&ENDPOINTS, name))?;
    let endpoints = endpoints.object();
    let subsets = items(&endpoints["subsets"]);
    let missing = |id: &str| unavailable(&format!("no endpoints available for service \"{id}\""));
    if subsets.is_empty() {
        return Err(missing(name));
    }
    let mut candidates: Vec<SocketAddr> = Vec::new();
    for subset in subsets {
        let ports = items(&subset["ports"]).iter();
        let port = ports
            .filter(|port| str_of(&port["name"]) == port_name)
            .find_map(|port| u16::try_from(port["port"].as_u64()?).ok());
        for address in items(&subset["addresses"]) {
            let live = is_live_pod(state, namespace, address);
            if let (Some(port), Some(ip)) = (port, live) {
                candidates.push(SocketAddr::new(ip, port));
            }
        }
    }
    candidates
        .choose(&mut rand::rng())
        .copied()
        .ok_or_else(|| missing(target.text))
}

/// The name of the first Service port with a number.
fn port_name(service: &Value, number: i64) -> Option<String> {
    let ports = items(&service["spec"]["ports"]);
    let port = ports.iter().find(|port| port["port"] == number)?;
    Some(str_of(&port["name"]).to_owned())
}

fn is_live_pod(state: &State, namespace: &str, address: &Value) -> Option<IpAddr> {
    let reference = &address["targetRef"];
    if str_of(&reference["namespace"]) != namespace {
        return None;
    }
    let key = Key::new(&POD, namespace, str_of(&reference["name"]));
    let pod = state.store.get(&key)?.object();
    let ips = items(&pod["status"]["podIPs"]).iter();
    let mut ips = ips.map(|ip| &ip["ip"]);
    ips.any(|ip| *ip == address["ip"])
        .then(|| str_of(&address["ip"]).parse().ok())?
}

fn unavailable(text: &str) -> Status {
    Status::failure(503, "ServiceUnavailable", text)
}

/// The path up to and including `/proxy`.
fn prefix(call: &Call) -> String {
    let path = path_encode(&percent_decode(call.uri.path()));
    let length = path.len().saturating_sub(call.info.tail.len());
    path.get(..length).unwrap_or(&path).to_owned()
}

/// Relative links of the page behind only work below a slash.
fn with_final_slash(call: &Call) -> axum::response::Response {
    let query = call.uri.query().map(|query| format!("?{query}"));
    let location = format!("{}/{}", call.uri.path(), query.unwrap_or_default());
    let mut response = respond::text(StatusCode::MOVED_PERMANENTLY, "");
    if let Ok(location) = HeaderValue::from_str(&location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_target_names_scheme_and_port_or_leaves_them_out() {
        let check = |text: &str, expected: Option<(&str, &str, &str)>| {
            let expected = expected.map(|(scheme, name, port)| Target {
                text,
                scheme,
                name,
                port,
            });
            assert_eq!(parse(text), expected, "{text}");
        };
        check("web", Some(("", "web", "")));
        check("web:80", Some(("", "web", "80")));
        check("https:web:", Some(("https", "web", "")));
        check("ftp:web:21", None);
        check("", None);
    }

    #[test]
    fn pods_are_reached_at_addresses_of_the_cluster_only() {
        let check = |ip: &str, expected: bool| {
            assert_eq!(is_global_unicast(ip.parse().unwrap()), expected, "{ip}");
        };
        for ip in ["10.42.0.5", "192.0.2.1", "fd00::5", "::ffff:10.0.0.1"] {
            check(ip, true);
        }
        for ip in [
            "127.0.0.1",
            "0.0.0.0",
            "169.254.169.254",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "fe80::1",
            "ff02::1",
            "::ffff:127.0.0.1",
        ] {
            check(ip, false);
        }
    }

    #[test]
    fn a_number_stands_for_the_name_of_the_first_port_that_has_it() {
        let service = json!({"spec": {"ports": [
            {"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}, {"port": 80}
        ]}});
        let check = |number: i64, expected: Option<&str>| {
            assert_eq!(port_name(&service, number).as_deref(), expected);
        };
        check(53, Some("dns"));
        check(80, Some(""));
        check(81, None);
    }
}
