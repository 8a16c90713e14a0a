//! The two ways from the old pods to the new: a few at a time, or all at once.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::draft::{Draft, Member};
use crate::controllers::claim::controller_of;
use crate::controllers::pods;

impl Draft<'_> {
    /// Moves one step of a rolling update; new pods first, then old ones away.
    pub(super) fn roll(&mut self) {
        if self.grow_current() {
            return;
        }
        self.shrink_old();
    }

    /// The size the current set should have now.
    pub(super) fn current_size(&self) -> i32 {
        let wanted = self.wanted();
        let Some(current) = self.current() else {
            return 0;
        };
        if self.is_recreate() {
            return wanted;
        }
        let room = wanted + self.bounds().surge - self.total_replicas();
        if room <= 0 {
            return current.replicas();
        }
        current.replicas() + room.min(wanted - current.replicas())
    }

    fn grow_current(&mut self) -> bool {
        let (Some(index), Some(current)) = (self.current, self.current()) else {
            return false;
        };
        let wanted = self.wanted();
        if current.replicas() == wanted {
            return false;
        }
        let size = if current.replicas() > wanted {
            wanted
        } else {
            self.current_size()
        };
        self.scale(index, size)
    }

    /// Removes old pods as far as availability allows, broken ones first.
    fn shrink_old(&mut self) {
        let old_count: i32 = self.old().map(Member::replicas).sum();
        let (Some(current), true) = (self.current(), old_count > 0) else {
            return;
        };
        let min_available = self.wanted() - self.bounds().unavailable;
        let new_unavailable = current.replicas() - current.available();
        let mut broken_max = self.total_replicas() - min_available - new_unavailable;
        if broken_max <= 0 {
            return;
        }
        let before = self.total_available();
        for index in self.old_indices() {
            let (replicas, available) = (self.sets[index].replicas(), self.sets[index].available());
            let broken = (replicas - available).min(broken_max);
            if broken > 0 {
                self.scale(index, replicas - broken);
                broken_max -= broken;
            }
        }
        let mut surplus = before - min_available;
        for index in self.old_indices() {
            let replicas = self.sets[index].replicas();
            let removed = replicas.min(surplus);
            if removed > 0 {
                self.scale(index, replicas - removed);
                surplus -= removed;
            }
        }
    }

    /// Moves one step of a recreation: all old pods away, then all new ones.
    pub(super) fn recreate(&mut self, pods: &[Arc<Pod>]) {
        let mut scaled = false;
        for index in self.old_indices() {
            if self.sets[index].replicas() > 0 {
                scaled |= self.scale(index, 0);
            }
        }
        if scaled || self.old_pods_remain(pods) {
            return;
        }
        if self.current.is_none() {
            self.add_current();
        }
        if let Some(index) = self.current {
            self.scale(index, self.wanted());
        }
    }

    fn old_pods_remain(&self, pods: &[Arc<Pod>]) -> bool {
        let counted = self
            .old()
            .any(|member| member.set.status.as_ref().is_some_and(|s| s.replicas > 0));
        let old: Vec<&str> = self
            .old()
            .filter_map(|member| member.set.metadata.uid.as_deref())
            .collect();
        let of_old = |pod: &Pod| {
            controller_of(&pod.metadata).is_some_and(|owner| old.contains(&owner.uid.as_str()))
        };
        counted
            || pods
                .iter()
                .any(|pod| !pods::is_terminal(pod) && of_old(pod))
    }
}
