//! An existing database: locking its directory, bringing it up to date, reading it whole once. Writes no object.

use std::{
    collections::HashMap,
    fs::{File, TryLockError},
    net::IpAddr,
    path::Path,
};

use futures_util::TryStreamExt;
use knarr_api::kind::Kind;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous},
};

use super::{Contents, OpenError, from_sql};
use crate::storage::{Claim, Claims, Key, Owner, Stored};

/// Every migration, in order; the database's `user_version` counts those it has had.
const MIGRATIONS: &[&str] = &[include_str!("../../../../migrations/0001_objects.sql")];

/// Rows that SQLite's thread reads ahead of ours: the two wait for each other once in so many.
const ROWS_AHEAD: usize = 512;

/// How every connection of ours behaves.
pub(super) fn options(path: &Path, synchronous: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .pragma("wal_autocheckpoint", "0")
        .row_buffer_size(ROWS_AHEAD)
        .disable_statement_logging()
}

/// The database at `path` and what it holds, if there is one.
pub(super) async fn existing(
    path: &Path,
    kinds: &'static [&'static Kind],
) -> Result<Option<(SqliteConnection, Contents)>, OpenError> {
    let there = path.try_exists().map_err(|source| OpenError::Directory {
        path: path.to_owned(),
        source,
    })?;
    if !there {
        return Ok(None);
    }
    let mut connection = match options(path, SqliteSynchronous::Full).connect().await {
        Ok(connection) => connection,
        Err(source) => {
            let path = path.to_owned();
            return Err(OpenError::Database { path, source });
        }
    };
    match migrate(&mut connection).await {
        Ok(Schema::Current) => {}
        Ok(Schema::Newer) => return Err(OpenError::Newer(path.to_owned())),
        Err(source) => {
            let path = path.to_owned();
            return Err(OpenError::Migrate { path, source });
        }
    }
    match read(&mut connection, kinds).await {
        Ok(contents) => Ok(Some((connection, contents))),
        Err(source) => {
            let path = path.to_owned();
            Err(OpenError::Read { path, source })
        }
    }
}

/// Held as long as the process lives; the kernel releases it however the process ends.
pub(super) fn lock(directory: &Path) -> Result<File, OpenError> {
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
pub(super) enum Schema {
    Current,
    Newer,
}

/// Runs the migrations that are missing, each in a transaction of its own.
pub(super) async fn migrate(connection: &mut SqliteConnection) -> Result<Schema, sqlx::Error> {
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
