//! What IPAddresses and ServiceCIDRs may say. Knows not which addresses are taken.

use serde_json::Value;

use crate::{
    field::{Error, Path, quote, show_struct},
    meta::{IMMUTABLE, complaints},
    names::{self, address, address::Family},
    value::{str_of, texts},
};

/// An IPAddress is named by the address itself, in its usual form.
pub(super) fn address_name(text: &str) -> Vec<String> {
    let prefix = format!("Invalid value: {}: ", quote(text));
    address::validate(&Path::default(), text)
        .iter()
        .map(|error| error.message.replacen(&prefix, "", 1))
        .collect()
}

pub(super) fn validate_address(object: &Value) -> Vec<Error> {
    let path = Path::new("spec").child("parentRef");
    let reference = &object["spec"]["parentRef"];
    if reference.is_null() {
        return vec![Error::required(&path, "")];
    }
    let mut errors = Vec::new();
    let group = str_of(&reference["group"]);
    if !group.is_empty() {
        let details = names::dns1123_subdomain(group);
        errors.extend(complaints(&path.child("group"), group, details));
    }
    for field in ["resource", "name", "namespace"] {
        let path = path.child(field);
        match str_of(&reference[field]) {
            "" if field == "namespace" => {}
            "" => errors.push(Error::required(&path, "")),
            text => errors.extend(complaints(&path, text, names::path_segment(text))),
        }
    }
    errors
}

pub(super) fn validate_address_update(new: &Value, old: &Value) -> Vec<Error> {
    let mut errors = validate_address(new);
    let (now, before) = (&new["spec"]["parentRef"], &old["spec"]["parentRef"]);
    if now == before {
        return errors;
    }
    let fields = [
        ("Group", "group"),
        ("Resource", "resource"),
        ("Namespace", "namespace"),
        ("Name", "name"),
    ];
    let shown = match now {
        Value::Null => "null".to_owned(),
        reference => show_struct(reference, &fields),
    };
    let path = Path::new("spec").child("parentRef");
    errors.push(Error::invalid_shown(&path, &shown, IMMUTABLE));
    errors
}

pub(super) fn validate_ranges(object: &Value) -> Vec<Error> {
    let path = Path::new("spec").child("cidrs");
    let ranges = texts(&object["spec"]["cidrs"]);
    if ranges.is_empty() {
        return vec![Error::required(&path, "at least one CIDR required")];
    }
    if ranges.len() > 2 {
        let shown = format!("{{\"CIDRs\":{}}}", object["spec"]["cidrs"]);
        let detail = "may only hold up to 2 values";
        return vec![Error::invalid_shown(&path, &shown, detail)];
    }
    let mut errors = Vec::new();
    for (index, range) in ranges.iter().enumerate() {
        errors.extend(address::validate_cidr(&path.index(index), range));
    }
    let families: Vec<Option<Family>> = ranges.iter().map(|range| family_of(range)).collect();
    if let [Some(first), Some(second)] = families.as_slice()
        && first == second
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(Error::invalid(
            &path,
            object["spec"]["cidrs"].clone(),
            detail,
        ));
    }
    errors
}

/// Ranges stay; a second family may be added to the first.
pub(super) fn validate_ranges_update(new: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("spec").child("cidrs");
    let (now, before) = (texts(&new["spec"]["cidrs"]), texts(&old["spec"]["cidrs"]));
    let is_added = before.len() == 1 && now.len() == 2;
    if now.len() != before.len() && !is_added {
        return vec![Error::invalid(
            &path,
            new["spec"]["cidrs"].clone(),
            IMMUTABLE,
        )];
    }
    let mut errors = Vec::new();
    for (index, (now, before)) in now.iter().zip(&before).enumerate() {
        if now != before {
            errors.push(Error::invalid(&path.index(index), *now, IMMUTABLE));
        }
    }
    if is_added {
        errors.extend(validate_ranges(new));
    }
    errors
}

fn family_of(range: &str) -> Option<Family> {
    address::parse_cidr_sloppy(range).map(|cidr| Family::of(cidr.address))
}
