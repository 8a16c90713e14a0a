//! For how long nodes have borne their taints: by a clock that nobody sets, from when each was first seen. Evicts nobody.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::eviction;

/// A taint that drives pods away, and for how long the node has borne it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Borne {
    pub(super) taint: Taint,
    pub(super) age: Duration,
}

/// Every node's taints as they were first seen.
#[derive(Default)]
pub(super) struct Ages(HashMap<String, Vec<Seen>>);

#[derive(Clone)]
struct Seen {
    borne: Borne,
    at: Instant,
}

impl Ages {
    /// Notes what `node` bears, and says for how long.
    pub(super) fn note(&mut self, node: &Node, wall: Timestamp, steady: Instant) -> Vec<Borne> {
        let name = node.metadata.name.clone().unwrap_or_default();
        let before = self.0.remove(&name).unwrap_or_default();
        let seen: Vec<Seen> = eviction::evicting(node)
            .map(|taint| {
                let known = before.iter().find(|seen| seen.borne.taint == *taint);
                known.cloned().unwrap_or_else(|| Seen {
                    borne: Borne {
                        taint: taint.clone(),
                        age: age(taint, wall),
                    },
                    at: steady,
                })
            })
            .collect();
        let bears = seen.iter().map(|Seen { borne, at }| Borne {
            taint: borne.taint.clone(),
            age: borne.age + steady.duration_since(*at),
        });
        let bears = bears.collect();
        if !seen.is_empty() {
            self.0.insert(name, seen);
        }
        bears
    }

    pub(super) fn forget(&mut self, node: &str) {
        self.0.remove(node);
    }
}

/// What the calendar says, when a server is started that was not there before.
fn age(taint: &Taint, wall: Timestamp) -> Duration {
    let added = taint.time_added.as_ref().map_or(wall, |time| time.0);
    Duration::try_from(wall.duration_since(added)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_taint_ages_by_the_time_that_passes_whatever_the_clock_says() {
        let wall: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
        let began = Instant::now();
        let year = SignedDuration::from_hours(24 * 365);
        let node: Node = serde_json::from_value(json!({
            "metadata": { "name": "a" },
            "spec": { "taints": [
                { "key": "x", "effect": "NoExecute", "timeAdded": "2026-06-01T11:59:00Z" },
                { "key": "y", "effect": "NoExecute", "timeAdded": "2027-06-01T11:59:00Z" },
                { "key": "z", "effect": "NoSchedule" },
            ] },
        }))
        .unwrap();
        let mut ages = Ages::default();
        let mut check = |wall: Timestamp, seconds: u64, expected: [u64; 2]| {
            let bears = ages.note(&node, wall, began + Duration::from_secs(seconds));
            let found: Vec<u64> = bears.iter().map(|borne| borne.age.as_secs()).collect();
            assert_eq!(found, expected, "{seconds}");
        };
        check(wall, 0, [60, 0]);
        check(wall + year, 10, [70, 10]);
        check(wall - year, 20, [80, 20]);
        ages.forget("a");
        let anew = ages.note(&node, wall + year, began);
        assert!(anew.iter().all(|borne| borne.age > Duration::from_secs(59)));
    }
}
