//! The one task that changes the store: checks expectations, numbers changes, writes a batch to disk, publishes, answers.

use std::{collections::HashMap, sync::Arc};

use knarr_api::kind::Durability;
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    Change, Claim, CommitError, Event, Expect, Key, Owner, Revision, Stored, Write,
    cache::{Cache, Hold},
    disk::{Batch, Database},
    document,
    expiry::Expiry,
};

/// A commit waiting for the writer.
pub(super) struct Request {
    pub writes: Vec<Write>,
    pub answer: oneshot::Sender<Answer>,
}

type Answer = Result<Vec<Arc<Stored>>, CommitError>;

/// Commits written in one transaction.
const BATCH_COMMITS_MAX: usize = 256;

/// Runs until every handle on the store is gone.
pub(super) async fn run(cache: Arc<Cache>, database: Database, mut queue: mpsc::Receiver<Request>) {
    let mut writer = Writer {
        revision: cache.revision(),
        cache,
        database,
        expiry: Expiry::default(),
        refusals: 0,
    };
    let mut requests = Vec::with_capacity(BATCH_COMMITS_MAX);
    loop {
        let expiry = writer.expiry.next(Instant::now());
        let received = tokio::select! {
            received = queue.recv_many(&mut requests, BATCH_COMMITS_MAX) => received,
            () = sleep_until(expiry) => {
                writer.expire().await;
                continue;
            }
        };
        if received == 0 {
            break;
        }
        let (commits, answers): (Vec<_>, Vec<_>) = requests
            .drain(..)
            .map(|request| (request.writes, request.answer))
            .unzip();
        let results = writer.commit_all(commits).await;
        for (answer, result) in answers.into_iter().zip(results) {
            // Whoever asked may have gone; the commit stands.
            let _ = answer.send(result);
        }
    }
    writer.database.close().await;
}

async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

struct Writer {
    cache: Arc<Cache>,
    database: Database,
    revision: Revision,
    expiry: Expiry,
    /// By the disk, since it last took a write.
    refusals: u64,
}

impl Writer {
    /// One transaction for all; when the disk refuses it, one for each, so that a bad commit fails alone.
    async fn commit_all(&mut self, commits: Vec<Vec<Write>>) -> Vec<Answer> {
        let cache = self.cache.clone();
        let mut plan = Plan::new(&cache, self.revision);
        let answers: Vec<Answer> = commits.iter().map(|writes| plan.add(writes)).collect();
        let Err(error) = self.perform(plan).await else {
            return answers;
        };
        if commits.len() == 1 {
            return vec![Err(error)];
        }
        let mut answers = Vec::with_capacity(commits.len());
        for writes in &commits {
            let mut plan = Plan::new(&cache, self.revision);
            let answer = plan.add(writes);
            let performed = self.perform(plan).await;
            answers.push(performed.and(answer));
        }
        answers
    }

    async fn perform(&mut self, plan: Plan<'_>) -> Result<(), CommitError> {
        let reached = plan.revision;
        let (batch, events, claims) = plan.finish();
        if let Err(error) = self.database.apply(&batch).await {
            self.refused(&error);
            return Err(CommitError::from_disk(&error));
        }
        if std::mem::take(&mut self.refusals) > 0 {
            tracing::info!("the database takes writes again");
        }
        self.revision = reached;
        self.expiry.note(&events, Instant::now());
        self.cache.publish(events, &claims);
        Ok(())
    }

    /// Says it once: clients and controllers ask again and again.
    fn refused(&mut self, error: &sqlx::Error) {
        self.refusals += 1;
        if self.refusals == 1 {
            tracing::error!(%error, "the database takes no writes; what it holds is served on");
        } else {
            tracing::debug!(%error, "the database still takes no writes");
        }
    }

    async fn expire(&mut self) {
        let due = self.expiry.take_due(Instant::now());
        // What was written again since is not at the noted revision, and stays.
        self.commit_all(due).await;
    }
}

impl CommitError {
    fn from_disk(error: &sqlx::Error) -> Self {
        /// The second: no room for the index of the log.
        const FULL: [&str; 2] = ["13", "4874"];
        let code = error.as_database_error().and_then(|e| e.code());
        match code.as_deref() {
            Some(code) if FULL.contains(&code) => CommitError::DiskFull,
            _ => CommitError::Disk(error.to_string()),
        }
    }
}

/// What a batch of commits will do, on top of what the cache holds. Pure until [`perform`].
struct Plan<'a> {
    cache: &'a Cache,
    revision: Revision,
    objects: HashMap<Key, Option<Arc<Stored>>>,
    claims: HashMap<Number, Option<Owner>>,
    events: Vec<Event>,
}

/// A claim without its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Number {
    ClusterIp(std::net::IpAddr),
    NodePort(u16),
}

impl Number {
    fn of(claim: &Claim) -> Self {
        match claim {
            Claim::ClusterIp { address, .. } => Number::ClusterIp(*address),
            Claim::NodePort { port, .. } => Number::NodePort(*port),
        }
    }

    fn held_by(self, owner: Owner) -> Claim {
        match self {
            Number::ClusterIp(address) => Claim::ClusterIp { address, owner },
            Number::NodePort(port) => Claim::NodePort { port, owner },
        }
    }
}

impl<'a> Plan<'a> {
    fn new(cache: &'a Cache, revision: Revision) -> Self {
        Plan {
            cache,
            revision,
            objects: HashMap::new(),
            claims: HashMap::new(),
            events: Vec::new(),
        }
    }

    /// Adds one commit, or leaves the plan as it was.
    fn add(&mut self, writes: &[Write]) -> Answer {
        let mut step = Step {
            plan: self,
            objects: Vec::new(),
            claims: Vec::new(),
            events: Vec::new(),
            answer: Vec::new(),
        };
        for write in writes {
            step.add(write)?;
        }
        let Step {
            plan: _,
            objects,
            claims,
            events,
            answer,
        } = step;
        self.revision.0 += events.len() as u64;
        self.objects.extend(objects);
        self.claims.extend(claims);
        self.events.extend(events);
        Ok(answer)
    }

    fn object(&self, key: &Key) -> Option<Arc<Stored>> {
        match self.objects.get(key) {
            Some(planned) => planned.clone(),
            None => self.cache.kind(key.kind)?.get(&key.namespace, &key.name),
        }
    }

    fn owner(&self, number: Number) -> Option<Owner> {
        match self.claims.get(&number) {
            Some(planned) => planned.clone(),
            None => self.committed_owner(number),
        }
    }

    fn committed_owner(&self, number: Number) -> Option<Owner> {
        let claims = self.cache.claims();
        match number {
            Number::ClusterIp(address) => claims.cluster_ip(address).cloned(),
            Number::NodePort(port) => claims.node_port(port).cloned(),
        }
    }

    /// The difference to what is committed, for the disk and for the cache.
    fn finish(self) -> (Batch, Vec<Event>, Vec<(Hold, Claim)>) {
        let mut batch = Batch {
            revision: self.revision,
            ..Batch::default()
        };
        let mut holds = Vec::new();
        for (number, after) in &self.claims {
            let before = self.committed_owner(*number);
            if before == *after {
                continue;
            }
            if let Some(owner) = before {
                let claim = number.held_by(owner);
                batch.released.push(claim.clone());
                holds.push((Hold::Released, claim));
            }
            if let Some(owner) = after {
                let claim = number.held_by(owner.clone());
                batch.taken.push(claim.clone());
                holds.push((Hold::Taken, claim));
            }
        }
        for (key, after) in self.objects {
            if key.kind.durability != Durability::Disk {
                continue;
            }
            match after {
                Some(stored) => batch.put.push(stored),
                None => batch.deleted.push(key),
            }
        }
        (batch, self.events, holds)
    }
}

/// One commit on top of a plan.
struct Step<'p, 'a> {
    plan: &'p Plan<'a>,
    objects: Vec<(Key, Option<Arc<Stored>>)>,
    claims: Vec<(Number, Option<Owner>)>,
    events: Vec<Event>,
    answer: Vec<Arc<Stored>>,
}

impl Step<'_, '_> {
    fn add(&mut self, write: &Write) -> Result<(), CommitError> {
        match write {
            Write::Put {
                key,
                expect,
                object,
            } => self.put(key, *expect, object),
            Write::Delete { key, expect } => self.delete(key, *expect),
            Write::Claim(claim) => self.claim(claim),
            Write::Release(claim) => {
                self.release(claim);
                Ok(())
            }
        }
    }

    fn put(&mut self, key: &Key, expect: Expect, object: &Value) -> Result<(), CommitError> {
        let previous = self.expected(key, expect)?;
        if let Some(previous) = &previous
            && document::write(object, previous.revision) == previous.document
        {
            self.answer.push(previous.clone());
            return Ok(());
        }
        let stored = Stored::new(key.clone(), self.next_revision(), object);
        let change = match previous {
            Some(_) => Change::Modified,
            None => Change::Added,
        };
        self.record(change, stored, previous);
        Ok(())
    }

    fn delete(&mut self, key: &Key, expect: Expect) -> Result<(), CommitError> {
        // Only `Expect::Any` is content with nothing being there.
        let Some(previous) = self.expected(key, expect)? else {
            return Ok(());
        };
        let last = Stored::new(key.clone(), self.next_revision(), &previous.object());
        self.record(Change::Deleted, last, Some(previous));
        Ok(())
    }

    fn record(&mut self, change: Change, stored: Stored, previous: Option<Arc<Stored>>) {
        let object = Arc::new(stored);
        let kept = match change {
            Change::Added | Change::Modified => Some(object.clone()),
            Change::Deleted => None,
        };
        self.objects.push((object.key.clone(), kept));
        self.answer.push(object.clone());
        self.events.push(Event {
            change,
            object,
            previous,
        });
    }

    /// What is there, if that is what the write expects.
    fn expected(&self, key: &Key, expect: Expect) -> Result<Option<Arc<Stored>>, CommitError> {
        if self.plan.cache.kind(key.kind).is_none() {
            return Err(CommitError::UnknownKind(key.clone()));
        }
        let current = match self.objects.iter().rev().find(|(k, _)| k == key) {
            Some((_, planned)) => planned.clone(),
            None => self.plan.object(key),
        };
        match (expect, &current) {
            (Expect::Absent, Some(_)) => Err(CommitError::Exists(key.clone())),
            (Expect::Revision(_), None) => Err(CommitError::Missing(key.clone())),
            (Expect::Revision(expected), Some(stored)) if stored.revision != expected => {
                Err(CommitError::Stale(key.clone()))
            }
            (Expect::Absent | Expect::Any, None) | (Expect::Revision(_) | Expect::Any, Some(_)) => {
                Ok(current)
            }
        }
    }

    fn claim(&mut self, claim: &Claim) -> Result<(), CommitError> {
        match self.owner(Number::of(claim)) {
            Some(owner) if owner != *claim.owner() => Err(CommitError::Claimed(claim.clone())),
            Some(_) => Ok(()),
            None => {
                self.claims
                    .push((Number::of(claim), Some(claim.owner().clone())));
                Ok(())
            }
        }
    }

    /// Releasing what one does not hold does nothing.
    fn release(&mut self, claim: &Claim) {
        if self.owner(Number::of(claim)).as_ref() == Some(claim.owner()) {
            self.claims.push((Number::of(claim), None));
        }
    }

    fn owner(&self, number: Number) -> Option<Owner> {
        match self.claims.iter().rev().find(|(n, _)| *n == number) {
            Some((_, planned)) => planned.clone(),
            None => self.plan.owner(number),
        }
    }

    fn next_revision(&self) -> Revision {
        Revision(self.plan.revision.0 + self.events.len() as u64 + 1)
    }
}
