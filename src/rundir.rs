//! Who holds the run directory: one knarr at a time, and `knarr down` only when none does.

use std::{fs::File, os::unix::fs::DirBuilderExt};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use crate::{
    exit::{Code, Failure},
    settings::Settings,
};

/// Held for as long as the value lives; the kernel lets go when the process dies, however it dies.
pub(crate) struct Held(#[expect(dead_code, reason = "dropping it releases the lock")] Flock<File>);

pub(crate) fn hold(settings: &Settings) -> Result<Held> {
    let dir = &settings.run_dir;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(dir)
        .with_context(|| format!("cannot make the run directory {}", dir.display()))?;
    let path = dir.join("lock");
    let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Held(lock)),
        Err(_) => Err(Failure::new(
            Code::InUse,
            format!("another knarr runs with {}", dir.display()),
        )
        .hint("stop it first, or give this one its own --run-dir and --data-dir")
        .into()),
    }
}

/// Root alone may make namespaces, links and rules.
pub(crate) fn require_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(
        Code::NotRoot,
        "root is needed to make network namespaces and rules",
    )
    .hint("try sudo")
    .into())
}

/// Stops what pods are left and removes every link, route, rule, mount and cgroup of knarr's.
pub(crate) async fn down(settings: &Settings) -> Result<()> {
    require_root()?;
    let _held = hold(settings)?;
    restore_host(settings).await
}

/// Goes on after a failure, so that one stubborn mount does not keep the rules in place.
pub(crate) async fn restore_host(settings: &Settings) -> Result<()> {
    let proxy = knarr_netproxy::teardown()
        .await
        .context("cannot remove the packet rules");
    let agent = knarr_nodeagent::teardown(&settings.run_dir)
        .await
        .context("cannot remove the pods");
    proxy.and(agent)
}
