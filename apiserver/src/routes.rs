//! From a request to what answers it: discovery, objects, or one of the plain paths. Holds no rule about objects.

mod call;
mod dispatch;
mod guard;
mod health;
mod metrics;
mod openapi;
mod plain;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State as Shared},
    response::Response,
};

pub(crate) use call::Call;
pub(crate) use dispatch::check_writable_place;

use crate::{
    State, User, discovery,
    request::{Route, path},
    respond,
};

/// All that the server answers.
pub fn router(state: Arc<State>) -> Router {
    Router::new().fallback(serve).with_state(state)
}

async fn serve(Shared(state): Shared<Arc<State>>, request: Request) -> Response {
    let path = request.uri().path();
    let route = path::parse(path);
    if !matches!(route, Route::Resource(_)) {
        let user = request.extensions().get::<User>();
        let user = user.cloned().unwrap_or_else(User::anonymous);
        if let Err(status) = guard::check_path(&state, &user, request.method(), path) {
            return respond::failure(&status);
        }
    }
    if let Some(response) = discovery::serve(&route, request.headers()) {
        return response;
    }
    match route {
        Route::Resource(info) => dispatch::resource(state, info, request).await,
        Route::Plain(path) => plain::serve(&state, &path, &request),
        _ => plain::serve(&state, "", &request),
    }
}
