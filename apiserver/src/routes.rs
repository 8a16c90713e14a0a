//! From a request to what answers it: discovery, objects, or one of the plain paths. Holds no rule about objects.

mod call;
mod dispatch;
mod health;
mod metrics;
mod openapi;
mod plain;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State as Shared},
    response::Response,
};

pub(crate) use call::Call;
pub(crate) use dispatch::check_writable_place;

use crate::{
    State, discovery,
    request::{Route, path},
};

/// All that the server answers.
pub fn router(state: Arc<State>) -> Router {
    Router::new().fallback(serve).with_state(state)
}

async fn serve(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    let route = path::parse(request.uri().path());
    if let Some(response) = discovery::serve(&route, request.headers()) {
        return response;
    }
    match route {
        Route::Resource(info) => dispatch::resource(state, info, request).await,
        Route::Plain(path) => plain::serve(&state, &path, &request),
        _ => plain::serve(&state, "", &request),
    }
}
