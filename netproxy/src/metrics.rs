//! What people watch: syncs, latencies and changes, under kube-proxy's names where the thing is the same.
//!
//! Counts what it is told. docs/metrics.md says what each number means.

use std::{
    sync::atomic::AtomicU64,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use prometheus_client::{
    encoding::{
        EncodeLabelSet,
        text::{encode_eof, encode_registry},
    },
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets, linear_buckets},
    },
    registry::Registry,
};

use crate::{census::Census, connections::Connections};

type Seconds = Gauge<f64, AtomicU64>;

/// Every number, ready to be told.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    syncs: Syncs,
    changes: Changes,
    programming: Histogram,
    conntrack: Conntrack,
    probes: [Family<Code, Counter>; 2],
    plan: OfPlan,
    /// Endpoints that changed earlier say nothing of this proxy.
    started: Timestamp,
}

#[derive(Debug)]
struct Syncs {
    all: Histogram,
    full: Histogram,
    partial: Histogram,
    failures: Counter,
    last: Seconds,
    last_queued: Seconds,
}

#[derive(Debug, Default)]
struct Changes {
    services: Counter,
    services_pending: Gauge,
    endpoints: Counter,
    endpoints_pending: Gauge,
}

#[derive(Debug)]
struct Conntrack {
    took: Histogram,
    deleted: Counter,
}

#[derive(Debug, Default)]
struct OfPlan {
    frontends: Family<Kind, Gauge>,
    elements: Family<InSet, Gauge>,
    no_local_endpoints: Family<TrafficPolicy, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Code {
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InSet {
    set: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TrafficPolicy {
    traffic_policy: &'static str,
}

/// Whose health was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Probe {
    Healthz,
    Livez,
}

/// How much a sync looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncKind {
    /// Everything, and the kernel was read.
    Full,
    /// What changed.
    Partial,
}

/// How many changes the watches told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) services: u64,
    pub(crate) endpoints: u64,
}

/// kube-proxy's: 1 ms, doubled up to 16 s.
fn sync_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 2.0, 15))
}

/// kube-proxy's: 0.25 s and 0.5 s, every second of the first minute, every 5 s of the second, then every 30 s up to 5 minutes.
fn programming_buckets() -> Histogram {
    let start = linear_buckets(0.25, 0.25, 2).chain(linear_buckets(1.0, 1.0, 59));
    let end = linear_buckets(60.0, 5.0, 12).chain(linear_buckets(120.0, 30.0, 7));
    Histogram::new(start.chain(end))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            syncs: Syncs {
                all: sync_buckets(),
                full: sync_buckets(),
                partial: sync_buckets(),
                failures: Counter::default(),
                last: Seconds::default(),
                last_queued: Seconds::default(),
            },
            changes: Changes::default(),
            programming: programming_buckets(),
            conntrack: Conntrack {
                took: sync_buckets(),
                deleted: Counter::default(),
            },
            probes: Default::default(),
            plan: OfPlan::default(),
            started: Timestamp::now(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn register(&mut self) {
        let kube_proxy = self.registry.sub_registry_with_prefix("kubeproxy");
        let syncs = &self.syncs;
        for (name, help, histogram) in [
            (
                "sync_proxy_rules_duration_seconds",
                "How long a sync took",
                &syncs.all,
            ),
            (
                "sync_full_proxy_rules_duration_seconds",
                "How long a sync of everything took",
                &syncs.full,
            ),
            (
                "sync_partial_proxy_rules_duration_seconds",
                "How long a sync of what changed took",
                &syncs.partial,
            ),
            (
                "network_programming_duration_seconds",
                "From the change of a pod or Service to the rules that follow it",
                &self.programming,
            ),
            (
                "conntrack_reconciler_sync_duration_seconds",
                "How long the UDP flows took to reconcile",
                &self.conntrack.took,
            ),
        ] {
            kube_proxy.register(name, help, histogram.clone());
        }
        for (name, help, counter) in [
            (
                "sync_proxy_rules_service_changes",
                "Changes of Services heard of",
                &self.changes.services,
            ),
            (
                "sync_proxy_rules_endpoint_changes",
                "Changes of EndpointSlices heard of",
                &self.changes.endpoints,
            ),
            (
                "sync_proxy_rules_nftables_sync_failures",
                "Syncs that the kernel refused",
                &syncs.failures,
            ),
            (
                "conntrack_reconciler_deleted_entries",
                "UDP flows deleted because they led to nobody who serves",
                &self.conntrack.deleted,
            ),
        ] {
            kube_proxy.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            (
                "sync_proxy_rules_service_changes_pending",
                "Changes of Services that are not programmed yet",
                &self.changes.services_pending,
            ),
            (
                "sync_proxy_rules_endpoint_changes_pending",
                "Changes of EndpointSlices that are not programmed yet",
                &self.changes.endpoints_pending,
            ),
        ] {
            kube_proxy.register(name, help, gauge.clone());
        }
        for (name, help, gauge) in [
            (
                "sync_proxy_rules_last_timestamp_seconds",
                "When the last sync that succeeded ended",
                &syncs.last,
            ),
            (
                "sync_proxy_rules_last_queued_timestamp_seconds",
                "When the last change was heard of",
                &syncs.last_queued,
            ),
        ] {
            kube_proxy.register(name, help, gauge.clone());
        }
        let [healthz, livez] = &self.probes;
        kube_proxy.register("proxy_healthz", "Answers of /healthz", healthz.clone());
        kube_proxy.register("proxy_livez", "Answers of /livez", livez.clone());
        let help = "Service ports of policy Local that no endpoint on this node answers";
        let gauge = self.plan.no_local_endpoints.clone();
        kube_proxy.register("sync_proxy_rules_no_local_endpoints_total", help, gauge);
        let knarr = self.registry.sub_registry_with_prefix("knarr");
        let OfPlan {
            frontends,
            elements,
            no_local_endpoints: _,
        } = &self.plan;
        knarr.register(
            "frontends",
            "Addresses and ports on which Services are served",
            frontends.clone(),
        );
        knarr.register(
            "nftables_elements",
            "Elements of the tables' sets and maps",
            elements.clone(),
        );
    }

    /// Changes were heard of.
    pub(crate) fn heard(&self, heard: Heard, now: SystemTime) {
        let Heard {
            services,
            endpoints,
        } = heard;
        let Changes {
            services: all_services,
            services_pending,
            endpoints: all_endpoints,
            endpoints_pending,
        } = &self.changes;
        all_services.inc_by(services);
        all_endpoints.inc_by(endpoints);
        services_pending.inc_by(i64::try_from(services).unwrap_or(i64::MAX));
        endpoints_pending.inc_by(i64::try_from(endpoints).unwrap_or(i64::MAX));
        self.syncs.last_queued.set(since_epoch(now));
    }

    /// The kernel took a sync; the endpoints in question changed at these times.
    pub(crate) fn synced(
        &self,
        kind: SyncKind,
        took: Duration,
        now: SystemTime,
        triggers: &[Timestamp],
    ) {
        let seconds = took.as_secs_f64();
        self.syncs.all.observe(seconds);
        match kind {
            SyncKind::Full => self.syncs.full.observe(seconds),
            SyncKind::Partial => self.syncs.partial.observe(seconds),
        }
        self.syncs.last.set(since_epoch(now));
        self.changes.services_pending.set(0);
        self.changes.endpoints_pending.set(0);
        let Ok(now) = Timestamp::try_from(now) else {
            return;
        };
        for trigger in triggers.iter().filter(|trigger| **trigger > self.started) {
            self.programming
                .observe(now.duration_since(*trigger).as_secs_f64().max(0.0));
        }
    }

    /// The kernel refused a sync.
    pub(crate) fn refused(&self) {
        self.syncs.failures.inc();
    }

    /// Flows were reconciled.
    pub(crate) fn reconciled(&self, deleted: usize, took: Duration) {
        self.conntrack
            .deleted
            .inc_by(u64::try_from(deleted).unwrap_or(u64::MAX));
        self.conntrack.took.observe(took.as_secs_f64());
    }

    /// Somebody asked for health.
    pub(crate) fn probed(&self, probe: Probe, code: u16) {
        let [healthz, livez] = &self.probes;
        let answers = match probe {
            Probe::Healthz => healthz,
            Probe::Livez => livez,
        };
        answers.get_or_create(&Code { code }).inc();
    }

    /// Everything in the text format of OpenMetrics.
    pub(crate) fn text(&self, census: Option<&Census>, connections: Connections) -> String {
        if let Some(census) = census {
            self.plan.set(census);
        }
        let mut of_services = Registry::with_prefix("knarr");
        of_services.register_collector(Box::new(connections));
        let mut text = String::new();
        let written = encode_registry(&mut text, &self.registry)
            .and_then(|()| encode_registry(&mut text, &of_services))
            .and_then(|()| encode_eof(&mut text));
        match written {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

impl OfPlan {
    fn set(&self, census: &Census) {
        let Census {
            frontends,
            no_local_endpoints,
            owners: _,
            elements,
        } = census;
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.frontends.clear();
        for (kind, count) in frontends {
            let kind = Kind {
                kind: kind.to_string(),
            };
            self.frontends.get_or_create(&kind).set(number(*count));
        }
        for (set, count) in elements {
            let set = InSet { set: set.name() };
            self.elements.get_or_create(&set).set(number(*count));
        }
        for (traffic_policy, count) in [
            ("internal", no_local_endpoints.internal),
            ("external", no_local_endpoints.external),
        ] {
            self.no_local_endpoints
                .get_or_create(&TrafficPolicy { traffic_policy })
                .set(number(count));
        }
    }
}

fn since_epoch(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_endpoints_that_changed_under_this_proxy_count() {
        let metrics = Metrics::default();
        let ago = |seconds| metrics.started - jiff::SignedDuration::from_secs(seconds);
        let now = SystemTime::from(ago(-3));
        metrics.synced(
            SyncKind::Partial,
            Duration::from_millis(3),
            now,
            &[ago(5), ago(-1)],
        );
        let text = metrics.text(None, Connections::default());
        for line in [
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.004\"} 1",
            "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.002\"} 0",
            "kubeproxy_network_programming_duration_seconds_count 1",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"1.0\"} 0",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"2.0\"} 1",
            "kubeproxy_network_programming_duration_seconds_bucket{le=\"300.0\"} 1",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}: {text}");
        }
    }
}
