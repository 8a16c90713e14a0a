//! Keeps what an init knows about its containers on the run directory, so that it survives the init itself.

use std::fs;
use std::io;
use std::path::Path;

use crate::protocol::{STATE, State};

/// Replaces the state file in one step.
pub(super) fn save(directory: &Path, state: &State) -> io::Result<()> {
    let fresh = directory.join("state.json.new");
    fs::write(&fresh, serde_json::to_vec(state)?)?;
    fs::rename(fresh, directory.join(STATE))
}

/// Reads the state an earlier init of this pod left behind.
pub(super) fn load(directory: &Path) -> State {
    let text = fs::read(directory.join(STATE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

/// Nanoseconds since the Unix epoch.
pub(super) fn now_ns() -> i128 {
    jiff::Timestamp::now().as_nanosecond()
}

/// The moment as log lines carry it.
pub(super) fn timestamp() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%S%.9fZ")
        .to_string()
}
