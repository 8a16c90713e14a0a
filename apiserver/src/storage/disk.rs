//! The database file: opening it, reading it whole once, and writing one batch at a time. Nothing else speaks SQL.

mod create;
mod open;
mod script;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use knarr_api::kind::Kind;
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteSynchronous};

use super::{Claim, Claims, Key, Revision, Stored};

/// Revisions reserved on disk at once; a restart skips what is left of them.
const RESERVED_REVISIONS: u64 = 10_000;
/// Growth of the write-ahead log after which it is copied into the database.
const CHECKPOINT_BYTES: u64 = 16 << 20;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot use data directory {}", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another knarr uses data directory {}", .0.display())]
    Locked(PathBuf),
    #[error("cannot open database {}", path.display())]
    Database {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("cannot bring database {} up to date", path.display())]
    Migrate {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
    #[error("database {} was written by a newer knarr", .0.display())]
    Newer(PathBuf),
    #[error("cannot read database {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: sqlx::Error,
    },
}

/// What the database held when it was opened.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub revision: Revision,
    pub objects: Vec<Stored>,
    pub claims: Claims,
}

/// The difference one transaction makes.
#[derive(Default)]
pub(super) struct Batch {
    pub put: Vec<Arc<Stored>>,
    pub deleted: Vec<Key>,
    pub taken: Vec<Claim>,
    pub released: Vec<Claim>,
    /// The highest revision given out so far, memory-only kinds included.
    pub revision: Revision,
}

impl Batch {
    fn is_empty(&self) -> bool {
        let Batch {
            put,
            deleted,
            taken,
            released,
            revision: _,
        } = self;
        put.is_empty() && deleted.is_empty() && taken.is_empty() && released.is_empty()
    }
}

/// The open database; there is no connection before the first batch makes the file.
pub(super) struct Database {
    connection: Option<SqliteConnection>,
    path: PathBuf,
    reserved: Revision,
    wal_bytes: u64,
    checkpointed: Arc<AtomicBool>,
    _lock: File,
}

impl Database {
    pub(super) async fn open(
        directory: &Path,
        kinds: &'static [&'static Kind],
    ) -> Result<(Database, Contents), OpenError> {
        let lock = open::lock(directory)?;
        let path = directory.join("knarr.db");
        let (connection, contents) = open::existing(&path, kinds).await?.unzip();
        let contents = contents.unwrap_or_default();
        let database = Database {
            connection,
            path,
            reserved: contents.revision,
            wal_bytes: 0,
            checkpointed: Arc::default(),
            _lock: lock,
        };
        Ok((database, contents))
    }

    /// Makes `batch` durable, or changes nothing.
    pub(super) async fn apply(&mut self, batch: &Batch) -> Result<(), sqlx::Error> {
        if batch.is_empty() && batch.revision <= self.reserved {
            return Ok(());
        }
        self.finish_checkpoint().await?;
        let reserved = self.reservation(batch.revision);
        let reservation = (reserved != self.reserved).then_some(reserved);
        match &mut self.connection {
            Some(connection) => transact(connection, batch, reservation).await?,
            None => self.connection = Some(create::database(&self.path, batch, reservation).await?),
        }
        self.reserved = reserved;
        self.note_growth(batch);
        Ok(())
    }

    pub(super) async fn close(self) {
        let Some(connection) = self.connection else {
            return;
        };
        if let Err(error) = connection.close().await {
            tracing::warn!(%error, "closing the database");
        }
    }

    /// The block is renewed early when something is written anyway, so that memory-only writes rarely have to.
    fn reservation(&self, revision: Revision) -> Revision {
        if revision.0 + RESERVED_REVISIONS / 2 > self.reserved.0 {
            Revision(revision.0 + RESERVED_REVISIONS)
        } else {
            self.reserved
        }
    }

    /// Copying the log while writes go on leaves its last frames; taking those here lets the log start over.
    async fn finish_checkpoint(&mut self) -> Result<(), sqlx::Error> {
        if self.checkpointed.swap(false, Ordering::AcqRel) {
            if let Some(connection) = &mut self.connection {
                checkpoint(connection).await?;
            }
            self.wal_bytes = 0;
        }
        Ok(())
    }

    fn note_growth(&mut self, batch: &Batch) {
        const PAGE_BYTES: u64 = 4096;
        let rows = batch.put.len() + batch.deleted.len() + batch.taken.len() + 1;
        let before = self.wal_bytes;
        self.wal_bytes += rows as u64 * 2 * PAGE_BYTES;
        if before < CHECKPOINT_BYTES && self.wal_bytes >= CHECKPOINT_BYTES {
            let options = open::options(&self.path, SqliteSynchronous::Full);
            let done = self.checkpointed.clone();
            tokio::spawn(async move {
                let copied = async { checkpoint(&mut options.connect().await?).await };
                if let Err(error) = copied.await {
                    tracing::warn!(%error, "checkpointing the database");
                }
                done.store(true, Ordering::Release);
            });
        }
    }
}

async fn transact(
    connection: &mut SqliteConnection,
    batch: &Batch,
    reservation: Option<Revision>,
) -> Result<(), sqlx::Error> {
    let written = script::run(connection, batch, reservation).await;
    if written.is_err() {
        // Where no transaction is left open this fails and means nothing.
        let _ = sqlx::query("ROLLBACK").execute(connection).await;
    }
    written
}

async fn checkpoint(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    sqlx::query("PRAGMA wal_checkpoint(PASSIVE)")
        .fetch_all(connection)
        .await
        .map(drop)
}

// SQLite integers are signed; no store lives to see the upper half.
fn to_sql(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

fn from_sql(revision: i64) -> Revision {
    Revision(u64::try_from(revision).unwrap_or(0))
}
