//! A container's environment: sources, references to fields, service variables, `$(NAME)` expansion. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, EnvVarSource, Pod, ResourceFieldSelector, ResourceRequirements,
};
use knarr_api::quantity::Quantity;

use super::sources::Sources;
use crate::services::ServiceAddress;

/// Everything an environment can refer to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) node_name: &'a str,
    pub(crate) node_ips: &'a [String],
    pub(crate) pod_ips: &'a [String],
    pub(crate) sources: &'a Sources,
    pub(crate) services: &'a [ServiceAddress],
    pub(crate) node_capacity: Capacity,
}

/// What the node has, which is the limit of a container without one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Capacity {
    pub(crate) cpu_millis: i64,
    pub(crate) memory_bytes: i64,
}

/// A reference that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("{kind} {name:?} not found")]
    MissingObject { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    MissingKey {
        kind: &'static str,
        namespace: String,
        name: String,
        key: String,
    },
    #[error("field path {0:?} is not supported")]
    UnsupportedField(String),
    #[error("resource {0:?} is not supported")]
    UnsupportedResource(String),
}

/// The environment in order of definition; a later value of the same name replaces the earlier one.
pub(crate) fn environment(
    container: &Container,
    facts: &Facts<'_>,
) -> Result<Vec<(String, String)>, Error> {
    let mut env = Environment::default();
    for (name, value) in service_variables(facts.services) {
        env.set(name, value);
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(reference) = &from.config_map_ref {
            let optional = reference.optional == Some(true);
            match facts.sources.config_maps.get(&reference.name) {
                Some(found) => found.data.iter().flatten().for_each(|(key, value)| {
                    env.set(format!("{prefix}{key}"), value.clone());
                }),
                None if optional => {}
                None => return Err(missing("configmap", &reference.name)),
            }
        }
        if let Some(reference) = &from.secret_ref {
            let optional = reference.optional == Some(true);
            match facts.sources.secrets.get(&reference.name) {
                Some(found) => found.data.iter().flatten().for_each(|(key, value)| {
                    let text = String::from_utf8_lossy(&value.0).into_owned();
                    env.set(format!("{prefix}{key}"), text);
                }),
                None if optional => {}
                None => return Err(missing("secret", &reference.name)),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(variable, container, facts, &env)? {
            env.set(variable.name.clone(), value);
        }
    }
    Ok(env.pairs)
}

#[derive(Default)]
struct Environment {
    pairs: Vec<(String, String)>,
}

impl Environment {
    fn set(&mut self, name: String, value: String) {
        match self.pairs.iter_mut().find(|(known, _)| *known == name) {
            Some(pair) => pair.1 = value,
            None => self.pairs.push((name, value)),
        }
    }
}

fn value_of(
    variable: &EnvVar,
    container: &Container,
    facts: &Facts<'_>,
    env: &Environment,
) -> Result<Option<String>, Error> {
    match &variable.value_from {
        Some(from) => referred(from, container, facts),
        None => Ok(Some(expand(
            variable.value.as_deref().unwrap_or_default(),
            &env.pairs,
        ))),
    }
}

fn referred(
    from: &EnvVarSource,
    container: &Container,
    facts: &Facts<'_>,
) -> Result<Option<String>, Error> {
    if let Some(field) = &from.field_ref {
        return pod_field(&field.field_path, facts).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        return resource_field(resource, container, facts).map(Some);
    }
    if let Some(key) = &from.config_map_key_ref {
        let found = facts.sources.config_maps.get(&key.name);
        let value = found.and_then(|found| found.data.as_ref()?.get(&key.key).cloned());
        return keyed(
            value,
            "configmap",
            key.optional,
            (&key.name, &key.key),
            found.is_some(),
            facts,
        );
    }
    if let Some(key) = &from.secret_key_ref {
        let found = facts.sources.secrets.get(&key.name);
        let value = found
            .and_then(|found| found.data.as_ref()?.get(&key.key))
            .map(|value| String::from_utf8_lossy(&value.0).into_owned());
        return keyed(
            value,
            "secret",
            key.optional,
            (&key.name, &key.key),
            found.is_some(),
            facts,
        );
    }
    Ok(None)
}

fn keyed(
    value: Option<String>,
    kind: &'static str,
    optional: Option<bool>,
    (name, key): (&str, &str),
    object_exists: bool,
    facts: &Facts<'_>,
) -> Result<Option<String>, Error> {
    match value {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None if !object_exists => Err(missing(kind, name)),
        None => Err(Error::MissingKey {
            kind: if kind == "secret" {
                "Secret"
            } else {
                "ConfigMap"
            },
            namespace: facts.pod.metadata.namespace.clone().unwrap_or_default(),
            name: name.to_owned(),
            key: key.to_owned(),
        }),
    }
}

fn missing(kind: &'static str, name: &str) -> Error {
    Error::MissingObject {
        kind,
        name: name.to_owned(),
    }
}

/// The value of a `fieldRef`.
pub(crate) fn pod_field(path: &str, facts: &Facts<'_>) -> Result<String, Error> {
    let metadata = &facts.pod.metadata;
    let spec = facts.pod.spec.as_ref();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => metadata.labels.as_ref(),
            "metadata.annotations" => metadata.annotations.as_ref(),
            _ => return Err(Error::UnsupportedField(path.to_owned())),
        };
        return Ok(map
            .and_then(|map| map.get(key))
            .cloned()
            .unwrap_or_default());
    }
    Ok(match path {
        "metadata.name" => metadata.name.clone().unwrap_or_default(),
        "metadata.namespace" => metadata.namespace.clone().unwrap_or_default(),
        "metadata.uid" => metadata.uid.clone().unwrap_or_default(),
        "metadata.labels" => listing(metadata.labels.as_ref()),
        "metadata.annotations" => listing(metadata.annotations.as_ref()),
        "spec.nodeName" => facts.node_name.to_owned(),
        "spec.serviceAccountName" => spec
            .and_then(|spec| spec.service_account_name.clone())
            .unwrap_or_default(),
        "status.hostIP" => facts.node_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.node_ips.join(","),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        _ => return Err(Error::UnsupportedField(path.to_owned())),
    })
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="value"` lines, as the downward API writes whole maps.
fn listing(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    lines.join("\n")
}

/// The value of a `resourceFieldRef`.
pub(crate) fn resource_field(
    selector: &ResourceFieldSelector,
    container: &Container,
    facts: &Facts<'_>,
) -> Result<String, Error> {
    let unsupported = || Error::UnsupportedResource(selector.resource.clone());
    let divisor = selector
        .divisor
        .as_ref()
        .and_then(|divisor| Quantity::parse(&divisor.0).ok());
    let (kind, resource) = selector.resource.split_once('.').ok_or_else(unsupported)?;
    let set = container.resources.as_ref();
    let wanted = match kind {
        "limits" => quantity(set, "limits", resource),
        "requests" => quantity(set, "requests", resource),
        _ => return Err(unsupported()),
    };
    let ceiling = |value: i64, by: i64| value.div_euclid(by) + i64::from(value.rem_euclid(by) > 0);
    match resource {
        "cpu" => {
            let fallback = if kind == "limits" {
                facts.node_capacity.cpu_millis
            } else {
                0
            };
            let value = wanted.map_or(fallback, Quantity::milli_value);
            let by = divisor.map_or(1000, Quantity::milli_value).max(1);
            Ok(ceiling(value, if by == 0 { 1000 } else { by }).to_string())
        }
        _ => {
            let fallback = match (kind, resource) {
                ("limits", "memory") => facts.node_capacity.memory_bytes,
                _ => 0,
            };
            let value = wanted.map_or(fallback, Quantity::value);
            let by = divisor.map_or(1, Quantity::value).max(1);
            Ok(ceiling(value, by).to_string())
        }
    }
}

/// A quantity of a container's `limits` or `requests`.
pub(crate) fn quantity(
    set: Option<&ResourceRequirements>,
    kind: &str,
    resource: &str,
) -> Option<Quantity> {
    let map = match kind {
        "limits" => set?.limits.as_ref()?,
        _ => set?.requests.as_ref()?,
    };
    Quantity::parse(&map.get(resource)?.0).ok()
}

/// Replaces `$(NAME)` by its value where it is defined; `$$` is a dollar sign.
pub(crate) fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        let (before, after) = rest.split_at(at);
        out.push_str(before);
        let after = &after[1..];
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
        } else if let Some((name, tail)) = after
            .strip_prefix('(')
            .and_then(|open| open.split_once(')'))
        {
            match env.iter().find(|(known, _)| known == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

/// `REDIS_SERVICE_HOST` and its kin, for every service a pod can see.
fn service_variables(services: &[ServiceAddress]) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    for service in services {
        let upper = |text: &str| text.to_ascii_uppercase().replace('-', "_");
        let name = upper(&service.name);
        let ip = &service.cluster_ip;
        let host = if ip.contains(':') {
            format!("[{ip}]")
        } else {
            ip.clone()
        };
        let Some(first) = service.ports.first() else {
            continue;
        };
        variables.push((format!("{name}_SERVICE_HOST"), ip.clone()));
        variables.push((format!("{name}_SERVICE_PORT"), first.port.to_string()));
        for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
            let key = format!("{name}_SERVICE_PORT_{}", upper(&port.name));
            variables.push((key, port.port.to_string()));
        }
        for (index, port) in service.ports.iter().enumerate() {
            let protocol = port.protocol.to_ascii_lowercase();
            let url = format!("{protocol}://{host}:{}", port.port);
            if index == 0 {
                variables.push((format!("{name}_PORT"), url.clone()));
            }
            let prefix = format!("{name}_PORT_{}_{}", port.port, port.protocol);
            variables.push((prefix.clone(), url));
            variables.push((format!("{prefix}_PROTO"), protocol));
            variables.push((format!("{prefix}_PORT"), port.port.to_string()));
            variables.push((format!("{prefix}_ADDR"), ip.clone()));
        }
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_expand(text: &str, expected: &str) {
        let env = [
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "$(A)".to_owned()),
        ];
        assert_eq!(expand(text, &env), expected, "{text}");
    }

    #[test]
    fn references_expand_once_and_unknown_ones_stay() {
        check_expand("x$(A)y", "x1y");
        check_expand("$(B)", "$(A)");
        check_expand("$(C)", "$(C)");
        check_expand("$$(A)", "$(A)");
        check_expand("$A $ $(A", "$A $ $(A");
        check_expand("$$$(A)$", "$1$");
    }

    #[test]
    fn services_become_variables() {
        let service = ServiceAddress {
            name: "redis-primary".into(),
            cluster_ip: "10.0.128.7".into(),
            second_ip: None,
            ports: vec![crate::services::Port {
                name: "main-port".into(),
                port: 6379,
                protocol: "TCP".into(),
            }],
        };
        let names = service_variables(&[service]);
        let text: Vec<String> = names
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        assert_eq!(
            text,
            [
                "REDIS_PRIMARY_SERVICE_HOST=10.0.128.7",
                "REDIS_PRIMARY_SERVICE_PORT=6379",
                "REDIS_PRIMARY_SERVICE_PORT_MAIN_PORT=6379",
                "REDIS_PRIMARY_PORT=tcp://10.0.128.7:6379",
                "REDIS_PRIMARY_PORT_6379_TCP=tcp://10.0.128.7:6379",
                "REDIS_PRIMARY_PORT_6379_TCP_PROTO=tcp",
                "REDIS_PRIMARY_PORT_6379_TCP_PORT=6379",
                "REDIS_PRIMARY_PORT_6379_TCP_ADDR=10.0.128.7",
            ]
        );
    }
}
