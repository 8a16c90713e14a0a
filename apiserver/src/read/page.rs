//! Lists in pieces.

use std::sync::Arc;

use serde_json::Value;

use super::{Selection, list_metadata, token};
use crate::storage::{Listing, Stored};

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
            let token = token::encode(listing.revision, selection.namespace(), last);
            metadata.insert("continue".into(), token.into());
        }
        if selection.is_everything() {
            metadata.insert("remainingItemCount".into(), remaining.into());
        }
    }
    (chosen, metadata.into())
}
