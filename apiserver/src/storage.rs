//! The store: every object at its latest revision, on disk and in memory, and the watches on them.
//!
//! One writer task owns all change; reads and watches are answered from memory and never touch SQLite. Nothing here
//! knows what an object means: defaults, validation and allocation happen before a [`Write`] is made.

mod cache;
mod claims;
mod disk;
mod document;
mod expiry;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    hash::{Hash, Hasher},
    net::IpAddr,
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use knarr_api::{kind::Kind, meta, status::Status};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use self::{cache::Cache, writer::Request};
pub use self::{
    claims::Claims,
    disk::OpenError,
    watch::{Change, Event, Watch},
};

/// The store-wide counter that every change of an object raises; `metadata.resourceVersion` on the wire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an object lives. `namespace` is empty for cluster-scoped kinds.
#[derive(Clone)]
pub struct Key {
    pub kind: &'static Kind,
    pub namespace: String,
    pub name: String,
}

impl Key {
    pub fn new(kind: &'static Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key {
            kind,
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        let place = |key: &Self| (key.kind.group, key.kind.plural);
        self.name == other.name && self.namespace == other.namespace && place(self) == place(other)
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.plural.hash(state);
        self.namespace.hash(state);
        self.name.hash(state);
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let resource = self.kind.group_resource();
        match self.namespace.as_str() {
            "" => write!(f, "{resource}/{}", self.name),
            namespace => write!(f, "{resource}/{namespace}/{}", self.name),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// An object as it is stored and served.
#[derive(Debug)]
pub struct Stored {
    pub key: Key,
    pub revision: Revision,
    pub uid: Box<str>,
    pub labels: Labels,
    /// The whole object as JSON, resourceVersion included.
    pub document: Bytes,
    /// Whether the document has more than answers show.
    pub is_partly_hidden: bool,
}

impl Stored {
    /// `object` as it is stored at `revision`.
    pub(crate) fn new(key: Key, revision: Revision, object: &Value) -> Self {
        let labels = meta::labels(object).into_iter().flatten();
        let text =
            |(key, value): (&String, &Value)| Some((key.as_str().into(), value.as_str()?.into()));
        let document = document::write(object, revision);
        Stored {
            revision,
            uid: meta::uid(object).into(),
            labels: Labels(labels.filter_map(text).collect()),
            is_partly_hidden: document::hides(&document, key.kind),
            document,
            key,
        }
    }

    /// A stored object as it was read from disk.
    fn read(key: Key, revision: Revision, document: &[u8]) -> Result<Self, serde_json::Error> {
        let document::Metadata { uid, labels } = document::metadata(document)?;
        Ok(Stored {
            revision,
            uid,
            labels,
            document: Bytes::copy_from_slice(document),
            is_partly_hidden: document::hides(document, key.kind),
            key,
        })
    }

    /// Parses the document. What the store holds was serialised by the store, so it always parses.
    pub fn object(&self) -> Value {
        serde_json::from_slice(&self.document).unwrap_or_default()
    }
}

/// The labels of an object: few, never changed, and kept for every object there is.
#[derive(Debug, Default)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(own, _)| **own == *key);
        found.map(|(_, value)| &**value)
    }

    /// Keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }
}

/// What must hold of the stored object for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Absent,
    Revision(Revision),
    Any,
}

/// The Service that holds a claim.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub namespace: String,
    pub name: String,
}

/// Something that at most one Service may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    ClusterIp { address: IpAddr, owner: Owner },
    NodePort { port: u16, owner: Owner },
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::ClusterIp { address, .. } => write!(f, "cluster IP {address}"),
            Claim::NodePort { port, .. } => write!(f, "node port {port}"),
        }
    }
}

/// One step of a commit; all steps of a commit happen or none.
#[derive(Clone, Debug)]
pub enum Write {
    Put {
        key: Key,
        expect: Expect,
        object: Value,
    },
    /// With [`Expect::Any`], deleting what is not there does nothing and is not part of the answer.
    Delete {
        key: Key,
        expect: Expect,
    },
    Claim(Claim),
    Release(Claim),
}

/// Objects of one kind at one revision, ordered by namespace and name.
#[derive(Clone, Debug)]
pub struct Listing {
    pub revision: Revision,
    pub objects: Vec<Arc<Stored>>,
}

/// The revision asked for is older than the log reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version")]
pub struct Expired;

/// Why a commit did not happen. Nothing of it did.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    #[error("{0} already exists")]
    Exists(Key),
    #[error("{0} does not exist")]
    Missing(Key),
    #[error("{0} is not at the expected revision")]
    Stale(Key),
    #[error("{0} is already claimed")]
    Claimed(Claim),
    #[error("{0} is not a kind this store keeps")]
    UnknownKind(Key),
    #[error("no space left for the database")]
    DiskFull,
    #[error("cannot write the database: {0}")]
    Disk(String),
    #[error("the store is closed")]
    Closed,
}

impl CommitError {
    /// The answer a client gets.
    pub fn status(&self) -> Status {
        match self {
            CommitError::Exists(key) => Status::already_exists(key.kind, &key.name),
            CommitError::Missing(key) => Status::not_found(key.kind, &key.name),
            CommitError::Stale(key) => Status::conflict(
                key.kind,
                &key.name,
                "the object has been modified; please apply your changes to the latest version and try again",
            ),
            CommitError::DiskFull => Status::failure(507, "InsufficientStorage", format!("{self}")),
            CommitError::Claimed(_)
            | CommitError::UnknownKind(_)
            | CommitError::Disk(_)
            | CommitError::Closed => Status::internal(self),
        }
    }
}

/// A handle on the store; clones share it.
#[derive(Clone)]
pub struct Store {
    cache: Arc<Cache>,
    requests: mpsc::Sender<Request>,
}

/// Commits that may wait for the writer before further ones wait for room.
const QUEUE_LENGTH: usize = 1024;

impl Store {
    /// Opens or creates the database in `directory` and starts the writer.
    ///
    /// # Errors
    /// When another process has the directory open, or the database cannot be opened, migrated or read.
    pub async fn open(
        directory: &Path,
        kinds: &'static [&'static Kind],
    ) -> Result<Store, OpenError> {
        let (database, contents) = disk::Database::open(directory, kinds).await?;
        let cache = Arc::new(Cache::new(kinds, contents));
        let (requests, queue) = mpsc::channel(QUEUE_LENGTH);
        tokio::spawn(writer::run(cache.clone(), database, queue));
        Ok(Store { cache, requests })
    }

    /// Whether the writer still takes commits.
    pub fn is_open(&self) -> bool {
        !self.requests.is_closed()
    }

    /// The revision of the latest published change.
    pub fn revision(&self) -> Revision {
        self.cache.revision()
    }

    /// The revision of the latest change of one kind.
    pub fn kind_revision(&self, kind: &'static Kind) -> Revision {
        self.cache
            .kind(kind)
            .map_or(Revision(0), |kind| kind.revision())
    }

    pub fn get(&self, key: &Key) -> Option<Arc<Stored>> {
        self.cache.kind(key.kind)?.get(&key.namespace, &key.name)
    }

    /// Everything of a kind, in one namespace or in all.
    pub fn list(&self, kind: &'static Kind, namespace: Option<&str>) -> Listing {
        self.cache.list(kind, namespace)
    }

    /// As [`Store::list`], as it was at `revision`.
    pub fn list_at(
        &self,
        kind: &'static Kind,
        namespace: Option<&str>,
        revision: Revision,
    ) -> Result<Listing, Expired> {
        self.cache.list_at(kind, namespace, revision)
    }

    /// Every change of a kind after `from`, in order, none missing.
    pub fn watch(&self, kind: &'static Kind, from: Revision) -> Result<Watch, Expired> {
        Watch::open(self.cache.clone(), kind, from)
    }

    /// Who holds which cluster IPs and node ports.
    pub fn claims(&self) -> std::sync::RwLockReadGuard<'_, Claims> {
        self.cache.claims()
    }

    /// Does all of `writes` or nothing, and returns when they are on disk and published.
    ///
    /// The answer holds one object per `Put` and `Delete`, in order; a deleted one carries the revision of its deletion.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<Vec<Arc<Stored>>, CommitError> {
        let (answer, answered) = oneshot::channel();
        let request = Request { writes, answer };
        self.requests
            .send(request)
            .await
            .map_err(|_| CommitError::Closed)?;
        answered.await.unwrap_or(Err(CommitError::Closed))
    }
}
