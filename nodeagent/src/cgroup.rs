//! The one door to cgroups: a subtree of knarr's own in each hierarchy it may write, v1 or v2.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::network::fnv1a;

/// The v1 hierarchies worth having; each also works alone.
const V1_CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
const V2_CONTROLLERS: &str = "+memory +cpu +pids";
const MOUNT: &str = "/sys/fs/cgroup";
/// Killing is asynchronous; a healthy kernel is done within milliseconds.
const REAP_TIME_MAX: Duration = Duration::from_secs(3);
const REAP_POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What can go wrong with a cgroup.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("making cgroup {}", .0.display())]
    Make(PathBuf, #[source] io::Error),
    #[error("removing cgroup {}", .0.display())]
    Remove(PathBuf, #[source] io::Error),
}

/// What a container may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) memory_bytes_max: Option<u64>,
    pub(crate) cpu_millis_max: Option<u64>,
    pub(crate) cpu_millis_requested: Option<u64>,
}

/// One directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    V1 {
        controller: &'static str,
        path: PathBuf,
    },
    V2 {
        path: PathBuf,
    },
}

/// knarr's subtree in every hierarchy it could open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cgroups {
    bases: Vec<Base>,
}

impl Cgroups {
    /// Opens the subtree of the knarr whose run directory this is; hierarchies that refuse are left out and named.
    pub(crate) fn open(run_dir: &Path) -> (Self, Vec<Error>) {
        let name = base_name(run_dir);
        let (mut bases, mut errors) = (Vec::new(), Vec::new());
        for base in candidates(&name) {
            match base.make() {
                Ok(()) => bases.push(base),
                Err(error) => errors.push(error),
            }
        }
        (Self { bases }, errors)
    }

    /// Makes a leaf of a pod and returns its directories.
    pub(crate) fn make(&self, pod_uid: &str, leaf: &str, limits: Limits) -> Vec<PathBuf> {
        let make = |base: &Base| {
            let pod = base.path().join(format!("pod{pod_uid}"));
            fs::create_dir_all(&pod).ok()?;
            if matches!(base, Base::V2 { .. }) {
                delegate(&pod);
            }
            let path = pod.join(leaf);
            fs::create_dir_all(&path).ok()?;
            for (file, value) in base.settings(limits) {
                if let Err(error) = fs::write(path.join(file), value) {
                    tracing::warn!(%error, cgroup = %path.display(), "{file} is not enforced");
                }
            }
            Some(path)
        };
        self.bases.iter().filter_map(make).collect()
    }

    /// Removes a pod's cgroups.
    pub(crate) fn remove_pod(&self, pod_uid: &str) -> Vec<Error> {
        let path = |base: &Base| base.path().join(format!("pod{pod_uid}"));
        self.bases
            .iter()
            .filter_map(|base| remove_tree(&path(base)).err())
            .collect()
    }
}

/// Removes everything knarr made in any hierarchy, whoever made it.
pub(crate) fn remove_all(run_dir: &Path) -> Vec<Error> {
    let bases = candidates(&base_name(run_dir));
    bases
        .iter()
        .filter_map(|base| remove_tree(base.path()).err())
        .collect()
}

/// Several knarrs may share a machine; each run directory has its own subtree.
fn base_name(run_dir: &Path) -> String {
    format!(
        "knarr-{:08x}",
        fnv1a(run_dir.as_os_str().as_encoded_bytes()) as u32
    )
}

fn candidates(name: &str) -> Vec<Base> {
    let mount = Path::new(MOUNT);
    if is_v2(mount) {
        return vec![Base::V2 {
            path: mount.join(name),
        }];
    }
    let v1 = V1_CONTROLLERS
        .into_iter()
        .filter(|controller| mount.join(controller).join("cgroup.procs").exists())
        .map(|controller| Base::V1 {
            controller,
            path: mount.join(controller).join(name),
        });
    let unified = mount.join("unified");
    let v2 = is_v2(&unified).then(|| Base::V2 {
        path: unified.join(name),
    });
    v1.chain(v2).collect()
}

fn is_v2(mount: &Path) -> bool {
    nix::sys::statfs::statfs(mount)
        .is_ok_and(|found| found.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
}

impl Base {
    fn path(&self) -> &Path {
        match self {
            Self::V1 { path, .. } | Self::V2 { path } => path,
        }
    }

    fn make(&self) -> Result<(), Error> {
        let path = self.path();
        fs::create_dir_all(path).map_err(|error| Error::Make(path.to_owned(), error))?;
        if matches!(self, Self::V2 { .. }) {
            delegate(path);
        }
        Ok(())
    }

    fn settings(&self, limits: Limits) -> Vec<(&'static str, String)> {
        let Limits {
            memory_bytes_max,
            cpu_millis_max,
            cpu_millis_requested,
        } = limits;
        let memory = memory_bytes_max.map(|bytes| bytes.to_string());
        let shares = cpu_millis_requested.map(|millis| (millis * 1024 / 1000).clamp(2, 262_144));
        let quota = cpu_millis_max.map(|millis| (millis * 100).max(1000));
        let pairs = match self {
            Self::V1 {
                controller: "memory",
                ..
            } => vec![("memory.limit_in_bytes", memory)],
            Self::V1 {
                controller: "cpu", ..
            } => vec![
                ("cpu.shares", shares.map(|shares| shares.to_string())),
                ("cpu.cfs_quota_us", quota.map(|quota| quota.to_string())),
            ],
            Self::V1 { .. } => Vec::new(),
            Self::V2 { path } if !has_controllers(path) => Vec::new(),
            Self::V2 { .. } => vec![
                ("memory.max", memory),
                (
                    "cpu.weight",
                    shares.map(|shares| (1 + (shares - 2) * 9999 / 262_142).to_string()),
                ),
                ("cpu.max", quota.map(|quota| format!("{quota} 100000"))),
            ],
        };
        pairs
            .into_iter()
            .filter_map(|(file, value)| Some((file, value?)))
            .collect()
    }
}

fn has_controllers(path: &Path) -> bool {
    fs::read_to_string(path.join("cgroup.controllers")).is_ok_and(|text| text.contains("memory"))
}

/// Lets children have the controllers that this directory has.
fn delegate(path: &Path) {
    if has_controllers(path) {
        let _ = fs::write(path.join("cgroup.subtree_control"), V2_CONTROLLERS);
    }
}

fn remove_tree(path: &Path) -> Result<(), Error> {
    let Ok(entries) = fs::read_dir(path) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    remove_empty(path)
}

/// A killed process leaves its cgroup only once it is reaped, which is its parent's business.
fn remove_empty(path: &Path) -> Result<(), Error> {
    let deadline = Instant::now() + REAP_TIME_MAX;
    loop {
        match fs::remove_dir(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error)
                if error.kind() == io::ErrorKind::ResourceBusy && Instant::now() < deadline =>
            {
                std::thread::sleep(REAP_POLL_INTERVAL);
            }
            Err(error) => return Err(Error::Remove(path.to_owned(), error)),
            Ok(()) => return Ok(()),
        }
    }
}
