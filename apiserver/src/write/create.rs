//! From a decoded and defaulted object to a new stored one.

use knarr_api::{
    meta,
    status::{Details, Status},
};
use serde_json::Value;

use super::{Writer, Written, admission, allocation, commit, identity, metadata, refuse_invalid};
use crate::{
    request::options::DryRun,
    respond,
    storage::{CommitError, Expect, Key, Write},
};

/// Names tried for an object that asked for a generated one.
const GENERATED_NAMES_MAX: usize = 8;

impl Writer<'_> {
    /// Creates an object that a client sent, under a generated name if it has none.
    pub(crate) async fn create(&mut self, object: Value) -> Result<Written, Status> {
        let version = identity::parse_version(meta::resource_version(&object));
        if matches!(version, Ok(0) | Err(_)) || self.dry_run == DryRun::All {
            return self.create_under_any_name(object).await;
        }
        // Everything else that is wrong is said first.
        self.dry_run = DryRun::All;
        match self.create_under_any_name(object).await {
            Err(status) if status.reason != "AlreadyExists" => Err(status),
            Ok(_) | Err(_) => Err(respond::unclassified(
                "resourceVersion should not be set on objects to be created",
            )),
        }
    }

    async fn create_under_any_name(&mut self, object: Value) -> Result<Written, Status> {
        if meta::generate_name(&object).is_empty() {
            return self.create_named(object).await;
        }
        if !meta::name(&object).is_empty() {
            return self.create_named(object).await.map_err(no_unique_name);
        }
        let mut outcome = self.create_named(object.clone()).await;
        for _ in 1..GENERATED_NAMES_MAX {
            match outcome {
                Err(status) if status.reason == "AlreadyExists" => {}
                outcome => return outcome,
            }
            outcome = self.create_named(object.clone()).await;
        }
        outcome.map_err(no_unique_name)
    }

    /// Creates an object under the name it has, or under one made now.
    pub(super) async fn create_named(&mut self, mut object: Value) -> Result<Written, Status> {
        identity::drop_duplicate_owners(&mut object, &mut self.warnings);
        metadata::wipe(&mut object);
        self.track(None, &mut object);
        self.create_tracked(object).await
    }

    /// Creates an object whose managedFields are complete.
    pub(super) async fn create_tracked(&mut self, mut object: Value) -> Result<Written, Status> {
        admission::admit_create(self.state, self.user, self.kind, &mut object).await?;
        if meta::name(&object).is_empty() && !meta::generate_name(&object).is_empty() {
            let base = meta::generate_name(&object);
            let name = (self.kind.strategy.generate_name)(base, rand::random());
            meta::set(&mut object, "name", name);
        }
        metadata::stamp(&mut object);
        if !allocation::applies(self.kind) {
            let written = self.try_create(object).await?;
            return written.ok_or_else(|| Status::internal("nothing was allocated"));
        }
        for _ in 0..commit::ATTEMPTS_MAX {
            if let Some(written) = self.try_create(object.clone()).await? {
                return Ok(written);
            }
        }
        Err(Status::internal("too many concurrent allocations"))
    }

    /// `None` if another request took what was allocated.
    async fn try_create(&mut self, mut object: Value) -> Result<Option<Written>, Status> {
        let kind = self.kind;
        let claims = allocation::for_create(self.state, kind, &mut object, self.dry_run)?;
        kind.prepare_create(&mut object);
        refuse_invalid(kind, &object, &kind.validate_create(&object))?;
        admission::confirm_create(kind, &object)?;
        self.warnings
            .extend((kind.strategy.warnings)(&object, None));
        let name = meta::name(&object).to_owned();
        let key = Key::new(kind.stored(), self.namespace, name.as_str());
        if let Some(stored) = self.state.store.get(&key) {
            return Err(commit::exists(kind, Some(&stored), &name));
        }
        if self.dry_run == DryRun::All {
            return Ok(Some(Written::CreatedDry(object)));
        }
        let put = Write::Put {
            key: key.clone(),
            expect: Expect::Absent,
            object: commit::stored_form(kind, object),
        };
        let writes = std::iter::once(put).chain(claims).collect();
        match commit::commit(self.state, writes).await {
            Ok(stored) => Ok(Some(Written::Created(stored))),
            Err(CommitError::Claimed(_)) => Ok(None),
            Err(CommitError::Exists(other)) if other != key => Ok(None),
            Err(CommitError::Exists(_)) => {
                let stored = self.state.store.get(&key);
                Err(commit::exists(kind, stored.as_deref(), &name))
            }
            Err(error) => Err(error.status()),
        }
    }
}

/// What is said when every generated name was taken.
fn no_unique_name(mut status: Status) -> Status {
    if status.reason != "AlreadyExists" {
        return status;
    }
    status.message += ", the server was not able to generate a unique name for the object";
    let details = status.details.take().unwrap_or_default();
    status.with_details(Details {
        retry_after_seconds: Some(1),
        ..details
    })
}
