//! Watching over the nodes that come before this one, to announce in their place as soon as one is gone.
//!
//! The API notices a lost node after 40 s, and may be lost with it; understudies ask its health port themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    peer::{self, Answer, Known, judge},
    state::Published,
};

/// How often a node that comes first is asked. It is given up after two silences of half a second each.
const ASK_INTERVAL: Duration = Duration::from_millis(400);

/// Says what to announce until shutdown: nothing while a front does, and else what nobody better is there for.
pub(crate) async fn run(
    mut states: watch::Receiver<Arc<Published>>,
    mut fronts: watch::Receiver<bool>,
    announced: watch::Sender<BTreeSet<IpAddr>>,
    shutdown: CancellationToken,
) {
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    loop {
        let claims = states.borrow_and_update().claims.clone();
        let front_announces = *fronts.borrow_and_update();
        let watched = if front_announces {
            BTreeMap::new()
        } else {
            claims.watched(&gone(&known))
        };
        look(&watched, &mut known).await;
        let wanted = if front_announces {
            BTreeSet::new()
        } else {
            claims.mine(&gone(&known))
        };
        announced.send_if_modified(|mine| {
            let differs = *mine != wanted;
            *mine = wanted;
            differs
        });
        let doubted = known
            .values()
            .any(|known| matches!(known, Known::Well { silences: 1.. }));
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = states.changed() => if changed.is_err() { return },
            changed = fronts.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(ASK_INTERVAL), if !watched.is_empty() && !doubted => {}
            () = std::future::ready(()), if doubted => {}
        }
    }
}

fn gone(known: &BTreeMap<String, Known>) -> BTreeSet<String> {
    let gone = known.iter().filter(|(_, known)| **known == Known::Failing);
    gone.map(|(node, _)| node.clone()).collect()
}

/// Asks everybody once; who has not been asked before is there until two silences say otherwise.
async fn look(watched: &BTreeMap<String, SocketAddr>, known: &mut BTreeMap<String, Known>) {
    known.retain(|node, _| watched.contains_key(node));
    let answers = join_all(watched.values().map(|at| peer::ask(*at))).await;
    for (node, answer) in watched.keys().zip(answers) {
        // Who says that it is not well announces all the same.
        let answer = match answer {
            Answer::Ill => Answer::Well,
            Answer::Well | Answer::Absent | Answer::Silence => answer,
        };
        let before = known.get(node).copied();
        let now = judge(before.or(Some(Known::Well { silences: 0 })), answer);
        let is_gone = now == Known::Failing;
        if is_gone != (before == Some(Known::Failing)) {
            let news = if is_gone { "is gone" } else { "is back" };
            tracing::info!("node {node} {news}, as far as load-balancer IPs go");
        }
        known.insert(node.clone(), now);
    }
}
