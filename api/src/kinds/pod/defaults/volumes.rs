//! What a volume holds when the client says nothing.

use serde_json::{Value, json};

use super::super::{image, resources, volumes};
use crate::walk::{self, fill, fill_zero};

const MODE: i64 = 0o644;

/// Fills in what the client left out of a volume.
pub(super) fn volume(volume: &mut Value) {
    let is_empty = !volumes::has_source(volume);
    let map = walk::object_mut(volume, "");
    if is_empty {
        map.insert("emptyDir".into(), json!({}));
    }
    for (name, source) in map.iter_mut().filter(|(_, source)| source.is_object()) {
        default_source(name, source);
    }
}

fn default_source(name: &str, source: &mut Value) {
    match name {
        "secret" | "configMap" => fill(walk::object_mut(source, ""), "defaultMode", MODE),
        "downwardAPI" => {
            fill(walk::object_mut(source, ""), "defaultMode", MODE);
            default_downward_items(source);
        }
        "projected" => default_projected(source),
        "hostPath" => fill(walk::object_mut(source, ""), "type", ""),
        "iscsi" => fill_zero(walk::object_mut(source, ""), "iscsiInterface", "default"),
        "rbd" => {
            let map = walk::object_mut(source, "");
            fill_zero(map, "pool", "rbd");
            fill_zero(map, "user", "admin");
            fill_zero(map, "keyring", "/etc/ceph/keyring");
        }
        "azureDisk" => {
            let map = walk::object_mut(source, "");
            fill(map, "cachingMode", "ReadWrite");
            fill(map, "kind", "Shared");
            fill(map, "fsType", "ext4");
            fill(map, "readOnly", false);
        }
        "scaleIO" => {
            let map = walk::object_mut(source, "");
            fill_zero(map, "storageMode", "ThinProvisioned");
            fill_zero(map, "fsType", "xfs");
        }
        "image" => {
            let policy = image::pull_policy(walk::text(source, "reference"));
            fill_zero(walk::object_mut(source, ""), "pullPolicy", policy);
        }
        "ephemeral" => {
            if let Some(template) = source
                .get_mut("volumeClaimTemplate")
                .filter(|t| t.is_object())
            {
                walk::object_mut(template, "metadata");
                default_claim(template);
            }
        }
        _ => {}
    }
}

/// A claim's spec, in ephemeral volumes and in the claim templates of a StatefulSet.
pub fn default_claim(claim: &mut Value) {
    let spec = walk::object_mut(claim, "spec");
    fill(spec, "volumeMode", "Filesystem");
    fill(spec, "resources", json!({}));
    if let Some(resources) = spec.get_mut("resources") {
        resources::default(resources);
    }
}

fn default_downward_items(source: &mut Value) {
    for item in walk::list_mut(source, "items") {
        downward_references(item);
    }
}

fn default_projected(source: &mut Value) {
    fill(walk::object_mut(source, ""), "defaultMode", MODE);
    for projection in walk::list_mut(source, "sources") {
        if let Some(api) = projection.get_mut("downwardAPI") {
            default_downward_items(api);
        }
        if let Some(token) = projection
            .get_mut("serviceAccountToken")
            .filter(|t| t.is_object())
        {
            fill(walk::object_mut(token, ""), "expirationSeconds", 3600);
        }
    }
}

/// `fieldRef` and `resourceFieldRef`, as variables and downward API files hold them.
pub(super) fn downward_references(source: &mut Value) {
    if let Some(field) = source.get_mut("fieldRef").filter(|field| field.is_object()) {
        fill_zero(walk::object_mut(field, ""), "apiVersion", "v1");
    }
    if let Some(field) = source
        .get_mut("resourceFieldRef")
        .filter(|field| field.is_object())
    {
        fill_zero(walk::object_mut(field, ""), "divisor", "0");
    }
}
