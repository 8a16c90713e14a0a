//! Pid 1 of a pod: starts its containers on request, reaps, writes logs and state, and outlives the agent.
//! One thread, one poll loop, no runtime; it decides nothing about restarts or health.

mod child;
mod connection;
mod container;
mod devices;
mod log;
mod mounts;
mod pages;
mod sandbox;
mod state;
mod stdin;
mod supervisor;

pub(crate) use container::resize;

use std::path::Path;
use std::process::ExitCode;

/// Runs as a pod's init until the pod ends. Expects one argument: the pod's directory.
///
/// The binary calls this before it starts anything else, above all before any thread exists.
#[must_use]
pub fn main() -> ExitCode {
    let Some(directory) = std::env::args_os().nth(2) else {
        eprintln!("knarr pod-init: the pod's directory is missing");
        return ExitCode::from(2);
    };
    match run(Path::new(&directory)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("knarr pod-init: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(directory: &Path) -> anyhow::Result<()> {
    let sandbox = sandbox::read(directory)?;
    sandbox::enter(&sandbox)?;
    supervisor::Supervisor::open(directory, &sandbox)?.run()
}
