//! A few fields of a stored object, read without decoding it whole.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::storage::Stored;

/// An object as far as somebody wants to know it.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Partial<Spec = IgnoredAny, Status = IgnoredAny> {
    pub(super) metadata: Metadata,
    pub(super) spec: Spec,
    pub(super) status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) owner_references: Option<Vec<OwnerReference>>,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) finalizers: Option<Vec<String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

impl<Spec, Status> Partial<Spec, Status>
where
    Spec: Default + DeserializeOwned,
    Status: Default + DeserializeOwned,
{
    /// The server wrote the document itself, and takes no object of another shape; what cannot be read all the same is empty.
    pub(super) fn read(stored: &Stored) -> Partial<Spec, Status> {
        serde_json::from_slice(&stored.document).unwrap_or_default()
    }
}

impl Metadata {
    pub(super) fn has_finalizer(&self, name: &str) -> bool {
        self.finalizers.iter().flatten().any(|known| known == name)
    }
}
