//! Writes tables and edits in nft's own language. Runs nothing.

use std::{fmt::Write as _, net::IpAddr};

use ipnet::IpNet;
use knarr_netproxy_plan::Family;

use super::{
    TABLE,
    chain::{Chain, Hook, HookPoint, Rule},
    edits::Edit,
    octets::address,
    ruleset::Ruleset,
    set::{Counting, Key, Leads, Matching, Set, Value},
    statement::{Field, Text, ip, key_text},
};

/// A table as `nft list table` prints it, sets before chains, everything else in order of name.
#[must_use]
pub fn render(ruleset: &Ruleset) -> String {
    let family = ruleset.family;
    let mut text = format!("table {} {TABLE} {{\n", ip(family));
    for (set, elements) in &ruleset.elements {
        let _ = writeln!(text, "\t{} {} {{", keyword(*set), set.name());
        let _ = writeln!(text, "\t\t{}", set_type(*set, family));
        if set.matching() == Matching::Ranges {
            text.push_str("\t\tflags interval\n");
        }
        let counter = match set.counting() {
            Counting::Lookups => {
                text.push_str("\t\tcounter\n");
                " counter packets 0 bytes 0"
            }
            Counting::Nothing => "",
        };
        if !elements.is_empty() {
            let elements: Vec<String> = elements
                .iter()
                .map(|(key, value)| element_text(*set, key, value, family) + counter)
                .collect();
            let _ = writeln!(
                text,
                "\t\telements = {{ {} }}",
                elements.join(",\n\t\t\t     ")
            );
        }
        text.push_str("\t}\n\n");
    }
    for name in &ruleset.client_sets {
        let _ = writeln!(
            text,
            "\tset {name} {{\n\t\t{}\n\t}}\n",
            client_set(family).join("\n\t\t")
        );
    }
    for (name, chain) in &ruleset.chains {
        text.push_str(&chain_text(name, chain, family));
        text.push('\n');
    }
    if text.ends_with("\n\n") {
        text.pop();
    }
    text.push_str("}\n");
    text
}

/// The commands that `nft -f` would take for the same transaction.
#[must_use]
pub fn render_edits(edits: &[Edit], family: Family) -> String {
    let mut text = String::new();
    let table = format!("{} {TABLE}", ip(family));
    for edit in edits {
        let _ = match edit {
            Edit::AddTable => {
                let _ = writeln!(text, "add table {table}");
                Set::ALL.iter().try_for_each(|set| {
                    let (keyword, name) = (keyword(*set), set.name());
                    let flags = match (set.matching(), set.counting()) {
                        (Matching::Ranges, _) => " flags interval;",
                        (Matching::Exact, Counting::Lookups) => " counter;",
                        (Matching::Exact, Counting::Nothing) => "",
                    };
                    let kind = set_type(*set, family);
                    writeln!(text, "add {keyword} {table} {name} {{ {kind};{flags} }}")
                })
            }
            Edit::RemoveTable => writeln!(text, "delete table {table}"),
            Edit::AddClientSet(name) => {
                let lines = client_set(family).join("; ");
                writeln!(text, "add set {table} {name} {{ {lines}; }}")
            }
            Edit::AddChain(name, None) => writeln!(text, "add chain {table} {name}"),
            Edit::AddChain(name, Some(_)) => {
                let chain = Chain {
                    hook: hook_of(edit),
                    rules: Vec::new(),
                };
                let hook = hook_text(&chain);
                writeln!(text, "add chain {table} {name} {{ {hook} }}")
            }
            Edit::AddRule(chain, rule) => {
                writeln!(text, "add rule {table} {chain} {}", rule_text(rule, family))
            }
            Edit::FlushChain(name) => writeln!(text, "flush chain {table} {name}"),
            Edit::RemoveChain(name) => writeln!(text, "delete chain {table} {name}"),
            Edit::RemoveClientSet(name) => writeln!(text, "delete set {table} {name}"),
            Edit::AddElements(set, elements) | Edit::RemoveElements(set, elements) => {
                let verb = match edit {
                    Edit::AddElements(..) => "add",
                    _ => "delete",
                };
                let elements: Vec<String> = elements
                    .iter()
                    .map(|(key, value)| element_text(*set, key, value, family))
                    .collect();
                let elements = elements.join(", ");
                writeln!(
                    text,
                    "{verb} element {table} {} {{ {elements} }}",
                    set.name()
                )
            }
        };
    }
    text
}

fn hook_of(edit: &Edit) -> Option<Hook> {
    match edit {
        Edit::AddChain(_, hook) => *hook,
        _ => None,
    }
}

fn keyword(set: Set) -> &'static str {
    match set.leads() {
        Leads::Nowhere => "set",
        Leads::ToVerdict | Leads::ToBackend => "map",
    }
}

fn client_set(family: Family) -> [String; 3] {
    let kind = field_type(Field::Source, family);
    [
        format!("type {kind}"),
        "size 65535".to_owned(),
        "flags dynamic,timeout".to_owned(),
    ]
}

fn set_type(set: Set, family: Family) -> String {
    let types: Vec<&str> = set
        .key()
        .into_iter()
        .map(|field| field_type(field, family))
        .collect();
    match set.leads() {
        Leads::Nowhere => format!("type {}", types.join(" . ")),
        Leads::ToVerdict => format!("type {} : verdict", types.join(" . ")),
        Leads::ToBackend => {
            let backend = key_text(&[Field::Destination, Field::Port], family);
            format!("typeof {} : {backend}", key_text(&set.key(), family))
        }
    }
}

fn field_type(field: Field, family: Family) -> &'static str {
    match (field, family) {
        (Field::Source | Field::Destination, Family::V4) => "ipv4_addr",
        (Field::Source | Field::Destination, Family::V6) => "ipv6_addr",
        (Field::Protocol, _) => "inet_proto",
        (Field::Port, _) => "inet_service",
        (Field::Slot { .. }, _) => "mark",
    }
}

/// An element as nft prints it.
#[must_use]
pub fn element_text(set: Set, key: &Key, value: &Value, family: Family) -> String {
    let key = key_parts(&set.key(), key, family);
    match value {
        Value::Present => key,
        Value::Verdict(verdict) => format!("{key} : {verdict}"),
        Value::Backend(bytes) => {
            let backend = [Field::Destination, Field::Port];
            format!("{key} : {}", parts(&backend, bytes, bytes, family))
        }
    }
}

fn key_parts(fields: &[Field], key: &Key, family: Family) -> String {
    let last = key.last.as_deref().unwrap_or(&key.first);
    parts(fields, &key.first, last, family)
}

fn parts(fields: &[Field], mut first: &[u8], mut last: &[u8], family: Family) -> String {
    let parts: Vec<String> = fields
        .iter()
        .map(|field| {
            let length = match (field, family) {
                (Field::Source | Field::Destination, Family::V6) => 16,
                _ => 4,
            };
            let (from, to);
            (from, first) = first.split_at(length.min(first.len()));
            (to, last) = last.split_at(length.min(last.len()));
            part(*field, from, to)
        })
        .collect();
    parts.join(" . ")
}

fn part(field: Field, from: &[u8], to: &[u8]) -> String {
    match field {
        Field::Source | Field::Destination => match (address(from), address(to)) {
            (Some(from), Some(to)) if from == to => from.to_string(),
            (Some(from), Some(to)) => range(from, to),
            _ => String::new(),
        },
        Field::Protocol => match from.first() {
            Some(6) => "tcp".to_owned(),
            Some(17) => "udp".to_owned(),
            Some(132) => "sctp".to_owned(),
            other => other.copied().unwrap_or_default().to_string(),
        },
        Field::Port => match from {
            [high, low, ..] => u16::from_be_bytes([*high, *low]).to_string(),
            _ => String::new(),
        },
        Field::Slot { .. } => match from.try_into() {
            Ok(bytes) => u32::from_ne_bytes(bytes).to_string(),
            Err(_) => String::new(),
        },
    }
}

/// A range as a CIDR where it is one.
fn range(from: IpAddr, to: IpAddr) -> String {
    let bits = if from.is_ipv4() { 32 } else { 128 };
    let cidr = (0..=bits)
        .filter_map(|prefix| IpNet::new(from, prefix).ok())
        .find(|net| net.network() == from && net.broadcast() == to);
    cidr.map_or_else(|| format!("{from}-{to}"), |net| net.to_string())
}

fn chain_text(name: &str, chain: &Chain, family: Family) -> String {
    let mut text = format!("\tchain {name} {{\n");
    if chain.hook.is_some() {
        let _ = writeln!(text, "\t\t{}", hook_text(chain));
    }
    for rule in &chain.rules {
        let _ = writeln!(text, "\t\t{}", rule_text(rule, family));
    }
    text.push_str("\t}\n");
    text
}

/// A rule as nft prints it.
#[must_use]
pub fn rule_text(rule: &Rule, family: Family) -> String {
    let statements: Vec<String> = rule
        .statements
        .iter()
        .map(|statement| Text(statement, family).to_string())
        .collect();
    statements.join(" ")
}

fn hook_text(chain: &Chain) -> String {
    let Some(hook) = chain.hook else {
        return String::new();
    };
    let (point, names) = match hook.point {
        HookPoint::Prerouting => ("prerouting", Some(("dstnat", -100))),
        HookPoint::Output => ("output", None),
        HookPoint::Postrouting => ("postrouting", Some(("srcnat", 100))),
    };
    let priority = match names {
        Some((name, base)) if hook.priority == base => name.to_owned(),
        Some((name, base)) if (hook.priority - base).abs() <= 10 => {
            format!("{name} {:+}", hook.priority - base)
                .replace('+', "+ ")
                .replace('-', "- ")
        }
        Some(_) | None => hook.priority.to_string(),
    };
    format!(
        "type {} hook {point} priority {priority}; policy accept;",
        hook.kind
    )
}
