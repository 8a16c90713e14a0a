//! Files that only their owner may read, complete or not there at all.

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use super::Error;

pub(crate) fn create_directory(path: &Path) -> Result<(), Error> {
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    fs::create_dir_all(path).map_err(failed)?;
    fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)
}

/// Whether a file that a power cut takes can be made again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    Harmless,
    Fatal,
}

/// Replaces `path` in one step; where its loss is fatal, returns when it would survive a power cut.
pub(crate) fn write_secret(path: &Path, text: &str, loss: Loss) -> Result<(), Error> {
    let write = || {
        let temporary = path.with_extension("tmp");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        if loss == Loss::Fatal {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    };
    write().map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

/// The text of `path`; where there is none, `make` says what to write there.
pub(crate) fn read_or_create<E: From<Error>>(
    path: &Path,
    make: impl FnOnce() -> Result<String, E>,
) -> Result<String, E> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let text = make()?;
            write_secret(path, &text, Loss::Fatal)?;
            Ok(text)
        }
        Err(source) => {
            let path = path.to_owned();
            Err(Error::Read { path, source }.into())
        }
    }
}
