//! What the rest of the proxy learns of each sync.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, SystemTime},
};

use knarr_netproxy_plan::HealthCheck;

use crate::sync::{Outcome, Proxy};

/// One sync, as others see it.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// When it ended.
    pub at: Option<SystemTime>,
    /// When the last one that succeeded ended.
    pub succeeded_at: Option<SystemTime>,
    /// How long it took.
    pub took: Duration,
    /// Load-balancer IPs that this node announces.
    pub announced: BTreeSet<IpAddr>,
    /// Health-check node ports.
    pub health_checks: BTreeMap<u16, HealthCheck>,
    /// Service ports served.
    pub frontend_count: usize,
    /// Whether the kernel took the plan.
    pub healthy: bool,
}

impl Published {
    pub(crate) fn of(proxy: &Proxy, outcome: &Outcome) -> Self {
        let now = SystemTime::now();
        let healthy = outcome.applied.is_ok();
        Self {
            at: Some(now),
            succeeded_at: healthy.then_some(now),
            took: outcome.took,
            announced: proxy.announced(),
            health_checks: proxy.plan().health_checks.clone(),
            frontend_count: proxy.plan().frontends.len(),
            healthy,
        }
    }
}
