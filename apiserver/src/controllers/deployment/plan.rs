//! The plan for one Deployment: one step of its roll, and what its status is afterwards.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;

use super::draft::{Draft, Member};
use crate::controllers::event::Notice;
use crate::controllers::queue::Next;
use crate::controllers::selector;
use crate::controllers::write::Write;

/// Everything one Deployment's plan looks at.
pub(super) struct Snapshot<'a> {
    pub(super) deployment: &'a Deployment,
    /// The sets it controls.
    pub(super) sets: &'a [Arc<ReplicaSet>],
    /// Every pod of its namespace.
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) now: Timestamp,
}

#[derive(Debug, PartialEq)]
pub(super) struct Plan {
    /// The new set; everything else waits for the server to take it.
    pub(super) created: Option<ReplicaSet>,
    pub(super) written: Vec<Write<ReplicaSet>>,
    pub(super) status: Option<Deployment>,
    pub(super) notices: Vec<Notice>,
    pub(super) next: Next,
}

/// Plans one step.
pub(super) fn plan(snapshot: &Snapshot<'_>) -> Plan {
    let mut plan = Plan {
        created: None,
        written: Vec::new(),
        status: None,
        notices: Vec::new(),
        next: Next::OnChange,
    };
    let deployment = snapshot.deployment;
    let spec = &deployment.spec;
    if selector::is_empty(&spec.selector) {
        let message = "This deployment is selecting all pods. A non-empty selector is required.";
        plan.notices.push(Notice::warning("SelectingAll", message));
        return plan;
    }
    let mut draft = draft(snapshot, spec);
    let mut forgotten = Vec::new();
    let status = if deployment.metadata.deletion_timestamp.is_some() {
        draft.counted(snapshot.now)
    } else {
        draft.note_pause(snapshot.now);
        if spec.paused == Some(true) || draft.is_resized() {
            if draft.current.is_some() {
                draft.number_current();
                draft.note_current(snapshot.now);
            }
            draft.resize();
            if spec.paused == Some(true) {
                forgotten = draft.forgotten();
            }
            draft.counted(snapshot.now)
        } else {
            advance(&mut draft, snapshot);
            let before = deployment.status.clone().unwrap_or_default();
            if draft.is_complete(&before) {
                forgotten = draft.forgotten();
            }
            draft.progressed(snapshot.now)
        }
    };
    plan.next = draft.next(&status, snapshot.now);
    draft.deployment.status = Some(status);
    (plan.created, plan.written) = draft.set_writes();
    plan.written.extend(forgotten);
    plan.notices = std::mem::take(&mut draft.notices);
    if draft.deployment != *deployment {
        plan.status = Some(draft.deployment);
    }
    plan
}

fn draft<'a>(
    snapshot: &Snapshot<'a>,
    spec: &'a k8s_openapi::api::apps::v1::DeploymentSpec,
) -> Draft<'a> {
    let members = snapshot.sets.iter().map(|set| Member {
        set: (**set).clone(),
        origin: Some(Arc::clone(set)),
    });
    let mut sets: Vec<Member> = members.collect();
    let age = |member: &Member| {
        let meta = &member.set.metadata;
        (
            meta.creation_timestamp.as_ref().map(|time| time.0),
            meta.name.clone(),
        )
    };
    sets.sort_by_cached_key(age);
    let mut draft = Draft {
        deployment: snapshot.deployment.clone(),
        spec,
        sets,
        current: None,
        notices: Vec::new(),
    };
    draft.find_current();
    draft
}

fn advance(draft: &mut Draft<'_>, snapshot: &Snapshot<'_>) {
    if draft.is_recreate() {
        draft.number_current();
        draft.recreate(snapshot.pods);
        draft.note_current(snapshot.now);
        return;
    }
    if draft.current.is_some() {
        draft.number_current();
    } else {
        draft.add_current();
    }
    draft.note_current(snapshot.now);
    draft.roll();
}

#[cfg(test)]
mod tests;
