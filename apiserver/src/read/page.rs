//! Lists in pieces: limits and the opaque tokens that continue them.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use knarr_api::status::Status;
use serde_json::{Value, json};

use super::{Selection, list_metadata};
use crate::storage::{Listing, Revision, Stored};

/// The namespace and name of the last object of a piece.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// The piece to serve and its list metadata.
pub(super) fn cut(
    mut chosen: Vec<Arc<Stored>>,
    listing: &Listing,
    selection: &Selection,
    limit: Option<usize>,
) -> (Vec<Arc<Stored>>, Value) {
    let mut metadata = list_metadata(listing.revision);
    let limit = limit.filter(|limit| chosen.len() > *limit);
    if let Some(limit) = limit {
        let remaining = chosen.len() - limit;
        chosen.truncate(limit);
        if let Some(last) = chosen.last() {
            let token = encode(listing.revision, last);
            metadata.insert("continue".into(), token.into());
        }
        if selection.is_everything() {
            metadata.insert("remainingItemCount".into(), remaining.into());
        }
    }
    (chosen, metadata.into())
}

fn encode(revision: Revision, last: &Stored) -> String {
    let token = json!({
        "v": "meta.k8s.io/v1",
        "rv": revision.0,
        "start": [last.key.namespace, last.key.name],
    });
    URL_SAFE_NO_PAD.encode(token.to_string())
}

pub(super) fn decode(token: &str) -> Result<(Revision, Place), Status> {
    let refuse = |why: &str| Status::bad_request(format!("continue key is not valid: {why}"));
    let bytes = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|error| refuse(&error.to_string()))?;
    let token: Value =
        serde_json::from_slice(&bytes).map_err(|error| refuse(&error.to_string()))?;
    if token["v"] != "meta.k8s.io/v1" {
        return Err(refuse("server does not recognize this encoded version"));
    }
    let revision = token["rv"].as_u64().filter(|rv| *rv > 0);
    let revision = revision.ok_or_else(|| refuse("incorrect encoded start resourceVersion"))?;
    let part = |index: usize| token["start"][index].as_str().map(str::to_owned);
    let place = part(0)
        .zip(part(1))
        .map(|(namespace, name)| Place { namespace, name });
    let place = place.ok_or_else(|| refuse("encoded start key is missing"))?;
    Ok((Revision(revision), place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_no_token() {
        for token in ["nonsense", "e30", "!", ""] {
            assert_eq!(decode(token).unwrap_err().code, 400, "{token}");
        }
    }
}
