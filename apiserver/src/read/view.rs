//! A stored object as its kind shows it: through another version, without what is hidden. Knows no forms.

use bytes::Bytes;
use knarr_api::kind::Kind;
use serde_json::Value;

use crate::storage::Stored;

/// The object as this kind shows it.
pub(crate) fn object(kind: &Kind, stored: &Stored) -> Value {
    let mut object = whole(kind, stored);
    if stored.is_partly_hidden {
        hide(kind, &mut object);
    }
    object
}

/// As [`object`] with what no answer shows, for the next state to start from.
pub(crate) fn whole(kind: &Kind, stored: &Stored) -> Value {
    let mut object = stored.object();
    if let Some(view) = &kind.view {
        (view.from_stored)(&mut object);
    }
    object
}

/// Takes out of an object what no answer shows.
pub(crate) fn hide(kind: &Kind, object: &mut Value) {
    if let Some(hidden) = &kind.hidden {
        (hidden.hide)(object);
    }
}

/// The object's JSON as this kind shows it, without parsing where it is shown as it is stored.
pub(super) fn document(kind: &Kind, stored: &Stored) -> Bytes {
    if kind.view.is_none() && !stored.is_partly_hidden {
        return stored.document.clone();
    }
    Bytes::from(object(kind, stored).to_string())
}
