//! How much a plan holds, counted when somebody asks: a sync never pays for numbers that nobody reads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use knarr_netproxy_plan::{Answer, FrontendKey, FrontendKind, Plan, PortKey};
use tokio::sync::{mpsc, oneshot};

use crate::nftables::set::Set;

/// A sync that takes longer than this leaves its numbers out of one scrape.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);
const ASKERS_MAX: usize = 4;

/// What was counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Census {
    /// Frontends by kind.
    pub(crate) frontends: BTreeMap<FrontendKind, usize>,
    /// Service ports of policy Local that nobody on this node answers: from inside, and from outside.
    pub(crate) no_local_endpoints: NoLocalEndpoints,
    /// Whom each frontend belongs to, in order of key.
    pub(crate) owners: Vec<(FrontendKey, Owner)>,
    /// Elements that the kernel is believed to have, by set.
    pub(crate) elements: BTreeMap<Set, usize>,
}

/// Whom a frontend belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) service_port: Arc<PortKey>,
    pub(crate) kind: FrontendKind,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct NoLocalEndpoints {
    pub(crate) internal: usize,
    pub(crate) external: usize,
}

impl Census {
    /// Counts a plan.
    pub(crate) fn of(plan: &Plan, elements: BTreeMap<Set, usize>) -> Self {
        let mut frontends = BTreeMap::new();
        let mut internal: BTreeSet<&PortKey> = BTreeSet::new();
        let mut external: BTreeSet<&PortKey> = BTreeSet::new();
        let mut owners = Vec::with_capacity(plan.frontends.len());
        for (key, frontend) in &plan.frontends {
            let owner = Owner {
                service_port: frontend.service_port.clone(),
                kind: frontend.kind,
            };
            owners.push((*key, owner));
            *frontends.entry(frontend.kind).or_default() += 1;
            if frontend.answer == Answer::Drop {
                internal.insert(&frontend.service_port);
            }
            if frontend.from_outside == Some(Answer::Drop) {
                external.insert(&frontend.service_port);
            }
        }
        Self {
            frontends,
            no_local_endpoints: NoLocalEndpoints {
                internal: internal.len(),
                external: external.len(),
            },
            owners,
            elements,
        }
    }
}

/// Asks for a census.
#[derive(Clone, Debug)]
pub(crate) struct Asker(mpsc::Sender<oneshot::Sender<Census>>);

/// Where the questions come out.
pub(crate) type Questions = mpsc::Receiver<oneshot::Sender<Census>>;

/// Somebody to ask, and where the questions come out.
pub(crate) fn channel() -> (Asker, Questions) {
    let (asker, questions) = mpsc::channel(ASKERS_MAX);
    (Asker(asker), questions)
}

impl Asker {
    /// Nothing while the proxy starts, stops or is stuck.
    pub(crate) async fn ask(&self) -> Option<Census> {
        let (sender, answer) = oneshot::channel();
        self.0.try_send(sender).ok()?;
        tokio::time::timeout(ANSWER_TIME_MAX, answer)
            .await
            .ok()?
            .ok()
    }
}
