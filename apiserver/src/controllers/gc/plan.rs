//! What is to be done about one object whose owners or dependents changed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::controllers::inventory::{FOREGROUND_FINALIZER, Item, ORPHAN_FINALIZER};
use crate::controllers::write::Propagation;

/// What has become of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Solid,
    Absent,
    /// Being deleted, and waiting for its dependents to go first.
    Waiting,
}

/// Everything the plan looks at.
pub(super) struct Snapshot<'a> {
    pub(super) uid: &'a str,
    pub(super) item: &'a Item,
    pub(super) finalizers: &'a [String],
    pub(super) owners: &'a [(OwnerReference, Owner)],
    pub(super) dependents: &'a [(String, Item)],
}

pub(super) enum Action {
    Keep,
    /// These objects stand in the way and need a look themselves.
    Look(Vec<String>),
    /// Keeps only these owners.
    Disown(Vec<OwnerReference>),
    /// Stops dependents from holding up the deletion, which would otherwise wait for itself.
    Unblock {
        dependents: Vec<Item>,
        then: Propagation,
    },
    Delete(Propagation),
    /// Lets the dependents go, then keeps only these finalizers.
    Orphan {
        dependents: Vec<Item>,
        finalizers: Vec<String>,
    },
    /// No dependent holds it any longer: keeps only these finalizers.
    Finish(Vec<String>),
}

/// Plans for one object.
pub(super) fn plan(snapshot: &Snapshot<'_>) -> Action {
    let item = snapshot.item;
    if item.orphans {
        return Action::Orphan {
            dependents: snapshot
                .dependents
                .iter()
                .map(|(_, item)| item.clone())
                .collect(),
            finalizers: without(snapshot.finalizers, ORPHAN_FINALIZER),
        };
    }
    if item.waits {
        return wait(snapshot);
    }
    if item.deleting || snapshot.owners.is_empty() {
        return Action::Keep;
    }
    let of = |wanted: Owner| {
        snapshot
            .owners
            .iter()
            .filter(move |(_, owner)| *owner == wanted)
    };
    let solid: Vec<OwnerReference> = of(Owner::Solid)
        .map(|(reference, _)| reference.clone())
        .collect();
    if !solid.is_empty() {
        if solid.len() == snapshot.owners.len() {
            return Action::Keep;
        }
        return Action::Disown(solid);
    }
    if of(Owner::Waiting).next().is_some() && !snapshot.dependents.is_empty() {
        let cyclic = snapshot
            .dependents
            .iter()
            .any(|(_, dependent)| dependent.waits);
        if cyclic {
            let dependents = snapshot
                .dependents
                .iter()
                .map(|(_, item)| item.clone())
                .collect();
            let then = Propagation::Foreground;
            return Action::Unblock { dependents, then };
        }
        return Action::Delete(Propagation::Foreground);
    }
    let has = |finalizer: &str| snapshot.finalizers.iter().any(|f| f == finalizer);
    if has(ORPHAN_FINALIZER) {
        Action::Delete(Propagation::Orphan)
    } else if has(FOREGROUND_FINALIZER) {
        Action::Delete(Propagation::Foreground)
    } else {
        Action::Delete(Propagation::Background)
    }
}

fn wait(snapshot: &Snapshot<'_>) -> Action {
    let blocks = |dependent: &Item| {
        let mut references = dependent.owners.iter();
        references.any(|reference| {
            reference.block_owner_deletion == Some(true) && reference.uid == snapshot.uid
        })
    };
    let blocking: Vec<&(String, Item)> = snapshot
        .dependents
        .iter()
        .filter(|(_, item)| blocks(item))
        .collect();
    if blocking.is_empty() {
        return Action::Finish(without(snapshot.finalizers, FOREGROUND_FINALIZER));
    }
    let idle = blocking.into_iter().filter(|(_, item)| !item.deleting);
    Action::Look(idle.map(|(uid, _)| uid.clone()).collect())
}

fn without(finalizers: &[String], finalizer: &str) -> Vec<String> {
    finalizers
        .iter()
        .filter(|f| *f != finalizer)
        .cloned()
        .collect()
}

/// The references without the one to `owner`.
pub(super) fn disowned(references: Vec<OwnerReference>, owner: &str) -> Vec<OwnerReference> {
    references
        .into_iter()
        .filter(|reference| reference.uid != owner)
        .collect()
}

/// The references, that to `owner` no longer holding up its deletion.
pub(super) fn unblocked(mut references: Vec<OwnerReference>, owner: &str) -> Vec<OwnerReference> {
    for reference in references
        .iter_mut()
        .filter(|reference| reference.uid == owner)
    {
        reference.block_owner_deletion = Some(false);
    }
    references
}

#[cfg(test)]
mod tests {
    use knarr_api::kinds;

    use super::*;

    fn item(name: &str, owners: &[(&str, bool)]) -> Item {
        Item {
            kind: kinds::by_kind("", "v1", "ConfigMap").expect("a kind"),
            namespace: "ns".to_owned(),
            name: name.to_owned(),
            owners: owners
                .iter()
                .map(|(uid, blocks)| reference(uid, *blocks))
                .collect(),
            deleting: false,
            waits: false,
            orphans: false,
        }
    }

    fn reference(uid: &str, blocks: bool) -> OwnerReference {
        OwnerReference {
            api_version: "v1".to_owned(),
            kind: "ConfigMap".to_owned(),
            name: uid.to_owned(),
            uid: uid.to_owned(),
            controller: None,
            block_owner_deletion: Some(blocks),
        }
    }

    fn check(
        item: &Item,
        finalizers: &[&str],
        owners: &[(&str, Owner)],
        dependents: &[Item],
        expected: &str,
    ) {
        let finalizers: Vec<String> = finalizers.iter().map(|f| (*f).to_owned()).collect();
        let owners: Vec<(OwnerReference, Owner)> = owners
            .iter()
            .map(|(uid, owner)| (reference(uid, true), *owner))
            .collect();
        let dependents: Vec<(String, Item)> = dependents
            .iter()
            .map(|item| (item.name.clone(), item.clone()))
            .collect();
        let action = plan(&Snapshot {
            uid: &item.name,
            item,
            finalizers: &finalizers,
            owners: &owners,
            dependents: &dependents,
        });
        let names = |items: &[Item]| {
            items
                .iter()
                .map(|item| item.name.clone())
                .collect::<Vec<_>>()
                .join(",")
        };
        let seen = match action {
            Action::Keep => "keep".to_owned(),
            Action::Look(uids) => format!("look {}", uids.join(",")),
            Action::Disown(left) => format!(
                "keep owners {}",
                left.iter()
                    .map(|r| r.uid.as_str())
                    .collect::<Vec<_>>()
                    .join(",")
            ),
            Action::Unblock { dependents, then } => {
                format!("unblock {} {then:?}", names(&dependents))
            }
            Action::Delete(propagation) => format!("delete {propagation:?}"),
            Action::Orphan {
                dependents,
                finalizers,
            } => format!("orphan {} keep {finalizers:?}", names(&dependents)),
            Action::Finish(finalizers) => format!("finish {finalizers:?}"),
        };
        assert_eq!(seen, expected);
    }

    #[test]
    fn an_object_lives_as_long_as_one_owner_does() {
        let child = item("child", &[]);
        check(&child, &[], &[], &[], "keep");
        check(&child, &[], &[("a", Owner::Solid)], &[], "keep");
        check(
            &child,
            &[],
            &[("a", Owner::Solid), ("b", Owner::Absent)],
            &[],
            "keep owners a",
        );
        check(
            &child,
            &[],
            &[("a", Owner::Absent), ("b", Owner::Absent)],
            &[],
            "delete Background",
        );
        check(
            &child,
            &["orphan"],
            &[("a", Owner::Absent)],
            &[],
            "delete Orphan",
        );
    }

    #[test]
    fn dependents_of_a_waiting_owner_go_with_theirs() {
        let child = item("child", &[]);
        let grandchild = item("grandchild", &[("child", true)]);
        check(
            &child,
            &[],
            &[("a", Owner::Waiting)],
            &[],
            "delete Background",
        );
        check(
            &child,
            &[],
            &[("a", Owner::Waiting)],
            &[grandchild],
            "delete Foreground",
        );
        let mut cycle = item("cycle", &[("child", true)]);
        cycle.waits = true;
        check(
            &child,
            &[],
            &[("a", Owner::Waiting)],
            &[cycle],
            "unblock cycle Foreground",
        );
    }

    #[test]
    fn a_waiting_owner_ends_with_its_last_blocking_dependent() {
        let mut owner = item("owner", &[]);
        (owner.deleting, owner.waits) = (true, true);
        let blocks = item("blocks", &[("owner", true)]);
        let lets = item("lets", &[("owner", false)]);
        let mut leaving = item("leaving", &[("owner", true)]);
        leaving.deleting = true;
        let finalizers = ["foregroundDeletion", "example.com/hold"];
        check(
            &owner,
            &finalizers,
            &[],
            &[blocks, lets.clone()],
            "look blocks",
        );
        check(&owner, &finalizers, &[], &[leaving], "look ");
        check(
            &owner,
            &finalizers,
            &[],
            &[lets],
            "finish [\"example.com/hold\"]",
        );
    }

    #[test]
    fn orphaning_lets_dependents_go_first() {
        let mut owner = item("owner", &[]);
        (owner.deleting, owner.orphans) = (true, true);
        let child = item("child", &[("owner", true)]);
        check(&owner, &["orphan"], &[], &[child], "orphan child keep []");
    }
}
