//! Following changes leads to the same table as starting from scratch, on paper and in the kernel.

use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use knarr_netproxy_plan::{Family, Planner, ServiceKey, Settings};
use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::json;

use super::{
    Applied, Nftables, Ruleset,
    chain::Chain,
    edits::Edit,
    golden::essence,
    increment::Tally,
    text::render,
    wire::{Observed, Socket, observe},
};
use crate::own_netns::{run, sh};

/// Service by number, its endpoints, its protocol, and its treatment.
pub(super) type Step = (u8, u8, &'static str, (bool, bool), bool, bool);

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let any = any::<bool>;
    vec(
        (
            0..4_u8,
            select(vec![0_u8, 1, 2, 3, 255]),
            select(vec!["TCP", "UDP", "SCTP"]),
            (any(), any()),
            any(),
            any(),
        ),
        1..12,
    )
}

/// Puts or, with 255 endpoints, removes a Service.
pub(super) fn take(planner: &mut Planner, step: Step) {
    let (number, endpoints, protocol, (local, near), sticky, restricted) = step;
    let key = ServiceKey::new("default", format!("s{number}"));
    if endpoints == 255 {
        planner.remove(&key);
        return;
    }
    let service: Service = serde_json::from_value(json!({
        "spec": {
            "clusterIPs": [format!("10.0.128.{}", number + 1), format!("fd43::{}", number + 1)],
            "ports": [{
                "name": "a", "port": 80, "protocol": protocol,
                "nodePort": 30_000 + u32::from(number),
            }],
            "externalTrafficPolicy": if local { "Local" } else { "Cluster" },
            "internalTrafficPolicy": if near { "Local" } else { "Cluster" },
            "sessionAffinity": if sticky { "ClientIP" } else { "None" },
            "loadBalancerSourceRanges":
                if restricted { vec!["192.168.0.0/16", "fd99::/64"] } else { vec![] },
        },
        "status": { "loadBalancer": { "ingress": [
            { "ip": format!("172.30.0.{}", number + 1) }, { "ip": format!("fd44::{}", number + 1) },
        ] } },
    }))
    .expect("a Service");
    let slices = ["IPv4", "IPv6"].map(|family| {
        let endpoints: Vec<_> = (1..=endpoints)
            .map(|last| {
                let prefix = if family == "IPv4" {
                    "10.42.0."
                } else {
                    "fd42::"
                };
                let node = if last == 2 { "node-1" } else { "node-2" };
                json!({ "addresses": [format!("{prefix}{last}")], "nodeName": node })
            })
            .collect();
        let slice = json!({
            "addressType": family, "endpoints": endpoints,
            "ports": [{ "name": "a", "port": 8080, "protocol": protocol }],
        });
        serde_json::from_value::<EndpointSlice>(slice).expect("a slice")
    });
    planner.put(&key, &service, &slices);
}

pub(super) fn planner() -> Planner {
    Planner::new(Settings {
        node_name: "node-1".to_owned(),
        node_ips: ["192.168.7.1", "fd07::1"]
            .map(|ip| ip.parse().expect("an address"))
            .into(),
        cluster_cidrs: ["10.42.0.0/16", "fd42::/56"]
            .map(|range| range.parse().expect("a CIDR"))
            .into(),
        ..Settings::default()
    })
}

/// What the kernel would do, on paper; everything that it would refuse panics.
fn apply(ruleset: &mut Ruleset, edits: &[Edit]) {
    for edit in edits {
        match edit {
            Edit::AddTable | Edit::RemoveTable => panic!("the table stays"),
            Edit::AddClientSet(name) => assert!(ruleset.client_sets.insert(name.clone())),
            Edit::RemoveClientSet(name) => assert!(ruleset.client_sets.remove(name)),
            Edit::AddChain(name, hook) => {
                let chain = Chain {
                    hook: *hook,
                    rules: Vec::new(),
                };
                assert_eq!(ruleset.chains.insert(name.clone(), chain), None);
            }
            Edit::AddRule(name, rule) => {
                ruleset
                    .chains
                    .get_mut(name)
                    .expect("a chain")
                    .rules
                    .push(rule.clone());
            }
            Edit::FlushChain(name) => {
                ruleset.chains.get_mut(name).expect("a chain").rules.clear();
            }
            Edit::RemoveChain(name) => {
                let chain = ruleset.chains.remove(name).expect("a chain");
                assert_eq!(chain.rules, []);
            }
            Edit::AddElements(set, elements) => {
                let own = ruleset.elements.entry(*set).or_default();
                for (key, value) in elements {
                    assert_eq!(own.insert(key.clone(), value.clone()), None);
                }
            }
            Edit::RemoveElements(set, elements) => {
                let own = ruleset.elements.entry(*set).or_default();
                for (key, value) in elements {
                    assert_eq!(own.remove(key).as_ref(), Some(value));
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn following_changes_equals_starting_from_scratch(steps in steps()) {
        let mut planner = planner();
        planner.take_changes();
        let mut tables: BTreeMap<Family, (Tally, Ruleset)> = Family::BOTH
            .into_iter()
            .map(|family| {
                let plan = planner.plan();
                (family, (Tally::of(plan, family), Ruleset::of(plan, family)))
            })
            .collect();
        for step in steps {
            take(&mut planner, step);
            let changes = planner.take_changes();
            for (family, (tally, ruleset)) in &mut tables {
                let edits = tally.edits(&changes, *family);
                apply(ruleset, &edits.change);
                apply(ruleset, &edits.sweep);
                prop_assert_eq!(&*ruleset, &Ruleset::of(planner.plan(), *family));
                prop_assert_eq!(&*tally, &Tally::of(planner.plan(), *family));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn the_kernel_follows_changes_too(steps in steps()) {
        run(|| {
            let mut planner = planner();
            let mut dataplane = Nftables::open().expect("nftables");
            dataplane.sync(planner.plan()).expect("a sync");
            planner.take_changes();
            for step in steps {
                take(&mut planner, step);
                dataplane.sync_changes(&planner.take_changes()).expect("a sync of changes");
                for family in Family::BOTH {
                    let mut socket = Socket::open().expect("a socket");
                    let (observed, _) = observe(&mut socket, family).expect("the kernel answers");
                    let wanted = Ruleset::of(planner.plan(), family);
                    assert_eq!(observed, Observed::Table(wanted));
                }
                let again = dataplane.sync(planner.plan()).expect("a second sync");
                assert_eq!(again, Applied::default());
            }
            for (family, table) in [(Family::V4, "ip knarr"), (Family::V6, "ip6 knarr")] {
                let listed = sh(&format!("nft list table {table}"));
                let wanted = render(&Ruleset::of(planner.plan(), family));
                assert_eq!(essence(&listed), essence(&wanted));
            }
        });
    }
}
