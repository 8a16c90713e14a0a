//! Where everything of a node lives: what must vanish with the machine under the run directory, what may be large
//! under the data directory.

use std::path::{Path, PathBuf};

/// The node's two roots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    pub(crate) run_dir: PathBuf,
    pub(crate) data_dir: PathBuf,
}

impl Paths {
    pub(crate) fn netns_directory(&self) -> PathBuf {
        self.run_dir.join("netns")
    }

    pub(crate) fn netns(&self, pod_uid: &str) -> PathBuf {
        self.netns_directory().join(pod_uid)
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.run_dir.join("pods")
    }

    /// A pod's socket, state, and small files.
    pub(crate) fn pod(&self, pod_uid: &str) -> PathBuf {
        self.pods().join(pod_uid)
    }

    /// A pod's logs and empty directories.
    pub(crate) fn pod_data(&self, pod_uid: &str) -> PathBuf {
        self.data_dir.join("pods").join(pod_uid)
    }

    pub(crate) fn logs(&self, pod_uid: &str, container: &str) -> PathBuf {
        self.pod_data(pod_uid).join("logs").join(container)
    }

    pub(crate) fn log(&self, pod_uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.logs(pod_uid, container).join(format!("{attempt}.log"))
    }

    /// Settings of the host as they were before knarr.
    pub(crate) fn sysctl_record(&self) -> PathBuf {
        sysctl_record(&self.run_dir)
    }

    pub(crate) fn executable_link(&self) -> PathBuf {
        self.run_dir.join("bin/knarr")
    }
}

/// The record of saved settings under a run directory.
pub(crate) fn sysctl_record(run_dir: &Path) -> PathBuf {
    run_dir.join("sysctl.json")
}

/// The note under a run directory that says where the data directory is.
pub(crate) fn data_dir_note(run_dir: &Path) -> PathBuf {
    run_dir.join("data-dir")
}
