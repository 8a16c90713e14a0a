//! Pods made from a controller's template, and the hash that tells templates apart.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;

use super::claim::controller_reference;

/// Longest name the server generates a suffix for.
const GENERATED_BASE_MAX: usize = 58;
/// Characters that cannot spell words, as in generated names.
const SAFE_CHARACTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// A pod of `owner`, under a name the server completes.
pub(super) fn pod<K: Resource<DynamicType = ()>>(owner: &K, template: &PodTemplateSpec) -> Pod {
    let given = template.metadata.as_ref();
    let name = owner.meta().name.as_deref().unwrap_or_default();
    let base: String = name.chars().take(GENERATED_BASE_MAX).collect();
    Pod {
        metadata: ObjectMeta {
            namespace: owner.meta().namespace.clone(),
            generate_name: Some(format!("{base}-")),
            labels: given.and_then(|meta| meta.labels.clone()),
            annotations: given.and_then(|meta| meta.annotations.clone()),
            finalizers: given.and_then(|meta| meta.finalizers.clone()),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// A short name for `content`, which differs for different templates and, after a collision, for the same one.
pub(super) fn hash(content: &impl serde::Serialize, collision_count: Option<i32>) -> String {
    // The fixed FNV-1a parameters keep hashes stable over restarts and releases.
    let mut hash: u32 = 0x811c_9dc5;
    let text = serde_json::to_vec(content).unwrap_or_default();
    let salt = collision_count.map(i32::to_be_bytes).unwrap_or_default();
    for byte in text.into_iter().chain(salt) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    safe(&hash.to_string())
}

fn safe(text: &str) -> String {
    let pick = |byte: u8| char::from(SAFE_CHARACTERS[usize::from(byte) % SAFE_CHARACTERS.len()]);
    text.bytes().map(pick).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_use_the_safe_alphabet_and_change_with_a_collision() {
        assert_eq!(safe("0123456789"), "456789bcdf");
        assert_eq!(hash(&"a", None), hash(&"a", None));
        assert_ne!(hash(&"a", None), hash(&"b", None));
        assert_ne!(hash(&"a", Some(1)), hash(&"a", Some(2)));
    }
}
