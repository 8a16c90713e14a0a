//! Turns the fresh namespaces of an init into the pod's world: hostname, /proc, /dev, the `knarr` link.

use std::fs;
use std::path::Path;

use anyhow::Context;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::devices;
use crate::protocol::{Devices, SANDBOX, Sandbox};
use crate::sysctl;

pub(super) fn read(directory: &Path) -> anyhow::Result<Sandbox> {
    let path = directory.join(SANDBOX);
    let text = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("decoding {}", path.display()))
}

pub(super) fn enter(sandbox: &Sandbox) -> anyhow::Result<()> {
    join_cgroups(sandbox);
    let root = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, root, None::<&str>).context("detaching mounts")?;
    // Holding another pod's netns here would keep it alive after that pod is gone.
    let _ = umount2(&sandbox.run_dir.join("netns"), MntFlags::MNT_DETACH);
    if let Err(error) = link_executable(&sandbox.run_dir) {
        eprintln!("knarr pod-init: linking bin/knarr: {error}");
    }
    if let Some(hostname) = &sandbox.hostname {
        nix::unistd::sethostname(hostname).context("setting the hostname")?;
    }
    if let Some(domain) = &sandbox.domain_name {
        sysctl::set_private("kernel/domainname", domain).context("setting the domain name")?;
    }
    if sandbox.own_pid_namespace {
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
            .context("mounting /proc")?;
    } else {
        nix::sys::prctl::set_child_subreaper(true).context("becoming a subreaper")?;
    }
    match sandbox.devices {
        Devices::Private => devices::mount_private(sandbox).context("mounting /dev")?,
        Devices::Host => {}
    }
    for (key, value) in &sandbox.sysctls {
        sysctl::set_private(&key.replace('.', "/"), value)
            .with_context(|| format!("setting sysctl {key}"))?;
    }
    Ok(())
}

fn join_cgroups(sandbox: &Sandbox) {
    for cgroup in &sandbox.cgroups {
        let _ = fs::write(cgroup.join("cgroup.procs"), "0");
    }
}

fn link_executable(run_dir: &Path) -> anyhow::Result<()> {
    let link = run_dir.join("bin/knarr");
    // The magic link itself leads into the agent's mount namespace, from which nothing can be bound.
    let executable = fs::read_link("/proc/self/exe")?;
    // A bind mount works for users who may not enter the executable's own directory, and survives its upgrade.
    mount(
        Some(&executable),
        &link,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(())
}
