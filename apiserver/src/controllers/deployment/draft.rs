//! A Deployment and its ReplicaSets on their way to what the plan wants.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::controllers::event::Notice;
use crate::controllers::write::Write;

pub(super) const DESIRED_ANNOTATION: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_ANNOTATION: &str = "deployment.kubernetes.io/max-replicas";

/// The working copies one plan changes.
pub(super) struct Draft<'a> {
    pub(super) deployment: Deployment,
    pub(super) spec: &'a DeploymentSpec,
    /// Every set of the Deployment, oldest first.
    pub(super) sets: Vec<Member>,
    /// Index of the set whose template is the Deployment's.
    pub(super) current: Option<usize>,
    pub(super) notices: Vec<Notice>,
}

/// One set, beside what the server has of it.
pub(super) struct Member {
    pub(super) set: ReplicaSet,
    pub(super) origin: Option<Arc<ReplicaSet>>,
}

impl Member {
    pub(super) fn replicas(&self) -> i32 {
        self.set.spec.replicas.unwrap_or(0)
    }

    pub(super) fn available(&self) -> i32 {
        let status = self.set.status.as_ref();
        status
            .and_then(|status| status.available_replicas)
            .unwrap_or(0)
    }

    pub(super) fn annotation(&self, key: &str) -> Option<&str> {
        self.set
            .metadata
            .annotations
            .as_ref()?
            .get(key)
            .map(String::as_str)
    }

    pub(super) fn annotate(&mut self, key: &str, value: String) {
        let annotations = self.set.metadata.annotations.get_or_insert_default();
        annotations.insert(key.to_owned(), value);
    }

    pub(super) fn name(&self) -> &str {
        self.set.metadata.name.as_deref().unwrap_or_default()
    }
}

/// How many pods a roll may add beyond the wanted ones, and how many of those may be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) surge: i32,
    pub(super) unavailable: i32,
}

impl Draft<'_> {
    pub(super) fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    pub(super) fn is_recreate(&self) -> bool {
        let strategy = self.spec.strategy.as_ref();
        strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
    }

    pub(super) fn bounds(&self) -> Bounds {
        if self.is_recreate() {
            return Bounds {
                surge: 0,
                unavailable: 0,
            };
        }
        let wanted = self.wanted();
        let rolling = self
            .spec
            .strategy
            .as_ref()
            .and_then(|s| s.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = rolling
            .and_then(|rolling| rolling.max_surge.as_ref())
            .unwrap_or(&quarter);
        let unavailable = rolling
            .and_then(|rolling| rolling.max_unavailable.as_ref())
            .unwrap_or(&quarter);
        let surge = scaled(surge, wanted, Rounding::Up);
        let mut unavailable = scaled(unavailable, wanted, Rounding::Down);
        if surge == 0 && unavailable == 0 {
            // Validation forbids zero and zero, but percentages may round to it; one must give.
            unavailable = 1;
        }
        Bounds {
            surge,
            unavailable: if wanted == 0 {
                0
            } else {
                unavailable.min(wanted)
            },
        }
    }

    pub(super) fn old(&self) -> impl Iterator<Item = &Member> {
        let current = self.current;
        let members = self.sets.iter().enumerate();
        members
            .filter(move |(index, _)| Some(*index) != current)
            .map(|(_, member)| member)
    }

    pub(super) fn old_indices(&self) -> Vec<usize> {
        (0..self.sets.len())
            .filter(|index| Some(*index) != self.current)
            .collect()
    }

    pub(super) fn current(&self) -> Option<&Member> {
        self.current.and_then(|index| self.sets.get(index))
    }

    pub(super) fn total_replicas(&self) -> i32 {
        self.sets.iter().map(Member::replicas).sum()
    }

    pub(super) fn total_available(&self) -> i32 {
        self.sets.iter().map(Member::available).sum()
    }

    /// Gives one set another size, notes the Deployment's own size on it, and says whether its size changed.
    pub(super) fn scale(&mut self, index: usize, replicas: i32) -> bool {
        let (wanted, surge) = (self.wanted(), self.bounds().surge);
        let Some(member) = self.sets.get_mut(index) else {
            return false;
        };
        member.annotate(DESIRED_ANNOTATION, wanted.to_string());
        member.annotate(MAX_ANNOTATION, (wanted + surge).to_string());
        let before = member.replicas();
        if before == replicas {
            return false;
        }
        member.set.spec.replicas = Some(replicas);
        let direction = if replicas > before { "up" } else { "down" };
        let name = member.name();
        let message = format!("Scaled {direction} replica set {name} from {before} to {replicas}");
        self.notices
            .push(Notice::normal("ScalingReplicaSet", message));
        true
    }

    /// The set to create, if any, and the writes that bring the others to the draft.
    pub(super) fn set_writes(&self) -> (Option<ReplicaSet>, Vec<Write<ReplicaSet>>) {
        let created = self.sets.iter().find(|member| member.origin.is_none());
        let changed = self.sets.iter().filter(|member| {
            let origin = member.origin.as_deref();
            origin.is_some_and(|origin| *origin != member.set)
        });
        let written = changed
            .map(|member| Write::Replace(member.set.clone()))
            .collect();
        (created.map(|member| member.set.clone()), written)
    }
}

#[derive(Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

/// A number, or a percentage of `total`.
fn scaled(value: &IntOrString, total: i32, rounding: Rounding) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent.saturating_mul(total.into());
            let scaled = match rounding {
                Rounding::Up => product.saturating_add(99) / 100,
                Rounding::Down => product / 100,
            };
            i32::try_from(scaled).unwrap_or(i32::MAX)
        }
    }
}
