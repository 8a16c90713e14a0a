//! From a path to what answers it.

use std::sync::Arc;

use axum::Router;

use crate::State;

/// All that the server answers.
pub fn router(_state: Arc<State>) -> Router {
    Router::new()
}
