//! The part of the ruleset that never changes: sets, maps and chains, as data.

use knarr_netproxy_plan::Family;

use super::{
    Verdict,
    chain::{Chain, Hook, HookPoint, Rule},
    expression::{Comparison, Presence, Side},
    statement::{FRONTEND, Field, Statement},
};

/// Source, destination, protocol and port: a flow, as the hairpin set knows it.
const FLOW: [Field; 4] = [
    Field::Source,
    Field::Destination,
    Field::Protocol,
    Field::Port,
];
/// Protocol and port: where a client knocks on a node.
const NODE_PORT: [Field; 2] = [Field::Protocol, Field::Port];

/// The skeleton's chains, in the order in which they are read.
pub const CHAINS: [&str; 9] = [
    "nat-prerouting",
    "nat-output",
    "nat-postrouting",
    "services",
    "node-ports",
    "source-ranges",
    "untranslated",
    "reject-chain",
    "masquerading",
];

/// One chain of the skeleton.
#[must_use]
pub fn chain(name: &str, family: Family) -> Option<Chain> {
    let jump = |chain: &str| Statement::Verdict(Verdict::Jump(chain.into()));
    let rules: Vec<Vec<Statement>> = match name {
        // The kernel walks them for a flow's first packet only, and no further than a translation.
        "nat-prerouting" | "nat-output" => vec![vec![jump("services")], vec![jump("untranslated")]],
        "nat-postrouting" => vec![vec![jump("masquerading")]],
        "services" => services(),
        "node-ports" => vec![
            from_outside(vec![obey(&NODE_PORT, "local-node-ports")]),
            vec![obey(&NODE_PORT, "node-ports")],
        ],
        "source-ranges" => source_ranges(),
        "untranslated" => untranslated(),
        // The client's TCP drops an ICMP error that comes while it still sends, and waits a second.
        "reject-chain" => vec![vec![Statement::Reset], vec![Statement::Reject]],
        "masquerading" => masquerading(),
        _ => return None,
    };
    let rules = rules
        .into_iter()
        .map(|statements| Rule::new(statements, family))
        .collect();
    Some(Chain {
        hook: hook(name),
        rules,
    })
}

fn hook(name: &str) -> Option<Hook> {
    let (point, priority) = match name {
        "nat-prerouting" => (HookPoint::Prerouting, -100),
        "nat-output" => (HookPoint::Output, -100),
        "nat-postrouting" => (HookPoint::Postrouting, 100),
        _ => return None,
    };
    Some(Hook {
        kind: "nat",
        point,
        priority,
    })
}

/// Finds the frontend of a new connection.
fn services() -> Vec<Vec<Statement>> {
    let to_cluster_ip = vec![
        absent(&[Field::Source], "cluster-cidrs"),
        present(&[Field::Destination], "cluster-ips"),
        Statement::Mark,
    ];
    let restricted = vec![
        present(&FRONTEND, "restricted-frontends"),
        Statement::Verdict(Verdict::Jump("source-ranges".into())),
    ];
    let mut to_node = own_address();
    to_node.push(Statement::Verdict(Verdict::Goto("node-ports".into())));
    vec![
        restricted,
        from_outside(vec![obey(&FRONTEND, "local-frontends")]),
        to_cluster_ip,
        vec![obey(&FRONTEND, "frontends")],
        to_node,
    ]
}

fn source_ranges() -> Vec<Vec<Statement>> {
    let mut key = FRONTEND.to_vec();
    key.push(Field::Source);
    vec![
        vec![
            present(&key, "allowed-sources"),
            Statement::Verdict(Verdict::Return),
        ],
        vec![Statement::Verdict(Verdict::Drop)],
    ]
}

/// Refuses or drops what no frontend took.
fn untranslated() -> Vec<Vec<Statement>> {
    let mut to_node = own_address();
    to_node.push(obey(&NODE_PORT, "no-endpoint-node-ports"));
    let reject = Statement::Verdict(Verdict::Goto("reject-chain".into()));
    vec![
        vec![obey(&FRONTEND, "no-endpoint-services")],
        vec![present(&[Field::Destination], "cluster-ips"), reject],
        vec![
            present(&[Field::Destination], "service-cidrs"),
            Statement::Verdict(Verdict::Drop),
        ],
        to_node,
    ]
}

/// Rewrites sources whose replies would not come back through this node.
fn masquerading() -> Vec<Vec<Statement>> {
    // A pod of this node answers the node's own address through the node anyway.
    let to_own_pod = vec![
        Statement::Marked,
        present(&[Field::Source], "node-addresses"),
        present(&[Field::Destination], "pod-cidrs"),
        Statement::Unmark,
        Statement::Verdict(Verdict::Return),
    ];
    vec![
        to_own_pod,
        vec![Statement::Marked, Statement::Unmark, Statement::Masquerade],
        vec![present(&FLOW, "hairpin-connections"), Statement::Masquerade],
        vec![
            present(&[Field::Source], "pod-cidrs"),
            absent(&[Field::Destination], "non-masquerade-cidrs"),
            Statement::Masquerade,
        ],
    ]
}

/// Only for sources that are neither a pod of this node nor the node itself.
fn from_outside(then: Vec<Statement>) -> Vec<Statement> {
    let mut statements = vec![
        absent(&[Field::Source], "pod-cidrs"),
        Statement::Local {
            side: Side::Source,
            how: Comparison::Unequal,
        },
    ];
    statements.extend(then);
    statements
}

fn own_address() -> Vec<Statement> {
    vec![
        present(&[Field::Destination], "node-port-addresses"),
        Statement::Local {
            side: Side::Destination,
            how: Comparison::Equal,
        },
    ]
}

fn present(key: &[Field], set: &str) -> Statement {
    Statement::Lookup {
        key: key.to_vec(),
        set: set.into(),
        presence: Presence::Present,
    }
}

fn absent(key: &[Field], set: &str) -> Statement {
    Statement::Lookup {
        key: key.to_vec(),
        set: set.into(),
        presence: Presence::Absent,
    }
}

fn obey(key: &[Field], map: &str) -> Statement {
    Statement::Obey {
        key: key.to_vec(),
        map: map.into(),
    }
}
