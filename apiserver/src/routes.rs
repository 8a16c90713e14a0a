//! From a request to what answers it: discovery, objects, or one of the plain paths. Holds no rule about objects.

mod dispatch;
mod guard;
mod health;
mod impersonate;
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
use http::{Extensions, Method, StatusCode, Uri, uri::PathAndQuery};
use knarr_api::field::quote;

use crate::{
    State, User, discovery, inflight,
    inflight::{Load, Seat, Span},
    negotiate::Encoding,
    request::{Query, Route, check_timeout, path},
    respond,
    serve::Exchange,
};

/// All that the server answers.
pub fn router(state: Arc<State>) -> Router {
    Router::new().fallback(serve).with_state(state)
}

async fn serve(Shared(state): Shared<Arc<State>>, mut request: Request) -> Response {
    let path = request.uri().path();
    let route = path::parse(path);
    if route == Route::VerbAlone {
        return without_object(request.uri());
    }
    let query = Query::parse(request.uri().query().unwrap_or_default());
    if !is_long_running(&route, request.method(), &query)
        && let Err(status) = check_timeout(&query)
    {
        return respond::failure(&status);
    }
    let user = request.extensions_mut().remove::<User>();
    let user = user.unwrap_or_else(User::anonymous);
    let user = match impersonate::effective(&state, user, request.headers()) {
        Ok(user) => user,
        Err(status) => return respond::failure(&status),
    };
    if let Route::Resource(info) = route {
        return dispatch::resource(state, user, info, query, request).await;
    }
    let path = request.uri().path();
    let load = Load::of_path(request.method(), path);
    let _seat = match take_seat(&state, &user, load, request.extensions()) {
        Ok(seat) => seat,
        Err(refusal) => return *refusal,
    };
    if let Err(status) = guard::check_path(&state, &user, request.method(), path) {
        return respond::refusal(Encoding::Json, &status);
    }
    if let Some(response) = discovery::serve(&route, request.method(), &query, request.headers()) {
        return response;
    }
    match route {
        Route::Plain(path) => plain::serve(&state, &path, &query, &request),
        _ => plain::index(),
    }
}

/// A path that ends where its resource should be is refused before anybody asks who sent it.
fn without_object(uri: &Uri) -> Response {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let text = format!(
        "Internal Server Error: {}: failed to create RequestInfo: \
         unable to determine kind and namespace from url, {target}\n",
        quote(target)
    );
    let escaped = text.replace('&', "&amp;");
    let escaped = escaped.replace('<', "&lt;").replace('>', "&gt;");
    let code = StatusCode::INTERNAL_SERVER_ERROR;
    respond::unsniffed(respond::text(code, escaped))
}

/// Whether a request lasts as long as it lasts, whatever time it names.
fn is_long_running(route: &Route, method: &Method, query: &Query) -> bool {
    let Route::Resource(info) = route else {
        return false;
    };
    Load::of(info, info.verb(method, query)).span() != Span::Bounded
}

/// A place among the requests under way: its exchange's if it came over a connection, else the caller's to hold.
fn take_seat(
    state: &State,
    user: &User,
    load: Load,
    extensions: &Extensions,
) -> Result<Option<Seat>, Box<Response>> {
    let seat = state.inflight.seat(load, user);
    let seat = seat.ok_or_else(|| Box::new(inflight::refusal()))?;
    let Some(exchange) = extensions.get::<Arc<Exchange>>() else {
        return Ok(Some(seat));
    };
    exchange.will_take(load.span());
    exchange.keep(seat);
    Ok(None)
}
