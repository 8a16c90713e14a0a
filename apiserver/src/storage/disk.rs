//! The database file: opening it, reading it whole once, and writing one batch at a time. The only module that speaks SQL.

use std::{
    collections::HashMap,
    fs::{File, TryLockError},
    io,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::TryStreamExt;
use knarr_api::kinds::Kind;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};

use super::{Claim, Claims, Key, Owner, Revision, Stored};

/// Every migration, in order; the database's `user_version` counts those it has had.
const MIGRATIONS: &[&str] = &[include_str!("../../../migrations/0001_objects.sql")];

/// Revisions reserved on disk at once; a restart skips what is left of them.
const RESERVED_REVISIONS: u64 = 10_000;
/// Rows of one statement, largest first; few sizes keep every statement prepared.
const ROW_COUNTS: [usize; 3] = [64, 8, 1];
/// Growth of the write-ahead log after which it is copied into the database.
const CHECKPOINT_BYTES: u64 = 4 << 20;

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

/// The open database.
pub(super) struct Database {
    connection: SqliteConnection,
    options: SqliteConnectOptions,
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
        let lock = lock(directory)?;
        let path = directory.join("knarr.db");
        create_private(&path)?;
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("wal_autocheckpoint", "0")
            .disable_statement_logging();
        let mut connection = match options.connect().await {
            Ok(connection) => connection,
            Err(source) => return Err(OpenError::Database { path, source }),
        };
        match migrate(&mut connection).await {
            Ok(Schema::Current) => {}
            Ok(Schema::Newer) => return Err(OpenError::Newer(path)),
            Err(source) => return Err(OpenError::Migrate { path, source }),
        }
        let contents = match read(&mut connection, kinds).await {
            Ok(contents) => contents,
            Err(source) => return Err(OpenError::Read { path, source }),
        };
        let database = Database {
            connection,
            options,
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
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut self.connection)
            .await?;
        let written = match self.write(batch, reserved).await {
            Ok(()) => sqlx::query("COMMIT")
                .execute(&mut self.connection)
                .await
                .map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            // SQLite may have rolled back by itself, in which case this fails and means nothing.
            let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
            return Err(error);
        }
        self.reserved = reserved;
        self.note_growth(batch);
        Ok(())
    }

    pub(super) async fn close(self) {
        if let Err(error) = self.connection.close().await {
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

    async fn write(&mut self, batch: &Batch, reserved: Revision) -> Result<(), sqlx::Error> {
        let connection = &mut self.connection;
        if reserved != self.reserved {
            sqlx::query("UPDATE sequence SET reserved = ?")
                .bind(to_sql(reserved))
                .execute(&mut *connection)
                .await?;
        }
        for claim in &batch.released {
            release(connection, claim).await?;
        }
        for claim in &batch.taken {
            take(connection, claim).await?;
        }
        for keys in chunks(&batch.deleted) {
            delete_objects(connection, keys).await?;
        }
        for objects in chunks(&batch.put) {
            put_objects(connection, objects).await?;
        }
        Ok(())
    }

    /// Copying the log while writes go on leaves its last frames; taking those here lets the log start over.
    async fn finish_checkpoint(&mut self) -> Result<(), sqlx::Error> {
        if self.checkpointed.swap(false, Ordering::AcqRel) {
            checkpoint(&mut self.connection).await?;
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
            let (options, done) = (self.options.clone(), self.checkpointed.clone());
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

/// Held as long as the process lives; the kernel releases it however the process ends.
fn lock(directory: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Directory {
        path: directory.to_owned(),
        source,
    };
    std::fs::create_dir_all(directory).map_err(failed)?;
    let file = File::create(directory.join("lock")).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// What the database's tables are to this release.
enum Schema {
    Current,
    Newer,
}

/// Runs the migrations that are missing, each in a transaction of its own.
async fn migrate(connection: &mut SqliteConnection) -> Result<Schema, sqlx::Error> {
    let done: i64 = sqlx::query("PRAGMA user_version")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let done = usize::try_from(done).unwrap_or(usize::MAX);
    if done > MIGRATIONS.len() {
        return Ok(Schema::Newer);
    }
    for (index, sql) in MIGRATIONS.iter().enumerate().skip(done) {
        let version = index + 1;
        let script = format!("BEGIN; {sql}; PRAGMA user_version = {version}; COMMIT;");
        sqlx::raw_sql(AssertSqlSafe(script))
            .execute(&mut *connection)
            .await?;
    }
    Ok(Schema::Current)
}

/// The log and index beside the database take over its mode, and all three hold Secrets.
fn create_private(path: &Path) -> Result<(), OpenError> {
    let mut options = File::options();
    options.write(true).create(true).truncate(false).mode(0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(OpenError::Directory {
            path: path.to_owned(),
            source,
        }),
    }
}

async fn read(
    connection: &mut SqliteConnection,
    kinds: &'static [&'static Kind],
) -> Result<Contents, sqlx::Error> {
    let by_resource: HashMap<String, &'static Kind> =
        kinds.iter().map(|k| (k.group_resource(), *k)).collect();
    let reserved: i64 = sqlx::query("SELECT reserved FROM sequence")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let mut contents = Contents {
        revision: from_sql(reserved),
        ..Contents::default()
    };
    {
        let mut rows =
            sqlx::query("SELECT resource, namespace, name, revision, document FROM objects")
                .fetch(&mut *connection);
        while let Some(row) = rows.try_next().await? {
            match by_resource.get(row.try_get::<&str, _>(0)?) {
                Some(kind) => contents.objects.push(stored(kind, &row)?),
                None => tracing::warn!(resource = row.try_get::<&str, _>(0)?, "kind is not known"),
            }
        }
    }
    read_claims(connection, &mut contents.claims).await?;
    Ok(contents)
}

fn stored(kind: &'static Kind, row: &SqliteRow) -> Result<Stored, sqlx::Error> {
    let key = Key::new(kind, row.try_get::<&str, _>(1)?, row.try_get::<&str, _>(2)?);
    Stored::read(key, from_sql(row.try_get(3)?), row.try_get(4)?)
        .map_err(|error| sqlx::Error::Decode(error.into()))
}

async fn read_claims(
    connection: &mut SqliteConnection,
    claims: &mut Claims,
) -> Result<(), sqlx::Error> {
    let owner = |row: &SqliteRow| -> Result<Owner, sqlx::Error> {
        Ok(Owner {
            namespace: row.try_get(1)?,
            name: row.try_get(2)?,
        })
    };
    for row in sqlx::query("SELECT address, namespace, name FROM cluster_ips")
        .fetch_all(&mut *connection)
        .await?
    {
        let address: IpAddr = row
            .try_get::<&str, _>(0)?
            .parse()
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let owner = owner(&row)?;
        claims.insert(&Claim::ClusterIp { address, owner });
    }
    for row in sqlx::query("SELECT port, namespace, name FROM node_ports")
        .fetch_all(&mut *connection)
        .await?
    {
        let port: u16 = row.try_get(0)?;
        let owner = owner(&row)?;
        claims.insert(&Claim::NodePort { port, owner });
    }
    Ok(())
}

/// Splits `items` so that every part has one of [`ROW_COUNTS`] lengths.
fn chunks<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let count = ROW_COUNTS.into_iter().find(|&count| count <= items.len())?;
        let (chunk, rest) = items.split_at(count);
        items = rest;
        Some(chunk)
    })
}

/// `head` followed by `count` copies of `row`.
fn rows_sql(head: &str, row: &str, count: usize, tail: &str) -> AssertSqlSafe<String> {
    AssertSqlSafe(format!("{head} {}{tail}", vec![row; count].join(",")))
}

async fn put_objects(
    connection: &mut SqliteConnection,
    objects: &[Arc<Stored>],
) -> Result<(), sqlx::Error> {
    let sql = rows_sql(
        "INSERT INTO objects (resource, namespace, name, uid, revision, document) VALUES",
        "(?,?,?,?,?,?)",
        objects.len(),
        " ON CONFLICT DO UPDATE SET uid = excluded.uid, revision = excluded.revision, document = excluded.document",
    );
    let mut query = sqlx::query(sql);
    for stored in objects {
        query = query
            .bind(stored.key.kind.group_resource())
            .bind(stored.key.namespace.clone())
            .bind(stored.key.name.clone())
            .bind(stored.uid.clone())
            .bind(to_sql(stored.revision))
            .bind(stored.document.to_vec());
    }
    query.execute(connection).await.map(drop)
}

async fn delete_objects(
    connection: &mut SqliteConnection,
    keys: &[Key],
) -> Result<(), sqlx::Error> {
    let sql = rows_sql(
        "DELETE FROM objects WHERE (resource, namespace, name) IN (VALUES",
        "(?,?,?)",
        keys.len(),
        ")",
    );
    let mut query = sqlx::query(sql);
    for key in keys {
        query = query
            .bind(key.kind.group_resource())
            .bind(key.namespace.clone())
            .bind(key.name.clone());
    }
    query.execute(connection).await.map(drop)
}

async fn take(connection: &mut SqliteConnection, claim: &Claim) -> Result<(), sqlx::Error> {
    let owner = claim.owner();
    let query = match claim {
        Claim::ClusterIp { address, .. } => {
            sqlx::query("INSERT INTO cluster_ips (address, namespace, name) VALUES (?,?,?)")
                .bind(address.to_string())
        }
        Claim::NodePort { port, .. } => {
            sqlx::query("INSERT INTO node_ports (port, namespace, name) VALUES (?,?,?)").bind(*port)
        }
    };
    query
        .bind(owner.namespace.clone())
        .bind(owner.name.clone())
        .execute(connection)
        .await
        .map(drop)
}

async fn release(connection: &mut SqliteConnection, claim: &Claim) -> Result<(), sqlx::Error> {
    let query = match claim {
        Claim::ClusterIp { address, .. } => {
            sqlx::query("DELETE FROM cluster_ips WHERE address = ?").bind(address.to_string())
        }
        Claim::NodePort { port, .. } => {
            sqlx::query("DELETE FROM node_ports WHERE port = ?").bind(*port)
        }
    };
    query.execute(connection).await.map(drop)
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
