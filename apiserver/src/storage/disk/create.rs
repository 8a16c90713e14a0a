//! A database that is not there yet: written beside its place without waiting for the disk, and put there whole with
//! its first batch in it. A start that is cut short leaves no database, and the next one begins anew.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use sqlx::{
    ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteJournalMode, SqliteSynchronous},
};

use super::{Batch, open, transact};
use crate::{pki::flush_directory, storage::Revision};

/// Makes the database at `path` durable with `batch` in it, and opens it.
pub(super) async fn database(
    path: &Path,
    batch: &Batch,
    reservation: Option<Revision>,
) -> Result<SqliteConnection, sqlx::Error> {
    let draft = beside(path, ".new");
    remove_log(path)?;
    remove_log(&draft)?;
    remove(&draft)?;
    create_private(&draft)?;
    let unflushed = open::options(&draft, SqliteSynchronous::Off);
    // The mode is set before the flushes are turned off, and a change to a log would be flushed.
    let unflushed = unflushed.journal_mode(SqliteJournalMode::Off);
    let mut connection = unflushed.connect().await?;
    open::migrate(&mut connection).await?;
    transact(&mut connection, batch, reservation).await?;
    sqlx::query("PRAGMA journal_mode = WAL")
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    let to = path.to_owned();
    tokio::task::spawn_blocking(move || put_in_place(&draft, &to))
        .await
        .map_err(io::Error::other)??;
    open::options(path, SqliteSynchronous::Full).connect().await
}

fn put_in_place(draft: &Path, path: &Path) -> io::Result<()> {
    File::open(draft)?.sync_all()?;
    fs::rename(draft, path)?;
    path.parent().map_or(Ok(()), flush_directory)
}

/// SQLite would take a log that lies beside a new database for that database's own.
fn remove_log(path: &Path) -> io::Result<()> {
    remove(&beside(path, "-wal"))?;
    remove(&beside(path, "-shm"))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// The log and index beside the database take over its mode, and all three hold Secrets.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map(drop)
}
