//! Turns a container of the API into one that an init can run. Reads facts, starts nothing.

use std::fs;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::env::{self, Facts};
use super::{Identity, security, volume};
use crate::cgroup::Limits;
use crate::paths::Paths;
use crate::protocol::{self, Access, Mount, MountSource, Process, Stdin};

const LOG_BYTES_MAX: u64 = 10 << 20;
const LOG_FILES_MAX: u32 = 5;
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A container that cannot be configured.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Environment(#[from] env::Error),
    #[error(transparent)]
    Security(#[from] security::Error),
    #[error(transparent)]
    Volume(#[from] volume::Error),
    #[error("preparing {}", .0.display())]
    Prepare(PathBuf, #[source] std::io::Error),
    #[error("no command specified")]
    NoCommand,
}

/// Everything a container's configuration depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) identity: &'a Identity,
    pub(crate) spec: &'a PodSpec,
    pub(crate) facts: Facts<'a>,
    pub(crate) hostname: &'a str,
}

/// Builds what the init needs to run an attempt of a container; `id` names the run.
pub(crate) fn container(
    setting: &Setting<'_>,
    container: &Container,
    attempt: u32,
    id: String,
    cgroups: Vec<PathBuf>,
) -> Result<protocol::Container, Error> {
    let Setting {
        paths,
        identity,
        spec,
        ..
    } = *setting;
    let rights = security::rights(identity, spec, container, &security::read_passwd())?;
    let (process, read_only_root) = process(setting, container, rights)?;
    let termination_log = termination_log(paths, identity, container, attempt);
    let log_path = paths.log(&identity.uid, &container.name, attempt);
    for file in [&termination_log, &log_path] {
        let failed = |error| Error::Prepare(file.clone(), error);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
    }
    let failed = |error| Error::Prepare(termination_log.clone(), error);
    fs::write(&termination_log, "").map_err(failed)?;
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(&termination_log, open).map_err(failed)?;
    let mut mounts = file_mounts(setting, container, &termination_log);
    mounts.extend(volume::mounts(
        paths,
        &identity.uid,
        spec,
        container,
        &process.env,
    )?);
    Ok(protocol::Container {
        name: container.name.clone(),
        attempt,
        id,
        mounts,
        root: if read_only_root {
            Access::ReadOnly
        } else {
            Access::ReadWrite
        },
        stdin: match (container.stdin, container.stdin_once) {
            (Some(true), Some(true)) => Stdin::Once,
            (Some(true), _) => Stdin::Open,
            _ => Stdin::Null,
        },
        tty: container.tty == Some(true),
        log_path,
        log_bytes_max: LOG_BYTES_MAX,
        log_files_max: LOG_FILES_MAX,
        termination_log,
        cgroups,
        oom_score_adj: 0,
        process,
    })
}

/// The process of a container, and whether its root is read-only.
pub(crate) fn process(
    setting: &Setting<'_>,
    container: &Container,
    rights: security::Rights,
) -> Result<(Process, bool), Error> {
    let own = env::environment(container, &setting.facts)?;
    let words = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter()
            .flatten()
            .map(|word| env::expand(word, &own))
            .collect()
    };
    let mut argv = words(&container.command);
    argv.extend(words(&container.args));
    if argv.is_empty() {
        return Err(Error::NoCommand);
    }
    let bin = setting.paths.run_dir.join("bin");
    let mut env = vec![
        (
            "PATH".to_owned(),
            format!("{}:{SEARCH_PATH}", bin.display()),
        ),
        ("HOSTNAME".to_owned(), setting.hostname.to_owned()),
        ("HOME".to_owned(), rights.home.clone()),
    ];
    if container.tty == Some(true) {
        env.push(("TERM".to_owned(), "xterm".to_owned()));
    }
    env.retain(|(name, _)| own.iter().all(|(known, _)| known != name));
    env.extend(own);
    let process = Process {
        argv,
        env,
        working_dir: container
            .working_dir
            .clone()
            .filter(|directory| !directory.is_empty()),
        uid: rights.uid,
        gid: rights.gid,
        groups: rights.groups,
        capabilities: rights.capabilities,
        no_new_privileges: rights.no_new_privileges,
    };
    Ok((process, rights.read_only_root))
}

/// The limits of a container's cgroup.
pub(crate) fn limits(container: &Container) -> Limits {
    let set = container.resources.as_ref();
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let cpu =
        |kind| env::quantity(set, kind, "cpu").and_then(|found| positive(found.milli_value()));
    Limits {
        memory_bytes_max: env::quantity(set, "limits", "memory")
            .and_then(|found| positive(found.value())),
        cpu_millis_max: cpu("limits"),
        cpu_millis_requested: cpu("requests").or_else(|| cpu("limits")),
    }
}

fn termination_log(
    paths: &Paths,
    identity: &Identity,
    container: &Container,
    attempt: u32,
) -> PathBuf {
    let directory = paths.pod(&identity.uid).join("termination");
    directory.join(format!("{}-{attempt}", container.name))
}

/// The pod's own /etc files and the container's termination message, unless a volume stands there.
fn file_mounts(
    setting: &Setting<'_>,
    container: &Container,
    termination_log: &std::path::Path,
) -> Vec<Mount> {
    let etc = setting.paths.pod(&setting.identity.uid).join("etc");
    let message = container
        .termination_message_path
        .as_deref()
        .unwrap_or("/dev/termination-log");
    let mut pairs = vec![
        (etc.join("resolv.conf"), "/etc/resolv.conf"),
        (termination_log.to_owned(), message),
    ];
    if setting.spec.host_network != Some(true) {
        pairs.push((etc.join("hosts"), "/etc/hosts"));
        pairs.push((etc.join("hostname"), "/etc/hostname"));
    }
    let taken = |path: &str| {
        container
            .volume_mounts
            .iter()
            .flatten()
            .any(|mount| mount.mount_path == path)
    };
    pairs
        .into_iter()
        .filter(|(_, target)| !taken(target))
        .map(|(source, target)| Mount {
            source: MountSource::Bind(source),
            target: target.into(),
            access: Access::ReadWrite,
        })
        .collect()
}
