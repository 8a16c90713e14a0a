//! What holds for every kind.

use super::*;

#[test]
fn kinds_are_found_by_path_and_by_name() {
    for kind in ALL {
        let found = by_resource(kind.group, kind.version, kind.plural).expect("is served");
        assert!(std::ptr::eq(found, *kind));
        let found = by_kind(kind.group, kind.version, kind.kind).expect("is served");
        assert!(std::ptr::eq(found, *kind));
    }
    assert!(by_resource("", "v2", "services").is_none());
}

#[test]
fn groups_stand_together_and_their_kinds_in_order() {
    let mut groups: Vec<&str> = ALL.iter().map(|kind| kind.group).collect();
    groups.dedup();
    let together = groups.len();
    groups.sort_unstable();
    groups.dedup();
    assert_eq!(groups.len(), together);
    for pair in ALL.windows(2) {
        if let [before, after] = pair
            && before.group == after.group
        {
            assert!(
                before.plural < after.plural,
                "{} {}",
                before.plural,
                after.plural
            );
        }
    }
}

#[test]
fn short_names_mean_one_kind() {
    let mut seen = std::collections::BTreeMap::new();
    for kind in ALL {
        for name in kind.short_names {
            let other = seen.insert(name, kind.stored().kind);
            assert!(
                other.is_none_or(|other| other == kind.stored().kind),
                "{name}"
            );
        }
    }
}

#[test]
fn validation_survives_objects_of_any_shape() {
    let odd = [
        json!({}),
        json!({"spec": null, "status": 1, "metadata": {"labels": [], "annotations": "x"}}),
        json!({"spec": {"ports": {"a": 1}, "clusterIPs": 5, "podCIDRs": [1]}, "subsets": [null, {"ports": [3]}]}),
        json!({"endpoints": ["x"], "ports": 9, "data": [1], "rules": [7], "roleRef": "r", "subjects": [[]]}),
    ];
    for kind in ALL {
        for old in &odd {
            for new in &odd {
                let mut new = new.clone();
                (kind.strategy.default)(&mut new);
                kind.prepare_create(&mut new);
                kind.validate_create(&new);
                kind.prepare_update(&mut new, old);
                kind.validate_update(&new, old);
                kind.prepare_status(&mut new, old);
                kind.validate_status(&new, old);
                (kind.strategy.warnings)(&new, Some(old));
                (kind.strategy.status_warnings)(&new, old);
                (kind.cells)(&new, 0);
            }
        }
    }
}

#[test]
fn updates_list_metadata_errors_as_often_as_they_are_checked() {
    let bad = json!({"metadata": {"labels": {"a b": "c"}}});
    let count = |kind: &Kind| {
        let (old, mut new) = (object(kind, json!({})), object(kind, bad.clone()));
        kind.prepare_update(&mut new, &old);
        kind.validate_update(&new, &old).len()
    };
    assert_eq!(count(&lease::LEASE), 3);
    assert_eq!(count(&configmap::CONFIG_MAP), 4);
}
