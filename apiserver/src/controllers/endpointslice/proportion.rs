//! Topology hints in proportion to the zones' CPU, as the annotation `service.kubernetes.io/topology-mode: Auto` asks for them.
//!
//! Pure: nodes and slices come in, hinted slices or a reason for having none come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointSlice, ForZone};
use knarr_api::quantity::Quantity;

use crate::controllers::well_known::ZONE_LABEL;

/// By how much a zone's endpoints may get more than their share of the traffic.
const OVERLOAD_MAX: f64 = 0.2;
/// Nodes with one of these labels carry no load.
const EXCLUDED_LABELS: [&str; 2] = [
    "node-role.kubernetes.io/control-plane",
    "node-role.kubernetes.io/master",
];
const NODES_UNKNOWN: &str =
    "Insufficient Node information: allocatable CPU or zone not specified on one or more nodes";
const ZONE_UNKNOWN: &str = "One or more endpoints do not have a zone specified";

/// The part of all CPU that each zone has.
pub(super) type Zones = BTreeMap<String, f64>;

/// Endpoints of a zone, or hints to it.
type Counts = BTreeMap<String, usize>;

/// How many endpoints are hinted to one zone.
struct Share {
    desired: f64,
    max: usize,
}

/// The zones of all nodes; none where a node's part is unknown or there are not two zones.
pub(super) fn zones(nodes: &[Arc<Node>]) -> Option<Zones> {
    let mut cpu_by_zone = Zones::new();
    for node in nodes.iter().filter(|node| carries_load(node)) {
        *cpu_by_zone.entry(zone(node)?.clone()).or_default() += cpu(node)?;
    }
    let total: f64 = cpu_by_zone.values().sum();
    if cpu_by_zone.len() < 2 {
        return None;
    }
    cpu_by_zone.values_mut().for_each(|cpu| *cpu /= total);
    Some(cpu_by_zone)
}

/// Says whether a node's part in the shares is another one now.
pub(super) fn differ(old: Option<&Arc<Node>>, new: Option<&Arc<Node>>) -> bool {
    let part = |node: Option<&Arc<Node>>| {
        let node = node.filter(|node| carries_load(node))?;
        Some((zone(node).cloned(), cpu(node)))
    };
    part(old) != part(new)
}

fn zone(node: &Node) -> Option<&String> {
    let zone = node.metadata.labels.as_ref()?.get(ZONE_LABEL);
    zone.filter(|zone| !zone.is_empty())
}

fn carries_load(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    let is_excluded = |label: &&str| labels.is_some_and(|labels| labels.contains_key(*label));
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    let ready = conditions
        .into_iter()
        .flatten()
        .find(|c| c.type_ == "Ready");
    !EXCLUDED_LABELS.iter().any(is_excluded) && ready.is_some_and(|ready| ready.status == "True")
}

/// Allocatable CPU in thousandths; none where it is nothing.
fn cpu(node: &Node) -> Option<f64> {
    let allocatable = node.status.as_ref()?.allocatable.as_ref()?;
    let milli = Quantity::parse(&allocatable.get("cpu")?.0)
        .ok()?
        .milli_value();
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more digits")]
    (milli > 0).then_some(milli as f64)
}

/// Hints every ready endpoint to a zone, moving as few from their own as the shares allow.
///
/// Of `kept` only slices whose hints will not do are taken over into `written`.
pub(super) fn hint(
    zones: Option<&Zones>,
    written: &mut Vec<EndpointSlice>,
    kept: &mut Vec<Arc<EndpointSlice>>,
) -> Result<(), String> {
    let hinted = zones
        .ok_or_else(|| NODES_UNKNOWN.to_owned())
        .and_then(|zones| try_hint(zones, written, kept));
    if hinted.is_err() {
        let is_clear = |slice: &EndpointSlice| endpoints(slice).iter().all(|e| e.hints.is_none());
        take_over(written, kept, is_clear);
        written.iter_mut().for_each(clear);
    }
    hinted
}

fn try_hint(
    zones: &Zones,
    written: &mut Vec<EndpointSlice>,
    kept: &mut Vec<Arc<EndpointSlice>>,
) -> Result<(), String> {
    let all = written.iter().chain(kept.iter().map(Arc::as_ref));
    let count = all.flat_map(endpoints).filter(|e| is_ready(e)).count();
    let shares = shares(zones, count)?;
    let mut hinted = Counts::new();
    take_over(written, kept, |slice| {
        match hints_that_fit(slice, &hinted, &shares) {
            Some(more) => {
                for (zone, count) in more {
                    *hinted.entry(zone).or_default() += count;
                }
                true
            }
            None => false,
        }
    });
    written.iter_mut().for_each(clear);
    let fresh = || written.iter().flat_map(endpoints).filter(|e| is_ready(e));
    if fresh().any(|endpoint| endpoint.zone.is_none()) {
        return Err(ZONE_UNKNOWN.to_owned());
    }
    for zone in fresh().filter_map(|endpoint| endpoint.zone.clone()) {
        *hinted.entry(zone).or_default() += 1;
    }
    let (mut giving, mut receiving) = moves(&shares, &hinted);
    let slices = written
        .iter_mut()
        .flat_map(|slice| slice.endpoints.iter_mut());
    for endpoint in slices.flatten().filter(|e| is_ready(e)) {
        let own = endpoint.zone.clone().unwrap_or_default();
        let target = match (giving.get_mut(&own), receiving.first_entry()) {
            (Some(left), Some(mut receiver)) if *left > 0 => {
                *left -= 1;
                let zone = receiver.key().clone();
                *receiver.get_mut() -= 1;
                if *receiver.get() == 0 {
                    receiver.remove();
                }
                zone
            }
            _ => own,
        };
        endpoint.hints = Some(EndpointHints {
            for_zones: Some(vec![ForZone { name: target }]),
            for_nodes: None,
        });
    }
    Ok(())
}

/// How many endpoints each zone should have, or why there cannot be hints.
fn shares(zones: &Zones, count: usize) -> Result<BTreeMap<String, Share>, String> {
    let refused = |reason: &str| format!("{reason} ({count} endpoints, {} zones)", zones.len());
    if zones.len() > count {
        return Err(refused("Insufficient number of endpoints"));
    }
    let mut min_total = 0;
    let mut minimums: BTreeMap<&String, (usize, f64)> = BTreeMap::new();
    for (zone, part) in zones {
        #[expect(clippy::cast_precision_loss, reason = "endpoints are few")]
        let desired = part * count as f64;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of the count of endpoints"
        )]
        let min = (desired * (1.0 / (1.0 + OVERLOAD_MAX))).ceil() as usize;
        min_total += min;
        #[expect(clippy::cast_precision_loss, reason = "endpoints are few")]
        minimums.insert(zone, (min, desired.max(min as f64)));
    }
    let Some(spare) = count.checked_sub(min_total) else {
        return Err(refused(
            "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold",
        ));
    };
    let share = |(zone, (min, desired)): (&String, (usize, f64))| {
        let max = min + spare;
        (zone.clone(), Share { desired, max })
    };
    Ok(minimums.into_iter().map(share).collect())
}

/// The hints of a slice that may stay as it is, beside those there are already.
fn hints_that_fit(
    slice: &EndpointSlice,
    hinted: &Counts,
    shares: &BTreeMap<String, Share>,
) -> Option<Counts> {
    let mut counts = Counts::new();
    for endpoint in endpoints(slice).iter().filter(|e| is_ready(e)) {
        let zones = endpoint.hints.as_ref()?.for_zones.as_ref()?;
        if zones.is_empty() || zones.iter().any(|zone| !shares.contains_key(&zone.name)) {
            return None;
        }
        for zone in zones {
            *counts.entry(zone.name.clone()).or_default() += 1;
        }
    }
    let fits = counts.iter().all(|(zone, count)| {
        let before = hinted.get(zone).copied().unwrap_or_default();
        shares
            .get(zone)
            .is_some_and(|share| before + count <= share.max)
    });
    fits.then_some(counts)
}

/// How many endpoints each zone gives away, and how many each gets.
fn moves(shares: &BTreeMap<String, Share>, hinted: &Counts) -> (Counts, Counts) {
    let mut surplus: BTreeMap<&String, f64> = BTreeMap::new();
    for (zone, share) in shares {
        let count = hinted.get(zone).copied().unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "endpoints are few")]
        surplus.insert(zone, count as f64 - share.desired);
    }
    let (mut giving, mut receiving) = (Counts::new(), Counts::new());
    loop {
        let by_surplus = |a: &(&&String, &f64), b: &(&&String, &f64)| a.1.total_cmp(b.1);
        let most = surplus.iter().max_by(by_surplus);
        let least = surplus.iter().min_by(by_surplus);
        let (Some((&giver, &more)), Some((&receiver, &less))) = (most, least) else {
            return (giving, receiving);
        };
        let less = -less;
        if more < 0.5 || less < 0.5 || (more < 1.0 && less < 1.0) {
            return (giving, receiving);
        }
        *giving.entry(giver.clone()).or_default() += 1;
        *receiving.entry(receiver.clone()).or_default() += 1;
        *surplus.entry(giver).or_default() -= 1.0;
        *surplus.entry(receiver).or_default() += 1.0;
    }
}

/// Moves the slices that cannot stay as they are among those to be written.
pub(super) fn take_over(
    written: &mut Vec<EndpointSlice>,
    kept: &mut Vec<Arc<EndpointSlice>>,
    mut stays: impl FnMut(&EndpointSlice) -> bool,
) {
    kept.retain(|slice| {
        let stays = stays(slice);
        if !stays {
            written.push(slice.as_ref().clone());
        }
        stays
    });
}

fn clear(slice: &mut EndpointSlice) {
    let endpoints = slice.endpoints.iter_mut().flatten();
    endpoints.for_each(|endpoint| endpoint.hints = None);
}

pub(super) fn endpoints(slice: &EndpointSlice) -> &[Endpoint] {
    slice.endpoints.as_deref().unwrap_or_default()
}

fn is_ready(endpoint: &Endpoint) -> bool {
    let conditions = endpoint.conditions.as_ref();
    conditions.and_then(|conditions| conditions.ready) == Some(true)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(zone: &str, cpu: &str, more: Value) -> Arc<Node> {
        let mut node = json!({
            "metadata": {"name": "n", "labels": {ZONE_LABEL: zone}},
            "status": {"allocatable": {"cpu": cpu}, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        knarr_api::patch::merge(&mut node, &more);
        Arc::new(serde_json::from_value(node).expect("a Node"))
    }

    #[test]
    fn zones_count_by_the_cpu_of_their_ready_nodes() {
        let check = |nodes: &[Arc<Node>], expected: Value| {
            assert_eq!(json!(zones(nodes)), expected);
        };
        let plain = |zone, cpu| node(zone, cpu, json!({}));
        let unready = json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}});
        let excluded = json!({"metadata": {"labels": {EXCLUDED_LABELS[0]: ""}}});
        let four = [
            plain("a", "2"),
            plain("b", "500m"),
            plain("b", "1500m"),
            plain("c", "4"),
        ];
        check(&four, json!({"a": 0.25, "b": 0.25, "c": 0.5}));
        let idle = [node("", "1", unready), node("", "1", excluded)];
        check(
            &[four[..3].to_vec(), idle.to_vec()].concat(),
            json!({"a": 0.5, "b": 0.5}),
        );
        check(&four[1..3], json!(null));
        check(&[four.to_vec(), vec![plain("", "1")]].concat(), json!(null));
        check(
            &[four.to_vec(), vec![plain("a", "0")]].concat(),
            json!(null),
        );
        check(&[], json!(null));
    }

    /// Slices of endpoints written as `own zone`, `own zone>hint` or `-` for one that is not ready.
    fn slices(texts: &[&str]) -> Vec<EndpointSlice> {
        let endpoint = |text: &str| {
            let (zone, hint) = text.split_once('>').unwrap_or((text, ""));
            let mut endpoint =
                json!({"addresses": ["10.0.0.1"], "conditions": {"ready": zone != "-"}});
            if zone != "-" && zone != "?" {
                endpoint["zone"] = json!(zone);
            }
            if !hint.is_empty() {
                endpoint["hints"] = json!({"forZones": [{"name": hint}]});
            }
            endpoint
        };
        let slice = |text: &&str| {
            let endpoints: Vec<Value> = text.split_whitespace().map(endpoint).collect();
            let slice = json!({"metadata": {}, "addressType": "IPv4", "endpoints": endpoints});
            serde_json::from_value(slice).expect("a slice")
        };
        texts.iter().map(slice).collect()
    }

    fn shown(slices: &[EndpointSlice]) -> Vec<String> {
        let hint = |endpoint: &Endpoint| {
            let hints = endpoint.hints.as_ref();
            let zones = hints.and_then(|hints| hints.for_zones.as_ref());
            zones.map_or("-".to_owned(), |zones| zones[0].name.clone())
        };
        let slice = |slice: &EndpointSlice| {
            let hints: Vec<String> = endpoints(slice).iter().map(hint).collect();
            hints.join(" ")
        };
        slices.iter().map(slice).collect()
    }

    fn check(
        parts: &[(&str, f64)],
        written: &[&str],
        kept: &[&str],
        expected: Result<&[&str], &str>,
    ) {
        let zones: Zones = parts
            .iter()
            .map(|(z, part)| ((*z).to_owned(), *part))
            .collect();
        let zones = Some(zones).filter(|zones| !zones.is_empty());
        let mut written = slices(written);
        let mut kept: Vec<_> = slices(kept).into_iter().map(Arc::new).collect();
        let outcome = hint(zones.as_ref(), &mut written, &mut kept);
        let seen = outcome.map(|()| shown(&written));
        let expected: Result<Vec<String>, String> = expected
            .map(|texts| texts.iter().map(|t| (*t).to_owned()).collect())
            .map_err(str::to_owned);
        assert_eq!(seen, expected);
        if seen.is_err() {
            let all = kept.iter().map(Arc::as_ref).chain(&written);
            assert!(all.flat_map(endpoints).all(|e| e.hints.is_none()));
        }
    }

    const EVEN: [(&str, f64); 2] = [("a", 0.5), ("b", 0.5)];

    #[test]
    fn endpoints_go_to_their_own_zone_where_shares_allow() {
        check(&EVEN, &["a b - a b"], &[], Ok(&["a b - a b"]));
        check(&EVEN, &["a a a a"], &[], Ok(&["b b a a"]));
        let thirds = [("a", 0.25), ("b", 0.25), ("c", 0.5)];
        check(&thirds, &["a a b b"], &[], Ok(&["c a c b"]));
    }

    #[test]
    fn slices_with_hints_that_fit_stay_as_they_are() {
        check(&EVEN, &["a b"], &["b>b a>a"], Ok(&["a b"]));
        check(&EVEN, &[], &["b>b", "a>z"], Ok(&["a"]));
        check(&EVEN, &[], &["a>a a>a a>a b>a"], Ok(&["b a a b"]));
    }

    #[test]
    fn without_enough_zones_or_endpoints_there_are_no_hints() {
        check(&[], &["a"], &["a>a"], Err(NODES_UNKNOWN));
        let few = "Insufficient number of endpoints (1 endpoints, 2 zones)";
        check(&EVEN, &["a"], &[], Err(few));
        check(&EVEN, &["a ? a"], &["b>b"], Err(ZONE_UNKNOWN));
        let uneven = [("a", 0.4), ("b", 0.3), ("c", 0.3)];
        let unfair = "Unable to allocate minimum required endpoints to each zone without exceeding overload threshold (5 endpoints, 3 zones)";
        check(&uneven, &["a a b c c"], &[], Err(unfair));
    }
}
