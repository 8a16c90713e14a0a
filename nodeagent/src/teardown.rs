//! Removes everything an agent put on the host: pods, links, routes, mounts, cgroups, settings.
//! Needs nothing but the run directory, so that it also cleans up after a crash; goes on after a failure.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cgroup::{self, Cgroups};
use crate::netlink::Socket;
use crate::network::{self, Desired};
use crate::paths::{self, Paths};
use crate::pod::sandbox;
use crate::{netns, sysctl};

/// What could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Error(Vec<String>);

/// Stops every pod of this run directory and restores the host.
///
/// # Errors
/// Everything that could not be removed, after trying the rest.
pub async fn teardown(run_dir: &Path) -> Result<(), Error> {
    let run_dir = run_dir.to_owned();
    match tokio::task::spawn_blocking(move || remove_all(&run_dir)).await {
        Ok(errors) if errors.is_empty() => Ok(()),
        Ok(errors) => Err(Error(errors)),
        Err(error) => Err(Error(vec![error.to_string()])),
    }
}

fn remove_all(run_dir: &Path) -> Vec<String> {
    let data_dir = fs::read_to_string(paths::data_dir_note(run_dir)).map(PathBuf::from);
    let paths = Paths {
        run_dir: run_dir.to_owned(),
        data_dir: data_dir.unwrap_or_else(|_| run_dir.to_owned()),
    };
    let mut errors = Vec::new();
    let records = sandbox::records(&paths);
    for record in &records {
        sandbox::kill(&paths, &record.uid);
    }
    for record in records {
        errors.extend(sandbox::end(&paths, &Cgroups::default(), &record.uid));
        sandbox::forget(&paths, &record.uid);
    }
    errors.extend(remove_network());
    errors.extend(netns::dismantle(&paths.netns_directory()).err().map(text));
    errors.extend(cgroup::remove_all(run_dir).into_iter().map(text));
    errors.extend(
        sysctl::restore(&paths.sysctl_record())
            .into_iter()
            .map(text),
    );
    for directory in [
        paths.pods(),
        paths.netns_directory(),
        run_dir.join("bin"),
        run_dir.join("dev"),
    ] {
        let _ = fs::remove_dir_all(directory);
    }
    let _ = fs::remove_file(paths::data_dir_note(run_dir));
    let _ = fs::remove_dir(paths.data_dir.join("pods"));
    errors
}

/// An empty wish removes every link and route of knarr's.
fn remove_network() -> Vec<String> {
    let steps = Socket::open().and_then(|mut socket| {
        let observed = network::observe::observe(&mut socket)?;
        Ok((network::plan::plan(&Desired::default(), &observed), socket))
    });
    match steps {
        Ok((steps, mut socket)) => network::apply::apply(&mut socket, &steps)
            .into_iter()
            .map(text)
            .collect(),
        Err(error) => vec![text(error)],
    }
}

fn text(error: impl std::error::Error + Send + Sync + 'static) -> String {
    format!("{:#}", anyhow::Error::new(error))
}
