//! Walls that others build: chains that drop what passes through this node, so that pods elsewhere cannot be reached.
//!
//! Looks at the start and whenever others have changed their chains, and says so in an Event. Changes none of them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    events::{Happening, Recorder, Regarding},
    legacy,
    nftables::{
        Error,
        wire::{Fate, ForeignChain, Point, Socket, foreign_chains},
    },
};

/// Kubernetes has no reason for it: kube-proxy does not look.
const REASON: &str = "ForwardingBlocked";
/// Firewalls change their rules in many steps.
const SETTLE_TIME: Duration = Duration::from_secs(1);

/// Looks until shutdown.
pub(crate) async fn run(changed: Arc<Notify>, recorder: Recorder, shutdown: CancellationToken) {
    let mut told = BTreeSet::new();
    let mut runs_of_legacy = legacy::Runs::watch();
    loop {
        match tokio::task::spawn_blocking(look).await {
            Ok(Ok(found)) => {
                for happening in found.difference(&told) {
                    recorder.record(happening.clone());
                }
                told = found;
            }
            Ok(Err(error)) => tracing::debug!("chains of others: {error:?}"),
            Err(_) => return,
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = changed.notified() => {}
            () = runs_of_legacy.heard() => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SETTLE_TIME) => {}
        }
    }
}

/// Every base chain of others, and why those of iptables-legacy are not among them, if they are not.
pub(crate) fn chains_of_others(
    socket: &mut Socket,
) -> Result<(Vec<ForeignChain>, Option<legacy::Error>), Error> {
    let mut chains = foreign_chains(socket)?;
    match legacy::chains() {
        Ok(others) => {
            chains.extend(others);
            Ok((chains, None))
        }
        Err(error) => Ok((chains, Some(error))),
    }
}

/// A chain of somebody else's that drops what passes through this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wall {
    /// Which, and what it does.
    pub text: String,
    /// Whether a rule of its own may let packets through.
    pub has_gate: bool,
}

/// What stops packets on their way through this machine.
///
/// # Errors
/// When the kernel refuses.
pub fn walls() -> Result<Vec<Wall>, crate::Error> {
    let (chains, _) = chains_of_others(&mut Socket::open()?)?;
    Ok(chains.iter().filter_map(wall).collect())
}

fn look() -> Result<BTreeSet<Happening>, Error> {
    let (chains, unread) = chains_of_others(&mut Socket::open()?)?;
    if let Some(error) = unread {
        tracing::debug!("tables of iptables-legacy: {error:?}");
    }
    Ok(chains.iter().filter_map(happening).collect())
}

/// Nothing for a chain that lets packets pass through this node.
fn wall(chain: &ForeignChain) -> Option<Wall> {
    let (drops, has_gate) = match (chain.point, chain.fate()) {
        (Point::Forward, Fate::Drops) => ("drops all that passes through this node", false),
        (Point::Forward, Fate::DropsTheRest) => (
            "drops what passes through this node unless one of its rules lets it",
            true,
        ),
        (Point::Forward, Fate::Passes)
        | (Point::Prerouting | Point::Input | Point::Output | Point::Postrouting, _) => {
            return None;
        }
    };
    let text = format!("{chain} {drops}");
    Some(Wall { text, has_gate })
}

fn happening(chain: &ForeignChain) -> Option<Happening> {
    let Wall { text, .. } = wall(chain)?;
    Some(Happening {
        regarding: Regarding::Node,
        reason: REASON,
        message: format!(
            "{text}: have it accept packets from and to pods, or pods reach nobody and nobody reaches Services"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::wire::{Deed, Keeper, Policy};

    #[test]
    fn only_forward_chains_that_drop_are_walls() {
        let check = |point, policy, rules: &[Deed], expected: Option<&str>| {
            let chain = ForeignChain {
                keeper: Keeper::Nftables,
                family: "ip",
                table: "filter".into(),
                name: "FORWARD".into(),
                point,
                policy,
                rules: rules.to_vec(),
            };
            let message = happening(&chain).map(|happening| happening.message);
            let as_expected = match (&message, expected) {
                (None, None) => true,
                (Some(message), Some(words)) => message.contains(words),
                (None, Some(_)) | (Some(_), None) => false,
            };
            assert!(as_expected, "{message:?} is not {expected:?}");
        };
        let all = Some("chain FORWARD of table ip filter drops all");
        check(Point::Forward, Policy::Drop, &[], all);
        check(Point::Forward, Policy::Accept, &[Deed::Drops], all);
        check(
            Point::Forward,
            Policy::Drop,
            &[Deed::Depends],
            Some("unless one of its rules"),
        );
        check(Point::Forward, Policy::Accept, &[Deed::Depends], None);
        check(Point::Forward, Policy::Drop, &[Deed::Accepts], None);
        check(Point::Input, Policy::Drop, &[], None);
    }
}
