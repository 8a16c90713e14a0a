//! Files that only their owner may read, complete or not there at all.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions, Permissions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
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

/// Files written beside their places, put there together so that they share the wait for the disk.
#[derive(Default)]
pub(crate) struct NewFiles(Vec<NewFile>);

struct NewFile {
    path: PathBuf,
    temporary: PathBuf,
    file: File,
    loss: Loss,
}

impl NewFiles {
    /// Writes what will be at `path` from [`NewFiles::place`] on.
    pub(crate) fn write(&mut self, path: &Path, text: &str, loss: Loss) -> Result<(), Error> {
        let temporary = PathBuf::from(format!("{}.tmp", path.display()));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(text.as_bytes())?;
            Ok(file)
        };
        let file = write().map_err(|source| failed(path, source))?;
        self.0.push(NewFile {
            path: path.to_owned(),
            temporary,
            file,
            loss,
        });
        Ok(())
    }

    /// The text of `path`; where there is none, `make` says what will be there.
    pub(crate) fn read_or_make(
        &mut self,
        path: &Path,
        make: impl FnOnce() -> Result<String, Error>,
    ) -> Result<String, Error> {
        match fs::read_to_string(path) {
            Ok(text) => Ok(text),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = make()?;
                self.write(path, &text, Loss::Fatal)?;
                Ok(text)
            }
            Err(source) => {
                let path = path.to_owned();
                Err(Error::Read { path, source })
            }
        }
    }

    /// Puts every file in its place, in the order they were written; returns when no power cut takes a fatal loss.
    pub(crate) fn place(self) -> Result<(), Error> {
        let NewFiles(files) = self;
        let lasting = || files.iter().filter(|file| file.loss == Loss::Fatal);
        at_once(lasting(), |new| {
            new.file
                .sync_all()
                .map_err(|source| failed(&new.path, source))
        })?;
        for new in &files {
            fs::rename(&new.temporary, &new.path).map_err(|source| failed(&new.path, source))?;
        }
        let directories: BTreeSet<&Path> = lasting().filter_map(|new| new.path.parent()).collect();
        at_once(directories.into_iter(), |directory| {
            flush_directory(directory).map_err(|source| failed(directory, source))
        })
    }
}

/// Makes what was created, renamed or removed in `directory` last.
pub(crate) fn flush_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Write {
        path: path.to_owned(),
        source,
    }
}

/// Waits for all at the same time: a file system serves many flushes at the price of one.
fn at_once<T: Send>(
    items: impl Iterator<Item = T>,
    flush: impl Fn(T) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    std::thread::scope(|scope| {
        let flush = &flush;
        let waits: Vec<_> = items.map(|item| scope.spawn(move || flush(item))).collect();
        waits.into_iter().try_for_each(|wait| match wait.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })
}
