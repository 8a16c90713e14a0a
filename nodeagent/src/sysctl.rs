//! The one door to kernel settings of the host: writes what is needed, remembers what was there, puts it back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong with one setting.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("reading {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("writing {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

type Saved = BTreeMap<PathBuf, String>;

/// Sets `key` (such as `net/ipv4/ip_forward`) and saves its first value in `record`.
pub(crate) fn set(record: &Path, key: &str, value: &str) -> Result<(), Error> {
    if get(key)? == value {
        return Ok(());
    }
    keep(record, key)?;
    write(&path(key), value)
}

/// Saves the first value of `key` in `record`, for what changes when another setting does.
pub(crate) fn keep(record: &Path, key: &str) -> Result<(), Error> {
    let path = path(key);
    let mut saved = load(record);
    if saved.contains_key(&path) {
        return Ok(());
    }
    saved.insert(path, get(key)?);
    let text = serde_json::to_vec(&saved).unwrap_or_default();
    fs::write(record, text).map_err(|error| Error::Write(record.to_owned(), error))
}

/// The value of `key` as it is.
pub(crate) fn get(key: &str) -> Result<String, Error> {
    read(&path(key))
}

/// The names below `key`, such as those of links; none where the kernel lacks it.
pub(crate) fn names(key: &str) -> Vec<String> {
    let entries = fs::read_dir(path(key)).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Sets `key` without remembering: for links and netns that end with us.
pub(crate) fn set_private(key: &str, value: &str) -> Result<(), Error> {
    write(&path(key), value)
}

/// Puts every saved value back, and forgets the record.
pub(crate) fn restore(record: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    // What holds for all links goes first, for it overwrites what single links had.
    let for_all = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "all");
    let (all, single): (Saved, Saved) = load(record)
        .into_iter()
        .partition(|(path, _)| for_all(path));
    for (path, value) in all.into_iter().chain(single) {
        match write(&path, &value) {
            // The link is gone, and its settings with it.
            Err(Error::Write(_, error)) if error.kind() == io::ErrorKind::NotFound => {}
            other => errors.extend(other.err()),
        }
    }
    match fs::remove_file(record) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            errors.push(Error::Write(record.to_owned(), error));
        }
        _ => {}
    }
    errors
}

fn path(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

fn load(record: &Path) -> Saved {
    fs::read(record)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

fn read(path: &Path) -> Result<String, Error> {
    let text = fs::read_to_string(path).map_err(|error| Error::Read(path.to_owned(), error))?;
    Ok(text.trim().to_owned())
}

fn write(path: &Path, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(|error| Error::Write(path.to_owned(), error))
}
