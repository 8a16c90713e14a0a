//! What a Node may say; Kubernetes looks at taints as if they were metadata.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    field::{Error, Path, show_struct},
    meta,
    names::{self, address},
    value::{entries, items, str_of, texts},
};

/// What must hold for a Node whatever it was before.
pub(super) fn validate(node: &Value) -> Vec<Error> {
    let mut errors = validate_taints(node);
    errors.extend(validate_resources(node));
    errors.extend(validate_ranges(node));
    errors
}

/// What an update may not change, through the Node itself or its status.
pub(super) fn validate_change(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("spec");
    let mut errors = validate_resources(new);
    errors.extend(validate_addresses(new));
    let fixed = "node updates may not change podCIDR except from \"\" to valid";
    let error = Error::forbidden(&path.child("podCIDRs"), fixed);
    errors.extend(std::iter::repeat_n(error, changed_range_count(new, old)));
    let provider = |node: &Value| str_of(&node["spec"]["providerID"]).to_owned();
    if !provider(old).is_empty() && provider(old) != provider(new) {
        let detail = "node updates may not change providerID except from \"\" to valid";
        errors.push(Error::forbidden(&path.child("providerID"), detail));
    }
    errors.extend(validate_taints(new));
    if new["spec"]["externalID"] != old["spec"]["externalID"] {
        errors.push(Error::forbidden(
            &path.child("externalID"),
            "may not be updated",
        ));
    }
    errors
}

pub(super) fn warnings(node: &Value) -> Vec<String> {
    let spec = &node["spec"];
    let mut warnings = Vec::new();
    if !spec["configSource"].is_null() {
        warnings.push("spec.configSource: the feature is removed".into());
    }
    if !str_of(&spec["externalID"]).is_empty() {
        warnings
            .push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    let path = Path::new("spec").child("podCIDRs");
    for (index, range) in texts(&spec["podCIDRs"]).into_iter().enumerate() {
        warnings.extend(address::cidr_warnings(&path.index(index), range));
    }
    warnings
}

fn changed_range_count(new: &Value, old: &Value) -> usize {
    let (now, before) = (
        texts(&new["spec"]["podCIDRs"]),
        texts(&old["spec"]["podCIDRs"]),
    );
    match before.len() {
        0 => 0,
        count if count == now.len() => now.iter().zip(&before).filter(|(n, b)| n != b).count(),
        _ => 1,
    }
}

fn validate_taints(node: &Value) -> Vec<Error> {
    let path = Path::new("metadata").child("taints");
    let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
    let mut seen = BTreeSet::new();
    let mut errors = Vec::new();
    for (index, taint) in items(&node["spec"]["taints"]).iter().enumerate() {
        let path = path.index(index);
        let (key, value) = (str_of(&taint["key"]), str_of(&taint["value"]));
        errors.extend(meta::validate_label_key(key, &path.child("key")));
        let details = names::label_value(value);
        if !details.is_empty() {
            errors.push(Error::invalid(
                &path.child("value"),
                value,
                &details.join(";"),
            ));
        }
        let effect = str_of(&taint["effect"]);
        match effect {
            "" => errors.push(Error::required(&path.child("effect"), "")),
            known if effects.contains(&known) => {}
            other => errors.push(Error::not_supported(&path.child("effect"), other, &effects)),
        }
        if !seen.insert((effect, key)) {
            let detail = "taints must be unique by key and effect pair";
            errors.push(Error::duplicate_shown(&path, &show_taint(taint), detail));
        }
    }
    errors
}

fn show_taint(taint: &Value) -> String {
    let fields = [("Key", "key"), ("Value", "value"), ("Effect", "effect")];
    let shown = show_struct(taint, &fields);
    let open = shown.trim_end_matches('}');
    format!("{open},\"TimeAdded\":{}}}", taint["timeAdded"])
}

fn validate_resources(node: &Value) -> Vec<Error> {
    let mut errors = Vec::new();
    for list in ["capacity", "allocatable"] {
        for (name, quantity) in entries(&node["status"][list]) {
            let path = Path::new("status").child(list).child(name);
            let quantity = str_of(quantity);
            if quantity.starts_with('-') {
                let detail = "must be greater than or equal to 0";
                errors.push(Error::invalid(&path, quantity, detail));
            }
            // Decoding leaves quantities in their canonical form, where a fraction has one of these suffixes.
            if is_counted(name) && quantity.ends_with(['m', 'u', 'n']) {
                errors.push(Error::invalid(&path, quantity, "must be an integer"));
            }
        }
    }
    errors
}

/// Resources that come in whole pieces.
fn is_counted(name: &str) -> bool {
    let is_extended = name.contains('/') && !name.contains("kubernetes.io/");
    name == "pods" || is_extended
}

fn validate_ranges(node: &Value) -> Vec<Error> {
    let path = Path::new("spec").child("podCIDRs");
    let all = &node["spec"]["podCIDRs"];
    let ranges = texts(all);
    let mut errors = Vec::new();
    for (index, range) in ranges.iter().enumerate() {
        errors.extend(address::validate_cidr_legacy(
            &path.index(index),
            range,
            &[],
        ));
    }
    let families: BTreeSet<_> = ranges
        .iter()
        .filter_map(|range| address::parse_cidr_sloppy(range))
        .map(|cidr| address::Family::of(cidr.address))
        .collect();
    if ranges.len() > 2 || (ranges.len() == 2 && families.len() < 2) {
        let detail = "may specify no more than one CIDR for each IP family";
        errors.push(Error::invalid(&path, all.clone(), detail));
    }
    errors
}

fn validate_addresses(node: &Value) -> Vec<Error> {
    let path = Path::new("status").child("addresses");
    let addresses = items(&node["status"]["addresses"]);
    addresses
        .iter()
        .enumerate()
        .filter(|(index, address)| addresses[..*index].contains(address))
        .map(|(index, address)| {
            let shown = show_struct(address, &[("Type", "type"), ("Address", "address")]);
            Error::duplicate_shown(&path.index(index), &shown, "")
        })
        .collect()
}
