//! Requests, limits and overhead of pods: canonical amounts, defaults, validation, and the quality of service they earn.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::super::checks::{self, Errors};
use crate::{
    field::{Error, Path, Reason},
    names,
    quantity::{self, Quantity},
    walk,
};

const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
const POD_LEVEL: [&str; 2] = ["cpu", "memory"];
/// What a refusal offers; the middle one stands for all of its prefix.
const POD_LEVEL_SHOWN: [&str; 3] = ["cpu", HUGE_PAGES, "memory"];
/// Resources that are counted, not measured.
const COUNTED: [&str; 9] = [
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
const HUGE_PAGES: &str = "hugepages-";
const NATIVE_DOMAIN: &str = "kubernetes.io/";

/// Amounts by resource name.
pub type Amounts = BTreeMap<String, Quantity>;

/// Amounts that can be read; what cannot be was refused by decoding.
pub fn amounts(resources: &Value, name: &str) -> Amounts {
    walk::entries(resources, name)
        .filter_map(|(resource, amount)| Some((resource.to_owned(), read(amount)?)))
        .collect()
}

fn read(amount: &Value) -> Option<Quantity> {
    match amount {
        Value::String(text) => Quantity::parse(text.trim()).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// Writes a container's limits and requests in canonical form.
pub fn default(resources: &mut Value) {
    let map = walk::object_mut(resources, "");
    canonicalize(map, "limits");
    canonicalize(map, "requests");
}

/// Writes one resource list in canonical form: `1000m` as `1`.
pub fn canonicalize(map: &mut Map<String, Value>, name: &str) {
    let Some(list) = map.get_mut(name).and_then(Value::as_object_mut) else {
        return;
    };
    for amount in list.values_mut() {
        let text = match amount {
            Value::String(text) => quantity::canonical(text),
            Value::Number(number) => quantity::canonical(&number.to_string()),
            _ => None,
        };
        if let Some(text) = text {
            *amount = json!(text);
        }
    }
}

/// A limit without a request is also the request.
pub fn requests_from_limits(container: &mut Value) {
    let limits = walk::at(container, "resources.limits").clone();
    let Some(limits) = limits.as_object() else {
        return;
    };
    let requests = walk::object_mut(container, "resources.requests");
    for (resource, limit) in limits {
        walk::fill(requests, resource, limit.clone());
    }
}

/// Pod-level requests follow the containers' requests, else the pod-level limits.
pub fn default_pod_level(spec: &mut Value) {
    let limits = amounts(spec, "resources.limits");
    if limits.is_empty() {
        return;
    }
    let wanted = aggregate(spec, "requests");
    let requests = walk::object_mut(spec, "resources.requests");
    let supported = |resource: &str| POD_LEVEL.contains(&resource) || is_huge_pages(resource);
    for (resource, amount) in wanted {
        if supported(&resource) && !is_huge_pages(&resource) {
            walk::fill(requests, &resource, amount.to_string());
        }
    }
    for (resource, amount) in limits {
        if supported(&resource) {
            walk::fill(requests, &resource, amount.to_string());
        }
    }
    if requests.is_empty() {
        walk::object_mut(spec, "resources").remove("requests");
    }
}

/// What all containers together need: the sum of those that run at once, or a larger init container before them.
pub fn aggregate(spec: &Value, name: &str) -> Amounts {
    let field = format!("resources.{name}");
    let mut running = Amounts::new();
    for container in walk::list(spec, "containers") {
        add(&mut running, &amounts(container, &field));
    }
    let (mut sidecars, mut largest) = (Amounts::new(), Amounts::new());
    for container in walk::list(spec, "initContainers") {
        let own = amounts(container, &field);
        let mut at_once = own.clone();
        if walk::text(container, "restartPolicy") == "Always" {
            add(&mut running, &own);
            add(&mut sidecars, &own);
            at_once = sidecars.clone();
        } else {
            add(&mut at_once, &sidecars);
        }
        raise(&mut largest, &at_once);
    }
    raise(&mut running, &largest);
    running
}

fn add(total: &mut Amounts, more: &Amounts) {
    for (resource, amount) in more {
        let sum = total.get(resource).copied().unwrap_or(Quantity::ZERO) + *amount;
        total.insert(resource.clone(), sum);
    }
}

fn raise(total: &mut Amounts, other: &Amounts) {
    for (resource, amount) in other {
        if total.get(resource).is_none_or(|least| least < amount) {
            total.insert(resource.clone(), *amount);
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub fn qos_class(spec: &Value) -> &'static str {
    let relevant = |list: Amounts| -> Amounts {
        list.into_iter()
            .filter(|(resource, amount)| {
                POD_LEVEL.contains(&resource.as_str()) && *amount > Quantity::ZERO
            })
            .collect()
    };
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    let mut all_limited = true;
    let pod_level = !walk::at(spec, "resources.requests").is_null()
        || !walk::at(spec, "resources.limits").is_null();
    if pod_level {
        requests = relevant(amounts(spec, "resources.requests"));
        limits = relevant(amounts(spec, "resources.limits"));
        all_limited = POD_LEVEL
            .iter()
            .all(|resource| limits.contains_key(*resource));
    } else {
        let containers = walk::list(spec, "containers");
        for container in containers.iter().chain(walk::list(spec, "initContainers")) {
            add(
                &mut requests,
                &relevant(amounts(container, "resources.requests")),
            );
            let own = relevant(amounts(container, "resources.limits"));
            all_limited &= POD_LEVEL.iter().all(|resource| own.contains_key(*resource));
            add(&mut limits, &own);
        }
    }
    if requests.is_empty() && limits.is_empty() {
        "BestEffort"
    } else if all_limited
        && requests.len() == limits.len()
        && requests
            .iter()
            .all(|(resource, amount)| limits.get(resource) == Some(amount))
    {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

/// Whose resources are judged: names allowed for containers differ from those for whole pods.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Container,
    Pod,
}

/// Validates limits, requests and claims.
pub fn validate(
    errors: &mut Errors,
    path: &Path,
    resources: &Value,
    claims: &[&str],
    level: Level,
) {
    let limits_path = path.child("limits");
    let requests_path = path.child("requests");
    let limits = amounts(resources, "limits");
    let requests = amounts(resources, "requests");
    for (resource, amount) in &limits {
        validate_amount(errors, &limits_path.key(resource), resource, *amount, level);
        validate_huge_pages(errors, &limits_path.key(resource), resource, *amount);
    }
    for (resource, amount) in &requests {
        validate_amount(
            errors,
            &requests_path.key(resource),
            resource,
            *amount,
            level,
        );
        match limits.get(resource) {
            Some(limit) if amount != limit && !may_overcommit(resource) => {
                let detail = format!("must be equal to {resource} limit of {limit}");
                errors.push(Error::invalid(&requests_path, amount.to_string(), &detail));
            }
            Some(limit) if amount > limit => {
                let detail = format!("must be less than or equal to {resource} limit of {limit}");
                errors.push(Error::invalid(&requests_path, amount.to_string(), &detail));
            }
            None if !may_overcommit(resource) => errors.push(Error::required(
                &limits_path,
                "Limit must be set for non overcommitable resources",
            )),
            _ => {}
        }
        validate_huge_pages(errors, &requests_path.key(resource), resource, *amount);
    }
    let mut names = limits.keys().chain(requests.keys());
    if names.clone().any(|name| is_huge_pages(name))
        && !names.any(|name| POD_LEVEL.contains(&name.as_str()))
    {
        errors.push(Error::forbidden(path, "HugePages require cpu or memory"));
    }
    validate_claims(
        errors,
        &path.child("claims"),
        walk::list(resources, "claims"),
        claims,
    );
}

/// Overhead is judged as a container's limits are.
pub fn validate_overhead(errors: &mut Errors, path: &Path, overhead: &Value) {
    validate(
        errors,
        path,
        &json!({"limits": overhead}),
        &[],
        Level::Container,
    );
}

/// Pod-level requests cover what the containers ask for, and no container may exceed the pod-level limits.
pub fn validate_pod_level(errors: &mut Errors, path: &Path, spec: &Value, claims: &[&str]) {
    let resources = walk::at(spec, "resources");
    if resources.is_null() {
        return;
    }
    if walk::has(resources, "claims") {
        errors.push(Error::forbidden(
            &path.child("claims"),
            "claims may not be set for Resources at pod-level",
        ));
    }
    validate(errors, path, resources, claims, Level::Pod);
    let requests = amounts(resources, "requests");
    let limits = amounts(resources, "limits");
    for (resource, needed) in aggregate(spec, "requests") {
        if let Some(own) = requests.get(&resource).filter(|own| needed > **own) {
            let detail = format!(
                "must be greater than or equal to aggregate container requests of {needed}"
            );
            let path = path.child("requests").key(&resource);
            errors.push(Error::invalid(&path, own.to_string(), &detail));
        }
    }
    for (index, container) in walk::list(spec, "containers").iter().enumerate() {
        for (resource, limit) in amounts(container, "resources.limits") {
            if let Some(most) = limits.get(&resource).filter(|most| limit > **most) {
                let path = path
                    .child("containers")
                    .index(index)
                    .key(&resource)
                    .child("limits");
                let detail = format!("must be less than or equal to pod limits of {most}");
                errors.push(Error::invalid(&path, limit.to_string(), &detail));
            }
        }
    }
}

fn validate_amount(
    errors: &mut Errors,
    path: &Path,
    resource: &str,
    amount: Quantity,
    level: Level,
) {
    validate_resource_name(errors, path, resource, level);
    if amount.is_negative() {
        errors.push(Error::invalid(
            path,
            amount.to_string(),
            "must be greater than or equal to 0",
        ));
    }
    let is_counted = is_extended(resource) || COUNTED.contains(&resource);
    if is_counted && !amount.is_whole() {
        errors.push(Error::invalid(
            path,
            amount.to_string(),
            "must be an integer",
        ));
    }
}

fn validate_resource_name(errors: &mut Errors, path: &Path, resource: &str, level: Level) {
    let messages = names::qualified_name(resource);
    let well_formed = messages.is_empty();
    checks::complain(errors, path, resource, messages);
    let qualified = resource.contains('/');
    let known = STANDARD.contains(&resource) || is_huge_pages(resource);
    let mut complaint = |detail: &str| errors.push(Error::invalid(path, resource, detail));
    if well_formed && !qualified && !known {
        complaint("must be a standard resource type or fully qualified");
    }
    match level {
        Level::Container
            if !qualified && !OF_CONTAINERS.contains(&resource) && !is_huge_pages(resource) =>
        {
            complaint("must be a standard resource for containers");
        }
        Level::Container if qualified && !is_native(resource) && !is_extended(resource) => {
            complaint("doesn't follow extended resource name standard");
        }
        Level::Pod if well_formed && (qualified || known) => {
            if !POD_LEVEL.contains(&resource) && !is_huge_pages(resource) {
                errors.push(Error::not_supported(path, resource, &POD_LEVEL_SHOWN));
            }
        }
        Level::Container | Level::Pod => {}
    }
}

fn validate_huge_pages(errors: &mut Errors, path: &Path, resource: &str, amount: Quantity) {
    let Some(size) = resource.strip_prefix(HUGE_PAGES) else {
        return;
    };
    let size = Quantity::parse(size).map_or(0, Quantity::value);
    if size <= 0 || !amount.is_whole() || amount.value() % size != 0 {
        let detail = format!("{amount} is not positive integer multiple of {resource}");
        errors.push(Error::invalid(path, amount.to_string(), &detail));
    }
}

fn validate_claims(errors: &mut Errors, path: &Path, claims: &[Value], known: &[&str]) {
    let mut seen: Vec<String> = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        let name = walk::text(claim, "name");
        if name.is_empty() {
            errors.push(Error::required(&path, ""));
            continue;
        }
        let request = walk::text(claim, "request");
        let mut key = name.to_owned();
        if !request.is_empty() {
            checks::dns_label(errors, &path.child("request"), request);
            key = format!("{name}/{request}");
        }
        let whole_claim_seen = seen.iter().any(|other| other == name);
        let part_seen = request.is_empty()
            && seen
                .iter()
                .any(|other| other.split_once('/').is_some_and(|(n, _)| n == name));
        if whole_claim_seen || part_seen {
            errors.push(Error::duplicate(&path, name));
        } else if seen.contains(&key) {
            errors.push(Error::duplicate(&path, key.as_str()));
        }
        seen.push(key);
        if !known.contains(&name) {
            errors.push(unknown_claim(&path, name, known));
        }
    }
}

fn unknown_claim(path: &Path, name: &str, known: &[&str]) -> Error {
    let choice = if known.is_empty() {
        " which is empty".to_owned()
    } else {
        format!(": {}", known.join(", "))
    };
    Error {
        reason: Reason::NotFound,
        field: path.to_string(),
        message: format!(
            "Not found: {}: must be one of the names in pod.spec.resourceClaims{choice}",
            crate::field::quote(name)
        ),
    }
}

fn may_overcommit(resource: &str) -> bool {
    is_native(resource) && !is_huge_pages(resource)
}

fn is_huge_pages(resource: &str) -> bool {
    resource.starts_with(HUGE_PAGES)
}

/// Names without a domain, and those in `kubernetes.io/`.
fn is_native(resource: &str) -> bool {
    !resource.contains('/') || resource.contains(NATIVE_DOMAIN)
}

/// Names of a vendor's domain that can also be prefixed with `requests.`.
fn is_extended(resource: &str) -> bool {
    !is_native(resource)
        && !resource.starts_with("requests.")
        && names::qualified_name(&format!("requests.{resource}")).is_empty()
}
