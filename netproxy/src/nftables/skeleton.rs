//! The part of the ruleset that never changes: sets, maps and chains, as data.

use knarr_netproxy_plan::Family;

use super::{
    Verdict,
    chain::{Chain, Hook, HookPoint, Rule},
    expression::{Comparison, Side},
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
    "source-ranges",
    "untranslated",
    "restricted-reject-chain",
    "reject-chain",
    "masquerading",
];

/// One chain of the skeleton.
#[must_use]
pub fn chain(name: &str, family: Family) -> Option<Chain> {
    let rules: Vec<Vec<Statement>> = match name {
        // The kernel walks them for a flow's first packet only, and no further than a translation.
        "nat-prerouting" | "nat-output" => vec![
            vec![Statement::jump("services")],
            vec![Statement::jump("untranslated")],
        ],
        "nat-postrouting" => vec![vec![Statement::jump("masquerading")]],
        "services" => services(),
        "source-ranges" => source_ranges(),
        "untranslated" => untranslated(),
        "restricted-reject-chain" => vec![
            vec![Statement::jump("source-ranges")],
            vec![Statement::goto("reject-chain")],
        ],
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

/// Finds the frontend of a new connection; what only some frontends ask for stands in the chains that they lead to.
fn services() -> Vec<Vec<Statement>> {
    let mut to_node = own_address();
    to_node.push(Statement::obey(&NODE_PORT, "node-ports"));
    vec![vec![Statement::obey(&FRONTEND, "frontends")], to_node]
}

fn source_ranges() -> Vec<Vec<Statement>> {
    let mut key = FRONTEND.to_vec();
    key.push(Field::Source);
    vec![
        vec![
            Statement::present(&key, "allowed-sources"),
            Statement::Verdict(Verdict::Return),
        ],
        vec![Statement::Verdict(Verdict::Drop)],
    ]
}

/// Refuses or drops what no frontend took.
fn untranslated() -> Vec<Vec<Statement>> {
    let mut to_node = own_address();
    to_node.push(Statement::obey(&NODE_PORT, "no-endpoint-node-ports"));
    let reject = Statement::goto("reject-chain");
    vec![
        vec![Statement::obey(&FRONTEND, "no-endpoint-services")],
        vec![
            Statement::present(&[Field::Destination], "cluster-ips"),
            reject,
        ],
        vec![
            Statement::present(&[Field::Destination], "service-cidrs"),
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
        Statement::present(&[Field::Source], "node-addresses"),
        Statement::present(&[Field::Destination], "pod-cidrs"),
        Statement::Unmark,
        Statement::Verdict(Verdict::Return),
    ];
    vec![
        to_own_pod,
        vec![Statement::Marked, Statement::Unmark, Statement::Masquerade],
        vec![
            Statement::present(&FLOW, "hairpin-connections"),
            Statement::Masquerade,
        ],
        vec![
            Statement::present(&[Field::Source], "pod-cidrs"),
            Statement::absent(&[Field::Destination], "non-masquerade-cidrs"),
            Statement::Masquerade,
        ],
    ]
}

fn own_address() -> Vec<Statement> {
    vec![
        Statement::present(&[Field::Destination], "node-port-addresses"),
        Statement::Local {
            side: Side::Destination,
            how: Comparison::Equal,
        },
    ]
}
