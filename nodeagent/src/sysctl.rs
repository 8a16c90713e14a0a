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
    let path = Path::new("/proc/sys").join(key);
    let before = read(&path)?;
    if before == value {
        return Ok(());
    }
    let mut saved = load(record);
    if !saved.contains_key(&path) {
        saved.insert(path.clone(), before);
        let text = serde_json::to_vec(&saved).unwrap_or_default();
        fs::write(record, text).map_err(|error| Error::Write(record.to_owned(), error))?;
    }
    write(&path, value)
}

/// Sets `key` without remembering: for links and netns that end with us.
pub(crate) fn set_private(key: &str, value: &str) -> Result<(), Error> {
    write(&Path::new("/proc/sys").join(key), value)
}

/// Puts every saved value back, and forgets the record.
pub(crate) fn restore(record: &Path) -> Vec<Error> {
    let mut errors = Vec::new();
    for (path, value) in load(record) {
        errors.extend(write(&path, &value).err());
    }
    match fs::remove_file(record) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            errors.push(Error::Write(record.to_owned(), error));
        }
        _ => {}
    }
    errors
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
